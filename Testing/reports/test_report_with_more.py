"""A report with a healthy case, and with an explained answer; and what it leaves out."""

import base64
import io
import re
from dataclasses import replace

import pytest
from healthy.test_compare import person
from support.phantoms import torso
from support.scripted_model import ScriptedModel, engine
from tasks.test_reliability_and_explain import Explaining

from MedFMLib.core.findings import KeyImage, SignOff, SliceReference
from MedFMLib.core.request import Request
from MedFMLib.errors import InputError
from MedFMLib.execution import serialization
from MedFMLib.files.html import as_json
from MedFMLib.healthy import HealthyLibrary, references
from MedFMLib.reports.document import rendered
from MedFMLib.reports.pdf import as_pdf
from MedFMLib.reports.pdf_text import SANS, markup, runs
from MedFMLib.reports.templates import choose_template


def beside_healthy(folder, monkeypatch):
    """(response of a report with three healthy cases, its request)."""
    library = HealthyLibrary(folder / "healthy")
    for title in ("one", "two", "three"):
        library.add(*torso(), title)
    image, masks = person()
    found = references(image, cases=[(library, entry) for entry in library.entries()])
    request = Request("report", image, references=found)
    model = ScriptedModel(masks, image.geometry, {"describe": "an axial CT"})
    return serialization.loads(serialization.dumps(engine(model, monkeypatch).run(request))), request


@pytest.fixture
def comparison_pictures(tmp_path, monkeypatch):
    """See `beside_healthy`."""
    return beside_healthy(tmp_path, monkeypatch)


def test_a_report_with_a_healthy_case_describes_and_shows_it_before_the_impression(comparison_pictures):
    response, _ = comparison_pictures
    report, comparison = response.report, response.comparison
    titles = [section.title for section in report.sections]
    assert titles.index("Comparison with healthy") == titles.index("Impression") - 1
    words = report.section("Comparison with healthy").paragraphs
    assert words[0].startswith("Compared with: one.") and len(words) >= 1 + len(comparison.differences) > 1
    shown = [k for k in report.key_images if not k.overlay_png]
    assert [k.png for k in shown] == [pair.png for pair in comparison.pairs]
    assert all(base64.b64encode(k.png).decode() in report.html for k in shown)
    assert "COMPARISON WITH HEALTHY" in report.text


def test_every_id_of_the_page_stands_once_and_every_link_leads_somewhere(comparison_pictures):
    html = comparison_pictures[0].report.html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)
    assert 'src="data:image/png;base64,"' not in html


def test_the_pdf_shows_pairs_in_one_picture(comparison_pictures):
    response, _ = comparison_pictures
    pypdf = pytest.importorskip("pypdf")
    pages = pypdf.PdfReader(io.BytesIO(as_pdf(response.report, response.measurements))).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert "Comparison with healthy" in text and "next to" in text


def test_a_template_without_impression_shows_the_comparison_too(comparison_pictures, monkeypatch):
    from dataclasses import replace

    from MedFMLib.tasks import report as task

    _, request = comparison_pictures
    short = replace(choose_template("general", "CT", ()), sections=("Findings", "Limitations", "Provenance"))
    monkeypatch.setattr(task, "choose_template", lambda *_: short)
    _, masks = person()
    model = ScriptedModel(masks, request.image.geometry, {"describe": "an axial CT"})
    titles = [s.title for s in engine(model, monkeypatch).run(request).report.sections]
    assert titles == ["Findings", "Comparison with healthy", "Limitations", "Provenance"]


def test_a_reference_without_pictures_is_refused_before_anything_is_drawn(comparison_pictures, monkeypatch):
    from dataclasses import replace

    _, request = comparison_pictures
    request = replace(request, references=request.references[1:])
    with pytest.raises(InputError, match="no healthy case to compare with"):
        engine(ScriptedModel({}, request.image.geometry), monkeypatch).run(request)


def test_a_question_is_answered_in_the_report_with_what_the_answer_rests_on(monkeypatch):
    image, masks = person()
    model = Explaining(masks, image.geometry, {"describe": "an axial CT"})
    able = ("writes", "segments", "explains")
    response = engine(model, monkeypatch, abilities=able).run(Request("report", image, question="Which organs?"))
    assert any(
        line.startswith("Q: Which organs? — A: ")
        for line in response.report.section("Questions and answers").paragraphs
    )
    assert any("rests on" in k.caption and k.overlay_png for k in response.report.key_images)
    assert "does not prove" in response.report.text


def test_numbers_that_nobody_measured_are_taken_out_of_that_answer_too(monkeypatch):
    class Inventing(Explaining):
        def write(self, views, text="", *, kind="answer", **more):
            return "The liver has 9321 mL." if kind == "answer" else "an axial CT"

    image, masks = person()
    able = ("writes", "segments", "explains")
    response = engine(Inventing(masks, image.geometry), monkeypatch, abilities=able).run(
        Request("report", image, question="How big is the liver?")
    )
    (line,) = response.report.section("Questions and answers").paragraphs
    assert "9321" not in line and "9321" not in " ".join(k.caption for k in response.report.key_images)
    assert any("9321" in note for note in response.provenance.notes)  # what was taken out is listed


def test_a_question_needs_a_model_that_can_show_what_it_looked_at(monkeypatch):
    image, masks = person()
    with pytest.raises(InputError, match="can't show what an answer rests on"):
        engine(ScriptedModel(masks, image.geometry), monkeypatch).run(Request("report", image, question="Which?"))


def test_the_provenance_counts_no_range_as_a_slice():
    from MedFMLib.core.request import Provenance
    from MedFMLib.reports.words import provenance_lines

    few = Provenance("report", "m", slices=("axial slices 0 to 167", "axial slice 92", "axial slice 42"))
    assert "Slices: axial slices 0 to 167, axial slice 92, axial slice 42" in provenance_lines(few)
    many = Provenance("report", "m", slices=tuple(f"axial slice {n}" for n in range(40)))
    assert "Slices: axial slice 0, axial slice 1 … axial slice 39 (40 in all)" in provenance_lines(many)


@pytest.mark.parametrize("name", [
    "Łukasz Đorđević", "Şahin Işık", "Müller", "Nguyễn Văn Ánh", "Иван Петров", "Γιώργος Παπαδόπουλος", "王小明",
    "やまだ太郎", "김철수",
])  # fmt: skip
def test_who_signs_is_written_in_their_own_letters_in_the_pdf(response, name):
    pypdf = pytest.importorskip("pypdf")
    signed = replace(response.report, signed=SignOff(f"{name} <&>", "2026-11-28T10:00:00+00:00"))
    for page in pypdf.PdfReader(io.BytesIO(as_pdf(signed))).pages:  # at the top or in the foot
        assert f"Signed:{name}<&>,2026-11-2810:00UTC".replace(" ", "") in "".join(page.extract_text().split())


def test_letters_of_a_word_share_a_font_and_what_no_font_has_is_a_square():
    assert runs("Dr Łukasz 5 mm") == [("Helvetica", "Dr "), (SANS, "Łukasz"), ("Helvetica", " 5 mm")]
    assert runs("太郎のx") == [("HeiseiKakuGo-W5", "太郎の"), ("Helvetica", "x")]
    assert runs("王 ≥ 5") == [("STSong-Light", "王"), ("Helvetica", " "), (SANS, "≥"), ("Helvetica", " 5")]
    assert runs("a \U00012000") == [("Helvetica", "a "), (SANS, "\N{WHITE SQUARE}")]
    assert runs("ד כהן a") == [(SANS, "ןהכ"), ("Helvetica", " "), (SANS, "ד"), ("Helvetica", " a")]
    assert markup("<b> Ω") == '&lt;b&gt; <font name="MedFM-DejaVuSans">Ω</font>'


def test_nobody_looks_for_organs_that_the_template_does_not_know():
    brain = choose_template("brain-mr", "MR", ())
    assert brain.covers("left thalamus") and not brain.covers("liver")
    assert choose_template("general", "MR", ()).covers("liver")


def test_a_structures_name_cannot_end_the_pages_script():
    assert "</script" not in as_json([["</script><meta http-equiv=refresh>", [0, 0, 0]]])


def test_a_picture_that_has_all_in_one_is_not_doubled(response):
    from dataclasses import replace

    picture = response.report.key_images[0]
    alone = KeyImage("Both", SliceReference("coronal", 3, (0.0, 0.0, 0.0)), picture.png, b"")
    report = rendered(replace(response.report, key_images=(alone,)))
    assert report.html.count(base64.b64encode(picture.png).decode()) == 1 and 'alt="Both"' in report.html
