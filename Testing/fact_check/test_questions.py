"""Questions that geometry answers are recognised in many words, and no others."""

from __future__ import annotations

import time

import pytest

from MedFMLib.fact_check import read_question
from MedFMLib.fact_check.questions import KINDS

LABELS = (
    "left lung", "right lung", "liver", "spleen", "left kidney", "right kidney", "aorta", "spine", "urinary bladder", "brain",
    "left hippocampus", "right hippocampus", "left lateral ventricle", "right lateral ventricle", "third ventricle",
)  # fmt: skip
KIDNEYS, LIVER = ("left kidney", "right kidney"), ("liver",)
RECOGNISED = [
    ("Which modality is this?", "modality", (), ""),
    ("What imaging modality was used?", "modality", (), ""),
    ("Is this a CT or an MRI?", "modality", (), "ct"),
    ("which plane is this?", "plane", (), ""),
    ("Is this an axial slice?", "plane", (), "axial"),
    ("In which orientation was this scan acquired?", "plane", (), ""),
    ("which part of the body is this?", "region", (), ""),
    ("What body part is shown?", "region", (), ""),
    ("How many slices does this volume have?", "slices", (), ""),
    ("what is the field of view?", "field of view", (), ""),
    ("What is the voxel spacing?", "spacing", (), ""),
    ("is the liver visible?", "presence", (LIVER,), ""),
    ("Is there a liver in this image?", "presence", (LIVER,), ""),
    ("Can you see the left kidney?", "presence", (("left kidney",),), ""),
    ("Are both kidneys visible?", "presence", (KIDNEYS,), ""),
    ("Are the left and right kidneys visible?", "presence", (KIDNEYS,), ""),
    ("Are the hippocampi visible?", "presence", (("left hippocampus", "right hippocampus"),), ""),
    ("Could you please tell me: is the bladder visible?", "presence", (("urinary bladder",),), ""),
    ("Does this scan show the spleen and the liver?", "presence", (("spleen",), LIVER), ""),
    ("which kidney is visible?", "which", (KIDNEYS,), ""),
    ("On which side is the liver?", "side", (LIVER,), ""),
    ("Is the liver on the left or on the right?", "side", (LIVER,), "left"),
    ("on which side of the picture is the liver?", "picture side", (LIVER,), ""),
    ("Where is the spleen located?", "where", (("spleen",),), ""),
    ("At which level is the liver?", "level", (LIVER,), ""),
    ("Which slices show the liver?", "level", (LIVER,), ""),
    ("How large is the liver?", "size", (LIVER,), ""),
    ("What is the volume of the left kidney?", "size", (("left kidney",),), ""),
    ("What's the longest diameter of the aorta?", "diameter", (("aorta",),), ""),
    ("How wide is the liver?", "extent", (LIVER,), "left-right"),
    ("What is the mean HU of the liver?", "intensity", (LIVER,), ""),
    ("which structure is the largest?", "largest", (), "largest"),
    ("What is the smallest visible organ?", "largest", (), "smallest"),
    ("which is larger, the liver or the spleen?", "compare", (LIVER, ("spleen",)), "larger"),
    ("Which kidney is bigger?", "compare", (KIDNEYS,), "larger"),
    ("are the two kidneys about the same size?", "equal", (KIDNEYS,), ""),
    ("how many kidneys are visible?", "count", (KIDNEYS,), ""),
    ("How many structures are visible?", "count all", (), ""),
    ("which structures are visible?", "list", (), ""),
    ("What organs can you see in this scan?", "list", (), ""),
    ("List all visible structures", "list", (), ""),
]
LEFT_TO_THE_MODEL = [
    "Is the liver enlarged?", "Is there a lesion in the liver?", "Is the liver normal?", "Is there a pleural effusion?",
    "How old is the patient?", "Is the skull visible?", "where in the picture is the liver?",
    "is the liver above the spleen in the picture?", "What is this?", "What can you see?", "Is the left liver visible?",
    "How many vertebrae are visible?", "What disease is visible in the liver?", "Is there a tumor of the left kidney?",
    "Are the kidneys symmetric?", "Is there fluid around the liver?", "How large is the lesion?",
    "How large is the aneurysm of the aorta?", "Is the liver not visible?", "Is the liver larger than normal?",
    "Describe this image.", "Which side is this on?", "", "?", "Ist die Leber zu sehen?",
    "Is the liver visible? How large is it?",
]  # fmt: skip


@pytest.mark.parametrize(("question", "kind", "structures", "value"), RECOGNISED)
def test_questions_that_geometry_answers(question, kind, structures, value):
    asked = read_question(question, LABELS)
    assert asked is not None
    assert (asked.kind, asked.structures, asked.value) == (kind, structures, value)


@pytest.mark.parametrize("question", LEFT_TO_THE_MODEL)
def test_questions_that_are_left_to_the_model(question):
    assert read_question(question, LABELS) is None


def test_every_kind_is_recognised_in_some_words_and_no_structure_is_without_labels():
    assert {kind for _, kind, _, _ in RECOGNISED} == set(KINDS)
    assert read_question("Is the liver visible?", ()) is None
    assert read_question("Is the liver visible?", ("brain",)) is None


@pytest.mark.parametrize("piece", ["the ", "left ", "liver and the ", "is there ", "please ", "a, "])
def test_a_long_question_takes_no_long_time(piece):
    started = time.monotonic()
    for length in (199, 2000):
        read_question((f"is there {piece * 400}")[:length], LABELS)
    assert time.monotonic() - started < 0.5
