"""Resampling between two grids: means, linear interpolation, the most probable part."""

import numpy as np
import pytest
from support.phantoms import affine, rotation

torch = pytest.importorskip("torch")

from MedFMLib.core.geometry import Geometry  # noqa: E402
from MedFMLib.models.masks.resampling import block_means, sample  # noqa: E402
from MedFMLib.models.masks.voxel_names import LEAST_CHANCE, BoxScores, name  # noqa: E402

ORDERS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "turned": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "backwards": lambda a: np.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.float64])
def test_block_means_are_means_of_what_there_is(order, kind):
    values = np.random.default_rng(1).integers(0, 2000, (11, 8, 7)).astype(kind)
    means = block_means(ORDERS[order](values), [2, 1, 3]).numpy()
    assert means.shape == (6, 8, 3)
    for i, j, k in ((0, 0, 0), (5, 3, 2), (4, 7, 1)):
        assert means[i, j, k] == pytest.approx(values[2 * i : 2 * i + 2, j, 3 * k : 3 * k + 3].mean(), rel=1e-5)


def test_block_means_leave_the_image_as_it_is():
    values = np.ones((3, 3, 3), np.float32)
    block_means(values, [1, 1, 1]).add_(5)
    assert (values == 1).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("angle", [0.0, 9.0])
def test_a_reading_is_linear_between_voxels_and_zero_beyond(order, angle):
    values = np.random.default_rng(2).random((9, 7, 6)).astype(np.float32)
    matrix = affine(rotation(angle, 0, angle), (0.6, 0.7, 0.8), (0.3, -0.4, 0.2))
    read = sample(torch.from_numpy(ORDERS[order](values)), matrix, (12, 8, 9))
    assert tuple(read.shape) == (12, 8, 9)
    padded = np.pad(values, 20)
    for index in ((0, 0, 0), (3, 2, 1), (7, 5, 6), (11, 7, 8)):
        place = matrix[:3, :3] @ index + matrix[:3, 3] + 20
        low = np.floor(place).astype(int)
        part = padded[tuple(slice(a, a + 2) for a in low)]
        for at in place - low:
            part = (1 - at) * part[0] + at * part[1]
        assert float(read[index]) == pytest.approx(float(part), abs=1e-5)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("angle", [0.0, 12.0])
def test_the_likeliest_part_is_the_one_that_reading_all_chances_everywhere_says(order, angle):
    """Parts in corners, none at all, and two that overlap everywhere."""
    rng = np.random.default_rng(3)
    coarse = rng.random((5, 6, 7, 5))
    coarse[1, 2:] *= 0.01
    coarse[2] *= 1e-4
    coarse[3, :, 3:] *= 0.01
    coarse /= coarse.sum(0)
    chances = torch.from_numpy(coarse.astype(np.float16))
    looked = BoxScores(chances, Geometry((6, 7, 5), np.diag([-3.0, -3.0, -3.0, 1.0])))
    target = Geometry((16, 14, 15), affine(rotation(angle, 0, 0), (0.9, 1.1, 0.8), (-15, -16, -11)))
    numbers = (0, 7, 8, 9, 4)
    found = name(looked, target, numbers, lambda _: None, order)
    matrix = np.linalg.inv(looked.geometry.affine) @ target.affine
    floor = chances[0].clamp(min=LEAST_CHANCE).float()
    excess = torch.stack([sample(c.float() - floor, matrix, target.shape) for c in chances[1:]]).numpy()
    expected = np.where(excess.max(0) > 0, np.array(numbers[1:])[excess.argmax(0)], 0)
    assert set(np.unique(expected)) == {0, 4, 7, 9}
    sure = np.abs(np.sort(excess, 0)[-1] - np.maximum(np.sort(excess, 0)[-2], 0)) > 1e-6
    index = looked.geometry.to_index(target.to_world(np.stack(np.indices(target.shape), -1)))
    sure &= ((index >= 0) & (index <= np.array(looked.geometry.shape) - 1)).all(-1)  # between its voxels, not beyond
    assert sure.mean() > 0.2
    assert np.array_equal(found.parts[sure], expected[sure].astype(np.uint8))
    assert set(found.boxes) == {4, 7, 9}
    for number, box in found.boxes.items():
        assert np.count_nonzero(found.parts[box] == number) == np.count_nonzero(found.parts == number)


def test_names_turn_with_the_axes_and_so_do_their_boxes():
    looked = BoxScores(
        torch.zeros(2, 4, 4, 4, dtype=torch.float16), Geometry((4, 4, 4), np.diag([-2.0, -2.0, -2.0, 1.0]))
    )
    looked.chances[1, 0, 1, 2] = 1.0
    named = name(looked, Geometry((6, 7, 8), affine(origin=(-6, -6, -7))), (0, 3), lambda _: None)
    turned = named.on_axes((2, 0, 1), (True, False, True))
    assert turned.parts.shape == tuple(named.parts[::-1, :, ::-1].transpose(1, 2, 0).shape)
    assert np.array_equal(turned.parts, named.parts[::-1, :, ::-1].transpose(1, 2, 0))
    box, inside = turned.structure([3])
    assert inside.sum() == (turned.parts == 3).sum() > 0
    assert box == turned.boxes[3]
    assert turned.structure([5]) is None
