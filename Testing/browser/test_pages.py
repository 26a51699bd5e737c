"""The pages that MedFM writes, in a real browser: nothing in the console, nothing fetched, all of it by keyboard."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

pypdf = pytest.importorskip("pypdf")

from reports.conftest import respond  # noqa: E402
from reports.test_report_with_more import beside_healthy  # noqa: E402
from support.phantoms import ct_phantom  # noqa: E402

from MedFMLib.batch import summary  # noqa: E402
from MedFMLib.batch.manifest import ManifestRow  # noqa: E402
from MedFMLib.batch.plan import TaskStep  # noqa: E402
from MedFMLib.core.findings import Answer, SliceReference  # noqa: E402
from MedFMLib.patient import make_leaflet  # noqa: E402

SLIDER = "#viewer input[type=range]"
KEYS = {"tab": "\ue004", "enter": "\ue007", "space": " ", "right": "\ue014", "left": "\ue012", "end": "\ue010"}


@pytest.fixture(scope="module")
def response():
    """A response with a report on a CT phantom."""
    seen = (SliceReference("axial", 5, (1.0, 2.0, 3.0)),)
    return respond(ct_phantom(), [Answer("Which organs are visible?", "The liver.", seen)])


@pytest.fixture(scope="module")
def pages(response, tmp_path_factory) -> dict[str, Path]:
    """Name → file of each kind of page."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "report.html").write_text(response.report.html, encoding="utf-8")
    (folder / "take-home.html").write_text(make_leaflet(response).html, encoding="utf-8")
    found = {
        "segments": ["liver"],
        "measurements": [],
        "answers": [{"question": "What?", "answer": "A <b>liver</b> & more"}],
    }
    rows = [
        ManifestRow(
            "case-0001",
            TaskStep("segment"),
            "done",
            1,
            1.5,
            "",
            (("case-0001/a.json", "0" * 64),),
            "m",
            "r",
            "nf4",
            "",
            found,
        ),
        ManifestRow(
            "case-0002", TaskStep("ask", "What?"), "failed", 2, 0.5, "It can't be read.", (), "", "", "", "", {}
        ),
    ]
    summary.write(folder, rows, "1.0")
    with pytest.MonkeyPatch.context() as patch:
        compared, _ = beside_healthy(folder, patch)
    (folder / "comparison.html").write_text(compared.report.html, encoding="utf-8")
    written = {name: folder / f"{name}.html" for name in ("report", "take-home", "comparison")}
    return {**written, "batch": folder / summary.PAGE}


@pytest.mark.parametrize("name", ["report", "take-home", "comparison", "batch"])
def test_a_page_says_nothing_fetches_nothing_and_has_no_serious_fault(name, pages, open_page):
    page = open_page(pages[name])
    assert page.one("h1").text
    faults = page.faults()
    assert not faults, "\n".join(faults)
    assert not page.console() and not page.requests()


@pytest.fixture
def report(pages, open_page):
    """The report page, its slices loaded."""
    page = open_page(pages["report"])
    page.wait("return !document.querySelector('#viewer').hidden")
    page.wait("return document.querySelector('#viewer figcaption').textContent.length > 3")
    return page


def test_the_slider_shows_other_slices(report):
    before, caption = report.canvas(), report.one("#viewer figcaption").text
    slider = report.one(SLIDER)
    report.run("arguments[0].focus()", slider)
    report.press(KEYS["right"] if slider.get_attribute("value") == "0" else KEYS["left"])
    assert report.canvas() != before and report.one("#viewer figcaption").text != caption
    assert not report.console()


def test_outlines_can_be_switched_off(report):
    box = report.one("#viewer input[type=checkbox]")
    report.run("document.querySelector(arguments[0]).value = 1", SLIDER)
    report.run("document.querySelector(arguments[0]).dispatchEvent(new Event('input'))", SLIDER)
    with_outlines = report.canvas()
    box.click()
    assert report.canvas() != with_outlines
    box.click()
    assert report.canvas() == with_outlines
    overlay = report.all("#images ~ .pictures img.overlay, .pictures img.overlay")[0]
    shown = overlay.is_displayed()
    report.one("label[for=overlays]").click()
    assert overlay.is_displayed() != shown


def test_a_sentence_leads_to_its_slice_and_its_row(report):
    links = [link for link in report.all("a.lead") if link.get_attribute("data-slice")]
    assert len(links) >= 3
    for link in links[:4]:
        report.run("arguments[0].scrollIntoView(); arguments[0].click()", link)
        wanted = link.get_attribute("data-slice")
        assert report.one(SLIDER).get_attribute("value") == wanted, (link.text, wanted)
        row = link.get_attribute("data-row")
        if row:
            background = report.run(
                "return getComputedStyle(document.getElementById(arguments[0])).backgroundColor", row
            )
            assert background not in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"), row
    assert not report.console()


def test_everything_is_reached_with_the_tab_key_and_works_with_enter_and_space(report):
    wanted = report.run(
        "return [...document.querySelectorAll('a[href], input, button, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).length"
    )
    report.run("document.activeElement.blur(); window.reached = new Set()")
    for _ in range(wanted + 3):
        report.press(KEYS["tab"])
        report.run("window.reached.add(document.activeElement)")
        assert report.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return e === document.body || s.outlineStyle !== 'none' || s.boxShadow !== 'none'"
        ), "the focus can't be seen"
    reached = report.run(
        "return [...window.reached].filter(e => e !== document.body && e !== document.documentElement).length"
    )
    assert reached == wanted > 5
    link = next(link for link in report.all("a.lead") if link.get_attribute("data-slice"))
    report.run("arguments[0].focus()", link)
    report.press(KEYS["enter"])
    assert report.one(SLIDER).get_attribute("value") == link.get_attribute("data-slice")
    box = report.one("#viewer input[type=checkbox]")
    report.run("arguments[0].focus()", box)
    report.press(KEYS["space"])
    assert not box.is_selected()


def test_the_take_home_page_prints_on_two_pages(pages, open_page):
    printed = pypdf.PdfReader(io.BytesIO(open_page(pages["take-home"]).printed()))
    assert 1 <= len(printed.pages) <= 2
    assert len("".join(page.extract_text() for page in printed.pages)) > 200


def test_the_report_prints_with_all_its_sections_and_without_its_controls(response, report):
    printed = pypdf.PdfReader(io.BytesIO(report.printed()))
    text = "".join(page.extract_text() for page in printed.pages)
    assert all(section.title in text for section in response.report.sections)
    assert "Show outlines" not in text


def test_a_signed_report_and_one_whose_signature_does_not_hold_are_pages_without_faults(response, tmp_path, open_page):
    from MedFMLib.reports.document import rendered
    from MedFMLib.reports.revising import sign

    signed = sign(response.report, "Dr A. B. <&>")
    doubtful = rendered(replace(signed, signed=replace(signed.signed, doubt="the file was changed after that")))
    for made, words in ((signed, "not a digital signature"), (doubtful, "does not hold")):
        (tmp_path / "page.html").write_text(made.html, encoding="utf-8")
        page = open_page(tmp_path / "page.html")
        assert words in page.one("p.notice").text and not page.faults() and not page.console()


def test_a_report_beside_a_healthy_case_has_its_pictures_and_works_by_keyboard(pages, open_page):
    page = open_page(pages["comparison"])
    page.wait("return !document.querySelector('#viewer').hidden")
    heading = "Comparison with healthy"
    section = page.run(
        "return [...document.querySelectorAll('section')].find(s => s.querySelector('h2')?.textContent == arguments[0])"
        "?.textContent", heading,
    )  # fmt: skip
    assert section and "one" in section
    broken = page.run("return [...document.images].filter(i => i.complete && !i.naturalWidth).length")
    pictures = page.run("return [...document.images].filter(i => i.alt && i.naturalWidth > 100).length")
    assert broken == 0 and pictures >= 2
    before = page.canvas()
    page.run("arguments[0].focus()", page.one(SLIDER))
    page.press(KEYS["end"])
    page.wait("return document.activeElement.matches('#viewer input[type=range]')")
    assert page.canvas() != before
    printed = pypdf.PdfReader(io.BytesIO(page.printed()))
    assert heading in "".join(part.extract_text() for part in printed.pages)
    assert not page.console() and not page.requests()
