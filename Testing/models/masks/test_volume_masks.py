"""Segmenting whole volumes: the right voxels on any grid; sides from the planes that show them."""

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom, oblique_geometry, rotation, sphere

torch = pytest.importorskip("torch")

from MedFMLib.core.geometry import Geometry  # noqa: E402
from MedFMLib.core.image import Image  # noqa: E402
from MedFMLib.core.view import make_view  # noqa: E402
from MedFMLib.models.masks import volume_masks  # noqa: E402
from MedFMLib.models.masks.mask_head import MaskHead, MaskNetwork  # noqa: E402
from MedFMLib.models.masks.volume_masks import body_box, name_voxels, resample  # noqa: E402

SIZE = 64
GREYS = np.array([0, 90, 180, 250])
"""Grey of parts 0…3 in the pictures of these tests' volumes."""


def head(focus=(), pairs=(), planes=volume_masks.PLANES, closer=()):
    structures = {"body": (1,), "organ": (2,), "kernel": (3,)}
    return MaskHead(MaskNetwork(8, 4, (2, 2, 2)), structures, pairs, focus, planes, closer)


def by_grey(pictures, rows=slice(None), columns=slice(None)):
    """Names pixels by their grey: a perfect model for these volumes."""
    grey = torch.from_numpy(pictures[..., 0].astype(np.float32))
    nearest = (grey[:, None] - torch.tensor(GREYS, dtype=torch.float32)[None, :, None, None]).abs().argmin(1)
    return torch.nn.functional.one_hot(nearest, 4).permute(0, 3, 1, 2)[:, :, rows, columns].float()


def volume(geometry, organ=(12.0, 5.0, -4.0), radius=14.0):
    """(image, parts) of a ball of tissue with an organ off its middle and a kernel in that."""
    center = geometry.center
    parts = np.zeros(geometry.shape, np.uint8)
    for number, (at, r) in enumerate((((0, 0, 0), 2.6 * radius), (organ, radius), (organ, radius / 2)), start=1):
        parts[sphere(geometry, center + np.array(at), r)] = number
    return Image(GREYS[parts][None].astype(np.float32), geometry, "MR"), parts


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


GRIDS = {
    "RAS": Geometry((80, 80, 80), affine(spacing=(1.1, 1.1, 1.1), origin=(-40, 10, 5))),
    "LPS": Geometry((80, 80, 80), affine(np.diag([-1.0, -1, 1]), (1.1, 1.1, 1.1), (40, 90, 5))),
    "PIR": Geometry((80, 70, 60), affine(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), (1.1, 1.2, 1.4))),
    "oblique": Geometry(
        (90, 80, 44), affine(rotation(14, -9, 21) @ np.diag([-1.0, 1, 1]), (1.0, 1.1, 2.0), (37, -21, 5))
    ),
    "thick": Geometry((80, 80, 20), affine(spacing=(1.0, 1.0, 4.5))),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_every_part_lands_on_its_own_voxels(grid):
    image, parts = volume(GRIDS[grid])
    named = name_voxels(image, by_grey, SIZE, head(), {1, 2, 3}).parts
    assert named.shape == parts.shape
    assert dice(named >= 1, parts >= 1) > 0.95
    assert dice(named >= 2, parts >= 2) > (0.90 if grid == "thick" else 0.93)


@pytest.mark.parametrize("thickness", [0.8, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("count", [3, 6, 9, 16])
def test_a_thin_stack_of_slices_is_drawn_to_its_ends(count, thickness):
    """Slices thinner than a picture's pixels: the first and last ones lie between the planes that are looked at and nothing."""
    geometry = Geometry((240, 220, count), affine(np.diag([-1.0, -1, 1]), (1.5, 1.5, thickness), (180, 160, -20)))
    parts = np.zeros(geometry.shape, np.uint8)
    parts[50:190, 40:180] = 1
    parts[90:150, 80:140] = 2
    parts[105:135, 95:125] = 3
    named = name_voxels(
        Image(GREYS[parts][None].astype(np.float32), geometry, "MR"), by_grey, SIZE, head(), {1, 2}
    ).parts
    for part in (1, 2):
        drawn, there = ((grid == part).sum(axis=(0, 1)) for grid in (named, parts))
        assert (abs(drawn - there) < 0.15 * there).all(), (part, drawn, there)


def test_the_same_volume_stored_in_other_orders_gives_the_same_result():
    image, _ = volume(GRIDS["RAS"])
    first = name_voxels(image, by_grey, SIZE, head(), {2}).parts
    stored = image.scalars.transpose(1, 2, 0)[::-1, :, ::-1]
    geometry = GRIDS["RAS"]
    columns = geometry.affine[:, [1, 2, 0, 3]].copy()
    columns[:3, 3] += columns[:3, 0] * (stored.shape[0] - 1) + columns[:3, 2] * (stored.shape[2] - 1)
    columns[:3, [0, 2]] *= -1
    again = Image(np.ascontiguousarray(stored)[None], Geometry(stored.shape, columns), "MR")
    second = name_voxels(again, by_grey, SIZE, head(), {2}).parts
    assert np.array_equal(second, first.transpose(1, 2, 0)[::-1, :, ::-1])


def test_the_second_look_goes_closer_to_the_focus():
    """A small focus in a large body: twice the mm per pixel would lose its kernel."""
    geometry = Geometry((120, 120, 120), affine(spacing=(2.0, 2.0, 2.0)))
    image, parts = volume(geometry, organ=(40.0, -30.0, 20.0), radius=34.0)
    sides = []

    def watching(pictures, rows, columns):
        sides.append(int((pictures[..., 0] > 5).sum()))
        return by_grey(pictures, rows, columns)

    named = name_voxels(image, watching, SIZE, head(focus=(2, 3)), {2, 3}).parts
    assert set(np.unique(named)) == {0, 2, 3}  # the body around it is nothing that the focus' look names
    assert dice(named == 3, parts == 3) > 0.9


@pytest.mark.parametrize("grid", ["RAS", "oblique"])
def test_a_third_look_draws_small_things_finer_and_nothing_else_worse(grid):
    image, parts = volume(GRIDS[grid], radius=13.0)
    second = name_voxels(image, by_grey, 24, head(), {1, 2, 3}).parts
    third = name_voxels(image, by_grey, 24, head(closer=(3,)), {1, 2, 3}).parts
    assert dice(third == 3, parts == 3) > dice(second == 3, parts == 3) + 0.02
    for least in (1, 2):
        assert dice(third >= least, parts >= least) > dice(second >= least, parts >= least) - 0.01


def test_what_cannot_be_there_is_not_looked_for():
    image, _ = volume(GRIDS["RAS"], radius=25.0)
    looked = []

    def counting(pictures, rows, columns):
        looked.append(len(pictures))
        return by_grey(pictures, rows, columns)

    named = name_voxels(image, counting, SIZE, head(focus=(2, 3)), {1}).parts
    assert not named.any()
    assert sum(looked) < 40  # the first look only


def test_sagittal_pictures_get_their_sides_from_the_other_planes():
    both = torch.zeros(3, 4, 1, 1, dtype=torch.float16)
    others, lone = both.clone(), both.clone()
    others[1, :2], others[2, 2:] = 1.0, 1.0  # two cells surely left, two surely right
    lone[1] = 0.5
    lone[2] = 0.5  # the sagittal picture sees the pair everywhere
    mean = volume_masks._with_sagittal(others.clone(), 1.0, lone, ((1, 2),))
    assert torch.allclose(mean[1].float(), torch.tensor([1.0, 1, 0, 0])[:, None, None], atol=2e-3)
    assert torch.allclose(mean[2].float(), torch.tensor([0.0, 0, 1, 1])[:, None, None], atol=2e-3)


def test_the_body_is_found_in_air_and_noise():
    rng = np.random.default_rng(0)
    geometry = Geometry((100, 90, 80), affine(spacing=(2.0, 2.0, 2.0)))
    voxels = np.full(geometry.shape, -1000.0) + rng.normal(0, 20, geometry.shape)
    voxels[30:70, 20:60, 10:50] = 40
    voxels[5, 5, 5] = 900  # a speck
    low, high = body_box(Image(voxels[None], geometry, "CT"))
    assert np.allclose(low, [60, 40, 20], atol=9)
    assert np.allclose(high, [138, 118, 98], atol=9)
    low, high = body_box(Image(np.full((1, 10, 10, 10), 5.0), Geometry((10, 10, 10), np.eye(4)), "MR"))
    assert np.allclose([low, high], [[0, 0, 0], [9, 9, 9]])


def test_resampling_is_linear_and_right_between_rotated_grids():
    source = oblique_geometry((60, 50, 30))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in source.shape], indexing="ij"), -1)
    plane = np.array([0.3, -0.7, 1.1])
    values = source.to_world(index) @ plane
    target = Geometry((8, 8, 8), affine(spacing=(1.5, 1.5, 1.5), origin=source.center - 5))
    there = np.stack(np.meshgrid(*[np.arange(n) for n in target.shape], indexing="ij"), -1)
    found = resample(values, source, target, 0.0)
    assert np.allclose(found, target.to_world(there) @ plane, atol=1e-2)
    assert (
        resample(np.ones(source.shape), source, Geometry((2, 2, 2), affine(origin=(900, 900, 900))), -7.0).max() == -7
    )


def test_a_long_volume_is_looked_at_in_axial_slices_alone():
    used = []
    original = volume_masks._look

    def look(volume, window, draw, size, box, side, planes, *rest):
        used.append(planes)
        return original(volume, window, draw, size, box, side, planes, *rest)

    volume_masks._look = look
    try:
        geometry = Geometry((40, 40, 120), affine(spacing=(2.0, 2.0, 3.0)))
        voxels = np.zeros(geometry.shape, np.float32)
        voxels[5:35, 5:35] = GREYS[3]
        named = name_voxels(Image(voxels[None], geometry, "MR"), by_grey, SIZE, head(), {2}).parts
    finally:
        volume_masks._look = original
    assert used == [("axial",)]
    assert dice(named == 3, voxels > 0) > 0.95


def test_a_ct_is_shown_in_its_three_windows():
    image = ct_phantom()
    seen = []

    def remember(pictures, rows, columns):
        seen.append(pictures)
        return by_grey(pictures, rows, columns)

    name_voxels(image, remember, SIZE, head(), {1})
    colours = np.concatenate([p.reshape(-1, 3) for p in seen])
    assert (colours[:, 0] != colours[:, 1]).any()


def test_pictures_show_the_slices_of_the_volume_as_a_radiologist_sees_them():
    """The look at a volume cuts its own slices; they must be those that single slices are shown as."""
    geometry = Geometry((40, 40, 40), affine(np.diag([-1.0, -1, 1]), (2.0, 2.0, 2.0), (40, 40, -40)))
    blocks = np.random.default_rng(4).integers(20, 250, (4, 4, 4)).astype(np.float32)
    image = Image(np.kron(blocks, np.ones((10, 10, 10), np.float32))[None], geometry, "MR")
    seen: list[np.ndarray] = []

    def draw(pictures, rows, columns):
        seen.extend(pictures)
        return by_grey(pictures, rows, columns)

    name_voxels(image, draw, 40, head(planes=("axial", "coronal", "sagittal")), {1})
    for plane in volume_masks.PLANES:
        middle = make_view(image, plane, geometry.shape[geometry.index_axis(plane)] // 2)
        seen = [s for s in seen if s.std() > 0]
        likeness = [np.corrcoef(middle.square(40)[..., 0].ravel(), s[..., 0].ravel())[0, 1] for s in seen]
        mirrored = [np.corrcoef(middle.square(40)[:, ::-1, :1].ravel(), s[..., 0].ravel())[0, 1] for s in seen]
        assert max(likeness) > 0.6 and max(mirrored) < max(likeness) - 0.2, (plane, max(likeness), max(mirrored))
