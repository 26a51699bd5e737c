"""A position in the patient and the structure there: exact on every grid, nearest within a finger's width, or outside."""

import numpy as np
import pytest

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.patient.touching import NOTHING, OUTSIDE, REACH_MM, STRUCTURE, BodyMask, structure_at

PLACES = 20


@pytest.fixture(scope="module")
def head():
    """The demonstration's head, and what the embedded model segments in it."""
    from MedFMLib import api
    from MedFMLib.cli.demo import find_scan
    from MedFMLib.errors import InputError
    from MedFMLib.files import read_image

    try:
        path = find_scan()
    except InputError as error:
        pytest.skip(str(error))
    image = read_image(path)
    return image, api.segment(image).segmentation


def expected(segmentation, voxel) -> str:
    """The smallest structure that has this voxel."""
    there = [(int(s.mask.sum()), s.label) for s in segmentation.segments if s.mask[tuple(voxel)]]
    return min(there)[1] if there else ""


def test_twenty_places_on_the_demonstrations_head_are_named_as_the_segmentation_has_them(head, capsys):
    image, segmentation = head
    rng = np.random.default_rng(20)
    anything = np.argwhere(np.any([s.mask for s in segmentation.segments], axis=0))
    # one place in each of the smallest structures first, then anywhere, and within the voxel, not at its center
    small = sorted(segmentation.segments, key=lambda s: s.mask.sum())[: PLACES // 2]
    voxels = [rng.choice(np.argwhere(s.mask)) for s in small]
    voxels += list(rng.choice(anything, PLACES - len(voxels)))
    right = []
    for voxel in voxels:
        position = image.geometry.to_world(voxel + rng.uniform(-0.45, 0.45, 3))
        found = structure_at(segmentation, position, image)
        right.append((found.kind, found.label, found.distance) == (STRUCTURE, expected(segmentation, voxel), 0.0))
    with capsys.disabled():
        print(
            f"\n{sum(right)} of {len(right)} places named as the segmentation has them, {len(segmentation.segments)} structures"
        )
    assert len(right) == PLACES and all(right)


def test_outside_of_the_head_is_said_to_be_outside(head):
    image, segmentation = head
    body, shape = BodyMask(image), np.array(image.geometry.shape)
    corners = [
        image.geometry.to_world(index) for index in ((1, 1, 1), shape - 2, (shape[0] // 2, shape[1] - 2, shape[2] - 2))
    ]
    for position in [*corners, (500.0, 0.0, 0.0)]:
        assert structure_at(segmentation, position, image, body).kind == OUTSIDE
    drawn = np.any([s.mask for s in segmentation.segments], axis=0)
    bright = np.argwhere((image.scalars > 0.25 * np.percentile(image.scalars, 99)) & ~drawn)
    kinds = [
        structure_at(segmentation, image.geometry.to_world(v), image, body).kind for v in bright[:: len(bright) // 200]
    ]
    assert kinds.count(OUTSIDE) <= len(kinds) // 50 and kinds.count(NOTHING) > 0, {
        k: kinds.count(k) for k in set(kinds)
    }


def oblique(shape=(20, 24, 28)) -> Geometry:
    """A grid that is rotated about two axes, flipped, and of unequal spacing."""
    a, b = np.deg2rad(25), np.deg2rad(-15)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag([-0.8, 1.3, 2.5])
    affine[:3, 3] = (12, -40, 7)
    return Geometry(shape, affine)


@pytest.fixture
def boxes():
    """A large box with a small one inside, and another one, on an oblique grid."""
    geometry = oblique()
    masks = [np.zeros(geometry.shape, bool) for _ in range(4)]
    masks[0][3:12, 3:12, 3:12] = True
    masks[1][6:8, 6:8, 6:8] = True
    masks[2][16:18, 18:20, 20:22] = True
    masks[3][:] = True
    names = ("brain", "left thalamus", "cerebellum", "head")
    return Segmentation(tuple(Segment(n, m) for n, m in zip(names, masks, strict=True)), geometry)


def test_every_voxel_of_an_oblique_grid_is_looked_up_in_itself(boxes):
    geometry = boxes.geometry
    for voxel, label in (
        ((7, 7, 7), "left thalamus"),
        ((3, 3, 3), "brain"),
        ((11, 11, 11), "brain"),
        ((17, 19, 21), "cerebellum"),
    ):
        for shift in (-0.49, 0.0, 0.49):
            found = structure_at(boxes, geometry.to_world(np.array(voxel) + shift))
            assert (found.label, found.distance) == (label, 0.0), (voxel, shift)


def test_the_nearest_within_reach_is_measured_in_mm_along_each_axis(boxes):
    geometry = boxes.geometry
    for axis, spacing in enumerate(geometry.spacing):
        edge = np.array([16.0, 18.0, 20.0])
        for far in (0.6, 0.9 * REACH_MM / spacing, 1.1 * REACH_MM / spacing):
            index = edge.copy()
            index[axis] -= far
            found = structure_at(boxes, geometry.to_world(index))
            near = far * spacing <= REACH_MM
            assert found.label == ("cerebellum" if near else "head"), (axis, far)
            assert not near or found.distance == pytest.approx(far * spacing, abs=1e-6)


def test_what_contains_everything_answers_only_where_nothing_else_is_near(boxes):
    assert structure_at(boxes, boxes.geometry.to_world((1, 22, 2))).label == "head"


def test_a_place_without_a_segment_is_in_the_body_or_outside():
    geometry = oblique()
    values = np.zeros(geometry.shape, np.float32)
    values[4:16, 4:20, 4:24] = 100
    values[9:11, 9:12, 9:12] = 0  # air inside of the body
    image = Image(values[None], geometry, "MR")
    none = Segmentation((), geometry)
    for index, kind in (((10, 10, 10), NOTHING), ((6, 6, 6), NOTHING), ((1, 1, 1), OUTSIDE), ((40, 10, 10), OUTSIDE)):
        assert structure_at(none, geometry.to_world(index), image).kind == kind, index


def test_a_touch_is_answered_within_the_time_of_a_frame(head):
    import time

    image, segmentation = head
    body, position = BodyMask(image), image.geometry.center
    structure_at(segmentation, position, image, body)
    started = time.perf_counter()
    for _ in range(10):
        structure_at(segmentation, position, image, body)
    assert (time.perf_counter() - started) / 10 < 0.05
