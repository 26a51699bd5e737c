"""A model's sentences checked against measurements: right ones stay, wrong or invented ones are removed."""

from __future__ import annotations

import itertools
import random

import pytest

from MedFMLib.core.findings import Measurement
from MedFMLib.fact_check import check, fill, names
from MedFMLib.fact_check.checking import MARK
from MedFMLib.fact_check.quantities import quantities, sentences

TRUTH = {
    "liver": (1452.3, (201.0, 158.4, 172.6), 58.2, "right"),
    "spleen": (214.7, (62.0, 98.5, 110.3), 49.6, "left"),
    "left kidney": (161.2, (55.1, 61.7, 112.0), 32.8, "left"),
    "right kidney": (157.9, (54.4, 60.2, 108.8), 33.9, "right"),
    "urinary bladder": (301.5, (92.3, 84.1, 77.7), 6.4, "midline"),
}
EXTENTS = ("extent left-right", "extent front-back", "extent head-foot")


@pytest.fixture
def measured():
    found = []
    for label, (volume, extents, density, side) in TRUTH.items():
        found.append(Measurement(label, "volume", volume, "mL"))
        found += [Measurement(label, name, value, "mm") for name, value in zip(EXTENTS, extents, strict=True)]
        found.append(Measurement(label, "mean intensity", density, "[hnsf'U]"))
        found.append(Measurement(label, "side", side))
    return found


# -- tiny cases --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 mm", [((12.0,), 0.5, "mm")]),
        ("1.2 cm", [((12.0,), 0.5, "mm")]),
        ("1,452.3 mL", [((1452.3,), 0.05, "mL")]),
        ("1,5 L", [((1500.0,), 50.0, "mL")]),
        ("3 x 4 x 5 cm", [((30.0, 40.0, 50.0), 5.0, "mm")]),
        ("10-12mm", [((10.0, 12.0), 0.5, "mm")]),
        ("−12 HU", [((-12.0,), 0.5, "HU")]),
        ("20 %", [((20.0,), 0.5, "%")]),
        ("two cm", [((20.0,), 5.0, "mm")]),
        ("a 4-mm cyst", [((4.0,), 0.5, "mm")]),
        ("150cm³", [((150.0,), 0.5, "mL")]),
        ("T2-weighted MR at the L4 vertebra, MNI152", []),
    ],
)
def test_numbers_are_read_with_their_units_and_precision(text, expected):
    assert [(q.values, pytest.approx(q.tolerance), q.unit) for q in quantities(text)] == [
        (pytest.approx(values), tolerance, unit) for values, tolerance, unit in expected
    ]


def test_a_point_inside_of_a_number_ends_no_sentence():
    text = "The liver has 1.5 L. It is 20.1 cm wide! Is it?"
    assert [text[a:b].strip() for a, b in sentences(text)] == ["The liver has 1.5 L.", "It is 20.1 cm wide!", "Is it?"]


def test_placeholders_are_filled_from_measurements_and_the_rest_is_noted(measured):
    text, unfilled = fill(
        "Liver {liver.volume}, kidney {left_kidney.side}, {spleen . mean intensity}; {brain.volume}.", measured
    )
    assert text == "Liver 1452 mL, kidney left, 49.6 HU; [not measured]."
    assert unfilled == ("{brain.volume}",)
    assert "{urinary bladder.volume}" in names(measured)


def test_every_filled_placeholder_is_supported(measured):
    for name in names(measured):
        text = f"The {name[1:].partition('.')[0]} has {name}."
        filled, _ = fill(text, measured)
        assert check(filled, measured).removed == (), filled


@pytest.mark.parametrize(
    "text",
    [
        "The liver measures 1452 mL and lies on the right.",
        "Liver volume is 1.45 L; the spleen has 215 cc.",
        "The kidneys are 161 mL on the left and 158 mL on the right.",
        "Both kidneys are seen: two kidneys of normal position.",
        "The left and right kidneys are 11.2 cm and 10.9 cm long.",
        "T1-weighted image; no number here. One can see the liver.",
        "The urinary bladder crosses the midline.",
        "5 structures were delineated.",
        "MR of the liver showing left lung, right lung, left lateral ventricle and right lateral ventricle.",
        "",
    ],
)
def test_what_is_right_stays_as_it_is(text, measured):
    assert check(text, measured).text == text


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("The liver measures 1800 mL.", "1800 mL"),
        ("The liver measures 215 mL.", "215 mL"),  # that is the spleen's
        ("The liver measures 1452 mm.", "1452 mm"),
        ("The spleen lies on the right.", "right"),
        ("The right spleen is seen.", "right"),
        ("There are three kidneys.", "three"),
        ("A 12 mm nodule is seen.", "12 mm"),
        ("It grew by 20% in 6 months.", "20%"),
        ("It grew by 20% in 6 months.", "6 months"),
        ("The liver is twice as large as the spleen.", "twice"),
        ("An opacity in the left lower lobe.", "left"),
        ("Bilateral livers.", "Bilateral"),
        ("The liver and the right lung are seen.", "right"),
        ("Seen 4 times.", "4 times"),
        ("The liver weighs 1.5 kg.", "1.5 kg"),
    ],
)
def test_what_is_wrong_or_invented_is_removed_and_noted(text, gone, measured):
    checked = check(text, measured)
    assert gone not in checked.text
    assert MARK in checked.text
    assert gone in [removed.text for removed in checked.removed] or any(gone in r.text for r in checked.removed)
    assert all(removed.reason for removed in checked.removed)


def test_facts_of_another_kind_can_be_allowed(measured):
    text = "On axial slice 47 at 1.5 T the liver has 1452 mL."
    assert check(text, measured, allowed=("axial slice 47", "1.5 T")).text == text
    assert check(text, measured).text != text


# -- two hundred sentences -----------------------------------------------------------------------------------


def two_hundred():
    """(sentence, supported claims in it, unsupported claims in it), seeded."""
    rng = random.Random(7)
    labels = list(TRUTH)

    def volume(label, right=True):
        value = TRUTH[label][0] * (1 if right else rng.choice((0.7, 1.3, 2.1)))
        return rng.choice(
            (
                f"{value:.0f} mL",
                f"{value:.1f} mL",
                f"{value:.0f} cm³",
                f"{value:.0f} cc",
                f"{value / 1000:.3f} L",
                f"{value:,.1f} ml",
            )
        )

    def length(label, right=True):
        value = rng.choice(TRUTH[label][1]) + (0 if right else rng.choice((17.3, 44.6)))
        return rng.choice(
            (f"{value:.0f} mm", f"{value:.1f} mm", f"{value / 10:.1f} cm", f"{value / 10:.2f} centimetres")
        )

    def density(label, right=True):
        return f"{TRUTH[label][2] + (0 if right else 31.7):.0f} HU"

    def side(label, right=True):
        true = TRUTH[label][3]
        return true if right else {"left": "right", "right": "left"}[true]

    kinds = itertools.cycle(("right", "wrong", "invented", "mixed"))
    for kind in itertools.islice(kinds, 200):
        label = rng.choice(labels)
        lateral = rng.choice([name for name in labels if TRUTH[name][3] != "midline" and " " not in name])
        if kind == "invented":
            claim, text = rng.choice(
                (
                    ("12 mm", "A 12 mm nodule is noted."), ("three", "There are three small cysts."),
                    ("35%", "It has grown by 35%."),
                    ("6 weeks", "Follow-up in 6 weeks."), ("3.4 kg", f"The {label} weighs 3.4 kg."),
                    ("twice", f"The {label} is twice the normal size."), ("left", "Opacity in the left lower lobe."),
                    ("4.5", "The SUV is 4.5 there."), ("2 x 3 cm", "A mass of 2 x 3 cm is seen."), ("80", "The score is 80."),
                    ("64 years", "The patient is 64 years old."), ("bilateral", "There are bilateral effusions."),
                )
            )  # fmt: skip
            yield text, [], [claim]
            continue
        make = rng.choice((volume, length, density, side))
        who = lateral if make is side else label
        pattern = (
            "The {} lies on the {}."
            if make is side
            else rng.choice(("The {} measures {}.", "{}: {}.", "For the {}, {} was measured."))
        )
        if kind in ("right", "wrong"):
            claim = make(who, kind == "right")
            yield pattern.format(who, claim), [claim] * (kind == "right"), [claim] * (kind == "wrong")
        else:
            other = rng.choice([name for name in labels if name != label])
            good, bad = volume(label), density(other, right=False)
            yield f"The {label} has {good}, and the {other} {bad}.", [good], [bad]


def test_of_two_hundred_sentences_nothing_unsupported_survives(measured, capsys):
    survived, lost, supported, unsupported = [], [], 0, 0
    for text, right, wrong in two_hundred():
        checked = check(text, measured).text
        supported, unsupported = supported + len(right), unsupported + len(wrong)
        survived += [(text, claim) for claim in wrong if claim in checked]
        lost += [(text, claim) for claim in right if claim not in checked]
    with capsys.disabled():
        print(
            f"\n[200 sentences] unsupported claims that survive: {len(survived)} of {unsupported}; "
            f"supported ones that do: {supported - len(lost)} of {supported}"
        )
    assert not survived
    assert len(lost) <= 0.02 * supported, lost


def test_every_letter_of_a_text_is_in_a_sentence(measured):
    for text in (
        "The spleen is 99 cm.It is large.",
        "a.b {x.y} c",
        "no end",
        "One. Two!\nThree? (Four.) “Five.”",
        "3.5 cm. 1.2",
    ):
        spans = sentences(text)
        assert "".join("".join(text[start:stop] for start, stop in spans).split()) == "".join(text.split())
    assert "99" not in check("The spleen is 99 cm.It is large.", measured).text
