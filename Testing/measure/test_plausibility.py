"""Rules of anatomy: what correct outlines pass, what wrong ones fail, and that the grid's axes change nothing."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from support import labelled_anatomy as anatomy
from support.phantoms import affine, rotation, sphere

from MedFMLib.core.findings import (
    FLAGGED,
    NOTED,
    OK,
    PARTIAL,
    REJECTED,
    UNKNOWN,
    Agreement,
    Measurement,
    Segment,
    Segmentation,
)
from MedFMLib.core.geometry import Geometry, picture_geometry
from MedFMLib.core.image import Image
from MedFMLib.core.terminology import structure
from MedFMLib.errors import InputError
from MedFMLib.measure import as_table, check_outlines, measure, measure_fully, remarks
from MedFMLib.measure.plausibility import fragment_share, rules

BALLS = {
    "third ventricle": (0, 0, 0, 6), "left thalamus": (-12, -4, 0, 12), "right thalamus": (12, -4, 0, 12),
    "left putamen": (-26, 6, -2, 10), "right putamen": (26, 6, -2, 10), "left pallidum": (-17, 6, -2, 7),
    "right pallidum": (17, 6, -2, 7), "brainstem": (0, -18, -35, 16), "fourth ventricle": (0, -32, -38, 7),
    "left cerebellum": (-25, -55, -40, 23), "right cerebellum": (25, -55, -40, 23), "left hippocampus": (-27, -18, -14, 9),
    "right hippocampus": (27, -18, -14, 9),
}  # fmt: skip
"""Deep structures of a head as balls: R, A, S of the centre and radius, mm."""


def head(turn=(0, 0, 0), shift=(0, 0, 0), spacing=(2.0, 2.0, 2.0), drawn_by="a model", **changed) -> Segmentation:
    """The balls in a large grid; `changed` replaces one ("left_thalamus") or leaves it out (None)."""
    matrix = affine(rotation(*turn) @ np.diag([-1.0, 1.0, 1.0]), spacing, (0, 0, 0))
    shape = tuple(int(190 / s) for s in spacing)
    geometry = Geometry(shape, matrix)
    matrix = matrix.copy()
    matrix[:3, 3] = np.array(shift) - (geometry.center - geometry.origin) + rotation(*turn) @ np.array((0, -20, -20))
    geometry = Geometry(shape, matrix)
    balls = {**BALLS, **{name.replace("_", " "): ball for name, ball in changed.items()}}
    segments = []
    for label, ball in balls.items():
        if ball is not None:
            center = rotation(*turn) @ np.array(ball[:3], float) + shift
            segments.append(Segment(label, sphere(geometry, center, ball[3]), drawn_by=drawn_by))
    return Segmentation(tuple(segments), geometry)


def verdicts(segmentation, image=None, within=None) -> dict[str, str]:
    return {v.label: v.verdict for v in check_outlines(segmentation, image, within)[0]}


def sentences(segmentation) -> str:
    return " ".join(check.sentence for v in check_outlines(segmentation)[0] for check in v.checks)


# -- the rules themselves ---------------------------------------------------------------------------------------


def test_every_rule_names_a_known_structure_and_a_source():
    known, read = rules()["structures"], rules()["sources"]
    assert len(known) > 40 and len(rules()["relations"]) > 80
    for name, entry in known.items():
        assert structure(name).label == name and structure(name).code is not None, name
        if "volume" in entry:
            low, high = entry["volume"]
            assert 0 < low < high and entry["source"] in read and len(entry["derived"]) > 20, name
    kinds = {"above", "below", "in front of", "behind", "medial to", "lateral to", "near", "within mm of the midline",
             "on the left", "on the right"}  # fmt: skip
    for relation in rules()["relations"]:
        assert relation["of"] in known and relation.get("to", relation["of"]) in known and relation["is"] in kinds, (
            relation
        )
        assert relation["source"] in read
        if "reject" in relation:  # impossible is worse than wrong
            worse = relation["reject"] > relation["flag"]
            assert worse == (relation["is"] in ("near", "within mm of the midline")), relation


# -- heads ------------------------------------------------------------------------------------------------------


def test_a_normal_head_passes():
    found = verdicts(head())
    assert set(found.values()) == {OK} and len(found) == len(BALLS)


def test_a_thalamus_of_a_tenth_of_a_millilitre_is_rejected_with_value_range_and_source():
    segmentation = head(left_thalamus=(-12, -4, 0, 2.9))
    assert verdicts(segmentation)["left thalamus"] == REJECTED
    assert re.search(
        r"Left thalamus: volume 0\.1\d* mL, where 2\.8 to 14\.0 mL are expected \(Potvin 2016\)\.",
        sentences(segmentation),
    )


def test_a_small_thalamus_is_flagged_and_its_neighbours_are_not():
    found = verdicts(head(left_thalamus=(-12, -4, 0, 8), right_thalamus=(12, -4, 0, 8)))
    assert {name for name, verdict in found.items() if verdict != OK} == {"left thalamus", "right thalamus"}
    assert set(found.values()) == {OK, FLAGGED}


def test_swapped_sides_of_one_pair_are_rejected_and_the_others_pass():
    found = verdicts(anatomy.swapped(head(), ("left putamen", "right putamen")))
    assert {name for name, verdict in found.items() if verdict == REJECTED} == {"left putamen", "right putamen"}
    assert found["left thalamus"] == found["left pallidum"] == OK


@pytest.mark.parametrize(
    ("label", "ball"),
    [("third_ventricle", (0, 0, 60, 6)), ("third_ventricle", (35, 0, 0, 6)), ("brainstem", (0, -18, 45, 16)),
     ("left_pallidum", (-60, 6, -2, 7)), ("fourth_ventricle", (0, 40, -38, 7))],
)  # fmt: skip
def test_a_structure_far_from_its_place_is_rejected_alone(label, ball):
    found = verdicts(head(**{label: ball}))
    assert found[label.replace("_", " ")] == REJECTED
    assert [name for name, verdict in found.items() if verdict == REJECTED] == [label.replace("_", " ")]


def test_what_a_person_drew_is_only_noted():
    found = verdicts(head(left_thalamus=(-12, -4, 0, 2.9), drawn_by=""))
    assert found.pop("left thalamus") == NOTED
    assert set(found.values()) == {OK}


def test_what_no_rule_covers_is_unknown():
    lesion = Segment("tumour", sphere(head().geometry, (10, 10, 10), 5), drawn_by="a model")
    segmentation = head()
    found = verdicts(replace(segmentation, segments=(*segmentation.segments, lesion)))
    assert found["tumour"] == UNKNOWN
    assert verdicts(Segmentation((lesion,), segmentation.geometry)) == {"tumour": UNKNOWN}


def test_an_outline_in_pieces_is_flagged():
    segmentation = head()
    parts = sphere(segmentation.geometry, (-12, -14, 0), 8) | sphere(segmentation.geometry, (-12, 14, 0), 8)
    segments = tuple(replace(s, mask=parts) if s.label == "left thalamus" else s for s in segmentation.segments)
    found = check_outlines(replace(segmentation, segments=segments))[0]
    assert [c.rule for v in found for c in v.checks if v.label == "left thalamus"] == ["fragments"]


def test_pieces_are_counted_in_a_coarse_box():
    mask = np.zeros((200, 20, 20), bool)
    mask[:60] = mask[100:130] = True
    assert fragment_share(mask) == pytest.approx(1 / 3, abs=0.03)
    assert fragment_share(np.ones((3, 3, 3), bool)) == 0
    assert fragment_share(np.asfortranarray(mask)) == fragment_share(mask)


@pytest.mark.parametrize("seed", range(6))
def test_turning_shifting_and_reversing_the_grid_changes_no_verdict_and_no_side(seed):
    rng = np.random.default_rng(seed)
    changed = [{}, {"left_thalamus": (-12, -4, 0, 3)}, {"third_ventricle": (0, 0, 60, 6)}][seed % 3]
    plain = head(**changed)
    expected = verdicts(plain)
    turned = head(tuple(rng.uniform(-18, 18, 3)), tuple(rng.uniform(-200, 200, 3)), (2.0, 1.6, 2.5), **changed)
    assert verdicts(turned) == expected
    order = tuple(rng.permutation(3))
    reverse = tuple(np.flatnonzero(rng.random(3) < 0.5))
    axes = anatomy.with_axes(plain, order, reverse)
    assert verdicts(axes) == expected

    def sides(segmentation):
        empty = Image(np.zeros((1, *segmentation.geometry.shape), np.uint8), segmentation.geometry, "MR")
        return {m.segment: m.value for m in measure(segmentation, empty) if m.name == "side"}

    assert sides(axes) == sides(turned) == sides(plain)
    for label in ("left putamen", "right putamen", "brainstem"):
        assert sides(plain)[label] == (label.split()[0] if " " in label else "midline")


# -- the edge of the image ---------------------------------------------------------------------------------------


def noise(geometry, seed=0):
    return np.random.default_rng(seed).normal(100, 10, geometry.shape).astype(np.float32)


def test_a_structure_that_the_edge_cuts_is_partial_and_its_lower_limit_does_not_count():
    segmentation = head()
    start = int(np.argwhere(segmentation["left thalamus"].mask)[:, 2].max()) - 1
    cropped = Segmentation(
        tuple(replace(s, mask=s.mask[..., start:]) for s in segmentation.segments if s.mask[..., start:].any()),
        segmentation.geometry.crop((0, 0, start), segmentation.geometry.shape),
    )
    found = {v.label: v for v in check_outlines(cropped)[0]}
    assert found["left thalamus"].verdict == PARTIAL
    assert [c.rule for c in found["left thalamus"].checks] == ["edge"]


def test_the_examined_range_cuts_as_an_edge_does():
    segmentation = head()
    middle = int(np.argwhere(segmentation["left thalamus"].mask)[:, 2].mean())
    whole = slice(0, segmentation.geometry.shape[0]), slice(0, segmentation.geometry.shape[1])
    masks = [s.mask.copy() for s in segmentation.segments]
    for mask in masks:
        mask[..., :middle] = False
    upper = replace(
        segmentation,
        segments=tuple(replace(s, mask=m) for s, m in zip(segmentation.segments, masks, strict=True) if m.any()),
    )
    within = (*whole, slice(middle, segmentation.geometry.shape[2]))
    assert verdicts(upper, None, within)["left thalamus"] == PARTIAL
    assert verdicts(upper)["left thalamus"] != PARTIAL


def test_the_tip_of_a_structure_at_the_edge_is_not_cut_and_its_middle_is():
    geometry = Geometry((40, 40, 8), affine(spacing=(1, 1, 6)))
    for top, verdict in ((1, UNKNOWN), (300, PARTIAL)):
        mask = np.zeros(geometry.shape, bool)
        mask[10:30, 10:30, 2:7] = True
        mask[..., 7].flat[np.arange(top) * 4 + 1] = True
        assert verdicts(Segmentation((Segment("thing", mask),), geometry)) == {"thing": verdict}


@pytest.mark.parametrize("turn", [(0, 0, 0), (20, 0, 0), (12, 17, 0)])
def test_padding_cuts_where_it_ends_flat(turn):
    """A volume that was resampled onto a larger, turned grid: the rest of the grid is zero."""
    geometry = Geometry((60, 60, 60), affine(spacing=(2, 2, 2)))
    points = (
        geometry.to_world(np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)) - geometry.center
    )
    seen = np.abs(points @ rotation(*turn)).max(axis=-1) < 40
    image = Image((noise(geometry) * seen)[None], geometry, "MR")
    away = rotation(*turn) @ np.array([0, 0, 40.0])
    for offset, verdict in ((away * 0.3, OK), (away * 0.9, PARTIAL)):
        mask = sphere(geometry, geometry.center + offset, 15) & seen
        assert verdicts(Segmentation((Segment("prostate", mask),), geometry), image) == {"prostate": verdict}


def test_a_brain_without_its_skull_is_whole():
    geometry = Geometry((80, 90, 80), affine(spacing=(2, 2, 2)))
    brain = sphere(geometry, geometry.center, 65)
    image = Image((noise(geometry) * brain)[None], geometry, "MR")
    assert verdicts(Segmentation((Segment("brain", brain),), geometry), image) == {"brain": OK}


# -- trunks and grids without a place ----------------------------------------------------------------------------


def test_a_spleen_in_the_chest_is_rejected():
    geometry = Geometry((70, 50, 80), affine(np.diag([-1, 1, 1]), (5, 5, 5), (175, -125, -200)))
    masks = {"left lung": ((-75, 0, 60), 60), "right lung": ((75, 0, 60), 60), "heart": ((-15, 25, 30), 45),
             "spleen": ((-60, -40, 110), 35)}  # fmt: skip
    segments = [Segment(name, sphere(geometry, c, r), drawn_by="a model") for name, (c, r) in masks.items()]
    found = verdicts(Segmentation(tuple(segments), geometry))
    assert found["spleen"] == REJECTED
    assert found["left lung"] == found["heart"] == OK


def test_a_liver_on_the_left_is_flagged_and_not_rejected_since_organs_may_be_mirrored():
    geometry = Geometry((70, 50, 80), affine(np.diag([-1, 1, 1]), (5, 5, 5), (175, -125, -200)))
    masks = {"left lung": ((-75, 0, 60), 60), "right lung": ((75, 0, 60), 60), "left kidney": ((-60, -30, -80), 30),
             "right kidney": ((60, -30, -85), 30), "liver": ((-70, 20, -40), 60)}  # fmt: skip
    segments = [Segment(name, sphere(geometry, c, r), drawn_by="a model") for name, (c, r) in masks.items()]
    assert verdicts(Segmentation(tuple(segments), geometry))["liver"] == FLAGGED


def test_pictures_have_no_rule():
    geometry = picture_geometry(60, 50, 1, (1.0, 1.0))
    mask = np.zeros(geometry.shape, bool)
    mask[10:20, 10:20] = True
    assert verdicts(Segmentation((Segment("left lung", mask, drawn_by="a model"),), geometry)) == {"left lung": UNKNOWN}


# -- measurements carry it ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    segmentation = head(left_thalamus=(-12, -4, 0, 3))
    agreed = Agreement(1.0, -8.0, 10.5, 40, "Compared with FreeSurfer.")
    segments = tuple(replace(s, agreement=agreed) for s in segmentation.segments)
    segmentation = replace(segmentation, segments=segments)
    image = Image(noise(segmentation.geometry)[None], segmentation.geometry, "MR")
    return measure_fully(segmentation, image)


def test_every_measurement_of_an_outline_has_its_verdict_and_survives_json(measured):
    of = {m.segment: set() for m in measured}
    for m in measured:
        of[m.segment].add(m.verdict)
        assert Measurement(**json.loads(json.dumps(asdict(m)))) == m
    assert of["left thalamus"] == {REJECTED} and of["right thalamus"] == {OK}
    assert not next(m for m in measured if m.segment == "left thalamus").is_reliable


def test_an_interval_stands_beside_the_volume_of_an_outline_that_passed(measured):
    volumes = {m.segment: m for m in measured if m.name == "volume"}
    right, left = volumes["right thalamus"], volumes["left thalamus"]
    assert (right.low, right.high) == (pytest.approx(right.value / 1.105), pytest.approx(right.value / 0.92))
    assert "40 measurements (Compared with FreeSurfer.)" in right.method
    assert (left.low, left.high) == (None, None)
    titles, rows = as_table(measured, ("volume", "side"))
    assert titles == ["segment", "check", "volume (mL)", "95 % interval (mL)", "side"]
    row = next(row for row in rows if row[0] == "right thalamus")
    assert row[1] == "ok" and re.fullmatch(r"\d\.\d…\d\.\d", row[3])
    assert next(row for row in rows if row[0] == "left thalamus")[1] == "!!"
    assert remarks(measured)[0].startswith("Left thalamus: volume 0.1")


@pytest.mark.parametrize(
    "limits", [(1, -100, 10, 4), (1, 2, 10, 4), (1, -5, 0, 4), (0, -5, 5, 0), (float("nan"), -5, 5, 3)]
)
def test_limits_of_agreement_must_be_possible(limits):
    with pytest.raises(InputError):
        Agreement(*limits)


# -- real outlines -------------------------------------------------------------------------------------------------


def test_the_structures_of_sixteen_real_heads_pass_and_quickly(open_data):
    folder = open_data("brain_labelmaps")
    files = sorted(folder.glob("*.nii.gz"))
    assert len(files) >= 10
    found = []
    for file in files[::3]:
        segmentation = anatomy.head(file)
        for segment in segmentation.segments:
            assert segment.boxed is not None
        started = time.process_time()
        found += check_outlines(segmentation)[0]
        assert time.process_time() - started < 0.5
        assert len(segmentation.segments) == 27
    assert [v for v in found if v.verdict not in (OK, PARTIAL)] == []


def test_a_turned_and_mirrored_real_head_has_the_same_verdicts(open_data):
    segmentation = anatomy.head(open_data("brain_labelmaps", "synthseg_01.nii.gz"))
    assert set(verdicts(anatomy.moved(segmentation, (14, -11, 17), (80, -300, 41))).values()) == {OK}
    flipped = anatomy.moved(segmentation)
    mirror = flipped.geometry.transformed(np.diag([-1.0, 1.0, 1.0, 1.0]))
    wrong = verdicts(replace(flipped, geometry=mirror))
    pairs = [label for label in wrong if label.startswith(("left ", "right "))]
    assert {label for label, verdict in wrong.items() if verdict == REJECTED} == set(pairs)


def test_contours_of_planning_cts_pass(open_data):
    files = sorted(open_data("openkbp", "train").glob("*labels.nii.gz"))[::4]
    assert len(files) >= 5
    found = [v for file in files for v in check_outlines(anatomy.neck(file))[0]]
    assert {v.verdict for v in found} <= {OK, PARTIAL}
    swapped = anatomy.swapped(anatomy.neck(files[0]), ("left parotid gland", "right parotid gland"))
    assert verdicts(swapped)["left parotid gland"] == REJECTED
    moved = anatomy.swapped(anatomy.neck(files[0]), ("brainstem", "larynx"))
    assert REJECTED in {verdicts(moved)["brainstem"], verdicts(moved)["larynx"]}


@pytest.mark.parametrize("file", ["amos_abdomen_labels.nii.gz", "vh_female_labels.nii.gz", "vh_male_labels.nii.gz"])
def test_organs_of_trunks_pass(open_data, file):
    data = open_data("body_labelmaps", file).parents[1]
    segmentation = anatomy.trunk(data, f"body_labelmaps/{file}")
    found = verdicts(segmentation)
    assert len(found) >= 14 and set(found.values()) <= {OK, PARTIAL, UNKNOWN}
    assert found["liver"] == found["spleen"] == OK
    wrong = verdicts(anatomy.swapped(segmentation, ("urinary bladder", "spleen")))
    assert FLAGGED in wrong.values() or REJECTED in wrong.values()
