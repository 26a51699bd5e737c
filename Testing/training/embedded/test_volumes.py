"""Training volumes: seeded, deformed as intended, sides exchanged with the picture, and losses that mean what they say."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from MedFMLib.training.embedded import labels, volumes
from MedFMLib.training.embedded.optimizing import orthogonal
from MedFMLib.training.embedded.other_images import KINDS, OtherImages
from MedFMLib.training.embedded.sources import Subject, freesurfer_parts
from MedFMLib.training.embedded.train_volume import volume_loss

LEFT, RIGHT = labels.part_number("left thalamus"), labels.part_number("right thalamus")


@pytest.fixture(scope="module")
def subject():
    """A head with white matter and a thalamus on each side; small x is left. The left thalamus is the larger one."""
    values = np.zeros((80, 90, 70), np.uint16)
    values[8:72, 10:80, 8:62] = 502
    values[16:40, 20:70, 14:56], values[40:64, 20:70, 14:56] = 2, 41
    values[22:34, 36:56, 28:40], values[46:54, 40:50, 28:40] = 10, 49
    return Subject("head", "head", "MR", values, freesurfer_parts(values), np.ones(3))


def drawn(subject, number, **more):
    source = volumes.Heads([subject], 48, 1.0)
    for name, value in more.items():
        setattr(source, name, value)
    return source.draw(np.random.default_rng((7, number)))


def test_a_sample_is_the_same_each_time_and_another_one_each_number(subject):
    one, again, other = drawn(subject, 1), drawn(subject, 1), drawn(subject, 2)
    assert np.array_equal(one.values, again.values) and np.array_equal(one.parts, again.parts)
    assert not np.array_equal(one.parts, other.parts)
    assert one.values.shape == (1, 48, 48, 48) and one.values.dtype == np.float32 and np.isfinite(one.values).all()


def test_mirrored_or_not_left_lies_on_the_left(subject):
    seen = 0
    for number in range(40):
        parts = drawn(subject, number, whole=True).parts
        if (parts == LEFT).sum() > 50 and (parts == RIGHT).sum() > 50:
            middles = [np.argwhere(parts == part)[:, 0].mean() for part in (LEFT, RIGHT)]
            assert middles[0] < middles[1]
            seen += 1
    assert seen > 15
    larger = [(p == LEFT).sum() > (p == RIGHT).sum() for p in (drawn(subject, n, whole=True).parts for n in range(40))]
    assert 8 < sum(larger) < 32, "about half are mirrored"


def test_points_are_read_as_scipy_reads_them():
    rng = np.random.default_rng(3)
    volume = rng.normal(0, 1, (20, 24, 18)).astype(np.float32)
    where = torch.tensor(rng.uniform(1, 16, (3, 6, 7, 8)), dtype=torch.float32)
    ours = volumes.linear(torch.from_numpy(volume), where, -9.0).numpy()
    assert ours == pytest.approx(ndimage.map_coordinates(volume, where.numpy(), order=1), abs=1e-4)
    whole = torch.from_numpy((volume * 100).astype(np.int16))
    theirs = ndimage.map_coordinates((volume * 100).astype(np.int16), where.numpy(), order=0)
    assert np.array_equal(volumes.nearest(whole, where).numpy(), theirs)
    far = torch.full((3, 2, 2, 2), 40.0)
    assert volumes.linear(torch.from_numpy(volume), far, -9.0).numpy() == pytest.approx(-9.0)
    assert (volumes.nearest(whole, far, 5) == 5).all()


def test_an_undeformed_grid_shows_the_source():
    rng = np.random.default_rng(0)
    still = volumes.Variation(0.0, (0.0, 0.0), (0.0, 0.0), 0.0)
    where = volumes.points((10, 12, 8), 2.0, np.array([20.0, 24.0, 16.0]), np.array([2.0, 2.0, 2.0]), rng, still)
    assert where[:, 0, 0, 0].tolist() == pytest.approx([5.0, 6.0, 4.0])
    assert where[:, -1, -1, -1].tolist() == pytest.approx([14.0, 17.0, 11.0])


def test_thick_slices_blur_along_their_normal_alone():
    line = torch.zeros(40, 40, 40)
    line[20, 20, 20] = 1.0
    thick = volumes.thick_slices(line, 2, 5.0, 5.0)
    assert (thick[20, 20] > 0).sum() >= 5
    assert thick[19].abs().max() == 0 and thick[:, 19].abs().max() == 0


def test_missing_organs_are_unknown_not_absent():
    scores = torch.full((1, 9, 4, 4, 4), -9.0)
    scores[0, 7] = 9.0  # a larynx everywhere
    parts, weights = torch.ones(4, 4, 4, dtype=torch.uint8), torch.ones(9)
    assert volume_loss(scores, parts, weights, 0.0) > 10
    assert volume_loss(scores, parts, weights, 0.0, missing=(7,)) < 0.1


def test_the_loss_ignores_what_is_unknown_and_falls_to_nothing():
    parts = torch.randint(0, 5, (6, 6, 6), dtype=torch.uint8)
    scores = 30.0 * torch.nn.functional.one_hot(parts.long(), 5).permute(3, 0, 1, 2)[None].float()
    assert volume_loss(scores, parts, torch.ones(5), 1.0) < 0.01
    parts[0] = labels.UNKNOWN_PART
    scores[0, :, 0] = torch.randn(5, 6, 6)
    assert volume_loss(scores, parts, torch.ones(5), 1.0) < 0.01


def test_muons_steps_are_about_orthogonal():
    for shape in ((16, 64), (64, 16)):
        sizes = torch.linalg.svdvals(orthogonal(torch.randn(*shape)))
        assert sizes.min() > 0.5 and sizes.max() < 1.4


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_images_are_seeded_and_scaled_as_the_network_expects(subject, kind, modality):
    heads = volumes.Heads([subject], 48, 2.0) if modality == "MR" else None
    trunk = (torch.from_numpy((subject.values % 7).astype(np.int16)), np.full(3, 3.0))
    source = OtherImages(modality, [trunk], [(torch.rand(30, 30, 30), np.full(3, 3.0))], heads, 48, 2.0)
    one, again = (source.draw(np.random.default_rng(9), kind) for _ in range(2))
    assert np.array_equal(one, again)
    assert one.shape == (2 if modality == "CT" else 1, 48, 48, 48)
    assert np.isfinite(one).all() and one.min() >= -0.5 and one.max() <= 2.5
