"""What a network finds is judged by sizes, arrangement, certainty and pieces."""

import json

import numpy as np
import pytest

from MedFMLib.models.masks.domain import FACTS, DomainJudge, PartLayout, describe

WEIGHTS = (2.0, 1.0, 3.0, 1.0, 0.5, 1.0, 0.5)


def body(shift=(0, 0, 0), scale=1.0):
    """Three balls in a row from left to right, of 10, 8 and 6 mm."""
    axes = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in (80, 48, 48)), indexing="ij"))
    parts = np.zeros((80, 48, 48), np.uint8)
    for number, x, radius in ((1, 16, 10), (2, 38, 8), (3, 60, 6)):
        middle = np.array([x, 24, 24]) + shift
        parts[((axes - middle[:, None, None, None]) ** 2).sum(0) < (radius * scale) ** 2] = number
    return parts


@pytest.fixture(scope="module")
def layout():
    rng = np.random.default_rng(2)
    people = [(body(rng.integers(-3, 4, 3), rng.uniform(0.9, 1.1)), np.ones(3)) for _ in range(12)]
    return PartLayout.of(people, (1, 2, 3))


@pytest.fixture(scope="module")
def judge(layout):
    return DomainJudge("MR", "row of balls", layout, WEIGHTS, -7.5, 0.5, 0.0)


def sure(parts):
    return np.where(parts > 0, 250, 250).astype(np.uint8)


def test_another_person_is_known_wherever_it_lies(layout, judge):
    for shift in ((0, 0, 0), (4, -5, 6), (-3, 3, -6)):
        parts = body(shift, 1.05)
        facts = describe(parts, sure(parts), np.ones(3), layout)
        assert len(facts) == len(FACTS) and ((facts >= 0) & (facts <= 1)).all()
        assert judge.judge(facts).known


@pytest.mark.parametrize("change", ["mirrored", "turned", "tiny", "huge", "nothing", "scattered"])
def test_what_is_no_such_body_is_refused_with_a_reason(layout, judge, change):
    parts = body()
    if change == "mirrored":
        parts = parts[::-1]
    elif change == "turned":
        parts = parts.transpose(1, 0, 2)
    elif change == "tiny":
        parts = body(scale=0.25)
    elif change == "huge":
        parts = np.where(body(scale=1.0) > 0, 1, 1).astype(np.uint8)
    elif change == "nothing":
        parts = np.zeros_like(parts)
    else:
        parts = np.random.default_rng(1).integers(0, 4, parts.shape).astype(np.uint8)
    domain = judge.judge(describe(np.ascontiguousarray(parts), np.full(parts.shape, 120, np.uint8), np.ones(3), layout))
    assert not domain.known and "row of balls" in domain.reason and domain.chance < 0.5


def test_spacing_counts(layout, judge):
    parts = body()
    assert not judge.judge(describe(parts, sure(parts), np.full(3, 3.0), layout)).known


def test_a_judge_comes_back_from_its_file(judge):
    again = DomainJudge.from_json(json.loads(json.dumps(judge.as_json())))
    parts = body((2, 1, 0))
    facts = [describe(parts, sure(parts), np.ones(3), one.layout) for one in (judge, again)]
    assert np.allclose(*facts, atol=1e-3)
    assert again.chance(facts[0]) == pytest.approx(judge.chance(facts[0]), abs=1e-3)
    assert (again.modality, again.region, again.threshold) == ("MR", "row of balls", 0.5)
