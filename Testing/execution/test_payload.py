"""What a request loses on its way to a worker or a server: nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from MedFMLib.core.geometry import PICTURE, UNORIENTED, Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.errors import InputError
from MedFMLib.execution.payload import Payload, file_of, pack, unpack
from MedFMLib.files.pictures import join_pictures, picture_image

AFFINE = np.array([[1.0, 0.1, 0, 3], [0, 2, 0, 4], [0, 0, 3, 5], [0, 0, 0, 1]])


def images() -> dict[str, Image]:
    """Images that differ from a plain volume in every field."""
    generator = np.random.default_rng(1)
    greys = [generator.integers(0, 4000, (rows, 40)).astype(np.uint16) for rows in (30, 50)]
    voxels = generator.integers(-500, 500, (1, 8, 9, 10)).astype(np.int16)
    volume = Image(voxels, Geometry((8, 9, 10), AFFINE), "PT", "v", {"units": "Bq/mL"}, ("A note.",))
    return {
        "volume": volume,
        "unoriented": replace(volume, geometry=replace(volume.geometry, space=UNORIENTED)),
        "frame of reference": replace(volume, geometry=replace(volume.geometry, frame_of_reference="1.2.3")),
        "radiograph": picture_image(greys[0], "p", "CR"),
        "two views of different sizes": join_pictures([picture_image(grey, "p", "CR", (0.1, 0.1)) for grey in greys]),
        "colour": picture_image(generator.integers(0, 255, (20, 30, 3), np.uint8), "c", "US"),
    }


@pytest.mark.parametrize("name", images())
def test_every_field_of_an_image_arrives(name):
    sent = images()[name]
    packed = pack(Request("ask", sent, question="What is seen?"))
    received = unpack(Payload(packed.rest, bytes(packed.voxels))).image
    for part in fields(Image):
        one, other = getattr(sent, part.name), getattr(received, part.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, part.name)
            assert one.dtype == other.dtype
        elif isinstance(one, Geometry):
            for inner in fields(Geometry):
                assert np.array_equal(getattr(one, inner.name), getattr(other, inner.name)), inner.name
        else:
            assert one == other, part.name
    assert sent.digest() == received.digest()


def test_the_images_differ_in_every_field():
    made = list(images().values())
    for part in fields(Image):
        if part.name not in ("voxels", "geometry"):
            assert len({repr(getattr(image, part.name)) for image in made}) > 1, part.name
    assert {image.geometry.space for image in made} >= {PICTURE, UNORIENTED}
    assert len({image.geometry.metric for image in made}) == 2


def test_displayed_pixels_of_another_size_are_refused():
    packed = pack(Request("ask", images()["radiograph"], question="What?"))
    smaller = pack(Request("ask", images()["colour"], question="What?"))
    with pytest.raises(InputError):
        unpack(Payload(packed.rest, bytes(smaller.voxels)))


def test_only_an_array_that_is_a_whole_file_has_one(tmp_path):
    path = tmp_path / "voxels"
    np.arange(24, dtype=np.int16).tofile(path)
    mapped = np.memmap(path, np.int16, "r", shape=(1, 2, 3, 4))
    assert file_of(np.asarray(mapped)) == path
    assert file_of(mapped[:, :1]) is None
    assert file_of(mapped.transpose(0, 3, 2, 1)) is None
    assert file_of(np.memmap(path, np.int16, "r", offset=2, shape=(23,))) is None
    assert file_of(np.array(mapped)) is None
