"""Answers follow from what is certain, in the order and words of the grammar."""

import numpy as np
import pytest

from MedFMLib.models.masks import location_tokens as tokens
from MedFMLib.training.embedded import questions
from MedFMLib.training.embedded.objects import SeenStructure
from MedFMLib.training.embedded.questions import PictureFacts, exchange_of


def seen(name, x, pixels):
    return SeenStructure(name, (0.4, x - 0.1, 0.6, x + 0.1), np.ones((64, 64), bool), pixels)


@pytest.fixture
def scene():
    """An axial CT with the liver on the picture's left and the spleen on its right."""
    visible = {n: seen(n, x, p) for n, x, p in (("liver", 0.25, 900), ("spleen", 0.75, 200), ("spine", 0.5, 300))}
    return PictureFacts("CT", "axial", "torso", visible, ("urinary bladder", "brain"))


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
    assert questions.picture_side(scene.visible["spine"]) is None


def kidneys(left, right, plane="axial"):
    """A scene with kidneys of so many pixels; None: surely not in it."""
    sizes = {"left kidney": (0.7, left), "right kidney": (0.3, right)}
    visible = {n: seen(n, x, size) for n, (x, size) in sizes.items() if size}
    missing = tuple(n for n, (_, size) in sizes.items() if not size)
    return PictureFacts("CT", plane, "torso", visible, missing)


@pytest.mark.parametrize(
    ("left", "right", "side", "number"), [(90, 80, "both", "2"), (90, None, "left", "1"), (None, 80, "right", "1")]
)
def test_pairs_are_counted_and_distinguished(left, right, side, number):
    scene = kidneys(left, right)
    assert {e.answer for e in answers(scene, "patient side")} == {side}
    assert {e.answer for e in answers(scene, "counting")} == {number}


def test_sizes_are_compared_only_where_the_difference_is_clear():
    assert {e.answer for e in answers(kidneys(100, 95), "asymmetry")} == {
        "about the same size",
        "no, about the same size",
    }
    assert {e.answer for e in answers(kidneys(100, 40), "asymmetry")} == {"the left is larger"}
    assert answers(kidneys(100, 66), "asymmetry") == []
    assert answers(kidneys(100, None), "asymmetry") == []
    assert {e.answer for e in answers(kidneys(100, 40), "comparison")} == {"left kidney"}
    assert answers(kidneys(100, 95), "comparison") == []


def test_where_is_a_quadrant_and_only_away_from_the_middle_lines(scene):
    high = PictureFacts(
        "CT", "axial", "torso", {"liver": SeenStructure("liver", (0.1, 0.1, 0.3, 0.3), np.ones((64, 64), bool), 90)}, ()
    )
    assert {e.answer for e in answers(high, "where")} == {"upper left"}
    assert answers(PictureFacts("CT", "axial", "torso", {"spine": scene.visible["spine"]}, ()), "where") == []


def test_above_is_above_in_the_picture():
    low, up = (
        SeenStructure(n, (y, 0.1, y + 0.2, 0.3), np.ones((64, 64), bool), 90)
        for n, y in (("liver", 0.7), ("spleen", 0.1))
    )
    found = answers(PictureFacts("CT", "axial", "torso", {"liver": low, "spleen": up}, ()), "relation")
    assert {e.prompt.index("liver") < e.prompt.index("spleen") for e in found} == {True, False}
    for e in found:
        assert e.answer == ("yes" if e.prompt.index("spleen") < e.prompt.index("liver") else "no")


def test_only_the_head_in_mr_can_lack_its_skull():
    brain = {"brain": seen("brain", 0.5, 900)}
    for stripped, there in ((True, "no"), (False, "yes")):
        head = PictureFacts("MR", "axial", "head", brain, (), True, stripped, {"brain": 900})
        for e in answers(head, "skull"):
            assert e.answer == (there if "visible" in e.prompt else {"yes": "no", "no": "yes"}[there])
    assert answers(PictureFacts("CT", "axial", "torso", brain, (), names={"brain": 900}), "skull") == []


def test_a_sagittal_picture_is_not_asked_about_sides():
    from MedFMLib.training.embedded import labels

    parts = np.zeros((160, 160), np.uint8)
    parts[20:60, 20:60] = labels.part_number("left kidney")
    parts[80:120, 20:90] = labels.part_number("liver")
    made = questions.scene("CT", "sagittal", "torso", parts, labels.TORSO_STRUCTURES, labels.HEAD_STRUCTURES)
    assert set(made.visible) == {"liver"}
    assert set(made.names) == {"liver", "left kidney"}
    assert not made.complete
    assert not any(name.startswith(("left", "right")) for name in made.missing)
    for kind in ("patient side", "counting", "asymmetry", "visible structures"):
        assert answers(made, kind) == []
    assert {e.answer for e in answers(made, "body part")} == {"abdomen"}
    axial = questions.scene("CT", "axial", "torso", parts, labels.TORSO_STRUCTURES, labels.HEAD_STRUCTURES)
    assert set(axial.visible) == {"liver", "left kidney"}
    assert axial.complete


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
    empty = PictureFacts("CT", "axial", "torso", {}, ("liver", "spleen"))
    assert {e.answer for e in answers(empty, "segment")} == {"none"}


def test_what_an_incomplete_source_cannot_know_is_not_asked(scene):
    partial = PictureFacts("CT", "axial", "torso", scene.visible, (), complete=False)
    assert answers(partial, "visible structures") == []
    assert answers(partial, "largest") == []
    assert answers(partial, "caption") == []


def test_refusals_are_always_the_same_sentence(scene):
    assert {e.answer for e in answers(scene, "refusal")} == {questions.REFUSAL}
    assert not set(questions.HELD_OUT_REFUSALS) & set(questions.WORDINGS["refusal"])


def test_refusals_come_in_many_wordings_and_never_in_those_that_measure(scene):
    asked = {e.prompt.removeprefix("answer en ") for e in answers(scene, "refusal", 500)}
    assert len(asked) > 80
    assert not asked & set(questions.HELD_OUT_REFUSALS)


@pytest.mark.parametrize(
    ("sizes", "part"),
    [
        ({"liver": 90, "left lung": 20}, "abdomen"),
        ({"liver": 50, "left lung": 60}, "chest and abdomen"),
        ({"left hip bone": 70, "stomach": 50}, "abdomen and pelvis"),
        ({"spine": 200}, None),
    ],
)
def test_the_body_part_is_what_fills_most_of_the_picture(sizes, part):
    visible = {n: seen(n, 0.5, size) for n, size in sizes.items()}
    torso = PictureFacts("CT", "axial", "torso", visible, ())
    assert questions.body_part(torso) == part
    assert {e.answer for e in answers(torso, "body part")} == ({part} if part else set())


def test_a_description_names_modality_plane_region_and_structures(scene):
    (text,) = {e.answer for e in answers(scene, "describe")}
    assert text == "axial CT image of the abdomen showing liver, spleen, spine."
