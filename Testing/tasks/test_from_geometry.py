"""Answers that come from the outline and the header, not from the language model's words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from support.domain_model import ABILITIES, KNOWN, DomainModel
from support.scripted_model import engine

from MedFMLib.core.findings import FLAGGED, OutlineCheck, Segmentation
from MedFMLib.core.geometry import UNORIENTED, Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.prompts import Points
from MedFMLib.core.request import ReliabilityChoice, Request, SliceChoice
from MedFMLib.interfaces.jobs import Job, PartialText
from MedFMLib.tasks import from_geometry
from MedFMLib.tasks.from_geometry import OUTLINE
from MedFMLib.tasks.segment import SegmentTask

MARKED = "[not supported by a measurement]"


@pytest.fixture
def ask(monkeypatch):
    """Asks a model whose words are nonsense a question about the torso; → (answer, model, events)."""

    def call(question, *, model=None, abilities=ABILITIES, **changes):
        model = model or DomainModel(KNOWN, answers=lambda view, text: "a 12 mm nodule on the left")
        request = Request("ask", changes.pop("image", model.image), question=question, **changes)
        job = Job(request)
        response = engine(model, monkeypatch, abilities=abilities).run(request, job)
        return response.answers[0], model, job.events()

    return call


def millilitres(model, label):
    return model.truth[label].sum() * model.geometry.voxel_volume / 1000


QUESTIONS = [
    ("Is the liver visible?", r"Yes, the liver is visible, in axial slices \d+ to \d+"),
    ("Are the lungs visible?", r"Yes, the left lung is visible, in axial .* and the right lung is visible, in axial"),
    ("Which lung is visible?", r"The left lung is visible, in .* and the right lung is visible, in"),
    ("On which side is the liver?", r"The liver lies on the patient's right"),
    ("Is the liver on the left?", r"No, the liver lies on the patient's right"),
    ("On which side is the lung?", r"There is a lung on both sides"),
    ("on which side of the picture is the liver?", r"The liver lies on the left of the picture, which is the patient's right"),
    ("Where is the liver?", r"The liver lies in axial slices \d+ to \d+: right, lower third"),
    ("At which level is the liver?", r"The liver lies in axial slices \d+ to \d+"),
    ("How large is the liver?", r"The liver has [\d.]+ mL and extends over \d+ × \d+ × \d+ mm"),
    ("What is the diameter of the liver?", r"The longest diameter of the liver is [\d.]+ mm, and [\d.]+ mm × [\d.]+ mm in"),
    ("How wide is the liver?", r"The liver measures [\d.]+ mm from left to right"),
    ("What is the mean HU of the liver?", r"The mean of the liver is 90.0 ± 0 HU"),
    ("Which structure is the largest?", r"The (right|left) lung is the largest of the 3 outlined structures, with [\d.]+ mL"),
    ("Which is smaller, the liver or the right lung?", r"The liver is smaller than the right lung: [\d.]+ mL against [\d.]+ mL"),
    ("Are the two lungs about the same size?", r"They are about equally large: the left lung has [\d.]+ mL"),
    ("How many lungs are visible?", r"2: the left lung, in axial slices"),
    ("How many structures are visible?", r"3 structures are visible in this volume: liver, left lung and right lung"),
    ("Which structures are visible?", r"3 structures are visible in this volume: liver, left lung and right lung"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "said"), QUESTIONS)
def test_a_question_is_answered_from_the_outline_and_cites_slices_where_the_structure_lies(ask, question, said):
    answer, model, events = ask(question)
    assert re.match(said, answer.text), answer.text
    assert OUTLINE in answer.text and MARKED not in answer.text and answer.text.endswith(").")
    assert "write" not in model.calls
    assert "".join(e.text for e in events if isinstance(e, PartialText)) == answer.text
    assert answer.evidence
    named = [label for label in model.truth if label.split()[-1] in question.lower()] or list(model.truth)
    for seen in answer.evidence:
        assert seen.plane == "axial"
        assert any(model.truth[label][:, :, seen.number].any() for label in named)
        at = model.geometry.to_index(seen.center)
        assert round(at[2]) == seen.number


def test_numbers_are_those_of_the_mask(ask):
    answer, model, _ = ask("How large is the liver?")
    assert f"has {millilitres(model, 'liver'):.0f} mL" in answer.text


def test_what_is_not_there_is_said_with_the_slices_that_were_searched(ask):
    model = DomainModel(KNOWN)
    del model.truth["left lung"]
    answer, _, _ = ask("Are the lungs visible?", model=model)
    assert answer.text.startswith("In part, the right lung is visible, in axial slices")
    assert "no left lung was found in this volume" in answer.text
    answer, _, _ = ask("Is the left lung visible?", model=model)
    assert answer.text == f"No, no left lung was found in this volume ({OUTLINE})." and answer.evidence == ()
    answer, _, _ = ask("How large is the left lung?", model=model)
    assert answer.text.startswith("No left lung was found in the volume, so nothing could be measured")


def test_a_question_about_a_slice_is_about_that_slice_and_sizes_are_the_volumes(ask):
    last = int(np.flatnonzero(DomainModel().truth["liver"].any(axis=(0, 1)))[-1])
    one = SliceChoice("axial", last + 1, last + 1)
    answer, _, _ = ask("Is the liver visible?", slices=one)
    assert answer.text.startswith(f"No, no liver was found in axial slice {last + 1}")
    answer, _, _ = ask("Is the liver visible?", slices=SliceChoice("axial", last, last))
    assert answer.text.startswith(f"Yes, the liver is visible, in axial slice {last} (")
    answer, model, _ = ask("How large is the liver?", slices=one)
    assert f"{millilitres(model, 'liver'):.0f} mL" in answer.text


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("which plane is this?", "The volume's slices are axial (from the image's header)."),
        ("Is this CT?", "Yes, it is CT (computed tomography) (from the image's header)."),
        ("Is this an MRI?", "No, it is CT (computed tomography) (from the image's header)."),
        ("How many slices are there?", "The volume has 36 axial slices (from the image's header)."),
        (
            "what is the field of view?",
            "The field of view is 346 × 288 × 180 mm (left–right × front–back × head–foot; from the",
        ),
        (
            "what is the voxel spacing?",
            "The voxels measure 3.60 × 3.60 × 5.00 mm, and the axial slices are 5.00 mm apart",
        ),
        ("which part of the body is this?", "The image seems to show the torso, as far as the model recognises."),
    ],
)
def test_what_the_header_says_needs_no_outline(ask, question, said):
    answer, model, _ = ask(question)
    assert answer.text.startswith(said) and answer.evidence == ()
    assert set(model.calls) <= {"domain"}


def test_a_guessed_modality_and_an_unknown_orientation_are_not_stated_as_facts(ask):
    model = DomainModel(KNOWN)
    guessed = replace(model.image, facts={"modality_guessed": "yes"})
    assert ask("which modality is this?", model=model, image=guessed)[0].text.startswith("Probably CT")
    grid = Geometry(model.geometry.shape, model.geometry.affine, space=UNORIENTED)
    turned = Image(model.image.voxels, grid, "CT")
    assert ask("which plane is this?", model=model, image=turned)[0].text.startswith("The file gives no orientation")


def test_the_model_is_asked_what_geometry_cannot_know(ask):
    for question in ("Is the liver enlarged?", "Is there a nodule?"):
        assert "write" in ask(question)[1].calls
    model = DomainModel(KNOWN, answers=lambda view, text: "yes")
    assert "write" in ask("Is the liver visible?", model=model, abilities=("writes",))[1].calls
    center = model.image.geometry.center
    assert "write" in ask("Is the liver visible?", prompts=(Points([center]),))[1].calls


def test_the_models_answers_about_several_slices_never_become_a_list_of_removed_parts(ask):
    def nonsense(view, text):
        return "12 mm" if view.number < 12 else "no" if view.number < 24 else "It has 7 cm."

    answer, _, _ = ask("Is the liver enlarged?", model=DomainModel(KNOWN, answers=nonsense))
    assert answer.text == "no"
    answer, _, _ = ask("How large is the nodule?", model=DomainModel(KNOWN, answers=lambda view, text: "12 mm"))
    assert answer.text.startswith("The model's answer was removed because no measurement supports it")


def test_numbers_of_an_outline_that_failed_a_check_are_not_stated(ask, monkeypatch):
    check = OutlineCheck("volume", "its volume is below the published range", "…", FLAGGED)
    original = from_geometry.by_segment

    def flagged(measurements):
        found = original(measurements)
        for (_, label), values in found.items():
            if label == "liver":
                for name, m in values.items():
                    values[name] = replace(m, verdict=FLAGGED, checks=(check,))
        return found

    monkeypatch.setattr(from_geometry, "by_segment", flagged)
    for question in (
        "How large is the liver?", "Where is the liver?", "Is the liver visible?", "What is the diameter of the liver?",
        "which is larger, the liver or the left lung?", "On which side of the picture is the liver?",
    ):  # fmt: skip
        answer, _, _ = ask(question)
        assert "failed an anatomical check (its volume is below the published range)" in answer.text, question
        assert not re.search(r"\d", answer.text), question
    assert "failed an anatomical check: liver" in ask("Which structures are visible?")[0].text
    assert "of the 2 outlined" in ask("What is the smallest organ?")[0].text


def test_an_outline_that_was_left_out_is_said_with_its_reason(ask, monkeypatch):
    def nothing(self, request, context):
        context.not_drawn = {"liver": "it lies in the chest"}
        return (Segmentation((), request.image.geometry),)

    monkeypatch.setattr(SegmentTask, "run", nothing)
    said = "the outline of the liver was left out because it can't be right (it lies in the chest)"
    assert ask("Is the liver visible?")[0].text == f"No, {said} ({OUTLINE})."
    assert said in ask("How large is the liver?")[0].text.lower()


def test_an_assessment_says_that_there_is_nothing_to_sample(ask):
    answer, model, _ = ask("How large is the liver?", reliability=ReliabilityChoice(samples=4))
    assert answer.reliability.samples == () and "sample" not in model.calls
    assert "No language model wrote this answer" in answer.reliability.notes[0]
    assert ask("How large is the liver?")[0].reliability is None
