"""Values are serialized without loss, and damaged bytes are refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.phantoms import ct_phantom, oblique_geometry, sphere

from MedFMLib.core.findings import (  # fmt: skip
    Answer,
    Boxes,
    Code,
    KeyImage,
    LocatedBox,
    Measurement,
    Report,
    ReportSection,
    Segment,
    Segmentation,
    SliceReference,
)
from MedFMLib.core.prompts import Box, Points, Region, Scribble
from MedFMLib.core.request import Provenance, Request, Response, SliceChoice
from MedFMLib.errors import InputError
from MedFMLib.execution import serialization


def full_request():
    geometry = oblique_geometry()
    return Request(
        "ask", ct_phantom(), labels=("liver",), question="Größe?", history=(("a", "b"),),
        prompts=(
            Points(np.array([[1, 2, 3.5]]), np.array([[4, 5, 6]]), "p"),
            Box((1, 2, 3), (4, 5, 6), label="b"),
            Region(sphere(geometry, geometry.center, 8), geometry, "r"),
            Scribble(np.random.default_rng(0).random((7, 3)), 2.0, False, "s"),
        ),
        slices=SliceChoice("axial", 2, 9, 3), refine=True, max_tokens=7, model="m", adapter="a", precision="nf4",
    )  # fmt: skip


def full_response():
    geometry = oblique_geometry()
    where = SliceReference("coronal", 3, (1.0, 2.0, float("inf")))
    code = Code("1", "SCT", "Liver")
    segment = Segment("liver", sphere(geometry, geometry.center, 9), (0.1, 0.2, 0.3), code, code, None, 0.5)
    return Response(
        (
            Segmentation((segment,), geometry, (where,)),
            Boxes((LocatedBox("x", where, ((0.0, 1.0, 2.0),) * 4),)),
            Answer("q", "a", (where,)),
            Measurement("liver", "volume", 12.5, "mL", "counted"),
            Measurement("liver", "side", "right"),
            Report("t", (ReportSection("s", ("p",)),), (KeyImage("c", where, b"\x00png", b""),), "text", "<html>"),
        ),
        Provenance("segment", "m", versions={"torch": "2"}, prompts=("p",), slices=("axial slice 1",), notes=("n",)),
    )


@pytest.mark.parametrize("value", [full_request(), full_response()], ids=["request", "response"])
@pytest.mark.parametrize("compress", [True, False])
def test_requests_and_responses_come_back_whole(value, compress):
    data = serialization.dumps(value, compress)
    again = serialization.loads(data)
    assert type(again) is type(value)
    assert serialization.dumps(again, compress) == data  # every field, every array, every bit


def test_arrays_keep_their_kind_and_values():
    request = full_request()
    again = serialization.loads(serialization.dumps(request))
    assert again.image.voxels.dtype == np.int16
    assert np.array_equal(again.image.voxels, request.image.voxels)
    assert again.image.geometry == request.image.geometry
    assert np.array_equal(again.prompts[2].mask, request.prompts[2].mask)
    assert again.slices == request.slices
    assert again.image.digest() == request.image.digest()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_truncated_or_changed_bytes_never_crash(data):
    good = serialization.dumps(full_response())
    position = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:position]
    else:
        bad = good[:position] + bytes([good[position] ^ data.draw(st.integers(1, 255))]) + good[position + 1 :]
    with contextlib.suppress(InputError):  # a changed voxel may pass unseen; anything else must be this error
        serialization.loads(bad)


def test_only_values_can_be_decoded():
    evil = serialization.dumps(("x",)).replace(b'["x"]', b'{"$": "Path", "x": 1}')
    with pytest.raises(InputError):
        serialization.loads(evil)
    with pytest.raises(TypeError, match="not a MedFM value"):
        serialization.dumps(object())


def test_a_bomb_is_not_inflated():
    import json
    import struct
    import zlib

    bomb = zlib.compress(b"\x00" * 50_000_000)
    header = json.dumps({"value": {"$bytes": 0}, "table": [{"size": len(bomb), "raw": 100, "deflated": True}]}).encode()
    with pytest.raises(InputError):
        serialization.loads(serialization.MAGIC + struct.pack("<Q", len(header)) + header + bomb)


def test_a_segment_travels_as_its_box_and_comes_back_whole():
    """Its cropped form comes with it, so that nobody has to look through the volume again."""
    mask = np.zeros((40, 50, 60), bool)
    mask[3:20, 7:9, 30:55] = np.random.default_rng(0).random((17, 2, 25)) > 0.5
    mask[3, 7, 30] = mask[19, 8, 54] = True
    for one in (mask, np.zeros_like(mask), np.ones_like(mask)):
        segment = Segment("x", one, confidence=0.5)
        data = serialization.dumps(segment)
        back = serialization.loads(data)
        assert np.array_equal(back.mask, one)
        assert "cropped" in vars(back)
        assert back.cropped[0] == segment.cropped[0]
        assert np.array_equal(back.cropped[1], segment.cropped[1])
        assert back.cropped[1].flags.f_contiguous
        assert (back.label, back.confidence) == ("x", 0.5)
    assert len(serialization.dumps(Segment("x", mask), compress=False)) < 1000


def test_a_strangers_segment_can_not_claim_a_giant_volume():
    data = serialization.dumps(Segment("x", np.ones((4, 4, 4), bool)))
    claimed = data.replace(b'"shape": [4, 4, 4]', b'"shape": [4, 4, 9]')
    assert serialization.loads(claimed).mask.shape == (4, 4, 9)
    with pytest.raises(InputError):
        serialization.loads(claimed, limit=100)
    with pytest.raises(InputError):
        serialization.loads(data.replace(b'"start": [0, 0, 0]', b'"start": [1, 0, 0]'))
