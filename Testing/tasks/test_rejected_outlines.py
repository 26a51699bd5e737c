"""Outlines that can't be right: not drawn, not stated by a number, marked wherever a measurement is shown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.phantoms import affine, sphere
from support.scripted_model import ScriptedModel
from support.trunk_card import with_trunk

from MedFMLib.core.findings import FLAGGED, OK, REJECTED, Agreement, Measurement, OutlineCheck, Segment, Segmentation
from MedFMLib.core.geometry import BoxedMask, Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.measurements import side_words
from MedFMLib.core.request import Provenance, Request, Response, SliceChoice
from MedFMLib.engine import Engine
from MedFMLib.execution.serialization import dumps, loads
from MedFMLib.exports.fhir import diagnostic_report
from MedFMLib.fact_check import check, check_answer, fill, names
from MedFMLib.healthy.differences import differences
from MedFMLib.imaging.slices import examined
from MedFMLib.interfaces import registry
from MedFMLib.measure import as_table, measure_fully, remarks
from MedFMLib.patient.glossary import glossary
from MedFMLib.patient.wording import plain_lines
from MedFMLib.reports import words
from MedFMLib.reports.templates import choose_template

GEOMETRY = Geometry((70, 50, 80), affine(np.diag([-1, 1, 1]), (5, 5, 5), (175, -125, -200)))
PLACES = {
    "left lung": ((-75, 0, 60), 60), "right lung": ((75, 0, 60), 60), "left kidney": ((-60, -30, -80), 28),
    "right kidney": ((60, -30, -85), 28), "liver": ((70, 20, -40), 60), "spleen": ((-60, -40, 110), 35),
}  # fmt: skip
"""A trunk with a spleen in the chest."""

AGREED = Agreement(1.2, -8.0, 10.5, 40, "Compared with radiologists' outlines.")


def mask(label):
    return sphere(GEOMETRY, *PLACES[label])


def body() -> Image:
    values = np.full(GEOMETRY.shape, -1000, np.int16)
    values[6:-6, 5:-5] = 40
    for label in PLACES:
        values[mask(label)] = -800 if "lung" in label else 90
    return Image(values[None], GEOMETRY, "CT", "trunk")


class Draws(ScriptedModel):
    """Draws the trunk's structures in the whole volume, and knows how well its livers agree."""

    draws_volumes = True

    def segment_volume(self, image, labels, *, callbacks):
        return {label: BoxedMask.of(mask(label)) for label in labels if label in PLACES}

    def agreement(self, label):
        return AGREED if label in ("liver", "left lung") else None


@pytest.fixture(autouse=True, scope="module")
def trunk_card():
    with pytest.MonkeyPatch.context() as patch:
        with_trunk(patch)
        yield


@pytest.fixture(scope="module")
def image():
    return body()


@pytest.fixture(scope="module")
def engine():
    return Engine(lambda *_: Draws({label: mask(label) for label in PLACES}, GEOMETRY))


def segmented(engine, image, **more):
    return engine.run(Request("segment", image, labels=("lung", "kidney", "liver", "spleen"), **more))


@pytest.fixture(scope="module")
def kept(engine, image):
    """With the outlines that can't be right."""
    return segmented(engine, image, options={"rejected": True})


def test_a_rejected_outline_is_not_drawn_and_a_note_says_why(engine, image):
    response = segmented(engine, image)
    labels = [s.label for s in response.segmentation.segments]
    assert set(labels) == set(PLACES) - {"spleen"}
    assert {m.segment for m in response.measurements} == set(labels)
    (note,) = [note for note in response.provenance.notes if "can't be right" in note]
    assert "spleen" in note.lower() and "gross anatomy" in note
    assert all(m.verdict == OK for m in response.measurements)
    assert not [note for note in response.provenance.notes if "Not found" in note]


def test_an_option_keeps_it_and_the_table_marks_it(kept):
    assert {m.verdict for m in kept.measurements if m.segment == "spleen"} == {REJECTED}
    titles, rows = as_table(kept.measurements)
    assert next(row for row in rows if row[0] == "spleen")[titles.index("check")] == "!!"
    assert any("spleen" in text.lower() for text in remarks(kept.measurements))
    titles, rows = as_table(kept.measurements, reasons=True)
    assert titles[-1] == "failed checks" and next(row for row in rows if row[0] == "spleen")[-1]


def test_the_models_agreement_becomes_an_interval(engine, image, kept):
    liver = next(m for m in kept.measurements if (m.segment, m.name) == ("liver", "volume"))
    assert (liver.low, liver.high) == (pytest.approx(liver.value / 1.105), pytest.approx(liver.value / 0.92))
    assert "radiologists' outlines" in liver.method
    assert next(m for m in kept.measurements if (m.segment, m.name) == ("right kidney", "volume")).low is None
    refined = segmented(engine, image, refine=True)  # another outline than the one that was compared
    assert all(m.low is None for m in refined.measurements if m.name == "volume")


def test_a_range_of_slices_cuts_what_goes_beyond_it_and_gives_it_no_interval(engine, image):
    choice = SliceChoice("axial", 20, 30)
    assert examined(GEOMETRY, choice) == (slice(0, 70), slice(0, 50), slice(20, 31))
    assert examined(GEOMETRY, SliceChoice()) is None
    response = segmented(engine, image, slices=choice)
    liver = next(m for m in response.measurements if (m.segment, m.name) == ("liver", "volume"))
    assert liver.verdict == "partial" and liver.low is None


def test_verdicts_survive_messages_and_tables(kept):
    again = loads(dumps(kept))
    assert again.measurements == kept.measurements
    assert again.segmentation["liver"].agreement == AGREED and again.segmentation["liver"].drawn_by == "medfm-tiny"
    pandas = pytest.importorskip("pandas")
    table = kept.measurements_table()
    assert isinstance(table, pandas.DataFrame)
    row = table[table.segment == "spleen"].iloc[0]
    assert row.verdict == REJECTED and "spleen" in row.checks.lower()
    liver = table[table.segment == "liver"].iloc[0]
    assert liver["volume low (mL)"] < liver["volume (mL)"] < liver["volume high (mL)"]


# -- a flagged structure is never called by a number -----------------------------------------------------------------

WRONG = OutlineCheck(
    "volume", "its volume is below the expected range", "Left thalamus: volume 0.09 mL, where 2.8 to 14 mL are expected (x)."
)  # fmt: skip


def flagged():
    """A thalamus that failed, and one that passed."""
    left = [("volume", 0.09, "mL"), ("longest diameter", 7.3, "mm"), ("side", "left", "")]
    right = [("volume", 6.8, "mL"), ("longest diameter", 31.0, "mm"), ("side", "right", "")]
    return [
        *(Measurement("left thalamus", *row, "", 1, None, None, FLAGGED, (WRONG,)) for row in left),
        *(Measurement("right thalamus", *row, "", 2, 6.2, 7.4, OK) for row in right),
    ]


def test_a_report_states_which_check_failed_and_no_number():
    template = choose_template("", "MR", [])
    section = words.findings(flagged(), [], "", registry.card("medfm-tiny"), template, {})
    left = next(text for text in section.paragraphs if text.startswith("Left thalamus"))
    right = next(text for text in section.paragraphs if text.startswith("Right thalamus"))
    assert (
        left
        == "Left thalamus: no number is stated, since its outline failed a check: its volume is below the expected range."
    )
    assert "6.8 mL (95 % of such measurements lay within 6.2…7.4 mL)" in right
    assert not any("left against right" in text for text in section.paragraphs)
    assert "the outline of 1 failed a check" in words.impression(flagged(), template)[0]
    dropped = words.findings(
        [], [], "", registry.card("medfm-tiny"), template, {}, not_drawn={"spleen": "it is in pieces"}
    )
    assert dropped.paragraphs[-1] == "Spleen: not drawn, since its outline failed a check: it is in pieces."


def test_a_models_text_keeps_no_number_of_it():
    found = flagged()
    for text in ("The left thalamus measures 7.3 mm.", "The left thalamus has 0.09 mL."):
        checked = check(text, found)
        assert "7.3" not in checked.text and "0.09" not in checked.text
        assert checked.removed[0].reason == "the outline failed a check: its volume is below the expected range"
    assert check("The right thalamus has 6.8 mL.", found).removed == ()
    filled, unfilled = fill("It has {left thalamus.volume}, not {right thalamus.volume}.", found)
    assert (
        filled == "It has [not stated: the outline failed a check: its volume is below the expected range], not 6.8 mL."
    )
    assert unfilled == ("{left thalamus.volume}",)
    assert not [name for name in names(found) if "left thalamus" in name]
    answer = check_answer("On which side is the left thalamus?", "left", [m for m in found if m.number == 1])
    assert answer.removed[0].reason.startswith("the outline failed a check")
    answer = check_answer("How large is the left thalamus?", "{left thalamus.volume}", found)
    assert answer.removed[0].reason.startswith("the outline failed a check")


def test_a_structure_of_the_midline_may_be_called_so_without_a_measured_side():
    found = [Measurement("third ventricle", "volume", 1.2, "mL")]
    assert check("The third ventricle lies in the midline.", found).removed == ()
    assert check("The third ventricle lies on the right.", found).removed


def test_neither_comparisons_nor_patients_get_it():
    assert {d.segment for d in differences(flagged(), (), "MR")} == set()
    lines = plain_lines(flagged(), (), glossary())
    assert len(lines) == 1


def test_exports_have_notes():
    report = type("R", (), {"sections": (), "title": "t", "text": "t"})
    made = diagnostic_report(report, flagged(), None, Provenance("report", "m"))
    notes = [o.get("note", [{}])[0].get("text", "") for o in made["contained"]]
    assert notes[0] == WRONG.sentence and "95 % interval 6.2 to 7.4 mL" in notes


def test_side_words_state_a_shift():
    side = Measurement("third ventricle", "side", "midline")
    shift = Measurement("third ventricle", "shift to the left", 3.4, "mm", "", 0, 2.2, 4.6)
    assert side_words({"side": side, "shift to the left": shift}) == "midline, shifted 3.4 mm to the left ± 1.2"
    assert side_words({"side": side}) == "midline" and side_words({}) == ""


def test_a_terminal_of_eighty_columns_shows_mark_volume_interval_and_side(kept, monkeypatch, capsys):
    from MedFMLib.cli import running
    from MedFMLib.cli.console import Console

    stream = io.StringIO()
    monkeypatch.setattr(running, "out", Console(file=stream, width=80, force_terminal=True, color_system=None))
    running.print_measurements(kept)
    printed = stream.getvalue()
    lines = printed.splitlines()
    title = next(line for line in lines if "segment" in line)
    assert all(word in title for word in ("segment", "check", "volume (mL)", "95 % interval", "side"))
    assert max(len(line) for line in lines[: lines.index(title) + 10]) <= 80
    assert next(line for line in lines if "spleen" in line).split()[1] == "!!"
    assert "gross anatomy" in printed


def test_a_csv_has_verdict_interval_and_sentences(kept):
    from MedFMLib.cli.export import COLUMNS, _cell
    from MedFMLib.files.tables import as_csv

    rows = list(
        csv.DictReader(io.StringIO(as_csv(COLUMNS, ([_cell(m, n) for n in COLUMNS] for m in kept.measurements))))
    )
    liver = next(row for row in rows if (row["segment"], row["name"]) == ("liver", "volume"))
    assert float(liver["low"]) < float(liver["value"]) < float(liver["high"]) and liver["verdict"] == OK
    spleen = next(row for row in rows if row["segment"] == "spleen")
    assert spleen["verdict"] == REJECTED and spleen["checks"] and spleen["low"] == ""


def test_json_of_a_response_has_it(kept):
    rows = json.loads(json.dumps([asdict(m) for m in kept.measurements]))
    assert [Measurement(**row) for row in rows] == kept.measurements


def test_a_whole_report_says_it_in_table_page_and_text(engine, image):
    response = engine.run(Request("report", image, labels=("lung", "kidney", "liver", "spleen")))
    report = response.report
    assert report.table[0][:3] == ("segment", "check", "volume (mL)")
    findings = report.section("Findings")
    assert any(text.startswith("Spleen: not drawn, since its outline failed a check") for text in findings.paragraphs)
    assert not any("not seen" in text for text in findings.paragraphs)
    assert "95 % interval" in report.html and "95 % of such measurements lay within" in report.text
    limits = " ".join(report.section("Limitations").paragraphs)
    assert "can't be right" in limits


def test_what_a_person_drew_keeps_its_numbers_with_a_note(image):
    segments = tuple(Segment(label, mask(label)) for label in PLACES)
    measured = measure_fully(Segmentation(segments, GEOMETRY), image)
    spleen = [m for m in measured if m.segment == "spleen"]
    assert {m.verdict for m in spleen} == {"noted"} and all(m.is_reliable for m in spleen)
    sentence = next(
        text
        for text in words.findings(
            measured, [], "", registry.card("medfm-tiny"), choose_template("", "CT", []), {}
        ).paragraphs
        if text.startswith("Spleen")
    )
    assert "mL" in sentence
    _, rows = as_table(measured)
    assert next(row for row in rows if row[0] == "spleen")[1] == "note"
    response = Response((replace(Segmentation(segments, GEOMETRY)), *measured), Provenance("export", ""))
    assert loads(dumps(response)).measurements == list(measured)
