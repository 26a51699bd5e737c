"""Split patients into training, validation and test sets: whole patients, never single pictures.

Patients that share a picture (the same pixels, or the same picture in another size) stay together: they may be the same
person under two numbers. `check` tests an existing split, MedFM's or the source's, and raises an error if it leaks.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .samples import SPLITS

SHARES = (0.7, 0.15, 0.15)
BITS, ROWS = 8, 1024
"""Largest difference, of 256 bits, of one picture in two sizes (different pictures: some sixty and more); rows per step."""


@dataclass(frozen=True)
class SplitItem:
    """One picture of one patient, for splitting.

    Args:
        patient: identifier.
        digest: of the pixels.
        likeness: see `pictures.likeness`.
        split: the source's split, "" if none.
    """

    patient: str
    digest: str
    likeness: str = ""
    split: str = ""


def alike(seen: Sequence[SplitItem]) -> list[tuple[int, int]]:
    """Return pairs of picture numbers whose hashes differ in at most `BITS` of 256, once per distinct pair of hashes."""
    first: dict[str, int] = {}
    for number, picture in enumerate(seen):
        if picture.likeness:
            first.setdefault(picture.likeness, number)
    if not first:
        return []
    packed = np.array([np.frombuffer(bytes.fromhex(mark), np.uint8) for mark in first])
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    numbers, found = list(first.values()), []
    for start in range(0, len(signs), ROWS):
        near = signs[start : start + ROWS] @ signs.T >= signs.shape[1] - 2 * BITS
        found += [(numbers[start + i], numbers[j]) for i, j in zip(*np.nonzero(near), strict=True) if start + i < j]
    return found


def groups(seen: Sequence[SplitItem]) -> dict[str, str]:
    """Return a mapping from patient to first of the patients that must stay together."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    def join(one: str, other: str) -> None:
        first, second = sorted((find(one), find(other)))
        leader[second] = first

    owner: dict[str, str] = {}
    for picture in seen:
        find(picture.patient)
        for mark in filter(None, (picture.digest, picture.likeness)):
            join(picture.patient, owner.setdefault(mark, picture.patient))
    for one, other in alike(seen):
        join(seen[one].patient, seen[other].patient)
    return {name: find(name) for name in leader}


def shared(seen: Sequence[SplitItem]) -> list[tuple[str, ...]]:
    """Return the sets of patients that share a picture."""
    together = defaultdict(set)
    for patient, first in groups(seen).items():
        together[first].add(patient)
    return sorted(tuple(sorted(names)) for names in together.values() if len(names) > 1)


def split(seen: Sequence[SplitItem], seed: int = 0, shares: Sequence[float] = SHARES) -> dict[str, str]:
    """Return a mapping from patient to split: the source's own if it has one, else by a seeded order of groups of patients.

    Args:
        seen: all pictures.
        seed: of the order.
        shares: of patients in train, validation and test; their sum is 1.

    Raises:
        InputError: for invalid shares, or fewer than three patients.
    """
    if len(shares) != 3 or min(shares) < 0 or not 0.99 < sum(shares) < 1.01:
        raise InputError(f"Shares of train, validation and test must add up to 1, not {', '.join(map(str, shares))}.")
    given = {picture.patient: picture.split for picture in seen if picture.split}
    if given:
        check(seen)
    leaders = groups(seen)
    together: dict[str, list[str]] = defaultdict(list)
    for patient, first in leaders.items():
        together[first].append(patient)
    fixed = {first: given[p] for first, names in together.items() for p in names if p in given}
    rest = sorted((f for f in together if f not in fixed),
                  key=lambda first: hashlib.sha256(f"{seed}:{first}".encode()).hexdigest())  # fmt: skip
    if not fixed and len(together) < 3:
        raise InputError(
            f"There are pictures of {len(leaders)} patients, in {len(together)} separate groups; training, validation and test "
            "need at least three."
        )
    total = sum(len(together[first]) for first in rest)
    goals = dict(zip(SPLITS, (share * total for share in shares), strict=True))
    made, filled = dict(fixed), dict.fromkeys(SPLITS, 0)
    for first in rest:  # to the split that lacks most, so that a few patients fill every split
        name = max(SPLITS, key=lambda n: (goals[n] > 0, (goals[n] - filled[n]) / max(goals[n], 1e-9)))
        made[first], filled[name] = name, filled[name] + len(together[first])
    return {patient: made[first] for patient, first in leaders.items()}


def leaks(seen: Sequence[SplitItem]) -> list[str]:
    """Return sentences about patients and pictures that are in more than one split."""
    by_patient, by_picture = defaultdict(set), defaultdict(set)
    for picture in seen:
        by_patient[picture.patient].add(picture.split)
        by_picture[picture.digest].add((picture.split, picture.patient))
    said = [f"patient {name} is in {' and '.join(sorted(splits))}"
            for name, splits in sorted(by_patient.items()) if len(splits) > 1]  # fmt: skip
    for mark, where in sorted(by_picture.items()):
        if len({split for split, _ in where}) > 1 and len({patient for _, patient in where}) > 1:
            said.append(f"the same picture {mark[:12]} is of {_people(where)}")
    for one, other in _alike_elsewhere(seen):
        people = _people({(one.split, one.patient), (other.split, other.patient)})
        said.append(f"the same picture, slightly changed, {one.digest[:12]} and {other.digest[:12]}, is of {people}")
    return said


def _people(where: set[tuple[str, str]]) -> str:
    return " and ".join(f"{patient} ({split})" for split, patient in sorted(where, key=lambda place: place[::-1]))


def _alike_elsewhere(seen: Sequence[SplitItem]) -> list[tuple[SplitItem, SplitItem]]:
    """Return pairs of similar pictures of different patients in different splits, once per pair of patients."""
    same: dict[str, list[SplitItem]] = defaultdict(list)
    for picture in seen:
        if picture.likeness:
            same[picture.likeness].append(picture)
    pairs = [(one, other) for some in same.values() for one in some for other in some]
    pairs += [
        (one, other) for i, j in alike(seen) for one in same[seen[i].likeness] for other in same[seen[j].likeness]
    ]
    apart = {}
    for one, other in pairs:
        if one.split != other.split and one.patient != other.patient and one.digest != other.digest:
            first, second = sorted((one, other), key=lambda picture: picture.patient)
            apart.setdefault((first.patient, second.patient), (first, second))
    return list(apart.values())


def check(seen: Sequence[SplitItem]) -> None:
    """Check that a split does not leak.

    Raises:
        InputError: if a patient or a picture is in more than one split, with the first of them.
    """
    found = leaks([picture for picture in seen if picture.split])
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise InputError(
            f"The split leaks: {found[0]}{more}. Training and test need different patients; correct the "
            "source, or let MedFM split it."
        )
