"""The page to take home in a real browser: it prints on two pages, in every language, and asks nobody for anything."""

import dataclasses
import re
import shutil
import subprocess

import pytest
from reports.conftest import respond
from support.phantoms import ct_phantom

from MedFMLib.core.findings import Answer, Measurement, Part
from MedFMLib.patient import Visit, languages, make_leaflet

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
QUESTIONS = (
    "Is it cancer?",
    "What am I looking at?",
    "How was this picture made?",
    "When do I get my result?",
    "And what is this?",
)


@pytest.fixture(scope="module")
def response():
    """A report of a whole head: all structures that the embedded model segments in MR, and five questions."""
    from MedFMLib.core.terminology import structure
    from MedFMLib.interfaces import registry

    response = respond(ct_phantom(), [Answer(question, "A tumor.") for question in QUESTIONS])
    labels = registry.card("medfm-tiny").labels["MR"]
    report = dataclasses.replace(
        response.report, colors={label: structure(label).color for label in labels}, missing=()
    )
    measured = tuple(Measurement(label, "volume", 5.0 * n, "mL") for n, label in enumerate(labels, start=1))
    return dataclasses.replace(response, findings=(report, *measured))


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("language", languages())
def test_the_page_prints_on_two_pages(response, language, tmp_path):
    visit = Visit(language, (), tuple(Part(f"ask.{n}") for n in range(1, 6)))
    page = tmp_path / "page.html"
    page.write_text(make_leaflet(response, language, visit=visit).html, encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
    command = [BROWSER, *options, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pages = len(re.findall(rb"/Type /Page\b(?!s)", (tmp_path / "page.pdf").read_bytes()))
    assert 1 <= pages <= 2, pages
