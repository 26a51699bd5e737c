"""The reliability benchmark: its questions, the split by person, and evaluation on data that were not fitted."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from support.phantoms import ct_phantom

from MedFMLib.core.view import make_view
from MedFMLib.errors import InputError
from MedFMLib.reliability.calibration import Calibration
from MedFMLib.reliability.diagram import points, reliability
from MedFMLib.training.embedded import bench_reliability
from MedFMLib.training.embedded.bench_reliability import Outcome
from MedFMLib.training.embedded.bench_tables import as_text
from MedFMLib.training.embedded.questions import REFUSAL, QuestionExchange


class Runtime:
    """Says what a picture shows: "liver" if it has its brightness, else "lung"; a part of the samples says otherwise."""

    def __init__(self, wrong: int):
        self.wrong = wrong

    def write(self, views, text="", **_):
        return "liver" if (views[0].pixels[..., 1] > 150).any() else "lung"

    def write_many(self, views, texts, **_):
        return [self.write([view]) for view in views]

    def sample(self, views, text, count, **_):
        return ["spleen"] * self.wrong + [self.write(views)] * (count - self.wrong)

    def score(self, shown, text, answer, **_):
        return [0.0 if self.write(views) == answer else -2.0 for views in shown]


def probe(number, name):
    return SimpleNamespace(case=SimpleNamespace(name=name), view=make_view(ct_phantom(), "axial", number))


def test_every_question_is_asked_answered_sampled_and_asked_without_the_image():
    asked = [(probe(3, "a"), QuestionExchange("answer en which?", "liver", "largest")),
             (probe(18, "b"), QuestionExchange("answer en which?", "liver", "largest"))]  # fmt: skip
    reported = []
    first, second = bench_reliability.ask_all(Runtime(2), asked, 10, blind=True, tell=reported.append)
    assert (first.said, first.right, first.agreement) == ("liver", 1.0, 0.8)
    assert (second.said, second.right) == ("lung", 0.0)
    assert len(first.without) == len(first.lost) == 2 and first.question == "which?"
    assert reported == [1, 2]


def outcomes(count=120):
    rng = np.random.default_rng(3)
    found = []
    for n in range(count):
        agreeing = int(rng.integers(1, 11))
        right = float(rng.random() < (agreeing / 10) ** 2)
        samples = ("yes",) * agreeing + ("no",) * (10 - agreeing)
        found.append(Outcome(f"case {n % 8}, T1-like", "presence", "?", "yes", "yes", right, samples))
    return found


def test_no_person_is_on_both_sides():
    found = [*outcomes(), Outcome("case 1, T2-like", "presence", "?", "yes", "yes", 1.0, ("yes",))]
    first, second = bench_reliability.halves(found)
    people = [{bench_reliability.person(o.case) for o in half} for half in (first, second)]
    assert not people[0] & people[1] and len(first) + len(second) == len(found)
    assert abs(len(first) - len(second)) <= 17
    assert bench_reliability.person("brain stroke T1") == bench_reliability.person("brain stroke FLAIR")


def test_a_calibration_is_fitted_judged_kept_and_drawn(tmp_path):
    found = outcomes(400)
    made = bench_reliability.calibrate(found, "m", 1.0, "data", "command")
    assert isinstance(made, Calibration) and made.samples == 10 and made.questions == 400
    assert made.error_after < made.error_before
    judged, before, after = bench_reliability.judge(found)
    assert len(judged) == len(before) == len(after) == 400
    table = bench_reliability.answered_table(judged, after)
    shares = [row[3] for row in table.rows if row[1] > 20]
    assert (np.diff(shares) > -0.01).all() and shares[-1] > shares[0] + 0.3 and "95 % interval" in as_text(table)
    assert bench_reliability.error_table(judged, before, after).rows[0][3] > 0.1
    root = ElementTree.fromstring(reliability(after, [o.right for o in judged], before, "a < b"))
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    truth = [o.right for o in judged]
    assert len(circles) == len(points(after, truth)) + len(points(before, truth))
    with pytest.raises(InputError, match="at least 2 samples"):
        bench_reliability.calibrate([Outcome("a", "k", "?", "y", "y", 1.0)], "m", 1.0, "", "")


def test_kept_answers_are_read_back_and_others_are_refused(tmp_path):
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({bench_reliability.AS_IT_IS: [asdict(o) for o in outcomes(3)]}))
    assert bench_reliability.load(path) == outcomes(3)
    path.write_text("{}")
    with pytest.raises(InputError, match="has no answers"):
        bench_reliability.load(path)


def test_the_blind_table_counts_what_stands_and_leaves_refusals_out():
    stands = Outcome("a", "k", "?", "y", "yes", 1.0, without=("yes", "yes"), lost=(0.0, 0.0))
    chance = Outcome("a", "k", "?", "y", "yes", 1.0, without=("yes", "yes"), lost=(0.4, 0.9))
    refused = Outcome("a", "k", "?", REFUSAL, REFUSAL, 1.0, without=(REFUSAL, REFUSAL), lost=(0.0, 0.0))
    (row,) = bench_reliability.blind_table({"model": [stands, chance, refused]}).rows
    assert row[1:3] == [2, 0.5] and row[4] == 1.0
