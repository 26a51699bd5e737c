"""The patient's version: easy to read, faithful to the report, complete, and without anything that the guard withholds."""

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image as Picture
from reports.conftest import respond
from support.phantoms import ct_phantom

from MedFMLib.core.findings import Answer, Part
from MedFMLib.errors import InputError, ModelError
from MedFMLib.guard import Guard
from MedFMLib.patient import PatientSettings, Visit, check, glossary, languages, make_leaflet, plain_lines, read_visit
from MedFMLib.patient.checking import HARDEST_GRADE, grade
from MedFMLib.patient.parts import slots_of
from MedFMLib.patient.pictures import most_telling, named
from MedFMLib.patient.wording import plain_volume
from MedFMLib.storage import resources

WORDS = glossary()


@pytest.fixture(scope="module")
def response():
    return respond(
        ct_phantom(), [Answer("Which organs are visible?", "The liver."), Answer("Is it cancer?", "A tumor.")]
    )


@pytest.fixture(scope="module")
def lines(response):
    return list(plain_lines(response.measurements, response.report.missing, WORDS))


def judged(response, *lines):
    return check("\n".join(lines), response.measurements, response.report.missing, WORDS)


def test_every_structure_of_the_terminology_has_a_plain_name_and_easy_words():
    known = resources.load_json("terminology", "structures.json")["structures"]
    assert set(known) <= set(WORDS.structures) and len(WORDS.structures) >= 120
    guard = Guard()
    for name, entry in WORDS.structures.items():
        assert grade(entry["what"]) <= HARDEST_GRADE, name
        assert guard.answer("", entry["what"]).allowed, name
    assert all(
        grade(text) <= HARDEST_GRADE
        for text in (*(what for _, what in WORDS.terms.values()), *WORDS.ask, *WORDS.important)
    )


def test_what_is_made_from_measurements_passes(response, lines):
    found = judged(response, *lines)
    assert found.passed and found.grade <= HARDEST_GRADE
    liver = next(m.value for m in response.measurements if (m.segment, m.name) == ("liver", "volume"))
    assert any(f"Your liver takes up about {liver:.0f} mL." in line for line in lines)
    assert any("did not find" in line and "Spleen." in line for line in lines)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [line.replace("mL", "liters") for line in lines], "is in no measurement"),
        (lambda lines: [*lines, "It is on the left of the liver."], "is in no measurement"),
        (lambda lines: [*lines, "Your stomach lies next to it."], "says nothing of the stomach"),
        (lambda lines: [line for line in lines if "liver" not in line], "The liver is left out"),
        (lambda lines: [line for line in lines if "Spleen" not in line], "The spleen is left out"),
        (lambda lines: [*lines, "This looks like a tumor."], "not for a patient"),
        (lambda lines: [*lines, "There is nothing to worry about, you are healthy."], "not for a patient"),
        (
            lambda lines: [
                *lines,
                *["Hepatic attenuation demonstrates heterogeneous enhancement characteristics."] * 9,
            ],
            "school grade",
        ),
    ],
)
def test_what_is_changed_added_left_out_or_hard_is_caught(response, lines, change, problem):
    found = judged(response, *change(lines))
    assert any(problem in said for said in found.problems), found.problems


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_what_is_made_passes_for_every_structure_that_the_embedded_model_knows(modality):
    from MedFMLib.core.findings import Measurement
    from MedFMLib.core.terminology import split_side
    from MedFMLib.interfaces import registry

    labels = registry.card("medfm-tiny").labels[modality]
    for found, missing in ((labels, ()), (labels[:3], labels[3:]), (labels[-2:], labels[:-2]), (labels[:1], ())):
        made = []
        for n, label in enumerate(found):
            side = split_side(label)[0] or "midline"
            made += [Measurement(label, "volume", 1.5 * 1.3**n, "mL"), Measurement(label, "side", side)]
            made += [Measurement(label, "cut off", "at the image's edge")] if n % 2 else []
        text = "\n".join([*plain_lines(made, missing, WORDS), WORDS.parts["doctor"]])
        assert check(text, made, missing, WORDS).problems == (), text


def test_a_structure_across_the_midline_may_be_described_so(response):
    from MedFMLib.core.findings import Measurement

    made = [Measurement("spine", "volume", 810.0, "mL"), Measurement("spine", "side", "midline")]
    text = "\n".join([*plain_lines(made, (), WORDS), WORDS.parts["doctor"]])
    assert "across the middle of your body" in text and check(text, made, (), WORDS).passed


def test_a_text_that_fails_is_not_handed_out(response):
    with pytest.raises(InputError, match=r"can't be given to a patient: .*Change it and try again"):
        make_leaflet(response, own="Your liver takes up about 9 liters.")


def test_a_clinicians_own_words_stand_in_place_of_ours(response, lines):
    own = [*lines, "We will look at the pictures together."]
    page = make_leaflet(response, own="\n".join(own)).html
    assert "We will look at the pictures together." in page


def test_questions_are_shown_with_answers_that_a_patient_may_read(response):
    page = make_leaflet(response).html
    assert "Which organs are visible?" in page and "around these parts of your body: liver" in page
    assert "The liver." not in page  # the model's words
    assert "Is it cancer?" in page and "A tumor." not in page and "only your radiologist can" in page


def test_the_page_is_whole_and_asks_nobody(response):
    page = make_leaflet(response).html
    assert 'src="http' not in page and "default-src 'none'" in page
    assert "It is not a medical device" in page and "What does this mean for me?" in page
    assert "abc123" not in page and "medfm-tiny" not in page  # nothing technical
    assert "CT scanner" in page


def test_names_stand_beside_the_picture_with_lines_to_their_structures(response):
    part = most_telling(response.report.stack, 1)[0]
    names = dict(enumerate(response.report.colors, start=1))
    colors = dict.fromkeys(names, (255, 0, 0))
    plain, written = (np.asarray(Picture.open(io.BytesIO(named(part, n, colors)))) for n in ({}, names))
    margin = (written.shape[1] - plain.shape[1]) // 2
    assert margin > 40 and written.shape[0] == plain.shape[0]
    labels = np.kron(np.asarray(Picture.open(io.BytesIO(part.labels_png))), np.ones((2, 2)))
    shown = [n for n in names if (labels == n).mean() > 0.01]
    inside = (written[:, margin:-margin] != plain).any(axis=2)
    assert shown and all((inside & (labels == n)).any() for n in shown)  # each line ends on its structure
    rows = [(half != 0).any(axis=2).any(axis=1) for half in (written[:, :margin], written[:, -margin:])]
    assert sum(int((np.diff(r.astype(int)) == 1).sum() + r[0]) for r in rows) == len(shown)  # and no name on another


def test_the_most_telling_slices_show_everything_that_can_be_shown(response):
    chosen = most_telling(response.report.stack, 3)
    seen = set().union(*(set(np.unique(np.asarray(Picture.open(io.BytesIO(p.labels_png))))) for p in chosen))
    assert seen >= {1, 2, 3}
    assert len(chosen) <= 3


def test_volumes_are_written_as_people_say_them():
    assert plain_volume(1220.4) == "1.2 liters"
    assert plain_volume(166.2) == "166 mL"
    assert plain_volume(3.14) == "3.1 mL"


def test_the_page_has_the_questions_of_the_visit_in_the_patients_language(response):
    visit = Visit(
        "de", (Answer("Was ist das?", "", parts=(Part("about", {"explanation": "liver"}),)),), (Part("ask.2"),)
    )
    page = make_leaflet(response, visit=read_visit(visit.as_json())).html
    words = glossary("de")
    assert 'lang="de"' in page and "Was ist das?" in page and words.what("liver") in page
    assert words.ask[1] in page and words.ask[0] not in page and words.parts["unchecked"] in page
    assert 'dir="rtl"' in make_leaflet(response, "ar").html
    for damaged in ("", "{", "[]", '{"language": "de"}', '{"language": "de", "asked": [1], "chosen": []}'):
        assert read_visit(damaged) == Visit()


def test_every_text_that_is_shown_in_english_is_easy_to_read():
    texts = {
        key: re.sub(r"\{\w+\}", "liver", text.replace("{number}", "12"))
        for key, text in WORDS.parts.items()
        if len(text.split()) > 5
    }
    hard = {key: round(grade(text), 1) for key, text in texts.items() if grade(text) > HARDEST_GRADE}
    assert not hard and len(texts) > 40


def test_every_language_has_the_same_texts_and_says_whether_a_native_speaker_checked_it():
    assert set(languages()) == {"en", "de", "es", "fr", "it", "pt", "tr", "pl", "ar", "zh", "hi"}
    for language in languages():
        words = glossary(language)
        assert words.part_ids() == WORDS.part_ids() and list(words.structures) == list(WORDS.structures), language
        assert words.terms.keys() == WORDS.terms.keys() and words.checked in (True, False)
        for name in words.part_ids():
            assert sorted(slots_of(words.template(name))) == sorted(slots_of(WORDS.template(name))), (language, name)
        assert len({words.name(key) for key in words.structures}) == len(words.structures), language
    with pytest.raises(ModelError):
        glossary("xx")
    assert PatientSettings(language="de").spoken("xx") == "de" and PatientSettings(language="yy").spoken("xx") == "en"


def test_no_report_no_patients_version_and_no_unknown_language(response):
    with pytest.raises(InputError, match="draft one first"):
        make_leaflet(dataclasses.replace(response, findings=response.findings[1:]))
    with pytest.raises(ModelError, match="'xx' can't be read"):
        make_leaflet(response, "xx")


def test_structures_of_one_name_keep_their_plain_name():
    assert WORDS.plain("left kidney (segment 2)") == "left kidney" and WORDS.what("liver (segment 3)")
    assert not WORDS.knows("lesion (segment 2)") and WORDS.plain("left lung tumor") == ""
