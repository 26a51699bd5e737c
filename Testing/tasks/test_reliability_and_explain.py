"""Answers that are checked against measurements, assessed and explained, with scripted models."""

from __future__ import annotations

import numpy as np
import pytest
from support.phantoms import ct_phantom, oblique_geometry
from support.scripted_model import ScriptedModel, engine

from MedFMLib.core.findings import Measurement
from MedFMLib.core.geometry import BoxedMask
from MedFMLib.core.image import Image
from MedFMLib.core.prompts import Box
from MedFMLib.core.request import ReliabilityChoice, Request, SliceChoice
from MedFMLib.core.view import display_slice
from MedFMLib.errors import Cancelled, InputError
from MedFMLib.execution import serialization
from MedFMLib.fact_check import REMOVED
from MedFMLib.interfaces.jobs import Job, PartialText, Stage
from MedFMLib.reliability.asking import ABSTAINS
from MedFMLib.reliability.blind import STANDS
from MedFMLib.reliability.calibration import Calibration
from MedFMLib.reports.saliency import saliency_images

ONE = SliceChoice("axial", 7, 7)


class Drawing(ScriptedModel):
    """Draws whole volumes at once."""

    draws_volumes = True

    def segment_volume(self, image, labels, *, callbacks=None):
        return {label: BoxedMask.of(self.truth[label]) for label in labels if label in self.truth}


class Sampling(ScriptedModel):
    """Answers `drawn` in turn when it is sampled."""

    drawn = ("yes",)

    def sample(self, views, text, count, *, temperature=1.0, history=(), max_tokens=64, callbacks=None):
        self.asked = (count, temperature)
        return [self.drawn[n % len(self.drawn)] for n in range(count)]


class Explaining(ScriptedModel):
    """Rests on what is bright: its answer is the likelier the more of it is shown."""

    def score(self, shown, text, answer, *, history=(), callbacks=None):
        return [float(sum((view.pixels > 128).sum() for view in views)) for views in shown]

    def attention(self, views, text, answer, *, history=(), callbacks=None):
        maps = []
        for view in views:
            y, x = view.positions()
            row, column = np.unravel_index(view.pixels[..., 0].argmax(), view.pixels.shape[:2])
            made = np.full((16, 16), 0.1, np.float32)
            made[int(y[row] * 16), int(x[column] * 16)] = 1
            maps.append(made)
        return maps


def ask(model, monkeypatch, question="Is it there?", abilities=("writes",), **changes):
    image = changes.pop("image", ct_phantom())
    job = Job(Request(changes.pop("task", "ask"), image, question=question, slices=ONE, **changes))
    response = engine(model, monkeypatch, abilities=abilities).run(job.request, job)
    return response, job.events()


# -- held against measurements ---------------------------------------------------------------------------


def test_an_answer_keeps_what_was_measured_and_loses_what_was_not_also_while_it_is_streamed(monkeypatch):
    said = "The liver has {liver.volume} and lies on the {liver.side}. There is a 12 mm nodule."
    measured = (Measurement("liver", "volume", 1450.0, "mL"), Measurement("liver", "side", "right"))
    model = ScriptedModel({}, ct_phantom().geometry, {"How large is the liver?": said})
    response, events = ask(model, monkeypatch, "How large is the liver?", measurements=measured)
    text = response.answers[0].text
    assert text == "The liver has 1450 mL and lies on the right. There is a [not supported by a measurement] nodule."
    assert "".join(e.text for e in events if isinstance(e, PartialText)) == text
    (note,) = [note for note in response.provenance.notes if note.startswith("Removed from")]
    assert "12 mm" in note


def test_a_side_comes_from_what_the_model_draws_not_from_its_words(monkeypatch):
    image = ct_phantom()
    p = image.geometry.to_world(np.stack(np.meshgrid(*map(np.arange, image.geometry.shape), indexing="ij"), -1))
    truth = {"liver": (image.scalars == 90) & (p[..., 0] > 0)}
    question = "Which side does the liver take up?"  # no form of a question that geometry answers by itself
    model = Drawing(truth, image.geometry, {question: "left"})
    response, events = ask(model, monkeypatch, question, abilities=("writes", "segments"))
    assert response.answers[0].text == "right"
    assert any("by geometry it is right" in note for note in response.provenance.notes)
    assert any(isinstance(e, Stage) and "Measuring" in e.name for e in events)
    blind, _ = ask(ScriptedModel({}, image.geometry, {question: "left"}), monkeypatch, question)
    assert blind.answers[0].text == REMOVED


def test_a_plain_answer_is_not_measured(monkeypatch):
    model = Drawing({}, ct_phantom().geometry, {"Is it a head?": "yes"})
    response, events = ask(model, monkeypatch, "Is it a head?", abilities=("writes", "segments"))
    assert response.answers[0].text == "yes"
    assert not any(isinstance(e, Stage) and "Measuring" in e.name for e in events)


def test_the_side_and_size_of_a_marked_region_are_geometry(monkeypatch):
    image = ct_phantom()
    center = image.geometry.center + np.array((70, 0, 0))  # RAS: to the patient's right
    box = Box(tuple(center), (20.0, 20.0, 10.0))
    for said, shown in (("left", "right"), ("right", "right")):
        model = ScriptedModel({}, image.geometry, {"Which side is this on?": said})
        response, _ = ask(model, monkeypatch, "Which side is this on?", prompts=(box,))
        assert response.answers[0].text == shown


# -- looked into -----------------------------------------------------------------------------------------


def test_nothing_is_looked_into_unless_it_is_wanted(monkeypatch):
    response, _ = ask(Sampling({}, ct_phantom().geometry), monkeypatch)
    assert response.answers[0].reliability is None


def test_an_answer_that_the_samples_bear_out_is_shown_with_what_that_is_worth(monkeypatch):
    known = Calibration("scripted", 10, 0.7, ((0.0, 0.2), (1.0, 0.9)), 0.5, 100, 0.6, date="2026-11-28")
    monkeypatch.setattr("MedFMLib.reliability.calibration.known", lambda model: known)
    model = Sampling({}, ct_phantom().geometry)
    response, events = ask(model, monkeypatch, reliability=ReliabilityChoice(10))
    (answer,) = response.answers
    assert (answer.text, answer.reliability.agreement, answer.reliability.confidence) == ("yes", 1.0, 0.9)
    assert not answer.reliability.abstained
    assert model.asked == (10, 0.7)  # as it was calibrated
    assert any("about 90% were right (100 questions, 2026-11-28)" in note for note in response.provenance.notes)
    assert any(isinstance(e, Stage) and "at most 10 × the time of an answer" in e.name for e in events)
    assert serialization.loads(serialization.dumps(response)).answers[0].reliability == answer.reliability


def test_an_unsure_answer_is_withheld_and_was_never_streamed(monkeypatch):
    model = Sampling({}, ct_phantom().geometry)
    model.drawn = ("no", "maybe", "yes", "no")
    response, events = ask(model, monkeypatch, reliability=ReliabilityChoice(8))
    (answer,) = response.answers
    assert answer.text == ABSTAINS and answer.reliability.abstained and answer.reliability.said == "yes"
    assert answer.reliability.agreement == 0.25 and answer.reliability.confidence is None
    assert "".join(e.text for e in events if isinstance(e, PartialText)) == ABSTAINS
    assert any("no calibration" in note for note in response.provenance.notes)


def test_a_patient_gets_what_the_looking_led_to_and_none_of_the_models_other_words(monkeypatch):
    model = Sampling({}, ct_phantom().geometry)
    model.drawn = ("it is cancer",)
    made = engine(model, monkeypatch)
    image = ct_phantom()
    request = Request(
        "ask", image, question="Is it there?", slices=ONE, reliability=ReliabilityChoice(4), audience="patient"
    )
    response = made.run(request)
    assert response.answers[0].reliability is None
    assert b"cancer" not in serialization.dumps(response, compress=False)
    assert "radiologist" in response.answers[0].text


def test_a_person_may_set_the_threshold(monkeypatch):
    model = Sampling({}, ct_phantom().geometry)
    model.drawn = ("yes", "no")
    assert ask(model, monkeypatch, reliability=ReliabilityChoice(8, threshold=0.6))[0].answers[0].text == ABSTAINS
    assert ask(model, monkeypatch, reliability=ReliabilityChoice(8, threshold=0.4))[0].answers[0].text == "yes"


def test_a_model_that_can_not_be_sampled_says_so(monkeypatch):
    response, _ = ask(ScriptedModel({}, ct_phantom().geometry), monkeypatch, reliability=ReliabilityChoice(5))
    assert response.answers[0].text == "yes" and response.answers[0].reliability.agreement is None
    assert any("can't sample answers" in note for note in response.provenance.notes)


def test_an_answer_that_stands_without_the_image_says_so_and_one_that_sees_does_not(monkeypatch):
    geometry = ct_phantom().geometry
    response, _ = ask(ScriptedModel({}, geometry), monkeypatch, reliability=ReliabilityChoice(blind=True))
    (answer,) = response.answers
    assert answer.reliability.blind == "stands" and answer.text == f"yes\n{STANDS}"
    assert answer.reliability.blind_answers == ("yes",)
    seeing = ScriptedModel({}, geometry, lambda view, _: "yes" if np.ptp(view.pixels) else "no")
    assert (
        ask(seeing, monkeypatch, reliability=ReliabilityChoice(blind=True))[0].answers[0].reliability.blind == "changed"
    )
    refusing = ScriptedModel({}, geometry, {"Is it there?": "cannot be answered from this image"})
    answer = ask(refusing, monkeypatch, reliability=ReliabilityChoice(blind=True))[0].answers[0]
    assert (answer.reliability.blind, answer.text) == ("refused", "cannot be answered from this image")


def test_another_image_may_take_the_place_of_the_image(monkeypatch):
    other = ct_phantom()
    other = other.with_voxels(np.where(other.voxels == 90, 40, other.voxels))  # nothing as bright as a liver
    seeing = ScriptedModel(
        {}, other.geometry, lambda view, _: "yes" if len(np.unique(view.pixels[..., 1])) > 2 else "no"
    )
    response, _ = ask(seeing, monkeypatch, reliability=ReliabilityChoice(blind=True, other=other))
    assert response.answers[0].reliability.blind in ("changed", "stands")
    shown = [views[0] for views, _, _ in seeing.seen]
    assert any(np.array_equal(view.pixels, _slice(other, view)) for view in shown[1:])


def _slice(image, view):
    from MedFMLib.core.view import make_view

    return make_view(image, view.plane, view.number).pixels


# -- explained -------------------------------------------------------------------------------------------

ABLE = ("writes", "explains")


@pytest.mark.parametrize("method", ["attention", "occlusion"])
@pytest.mark.parametrize("oblique", [False, True])
def test_the_saliency_lies_where_the_answer_comes_from(monkeypatch, method, oblique):
    geometry = oblique_geometry() if oblique else ct_phantom().geometry
    values = np.random.default_rng(1).integers(0, 40, geometry.shape).astype(np.int16)
    spot = (geometry.shape[0] // 4, geometry.shape[1] * 2 // 3, 7)
    values[spot[0] - 1 : spot[0] + 2, spot[1] - 1 : spot[1] + 2, 7] = 900
    image = Image(values[None], geometry, "MR", facts={"window": "0 1000"})
    plane = geometry.acquisition_plane
    model = Explaining({}, geometry)
    request = Request("explain", image, question="What?", slices=SliceChoice(plane, 7, 7), method=method)
    response = engine(model, monkeypatch, abilities=ABLE).run(serialization.loads(serialization.dumps(request)))
    (saliency,) = response.saliencies
    assert saliency.method == method and saliency.levels.shape == (*geometry.shape[:2], 1)
    peak = np.array(np.unravel_index(saliency.levels.argmax(), saliency.levels.shape))
    size = np.max(np.array(geometry.shape[:2]) * geometry.spacing[:2])
    distance = np.linalg.norm(saliency.geometry.to_world(peak) - geometry.to_world(spot))
    assert distance <= size / (8 if method == "occlusion" else 16) * 1.5
    assert saliency.values.max() == 1
    again = serialization.loads(serialization.dumps(response)).saliencies[0]
    np.testing.assert_array_equal(again.levels, saliency.levels)
    (picture,) = saliency_images(image, saliency)
    assert picture.png.startswith(b"\x89PNG") and picture.png != picture.overlay_png
    with pytest.raises(InputError, match="another grid"):
        saliency_images(ct_phantom() if oblique else Image(values[None], oblique_geometry(geometry.shape)), saliency)


def test_the_explanation_of_a_region_lies_in_the_region(monkeypatch):
    image = ct_phantom()
    start = np.array((12, 30, 5))
    box = Box(tuple(image.geometry.to_world(start + 5)), (36.0, 36.0, 15.0))
    request = Request("explain", image, question="What?", prompts=(box,), slices=SliceChoice("axial"))
    response = engine(Explaining({}, image.geometry), monkeypatch, abilities=ABLE).run(request)
    (saliency,) = response.saliencies
    inside = np.argwhere(saliency.levels)
    assert np.abs(saliency.geometry.to_world(inside.mean(axis=0)) - box.center)[:2].max() < 60


def test_only_the_slices_looked_at_have_a_saliency(monkeypatch):
    image = ct_phantom()
    request = Request("explain", image, question="What?", slices=SliceChoice("axial"))
    (saliency,) = engine(Explaining({}, image.geometry), monkeypatch, abilities=ABLE).run(request).saliencies
    numbers = [where.number for where in saliency.evidence]
    start = numbers[0]
    there = [n + start for n in range(saliency.levels.shape[2]) if saliency.levels[..., n].any()]
    assert there == numbers and len(numbers) == 3
    picture = display_slice(saliency.levels, saliency.geometry, "axial", numbers[1] - start)
    assert picture.max() == 255


@pytest.mark.parametrize(
    ("changes", "message"), [({"method": "magic"}, "attention, occlusion"), ({"question": " "}, "no question")]
)
def test_what_can_not_be_explained_is_refused(monkeypatch, changes, message):
    image = ct_phantom()
    request = Request("explain", image, **{"question": "What?", **changes})
    with pytest.raises(InputError, match=message):
        engine(Explaining({}, image.geometry), monkeypatch, abilities=ABLE).run(request)
    with pytest.raises(InputError, match="can't explain"):
        engine(Explaining({}, image.geometry), monkeypatch, abilities=("writes",)).run(request)


def test_an_explanation_can_be_cancelled(monkeypatch):
    image = ct_phantom()
    job = Job(Request("explain", image, question="What?"))
    job.cancel()
    with pytest.raises(Cancelled):
        engine(Explaining({}, image.geometry), monkeypatch, abilities=ABLE).run(job.request, job)
