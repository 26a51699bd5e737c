"""Losses of segmented masks: known scores, known losses."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedFMLib.training.embedded import labels  # noqa: E402
from MedFMLib.training.embedded.mask_losses import dice_sums, mask_loss, part_weights, without_sides  # noqa: E402


def sure(parts, number):
    """Scores that are nearly certain of `parts`."""
    return torch.nn.functional.one_hot(parts.long(), number).permute(0, 3, 1, 2).float() * 30


def test_right_scores_cost_nothing_and_wrong_ones_much():
    parts = torch.randint(0, 3, (2, 8, 8))
    weights = torch.tensor([0.4, 1.0, 2.0])
    assert mask_loss(sure(parts, 3), parts, weights) < 1e-3
    assert mask_loss(sure((parts + 1) % 3, 3), parts, weights) > 10


def test_pixels_of_unknown_parts_do_not_count():
    parts = torch.randint(0, 3, (1, 8, 8))
    scores = sure(parts, 3)
    hidden = parts.clone()
    hidden[0, :4] = labels.UNKNOWN_PART
    scores[0, :, :4] = torch.randn(3, 4, 8) * 9  # whatever is said there
    assert mask_loss(scores, hidden, torch.ones(3)) < 1e-3
    a, b = dice_sums(scores, hidden).T
    assert torch.equal(a, b)


def test_in_a_sagittal_picture_either_side_is_right():
    parts = torch.tensor([[[1, 2], [0, 1]]])
    swapped = torch.tensor([[[2, 1], [0, 2]]])
    weights = torch.ones(3)
    sagittal = mask_loss(*without_sides(sure(swapped, 3), parts, torch.tensor([True]), ((1, 2),)), weights)
    axial = mask_loss(*without_sides(sure(swapped, 3), parts, torch.tensor([False]), ((1, 2),)), weights)
    assert sagittal < 0.1
    assert axial > 5
    scores, drawn = without_sides(sure(swapped, 3), parts, torch.tensor([True]), ((1, 2),))
    assert drawn.tolist() == [[[1, 1], [0, 1]]]
    assert scores.argmax(1).tolist() == [[[1, 1], [0, 1]]]


def test_unsided_scores_keep_their_sum_and_their_gradient():
    scores = torch.randn(3, 5, 4, 4, requires_grad=True)
    rows = torch.tensor([True, False, True])
    merged, _ = without_sides(scores, torch.zeros(3, 4, 4), rows, ((1, 2), (3, 4)))
    before, after = scores.softmax(1), merged.softmax(1)
    assert torch.allclose(before[0, 1] + before[0, 2], after[0, 1], atol=1e-5)
    assert torch.equal(merged[1], scores[1])
    after[0, 1].sum().backward()
    assert scores.grad[0, 2].abs().sum() > 0


def test_dice_sums_are_twice_the_overlap_and_both_sizes():
    truth = torch.tensor([[[0, 0, 1, 1]]])
    found = torch.tensor([[[0, 1, 1, 1]]])
    assert dice_sums(sure(found, 2), truth).tolist() == [[2.0, 3.0], [4.0, 5.0]]


def test_small_parts_weigh_more_and_both_sides_the_same():
    weights = dict(zip(labels.PARTS, part_weights().tolist(), strict=True))
    assert weights["background"] < weights["liver"] < weights["left kidney"] < weights["left accumbens"]
    assert all(weights[labels.PARTS[a]] == weights[labels.PARTS[b]] for a, b in labels.PAIRS)


def test_parts_cover_what_the_structures_are_made_of():
    parts = np.arange(len(labels.PARTS))
    brain = labels.structure_mask(parts, "brain")
    assert [labels.PARTS[n] for n in parts[brain]] == list(labels.BRAIN_PARTS)
    assert len(labels.BRAIN_PARTS) == 27
    sides = (
        labels.structure_mask(parts, "left cerebral hemisphere"),
        labels.structure_mask(parts, "right cerebral hemisphere"),
    )
    assert not (sides[0] & sides[1]).any()
    for left, right in labels.PAIRS:
        assert labels.PARTS[left].replace("left", "right") == labels.PARTS[right]
