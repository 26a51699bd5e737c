"""Prompts find their slices: the right plane, number and pixel on any grid, and a sentence where they don't."""

import numpy as np
import pytest
from support.phantoms import oblique_geometry, rotation

from MedFMLib.core.geometry import PLANES
from MedFMLib.core.prompts import Box, Points, Region, Scribble
from MedFMLib.core.slice_prompts import STROKE_POINTS, box_between, place
from MedFMLib.core.view import display_slice
from MedFMLib.errors import InputError

GRID = oblique_geometry((40, 36, 20))
PLANE = GRID.acquisition_plane


def at(*index, grid=GRID):
    return grid.to_world(index)


@pytest.mark.parametrize("plane", PLANES)
def test_a_point_lands_on_its_own_voxel_of_an_oblique_flipped_anisotropic_grid(plane):
    voxel = (7, 29, 4)
    volume = np.zeros(GRID.shape)
    volume[voxel] = 1
    (mark,) = place([Points([at(7.2, 28.8, 4.3)])], GRID, plane=plane).structures["marked structure"]
    row, column = np.rint(mark.points[0]).astype(int)
    assert display_slice(volume, GRID, plane, mark.number)[row, column] == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_plane_is_the_one_in_which_a_box_is_flat(axis):
    size = np.array([10.0, 9.0, 12.0])
    size[axis] = 0.4 * GRID.spacing[axis]
    marks = place([Box(at(20, 18, 9), size, GRID.directions, "b")], GRID)
    assert GRID.index_axis(marks.plane) == axis
    (mark,) = marks.structures["b"]
    assert mark.number == (20, 18, 9)[axis]
    assert (marks.first, marks.last) == (0, GRID.shape[axis] - 1)
    volume = Box(at(20, 18, 9), size + np.eye(3)[axis] * 9, GRID.directions).mask(GRID)
    rows, columns = np.nonzero(display_slice(volume, GRID, marks.plane, mark.number))
    assert rows.min() - 1 < mark.box[0] <= rows.min() and rows.max() <= mark.box[2] < rows.max() + 1
    assert columns.min() - 1 < mark.box[1] <= columns.min() and columns.max() <= mark.box[3] < columns.max() + 1


def test_points_choose_the_plane_with_the_fewest_slices_and_else_the_acquired_one():
    assert place([Points([at(5, 5, 5)])], GRID).plane == PLANE
    for axis in range(3):
        index = np.array([[5, 6, 7], [9, 12, 14], [21, 30, 3]])
        index[:, axis] = 11
        marks = place([Points(at_many(index[:2]), at_many(index[2:]), "x")], GRID)
        assert GRID.index_axis(marks.plane) == axis
        (mark,) = marks.structures["x"]
        assert mark.inside.tolist() == [True, True, False]


def at_many(index):
    return GRID.to_world(np.asarray(index))


def test_points_on_several_slices_of_one_plane_and_two_structures_are_kept_apart():
    points = [Points(at_many([[3, 4, 9], [8, 8, 2], [9, 9, 2]]), label="a"), Points([at(30, 30, 6)], label="b")]
    marks = place(points, GRID, plane=PLANE)
    assert [(m.number, len(m.points)) for m in marks.structures["a"]] == [(2, 2), (9, 1)]
    assert [m.number for m in marks.structures["b"]] == [6]
    assert str(marks).startswith(f"a: {PLANE} slice 2, 2 points inside, 0 outside; a: ")
    assert list(place(points, GRID, plane=PLANE, label="all").structures) == ["all"]


def test_a_thick_box_is_its_middle_cross_section_and_bounds_the_slices():
    axis = GRID.index_axis(PLANE)
    index = np.array([20.0, 18.0, 9.0])
    box = Box(at(*index), np.array([8, 8, 8]) * GRID.spacing, GRID.directions, "b")
    marks = place([box], GRID)
    assert marks.plane == PLANE
    (mark,) = marks.structures["b"]
    assert mark.number == index[axis]
    assert (marks.first, marks.last) == (index[axis] - 4, index[axis] + 4)
    turned = Box(at(20, 18, 9), (20, 20, 20), rotation(0, 0, 45), "b")
    (mark,) = place([turned], GRID, plane=PLANE).structures["b"]
    seen = display_slice(turned.mask(GRID), GRID, PLANE, mark.number)
    rows, columns = np.nonzero(seen)
    assert np.allclose(mark.box, (rows.min(), columns.min(), rows.max(), columns.max()), atol=1.5)


def test_a_stroke_becomes_points_along_it_and_a_closed_one_its_box():
    path = at_many([[5 + n, 10, 8] for n in range(21)])
    (mark,) = place([Scribble(path, label="s")], GRID).structures["s"]
    assert mark.number == 8
    assert len(mark.points) == STROKE_POINTS
    assert mark.inside.all()
    steps = np.linalg.norm(np.diff(mark.points, axis=0), axis=1)
    assert np.allclose(steps, 20 / STROKE_POINTS)
    (mark,) = place([Scribble(path, label="s", around=True)], GRID, plane=PLANE).structures["s"]
    assert len(mark.points) == 0
    assert max(mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]) == pytest.approx(20)
    both = [Points([path[0]], label="s"), Scribble(path[4:], inside=False, label="s", around=True)]
    (mark,) = place(both, GRID, plane=PLANE).structures["s"]
    assert mark.box is None
    assert mark.inside.tolist() == [True] + [False] * STROKE_POINTS


def test_a_box_between_corners_lies_in_the_slice_that_holds_both():
    flat = box_between(at(5, 6, 7), at(15, 12, 7), GRID, "b")
    (mark,) = place([flat], GRID, plane=PLANE).structures["b"]
    assert mark.number == 7
    assert sorted([mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]]) == pytest.approx([6, 10])
    assert isinstance(box_between((0, 0, 0), (30, 20, 25), GRID), Box)


@pytest.mark.parametrize(
    ("prompts", "options", "sentence"),
    [
        ([], {}, "There are no prompts; place a point in the structure"),
        ([Points([at(50, 5, 5)])], {}, r"The point at R, A, S = .* lies outside of the volume; move it"),
        ([Box(at(20, 80, 5), (5, 5, 5))], {}, r"The centre of the box at R, A, S"),
        ([Points([], [at(5, 5, 5)], "x")], {}, "'x' has no point inside of the structure in slice 5, only outside"),
        ([Points([at(5, 5, 5)])], {"first": 7, "plane": PLANE}, "outside of the requested slices 7 to 19"),
        ([Region(np.ones(GRID.shape), GRID)], {}, "A region can't be followed from slice to slice"),
        ([Scribble(at_many([[5, 5, 5], [15, 15, 15]]))], {}, "runs across slices of every plane"),
        ([Scribble([at(5, 5, 5)], label="s")], {}, "'s' needs two points or more, not 1"),
    ],
)
def test_what_can_not_be_placed_is_one_sentence(prompts, options, sentence):
    with pytest.raises(InputError, match=sentence):
        place(prompts, GRID, **options)


def test_boxes_in_different_planes_and_two_in_one_slice_are_refused():
    flat = [np.array([9.0, 9.0, 9.0]) for _ in range(2)]
    flat[0][0], flat[1][2] = 0.2, 0.2
    a, b = (Box(at(20, 18, 9), size, GRID.directions, "b") for size in flat)
    with pytest.raises(InputError, match="lie in slices of different planes; place all of them in slices of one plane"):
        place([a, b], GRID)
    with pytest.raises(InputError, match="'b' has two boxes in"):
        place([b, b], GRID)
    other = PLANES[(PLANES.index(PLANE) + 1) % 3]
    with pytest.raises(InputError, match=f"lie only in {PLANE} slices"):
        place([b], GRID, plane=other)
