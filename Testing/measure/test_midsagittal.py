"""The mid-sagittal plane: of turned, shifted and asymmetric heads and trunks, and none where it can't be known."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from support import labelled_anatomy as anatomy
from support.phantoms import affine, rotation, sphere

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import UNORIENTED, Geometry, picture_geometry
from MedFMLib.core.image import Image
from MedFMLib.files import read_image
from MedFMLib.measure import check_outlines, measure, plane_from_image
from MedFMLib.measure.midsagittal import MIRROR, OUTLINE, PAIRS, MidsagittalPlane, plane_from_pairs


def head_image(turn=(0, 0, 0), shift=(0, 0, 0), shape=(96, 112, 96), spacing=(2.0, 2.0, 2.0), lesion=True) -> Image:
    """A head with skull, brain, ventricles, eyes, and a bright lesion on the right; turned and shifted in the scanner."""
    geometry = Geometry(shape, affine(np.diag([-1.0, 1.0, 1.0]), spacing, (0, 0, 0)))
    geometry = Geometry(shape, affine(np.diag([-1.0, 1.0, 1.0]), spacing, -geometry.center))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    p = (geometry.to_world(index) - shift) @ rotation(*turn)
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    values = np.random.default_rng(1).normal(0, 3, shape)
    values[(x / 74) ** 2 + (y / 92) ** 2 + (z / 84) ** 2 < 1] = 90  # scalp
    values[(x / 68) ** 2 + (y / 86) ** 2 + (z / 78) ** 2 < 1] = 15  # skull
    values[(x / 62) ** 2 + (y / 80) ** 2 + (z / 72) ** 2 < 1] = 60  # brain
    values[(np.abs(x) < 1.5) & (np.hypot(y / 80, z / 72) < 0.95)] = 25  # between the hemispheres
    for side in (-1, 1):
        values[((x - side * 14) / 8) ** 2 + (y / 36) ** 2 + ((z - 10) / 12) ** 2 < 1] = 20
        values[((x - side * 30) / 12) ** 2 + ((y - 70) / 12) ** 2 + ((z + 25) / 12) ** 2 < 1] = 120
    if lesion:
        values[(x - 38) ** 2 + (y + 20) ** 2 + (z - 25) ** 2 < 20**2] = 110
    values += np.random.default_rng(2).normal(0, 2, shape)
    return Image(values[None].astype(np.float32), geometry, "MR")


@pytest.mark.parametrize(
    ("turn", "shift"),
    [((0, 0, 0), (0, 0, 0)), ((10, 0, 0), (9, 0, 0)), ((0, 12, 0), (0, 5, 3)),
     ((0, 0, -15), (-12, 4, 0)), ((8, -9, 14), (7, -6, 5))],
)  # fmt: skip
def test_the_plane_of_a_turned_asymmetric_head_is_found_within_its_uncertainty(turn, shift):
    plane = plane_from_image(head_image(turn, shift))
    normal = rotation(*turn)[:, 0]
    assert plane.method == MIRROR
    angle = np.degrees(np.arccos(min(1, abs(normal @ plane.normal))))
    assert angle < 2.5 and abs(plane.distance(shift)) < max(2.0, plane.mm + 0.5)
    assert 0.2 < plane.mm < 4 and 0.4 < plane.degrees < 6


def test_a_small_volume_takes_less_than_half_a_second_and_a_second_question_none():
    image = head_image((5, 5, 5), (4, 0, 0), (256, 256, 256), (0.8, 0.8, 0.8))
    started = time.process_time()
    plane = plane_from_image(image)
    assert time.process_time() - started < 0.5
    started = time.process_time()
    assert plane_from_image(image) is plane
    assert time.process_time() - started < 0.01


def test_uncertainty_grows_away_from_the_point():
    plane = MidsagittalPlane((0, 0, 0), (1, 0, 0), 1.0, 3.0, PAIRS)
    assert plane.uncertainty((30, 0, 0)) == pytest.approx(1.0)
    assert plane.uncertainty((0, 80, 0)) == pytest.approx(np.hypot(1, 80 * np.tan(np.radians(3))))
    assert plane.distance((5, 9, 9)) == 5 and plane.distance([(5, 9, 9), (-2, 0, 0)]).tolist() == [5, -2]
    assert np.allclose(plane.axes, np.eye(3))
    turned = replace(plane, normal=tuple(rotation(0, 10, 20)[:, 0]))
    assert np.allclose(turned.axes @ turned.axes.T, np.eye(3)) and np.linalg.det(turned.axes) > 0


# -- pairs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [(0, 0, 0), (15, 0, 0), (0, 14, 0), (0, 0, -17), (9, -12, 16)])
def test_pairs_give_the_plane_also_if_names_are_swapped_and_one_is_wrong(turn):
    rng = np.random.default_rng(4)
    middle = np.array((40, -70, 300.0))
    left = rng.uniform((-40, -50, -40), (-10, 50, 40), (8, 3))
    right = left * (-1, 1, 1) + rng.normal(0, 0.7, (8, 3))
    pairs = [tuple(rotation(*turn) @ point + middle for point in pair) for pair in zip(left, right, strict=True)]
    normal = rotation(*turn)[:, 0]
    swapped = [*[pair[::-1] for pair in pairs[:3]], *pairs[3:]]
    wrong = [*pairs[:-1], (pairs[-1][0], pairs[-1][1] + (18, 25, -20))]
    for some, degrees, mm in ((pairs, 2, 1), (swapped, 2, 1), (wrong, 4, 2.5)):
        plane = plane_from_pairs(some, [1.5] * 8)
        assert np.degrees(np.arccos(normal @ plane.normal)) < degrees
        assert abs(plane.distance(middle)) < mm and plane.normal[0] > 0
    assert plane_from_pairs(wrong, [1.5] * 8).mm >= plane_from_pairs(pairs, [1.5] * 8).mm


def test_one_pair_gives_a_rough_plane_and_none_or_a_steep_one_give_none():
    plane = plane_from_pairs([((-30, 5, 0), (30, 5, 4))], [2.0])
    assert plane.mm > 3 and plane.distance((0, 5, 2)) == pytest.approx(0)
    assert plane_from_pairs([], []) is None
    assert plane_from_pairs([((0, -30, 0), (2, 30, 0))], [2.0]) is None


# -- sides --------------------------------------------------------------------------------------------------------


def segments_on(image, turn=(0, 0, 0), shift=(0, 0, 0), **places):
    segments = []
    for label, (center, radius) in places.items():
        mask = sphere(image.geometry, rotation(*turn) @ np.array(center, float) + shift, radius)
        segments.append(Segment(label.replace("_", " "), mask))
    return Segmentation(tuple(segments), image.geometry)


def sides(segmentation, image):
    found = {}
    for m in measure(segmentation, image):
        if m.name == "side" or m.name.startswith("shift"):
            found.setdefault(m.segment, []).append(m)
    return found


def test_a_third_ventricle_of_a_turned_head_is_midline_though_its_x_is_not_zero():
    turn, shift = (0, 0, 12), (14, 0, 0)
    image = head_image(turn, shift)
    segmentation = segments_on(image, turn, shift, third_ventricle=((0, 30, 0), 6), lesion=((38, -20, 25), 12))
    assert segmentation.geometry.to_world(np.argwhere(segmentation["third ventricle"].mask)).mean(0)[0] < 10
    found = sides(segmentation, image)
    assert [m.value for m in found["third ventricle"]] == ["midline"]
    assert [m.value for m in found["lesion"]] == ["right"]


def test_a_shift_beyond_the_uncertainty_is_stated_in_mm_with_its_direction():
    image = head_image((0, 0, -8), (5, 0, 0))
    segmentation = segments_on(image, (0, 0, -8), (5, 0, 0), third_ventricle=((-9, 0, 0), 6))
    side, shift = sides(segmentation, image)["third ventricle"]
    assert (side.value, shift.name, shift.unit) == ("midline", "shift to the left", "mm")
    assert shift.value == pytest.approx(9, abs=1.6)
    assert shift.low < shift.value < shift.high and shift.high - shift.value == pytest.approx(shift.value - shift.low)


def test_without_an_estimate_no_side_is_stated():
    image = head_image(lesion=False)
    crop = image.geometry.crop((58, 40, 40), (80, 70, 60))
    part = Image(image.voxels[:, 58:80, 40:70, 40:60].copy(), crop, "MR")
    assert plane_from_image(part) is None
    mask = np.zeros(crop.shape, bool)
    mask[4:9, 4:9, 4:9] = True
    segmentation = Segmentation((Segment("lesion", mask), Segment("left hippocampus", mask)), crop)
    assert sides(segmentation, part) == {}


def test_images_without_a_place_have_no_plane():
    image = head_image(lesion=False)
    assert plane_from_image(replace(image, geometry=replace(image.geometry, space=UNORIENTED))) is None
    picture = picture_geometry(40, 40, 3, (1.0, 1.0))
    assert plane_from_image(Image(np.random.default_rng(0).random((1, *picture.shape)), picture, "CR")) is None
    assert plane_from_image(Image(np.zeros((3, *image.geometry.shape), np.uint8), image.geometry, "OT")) is None


def test_an_asymmetric_body_has_the_middle_of_its_outline():
    geometry = Geometry((100, 40, 20), affine(spacing=(2, 2, 2)))
    values = np.full(geometry.shape, -1000.0)
    values[30:90, 10:30] = 40
    values[30:50, 10:20] = -900
    values[70:88, 22:29, :8] = 390
    values[60:80, 12:14] = -700
    values[34:44, 22:26] = 300
    plane = plane_from_image(Image(values[None], geometry, "CT"))
    assert plane.method in (OUTLINE, MIRROR) and plane.point[0] == pytest.approx(119, abs=plane.mm)
    assert plane.mm > 1


# -- real images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [("brain_t1", "t1_head.nii.gz"), ("brain_t1", "t1_stripped.nii.gz"), ("brain_stroke", "T2.nii.gz"), ("ct_torso", "ct.nii.gz"),
     ("mr_torso", "mr.nii.gz"), ("ct_chest", "chest_ct.nii.gz"), ("openkbp", "train", "pt004_ct.nii.gz")],
)  # fmt: skip
def test_the_plane_moves_with_the_patient(open_data, parts):
    image = read_image(open_data(*parts))
    plane = plane_from_image(image)
    assert plane is not None and plane.method == MIRROR
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation(4, -7, 9), (31, -12, 60)
    moved = plane_from_image(replace(image, geometry=image.geometry.transformed(matrix)))
    assert np.degrees(np.arccos(min(1.0, (matrix[:3, :3] @ plane.normal) @ moved.normal))) < 3 + plane.degrees
    assert abs(moved.distance(matrix[:3, :3] @ plane.point + matrix[:3, 3])) < 2 + plane.mm


@pytest.mark.parametrize(
    "parts",
    [("msd_hippocampus", "images", "hippocampus_001.nii.gz"), ("ct_lung", "lung_ct.mha"),
     ("spine_mr", "t1w.nii.gz"), ("breast", "breast1_image.nrrd")],
)  # fmt: skip
def test_a_small_field_of_view_has_no_plane(open_data, parts):
    assert plane_from_image(read_image(open_data(*parts))) is None


def test_the_plane_of_a_symmetric_part_runs_through_the_vertebrae(open_data):
    plane = plane_from_image(read_image(open_data("spine_ct", "ct.nii.gz")))
    values, geometry = anatomy.read_labels(open_data("spine_ct", "ct_vertebrae.nii.gz"))
    assert abs(plane.distance(geometry.to_world(np.argwhere(values > 0)).mean(axis=0))) < 4


def test_image_and_outlines_of_a_head_agree(open_data):
    image = read_image(open_data("brain_t1", "t1_stripped.nii.gz"))
    segmentation = anatomy.head(open_data("brain_t1", "t1_stripped_aseg.nii.gz"))
    by_pairs = check_outlines(segmentation)[1]
    by_image = plane_from_image(image)
    assert by_pairs.method == PAIRS
    assert abs(by_pairs.distance(by_image.point)) < by_pairs.uncertainty(by_image.point) + by_image.mm
    assert np.degrees(np.arccos(np.dot(by_pairs.normal, by_image.normal))) < by_pairs.degrees + by_image.degrees
    found = sides(
        segmentation, Image(np.zeros((1, *segmentation.geometry.shape), np.uint8), segmentation.geometry, "MR")
    )
    for label in ("third ventricle", "fourth ventricle", "brainstem"):
        assert found[label][0].value == "midline"
        assert all(m.value < 2.5 for m in found[label][1:])
