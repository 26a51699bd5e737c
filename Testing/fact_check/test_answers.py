"""Answers to questions checked against measurements: short ones by the question, long ones sentence by sentence."""

from __future__ import annotations

import pytest

from MedFMLib.core.findings import Measurement
from MedFMLib.fact_check import WithholdingStream, at_stake, check_answer
from MedFMLib.fact_check.answering import OWN_COUNT, OWN_PLACE
from MedFMLib.fact_check.checking import MARK

MEASURED = (
    Measurement("liver", "volume", 1450.2, "mL"),
    Measurement("liver", "side", "right"),
    Measurement("left kidney", "side", "left"),
    Measurement("left kidney", "volume", 150.0, "mL"),
    Measurement("right kidney", "side", "right"),
    Measurement("spleen", "side", "left"),
)
STAYS = (
    ("which plane is this?", "axial"),
    ("is the liver visible?", "yes"),
    ("on which side is the liver?", "right"),
    ("on which side is the liver?", "On the right side."),
    ("which kidney is visible?", "left"),
    ("which kidney is visible?", "both"),
    ("on which side of the picture is the liver?", "left"),  # an axial picture shows the patient's right on its left
    ("how many kidneys are visible?", "2"),
    ("how many kidneys are visible?", "one"),
    ("how large is the liver?", "The liver has 1450 mL."),
    ("how large is the liver?", "It has 1450 mL."),
    ("what is shown?", "T1-weighted axial slice 47"),
    ("which structures are visible?", "liver, spleen, left kidney"),
    ("are the two kidneys about the same size?", "the left is larger"),
)
GOES = (
    ("on which side is the liver?", "left", "right"),
    ("on which side of the picture is the liver?", "right", "left"),
    ("on which side is the heart?", "left", MARK),
    ("which lung is visible?", "both", MARK),
    ("how many kidneys are visible?", "3", MARK),
    ("how large is the liver?", "It has 2000 mL.", f"It has {MARK}."),
    ("how large is the spleen?", "7 cm", MARK),
    ("is there a nodule?", "Yes, a 12 mm nodule in the left lung.", f"Yes, a {MARK} nodule in the {MARK} lung."),
    ("how many slices?", "there is a 4", f"there is a {MARK}"),
    ("how large is the liver?", "It has {liver.volume} and {liver.weight}.", "It has 1450 mL and [not measured]."),
)


@pytest.mark.parametrize(("question", "answer"), STAYS)
def test_what_is_right_or_no_claim_stays_as_it_is(question, answer):
    checked = check_answer(question, answer, MEASURED, ("axial slice 47",), "axial")
    assert (checked.text, checked.removed) == (answer, ())


@pytest.mark.parametrize(("question", "answer", "shown"), GOES)
def test_what_no_measurement_supports_goes_and_is_listed(question, answer, shown):
    checked = check_answer(question, answer, MEASURED, (), "axial")
    assert checked.text == shown
    assert checked.removed


def test_a_count_that_nobody_made_stays_and_is_called_the_models_own():
    checked = check_answer("how many lungs are visible?", "2", MEASURED)
    assert (checked.text, checked.removed, checked.notes) == ("2", (), (OWN_COUNT,))


def test_a_place_in_the_picture_is_no_side_of_the_patient():
    checked = check_answer("where in the picture is the aorta?", "upper left", MEASURED)
    assert (checked.text, checked.removed, checked.notes) == ("upper left", (), (OWN_PLACE,))
    sagittal = check_answer("on which side of the picture is the liver?", "right", MEASURED, plane="sagittal")
    assert (sagittal.text, sagittal.notes) == ("right", (OWN_PLACE,))  # there a side of the picture is front or back


def test_structures_named_on_both_sides_put_nothing_at_stake():
    listed = "liver, left kidney, right kidney, spleen"
    assert not at_stake(listed) and not at_stake("axial") and not at_stake("yes")
    assert check_answer("which structures are visible?", listed, ()).text == listed
    for claim in ("liver, left kidney", "left", "2 cm", "{liver.volume}", "left and right", "the left is larger"):
        assert at_stake(claim)
    assert check_answer("which structures are visible?", "liver, left kidney", ()).text == f"liver, {MARK} kidney"


def test_a_side_in_a_name_is_no_measurement():
    named = (Measurement("left kidney", "side", "right"),)  # a flipped image
    assert check_answer("which kidney is visible?", "left", named).text == "right"


@pytest.mark.parametrize(
    ("pieces", "answer", "streamed"),
    [
        (("axial ", "of ", "course "), "axial of course", ["axial ", "of ", "course "]),
        (("The liver ", "has ", "20", "00 mL."), f"The liver has {MARK}.", ["The liver ", "has ", f"{MARK}."]),
        (("It is le", "ft."), f"It is {MARK}.", ["It is ", f"{MARK}."]),
        (("{liver", ".volume}"), "1450 mL", ["1450 mL"]),
        ((), "2", ["2"]),
        (("a ", "third"), f"{MARK}", ["a ", f"\n{MARK}"]),
    ],
)
def test_nothing_unchecked_is_streamed(pieces, answer, streamed):
    reported = []
    stream = WithholdingStream(reported.append)
    for piece in pieces:
        stream(piece)
    stream.finish(answer)
    assert reported == streamed
