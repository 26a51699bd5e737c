"""Compute mask losses: cross-entropy and Dice over mutually exclusive parts, ignoring sides in sagittal slices.

Depends on scores and part numbers; no models or pictures.
"""

from __future__ import annotations

from . import labels

_WEIGHTS = {
    0.4: (*labels.TISSUES, "body"),
    1.0: ("cerebral white matter", "cerebral cortex", "lung", "liver"),
    1.5: ("cerebellum", "lateral ventricle"),
    2.0: ("kidney", "spleen", "stomach", "spine", "hip bone"),
    3.0: ("aorta", "urinary bladder", "mandible", "parotid gland", "larynx"),
    4.0: ("thalamus", "caudate", "putamen", "hippocampus", "brainstem", "ventral diencephalon", "spinal cord"),
    5.0: ("third ventricle", "fourth ventricle", "esophagus"),
    8.0: ("pallidum", "amygdala"),
    12.0: ("accumbens",),
}


def part_weights(parts: tuple[str, ...] = labels.PARTS):
    """Return the (parts,) weights in the cross-entropy: about the inverse root of a part's share of the pictures.

    Without them, parts that fill less than a hundredth of the pictures were not segmented at all after 19,000 pictures.
    """
    import torch

    weight = {name: w for w, names in _WEIGHTS.items() for name in names}
    return torch.tensor([weight.get(p.removeprefix("left ").removeprefix("right "), 1.0) for p in parts])


def without_sides(scores, parts, rows, pairs=labels.PAIRS):
    """Return scores and parts with the right side merged into the left one in some pictures.

    In a sagittal slice the sides can't be distinguished, so that only the sum of both can be right or wrong.

    Args:
        scores: (B, parts, …).
        parts: (B, …) part numbers.
        rows: (B,) bool, the pictures to change.
        pairs: (left, right) part numbers.
    """
    import torch

    if not pairs or not bool(rows.any()):
        return scores, parts
    left, right = (list(side) for side in zip(*pairs, strict=True))
    some = scores[rows]
    both = torch.logaddexp(some[:, left], some[:, right])
    some = some.index_copy(1, torch.tensor(left), both)
    some = some.index_fill(1, torch.tensor(right), -30.0)
    scores = scores.clone()
    scores[rows] = some
    table = torch.arange(256)
    table[right] = torch.tensor(left)
    parts = parts.long()
    return scores, torch.where(rows.view(-1, *[1] * (parts.ndim - 1)), table[parts], parts)


def mask_loss(scores, parts, weights, dice_share: float = 0.7):
    """Return weighted cross-entropy plus `dice_share` × (1 − mean Dice of the parts that occur in the batch).

    Args:
        scores: (B, parts, H, W).
        parts: (B, H, W) numbers, `labels.UNKNOWN_PART` where unknown.
        weights: (parts,) of the cross-entropy.
        dice_share: weight of the Dice term.
    """
    import torch
    import torch.nn.functional as F

    scores, parts = scores.float(), parts.long()
    logp = F.log_softmax(scores, 1)
    entropy = F.nll_loss(logp, parts, weights, ignore_index=labels.UNKNOWN_PART)
    known = parts != labels.UNKNOWN_PART
    number = scores.shape[1]
    chance = logp.exp() * known[:, None]
    truth = torch.where(known, parts, number)
    sizes = torch.bincount(truth.flatten(), minlength=number + 1)[:number].float()
    right = chance.gather(1, torch.where(known, parts, 0)[:, None])[:, 0] * known
    overlap = torch.zeros(number + 1).index_add(0, truth.flatten(), right.flatten())[:number]
    present = (sizes > 0) & (weights > 0.5)
    dice = 2 * overlap / (chance.sum((0, 2, 3)) + sizes).clamp(min=1)
    return entropy + dice_share * (1 - dice[present].mean()) if present.any() else entropy


def dice_sums(scores, parts):
    """Return (parts, 2): twice the overlap, and the sum of both sizes, of the likeliest parts.

    Add over batches, then divide.

    Args:
        scores: (B, parts, H, W).
        parts: (B, H, W) numbers.
    """
    import torch

    known = parts != labels.UNKNOWN_PART
    found, parts, number = scores.argmax(1)[known], parts.long()[known], scores.shape[1]
    same = torch.bincount(parts[found == parts], minlength=number)
    both = torch.bincount(found, minlength=number) + torch.bincount(parts, minlength=number)
    return torch.stack([2 * same, both], 1).double()
