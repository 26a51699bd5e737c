"""Answers follow from what is certain, in the order and words of the grammar."""

import numpy as np
import pytest

from MedFMLib.models.parts import location_tokens as tokens
from MedFMLib.training import questions
from MedFMLib.training.objects import Seen
from MedFMLib.training.questions import Scene, exchange_of


def seen(name, x, pixels):
    return Seen(name, (0.4, x - 0.1, 0.6, x + 0.1), np.ones((64, 64), bool), pixels)


@pytest.fixture
def scene():
    """An axial CT with the liver on the picture's left and the spleen on its right."""
    visible = {n: seen(n, x, p) for n, x, p in (("liver", 0.25, 900), ("spleen", 0.75, 200), ("spine", 0.5, 300))}
    return Scene("CT", "axial", "torso", visible, ("urinary bladder", "brain"))


def answers(scene, kind, count=60):
    encode = lambda masks: np.zeros((len(masks), 16), int)  # noqa: E731 - stands for the codec
    found = [exchange_of(scene, kind, np.random.default_rng(n), encode) for n in range(count)]
    return [e for e in found if e is not None]


def test_modality_plane_and_largest_are_facts(scene):
    assert {e.answer for e in answers(scene, "modality")} == {"CT"}
    assert {e.answer for e in answers(scene, "plane")} == {"axial"}
    assert {e.answer for e in answers(scene, "largest")} == {"liver"}
    assert {e.answer for e in answers(scene, "body part")} == {"abdomen"}
    assert {e.answer for e in answers(scene, "visible structures")} == {"liver, spleen, spine"}


def test_the_picture_shows_the_patients_right_on_its_left(scene):
    assert questions.picture_side(scene.visible["liver"]) == "left"
    assert questions.patient_side(scene, "liver") == "right"
    assert questions.picture_side(scene.visible["spine"]) is None


def test_presence_says_yes_only_of_what_is_there(scene):
    for exchange in answers(scene, "presence"):
        there = any(name in exchange.prompt for name in scene.visible)
        assert exchange.answer == ("yes" if there else "no")


def test_a_segment_answer_keeps_the_asked_order_and_leaves_out_the_absent(scene):
    for exchange in answers(scene, "segment"):
        asked = exchange.prompt.removeprefix("segment ").split(" ; ")
        assert [n for n, _ in exchange.asked] == asked
        assert 1 <= len(asked) <= 6
        assert [o.name for o in tokens.parse_objects(exchange.answer)] == [n for n in asked if n in scene.visible]


def test_an_answer_without_anything_visible_is_none():
    empty = Scene("CT", "axial", "torso", {}, ("liver", "spleen"))
    assert {e.answer for e in answers(empty, "segment")} == {"none"}


def test_what_an_incomplete_source_cannot_know_is_not_asked(scene):
    partial = Scene("CT", "axial", "torso", scene.visible, (), complete=False)
    assert answers(partial, "visible structures") == []
    assert answers(partial, "largest") == []
    assert answers(partial, "caption") == []


def test_refusals_are_always_the_same_sentence(scene):
    assert {e.answer for e in answers(scene, "refusal")} == {questions.REFUSAL}
    assert not set(questions.HELD_OUT_REFUSALS) & set(questions.WORDINGS["refusal"])


def test_a_description_names_modality_plane_region_and_structures(scene):
    (text,) = {e.answer for e in answers(scene, "describe")}
    assert text == "axial CT image of the abdomen showing liver, spleen, spine."
