"""The three-dimensional network: its files, its tiles, and that what it draws lands where it belongs on any grid."""

import numpy as np
import pytest
import torch
from torch import nn

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.errors import ModelError
from MedFMLib.models.masks import volume_head as module
from MedFMLib.models.masks.volume_head import VolumeHead, match_volumes
from MedFMLib.models.masks.volume_network import VolumeNetwork

STRUCTURES = {"left ball": (2,), "right ball": (3,), "balls": (2, 3)}
LEVELS = ((0.0, 0), (0.2, 2), (0.5, 1), (0.8, 3), (1.0, 0))
"""(brightness, part): the balls lie on both sides of the body's brightness, so that no blurred edge looks like the other ball."""


class ByBrightness(nn.Module):
    """In place of a trained network: body and two balls by their brightness, blurred as a network's scores are."""

    parts, inputs = 4, 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.guides = []

    def forward(self, volume, guide=None):
        self.guides.append(None if guide is None else tuple(guide.shape))
        scores = torch.full((1, 4, *volume.shape[2:]), -60.0)
        for level, part in LEVELS:
            scores[:, part] = torch.maximum(scores[:, part], -60 * (volume[:, 0] - level).abs())
        return scores


def balls(affine, shape):
    """Two balls on the patient's left and right, and the voxels around them; a dark and a bright cube set the window."""
    geometry = Geometry(shape, affine)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    world = geometry.to_world(index.astype(float)).reshape(*shape, 3)
    off = world - geometry.to_world((np.array(shape) - 1) / 2.0)
    values, truth = np.full(shape, 500.0), np.zeros(shape, np.uint8)
    for z, bright in ((-45.0, 0.0), (45.0, 1000.0)):
        values[(np.abs(off - [0, 0, z]) < [40, 40, 10]).all(-1)] = bright
    for number, x, radius, bright in ((2, -20.0, 12.0, 200.0), (3, 20.0, 9.0, 800.0)):
        inside = np.linalg.norm(off - [x, 8.0, -6.0], axis=-1) < radius
        values[inside], truth[inside] = bright, number
    return Image(np.rint(values).astype(np.int16)[None], geometry, "MR", "balls"), truth, np.abs(off[..., 2]) < 28


def head(coarse=True, **more):
    return VolumeHead(ByBrightness(), STRUCTURES, 1.0, 48, (2, 3), 0.5, ByBrightness() if coarse else None, 32, **more)


def small(parts=4, guide=0):
    torch.manual_seed(3)
    return VolumeNetwork(1, parts, (8, 8, 8, 8), guide).eval()


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_what_is_drawn_lies_where_it_belongs_on_any_grid(seed, coarse):
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if seed % 3 == 0:
        turn = np.eye(3)[:, rng.permutation(3)] * rng.choice((-1, 1), 3)
    spacing = rng.uniform(0.7, 1.6, 3)
    if seed % 4 == 1:
        spacing[rng.integers(3)] = 4.0
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = rng.uniform(-80, 80, 3)
    image, truth, near = balls(affine, tuple(int(n) for n in np.ceil(130 / spacing)))
    drawn = head(coarse).name_voxels(image, (2, 3), False).parts
    least = 0.9 if spacing.max() < 2 else 0.82
    for number in (2, 3):
        found, there = (drawn == number) & near, truth == number
        assert 2 * (found & there).sum() / (found.sum() + there.sum()) > least
        assert found.sum() == pytest.approx(there.sum(), rel=0.12 if spacing.max() < 2 else 0.25)


def test_a_very_small_scan_is_no_error():
    image = Image(np.ones((1, 3, 2, 4), np.int16), Geometry((3, 2, 4), np.eye(4)), "MR", "small")
    plain = VolumeHead(small(), STRUCTURES, 1.0, 48)
    assert plain.name_voxels(image, (2, 3), False).parts.shape == (3, 2, 4)
    guided = VolumeHead(small(guide=4), STRUCTURES, 1.0, 48, coarse=small(), coarse_side=32)
    assert guided.name_voxels(image, (2, 3), False).parts.shape == (3, 2, 4)


def test_nothing_is_drawn_where_there_is_no_focus_or_nothing_is_wanted():
    image, *_ = balls(np.eye(4), (100, 100, 100))
    empty = Image(np.zeros((1, 60, 60, 60), np.int16), Geometry((60, 60, 60), np.eye(4)), "MR", "empty")
    assert not head().name_voxels(empty, (2, 3), False).parts.any()
    assert not head().name_voxels(image, (7,), False).parts.any()


def test_the_fine_network_is_guided_by_what_the_coarse_one_saw():
    image, *_ = balls(np.eye(4), (100, 100, 100))
    made = head()
    made.name_voxels(image, (2, 3), False)
    assert set(made.coarse.guides) == {None}
    assert all(shape[1] == 4 and all(n % 8 == 0 for n in shape[2:]) for shape in made.network.guides)


def test_a_cancelled_look_ends():
    class Ended(Exception):
        pass

    def end(fraction):
        if fraction > 0.1:
            raise Ended

    image, *_ = balls(np.eye(4), (100, 100, 100))
    with pytest.raises(Ended):
        head().name_voxels(image, (2, 3), False, end)


@pytest.mark.parametrize("size", [(40, 50, 60), (48, 48, 48), (97, 33, 130)])
@pytest.mark.parametrize("multiple", [1, 2])
def test_tiles_cover_every_voxel(size, multiple):
    covered = np.zeros(size, int)
    size = tuple(n + n % multiple for n in size)
    covered = np.zeros(size, int)
    for tile in module._tiles(size, 48, 0.7, multiple):
        assert all(
            s.stop - s.start <= 48 and s.start % multiple == 0 and s.stop <= n for s, n in zip(tile, size, strict=True)
        )
        covered[tile] += 1
    assert covered.min() >= 1


def test_padding_lies_around_the_scan_and_the_guide_moves_with_it():
    values, inside = module._padded(torch.ones(1, 20, 32, 44), [20, 32, 44], 1)
    guide, there = module._padded(torch.ones(3, 10, 16, 22), [20, 32, 44], 2)
    assert values.shape[1:] == (32, 32, 48) and guide.shape[1:] == (16, 16, 24)
    assert [s.start for s in inside] == [6, 0, 2] and [2 * s.start for s in there] == [6, 0, 2]
    assert values.sum() == 20 * 32 * 44


def test_parts_are_drawn_as_large_as_their_probabilities_sum_up_to():
    rng = np.random.default_rng(1)
    far = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij")), axis=0)
    chance = 0.75 / (1 + np.exp((far - 8) / 1.5)) * rng.uniform(0.9, 1.1, far.shape)  # never sure, and wide at its edge
    chances = torch.tensor(np.stack([1 - chance, chance]), dtype=torch.float16)
    goal = float(chances[1].float().sum())
    before = float((chances[1] > chances[0]).sum())
    match_volumes(chances)
    after = float((chances[1] > chances[0]).sum())
    assert abs(after - goal) < 0.05 * goal < abs(before - goal)
    assert torch.allclose(chances.float().sum(0), torch.ones(40, 40, 40), atol=0.01)


def test_a_network_writes_the_voxels_that_training_scores():
    network, volume = small(), torch.rand(1, 1, 32, 48, 32)
    with torch.no_grad():
        whole, hidden = network(volume), network.hidden(volume)
        for i, j, k in ((0, 0, 0), (1, 0, 1), (0, 1, 1)):
            assert torch.allclose(whole[:, :, i::2, j::2, k::2], network.eighth_scores(hidden, i, j, k), atol=1e-5)


def test_files_come_back_in_eight_bits(tmp_path):
    made = VolumeHead(small(guide=4), STRUCTURES, 1.5, 64, (2, 3), 3.0, small(), 48, facts={"about": "balls"})
    made.save(tmp_path)
    read = VolumeHead.load(tmp_path)
    assert (read.structures, read.step, read.side, read.focus, read.least_focus_ml, read.coarse_side, read.facts) == (
        STRUCTURES, 1.5, 64, (2, 3), 3.0, 48, {"about": "balls"})  # fmt: skip
    volume, guide = torch.rand(1, 1, 32, 32, 32), torch.rand(1, 4, 16, 16, 16)
    with torch.no_grad():
        one, other = made.network(volume, guide), read.network(volume, guide)
    assert (one - other).abs().max() < 0.1 * one.abs().max()
    assert (tmp_path / "volume_head.safetensors").stat().st_size < 1.5 * sum(p.numel() for p in (
        *made.network.parameters(), *made.coarse.parameters()))  # fmt: skip


@pytest.mark.parametrize("damage", ["json", "weights", "parts", "nothing"])
def test_damaged_files_are_named(tmp_path, damage):
    VolumeHead(small(), STRUCTURES).save(tmp_path)
    if damage == "json":
        (tmp_path / "volume_head.json").write_text("{")
    elif damage == "weights":
        (tmp_path / "volume_head.safetensors").write_bytes(b"no")
    elif damage == "parts":
        text = (tmp_path / "volume_head.json").read_text()
        (tmp_path / "volume_head.json").write_text(text.replace('"left ball": [\n   2', '"left ball": [\n   9'))
    else:
        (tmp_path / "volume_head.json").unlink()
    with pytest.raises(ModelError, match="install"):
        VolumeHead.load(tmp_path)
