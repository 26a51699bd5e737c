"""The pictures that a model receives of slices, and mapping results back."""

import itertools

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom, oblique_geometry

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.view import CT_RANGES, Window, display_slice, make_view, window_for
from MedFMLib.errors import InputError


def oriented(order, signs, shape=(30, 40, 50), spacing=(1.0, 1.5, 2.0)):
    """The same anatomy (a bright spot right-anterior-superior) stored in any axis order and direction."""
    directions = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        directions[axis, column] = sign
    sizes = tuple(shape[axis] for axis in order)
    spacings = [spacing[axis] for axis in order]
    matrix = affine(directions, spacings)
    geometry = Geometry(sizes, matrix)
    matrix[:3, 3] = -geometry.center  # centred on the world's origin
    geometry = Geometry(sizes, matrix)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in sizes], indexing="ij"), axis=-1)
    world = geometry.to_world(index)
    values = 100 * ((world - (8, 15, 20)) ** 2).sum(axis=-1) ** 0.5
    return Image((1000 - values / 10).astype(np.float32)[None], geometry, "MR", "v")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_picture_is_the_same_however_the_volume_is_stored(order, signs, plane):
    plain, turned = oriented((0, 1, 2), (1, 1, 1)), oriented(order, signs)

    def picture(image):
        axis = image.geometry.index_axis(plane)
        point = image.geometry.to_index((8.5, 15.75, 21.0))
        return make_view(image, plane, round(point[axis])).square(64)

    assert np.array_equal(picture(plain), picture(turned))


def test_an_axial_picture_has_anterior_up_and_the_patients_right_on_the_left():
    image = oriented((0, 1, 2), (1, 1, 1))
    picture = make_view(image, "axial", 35).square(80)[..., 0]
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert row < 40
    assert column < 40


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_position_in_the_picture_is_the_place_in_the_patient(plane):
    image = Image(np.random.default_rng(0).random((1, 40, 36, 20)), oblique_geometry(), "MR", "v")
    view = make_view(image, plane, 7)
    y, x = view.positions()
    row, column = 5, 9
    world = view.to_world(y[row], x[column])
    index = np.rint(image.geometry.to_index(world)).astype(int)
    np.testing.assert_allclose(image.geometry.to_index(world), index, atol=1e-6)
    assert index[view.axis] == 7
    assert display_slice(image.scalars, image.geometry, plane, 7)[row, column] == image.scalars[tuple(index)]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_display_picture_goes_back_to_the_order_of_the_volume(plane):
    image = Image(np.random.default_rng(0).random((1, 40, 36, 20)), oblique_geometry(), "MR", "v")
    view = make_view(image, plane, 4)
    shown = display_slice(image.scalars, image.geometry, plane, 4)
    assert np.array_equal(view.to_slice(shown), np.take(image.scalars, 4, axis=view.axis))


def test_the_square_keeps_millimetres_equal_in_both_directions():
    geometry = Geometry((100, 50, 10), affine(spacing=(1.0, 1.0, 1.0)))
    values = np.full(geometry.shape, 100.0)
    square = make_view(Image(values[None], geometry, "MR", "v"), "axial", 5, Window(((0, 100),))).square(64)
    lit = square[..., 0] > 128
    assert lit.any(axis=1).sum() == 32
    assert lit.any(axis=0).sum() == 64


def test_ct_windows_are_exact_at_their_borders():
    values = np.array([[-2000.0, -1024.0, 0.0, 40.0, 80.0, 215.0, 1024.0]])
    red, green, blue = np.moveaxis(Window(CT_RANGES).apply(values)[0], -1, 0)
    assert red.tolist() == [0, 0, 128, 132, 137, 154, 255]
    assert green.tolist() == [0, 0, 98, 128, 157, 255, 255]
    assert blue.tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_a_ct_is_shown_in_its_windows_and_an_mr_by_its_percentiles():
    ct = ct_phantom()
    assert window_for(ct).ranges == CT_RANGES
    values = np.zeros((40, 40, 40), np.float32)
    values[10:30, 10:30, 10:30] = np.random.default_rng(0).uniform(400, 800, (20, 20, 20))
    values[0, 0, 0] = 1e6  # a spike must not set the window
    ((low, high),) = window_for(Image(values[None], Geometry(values.shape, np.eye(4)), "MR", "v")).ranges
    assert low == 0
    assert 700 < high < 900


def test_slices_outside_and_unknown_planes_are_refused():
    image = ct_phantom()
    with pytest.raises(InputError, match="no axial slice 99; this volume has slices 0 to 23"):
        make_view(image, "axial", 99)
    with pytest.raises(InputError, match="Unknown plane 'oblique'"):
        make_view(image, "oblique", 0)
