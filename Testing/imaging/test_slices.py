"""Segmented slices combined to a volume."""

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom, oblique_geometry, sphere

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import SliceChoice
from MedFMLib.core.view import SeenObject, display_slice, make_view
from MedFMLib.errors import InputError
from MedFMLib.imaging.slices import choose_slices, drop_islands, paint, refine_slice, stack


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_slices_start_and_end_where_the_range_does():
    geometry = Geometry((20, 20, 31), affine(spacing=(1, 1, 2)))
    assert choose_slices(geometry, SliceChoice())[1] == [*range(0, 31, 2)]
    assert choose_slices(geometry, SliceChoice(first=3, last=10, step=3)) == ("axial", [3, 6, 9, 10])
    assert choose_slices(geometry, SliceChoice("coronal", step=50)) == ("coronal", [0, 19])
    with pytest.raises(InputError, match="0 to 30"):
        choose_slices(geometry, SliceChoice(first=5, last=31))
    with pytest.raises(InputError, match="swap"):
        SliceChoice(first=9, last=3)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_mask_in_a_box_is_painted_back_where_it_was_seen(plane):
    geometry = oblique_geometry((60, 50, 40))
    mask = sphere(geometry, geometry.to_world((33, 20, 22)), 14)
    image = Image(np.where(mask, 200.0, 10.0)[None], geometry, "MR", "v")
    number = {"axial": 22, "coronal": 20, "sagittal": 33}[plane]
    view = make_view(image, plane, number)
    truth = display_slice(mask, geometry, plane, number)
    y, x = view.positions()
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    half_y, half_x = (y[1] - y[0]) / 2, (x[1] - x[0]) / 2
    box = (y[rows[0]] - half_y, x[columns[0]] - half_x, y[rows[-1]] + half_y, x[columns[-1]] + half_x)
    fine = truth[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    picture = fine[(np.arange(64) * fine.shape[0]) // 64][:, (np.arange(64) * fine.shape[1]) // 64].astype(float)
    painted = paint(view, SeenObject("x", box, picture))
    assert painted.shape == np.take(mask, number, axis=view.axis).shape
    assert dice(painted, np.take(mask, number, axis=view.axis)) > 0.95


def test_shapes_between_slices_are_interpolated():
    geometry = Geometry((50, 50, 41), affine(spacing=(1, 1, 1)))
    truth = sphere(geometry, geometry.center, 16)
    numbers = [*range(0, 41, 5)]
    masks = [truth[:, :, n] for n in numbers]
    volume = stack(geometry, "axial", numbers, masks)
    assert dice(volume, truth) > 0.95  # nine slices for a sphere of 32 mm
    nearest = np.zeros_like(truth)
    for n in range(41):
        nearest[:, :, n] = truth[:, :, min(numbers, key=lambda m: abs(m - n))]
    assert dice(volume, truth) > dice(nearest, truth)


def test_nothing_is_invented_outside_of_the_slices_looked_at():
    geometry = Geometry((20, 20, 20), np.eye(4))
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    volume = stack(geometry, "axial", [4, 8], [mask, mask])
    assert volume.any(axis=(0, 1)).nonzero()[0].tolist() == [4, 5, 6, 7, 8]
    tapering = stack(geometry, "axial", [4, 12], [mask, np.zeros_like(mask)])
    areas = tapering.sum(axis=(0, 1))
    assert areas[4] == 100
    assert 0 < areas[6] < 100
    assert areas[9:].sum() == 0


def test_small_islands_go_and_large_parts_stay():
    mask = np.zeros((40, 40, 40), bool)
    mask[2:12, 2:12, 2:12] = True
    mask[20:30, 20:30, 20:26] = True
    mask[35:37, 35:37, 35:37] = True
    kept = drop_islands(mask)
    assert kept.sum() == 1000 + 600
    assert not drop_islands(np.zeros((5, 5, 5), bool)).any()


def test_refining_moves_a_border_to_the_edge_and_leaves_a_flat_image_alone():
    truth = np.zeros((60, 60), bool)
    truth[15:45, 15:45] = True
    rng = np.random.default_rng(0)
    values = np.where(truth, 100.0, 40.0) + rng.normal(0, 8, truth.shape)
    rough = np.zeros_like(truth)
    rough[17:47, 14:43] = True
    refined = refine_slice(rough, values, (1, 1))
    assert dice(refined, truth) > dice(rough, truth) + 0.03
    assert dice(refined, truth) > 0.97
    assert np.array_equal(refine_slice(rough, rng.normal(0, 8, truth.shape), (1, 1)), rough)


def test_the_phantom_is_what_it_says():
    image = ct_phantom()
    assert image.modality == "CT"
    assert set(np.unique(image.scalars)) == {-1000, -800, 40, 90}
