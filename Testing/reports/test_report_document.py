"""A report links to its evidence, follows its template, and can be edited, signed, saved and opened again."""

import base64
import io
import json
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image as Picture
from support.phantoms import ct_phantom

from MedFMLib.core.geometry import Geometry
from MedFMLib.errors import InputError
from MedFMLib.reports.pdf import as_pdf
from MedFMLib.reports.revising import edit, keep, read_editable_report, sign, with_report
from MedFMLib.reports.templates import choose_template, templates
from MedFMLib.storage import paths

from .conftest import respond


def sentence(report, start):
    return next((text, link) for text, link in report.section("Findings").linked if text.startswith(start))


# -- sentences and their places --------------------------------------------------------------------------


def test_every_structures_sentence_leads_into_the_structure(response):
    for segment in response.segmentation.segments:
        _, link = sentence(response.report, f"{segment.label.capitalize()}:")
        assert link.segment == segment.label
        assert np.isclose(response.segmentation.geometry.to_index(link.slice.center)[2], link.slice.number)
        areas = segment.mask.sum(axis=(0, 1))
        assert areas[link.slice.number] == areas.max()
        low, high = np.argwhere(segment.mask).min(0), np.argwhere(segment.mask).max(0)
        index = response.segmentation.geometry.to_index(link.slice.center)
        assert (low <= np.rint(index)).all() and (np.rint(index) <= high).all()


def test_the_numbers_in_a_sentence_are_those_of_its_measurements(response):
    text, link = sentence(response.report, "Liver:")
    values = {m.name: m.value for m in response.measurements if m.segment == "liver"}
    assert f"{values['volume']:.0f} mL" in text and f"lies on the {values['side']}" in text
    assert set(link.measurements) <= set(values)


def test_a_pair_of_whole_organs_is_compared_and_a_cut_one_is_not(response):
    assert "left against right" not in response.report.text  # the lungs reach the image's edge
    small = response.segmentation.geometry
    response = respond(ct_phantom(Geometry((96, 80, 36), small.affine)))
    left, right = (
        next(m.value for m in response.measurements if (m.segment, m.name) == (f"{side} lung", "volume"))
        for side in ("left", "right")
    )
    share = 100 * abs(left - right) / ((left + right) / 2)
    assert f"Lung, left against right: volumes differ by {share:.0f} % of their mean" in response.report.text


def test_the_stack_shows_each_segment_where_it_is(response):
    geometry = response.segmentation.geometry
    liver = response.segmentation["liver"]
    number = list(response.report.colors).index("liver") + 1
    seen = 0
    for part in response.report.stack:
        labels = np.asarray(Picture.open(io.BytesIO(part.labels_png)))
        share = (labels == number).mean()
        expected = liver.mask[:, :, part.slice.number].mean()
        assert abs(share - expected) < 0.01
        seen += share > 0
    assert seen > 3
    assert geometry.shape[2] >= len(response.report.stack)


# -- templates ---------------------------------------------------------------------------------------------


def test_the_template_that_suits_what_was_found_is_taken():
    chest = ["left lung", "right lung", "heart", "trachea"]
    assert choose_template("", "CT", chest).id == "chest-ct"
    assert choose_template("", "MR", chest).id == "general"  # a chest's template is made for CT
    assert choose_template("", "MR", ["left thalamus", "cerebellum", "brain", "left hippocampus"]).id == "brain-mr"
    assert choose_template("volumetry", "CT", chest).id == "volumetry"
    with pytest.raises(InputError, match=r"no report template 'x-ray'.*general"):
        choose_template("x-ray", "CT", chest)


def test_every_shipped_template_makes_a_report():
    for name, template in templates().items():
        report = respond(ct_phantom(), template=name).report
        titles = [section.title for section in report.sections]
        assert titles == [title for title in template.sections if title in titles]
        assert template.not_assessed in report.section("Limitations").paragraphs


def test_a_clinics_own_template_is_used_and_a_wrong_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = paths.settings() / "report-templates"
    folder.mkdir(parents=True)
    own = {
        "id": "ours", "title": "Our report", "about": "x", "modalities": [], "groups": [["Lungs", ["lung"]]], "suits": [],
        "sections": ["Findings", "Limitations", "Provenance"], "impression": "", "not_assessed": "",
    }  # fmt: skip
    (folder / "ours.json").write_text(json.dumps(own))
    report = respond(ct_phantom(), template="ours").report
    paragraphs = report.section("Findings").paragraphs
    assert report.title == "Our report" and paragraphs[0] == "Lungs:" and "Other structures:" in paragraphs
    (folder / "ours.json").write_text(json.dumps(own | {"sections": ["Findings", "Provenance"]}))
    with pytest.raises(InputError, match=r"ours\.json can't be used .*Limitations can't be left out"):
        templates()


def test_what_a_person_says_of_the_image_stands_in_the_report():
    report = respond(ct_phantom(), indication="Cough for six weeks", comparison="CT of May").report
    assert report.section("Indication").paragraphs == ("Cough for six weeks",)
    assert report.section("Comparison").paragraphs == ("CT of May",)


# -- changing and signing ----------------------------------------------------------------------------------


def test_an_edited_section_says_so_and_keeps_the_links_of_unchanged_sentences(response):
    text, link = sentence(response.report, "Liver:")
    changed = edit(response.report, {"Findings": f"{text}\nNo free fluid.", "Impression": "Normal."})
    assert changed.section("Findings").linked == ((text, link), ("No free fluid.", None))
    assert changed.edited == ("Findings", "Impression")
    assert "Normal." in changed.html and "edited by a person" in changed.html and "FINDINGS (edited)" in changed.text


def test_what_happened_cannot_be_edited(response):
    for title in ("Limitations", "Provenance", "Questions and answers"):
        with pytest.raises(InputError, match=f"'{title}' can't be edited"):
            edit(response.report, {title: "x"})
    with pytest.raises(InputError, match="no section 'Findngs'"):
        edit(response.report, {"Findngs": "x"})
    with pytest.raises(InputError, match="would be empty"):
        edit(response.report, {"Impression": " \n "})


def test_a_signature_is_in_every_form_and_editing_takes_it_back(response):
    signed = sign(response.report, "  Dr Jane Q.  Doe ")
    assert signed.signed.name == "Dr Jane Q. Doe"
    assert "Signed: Dr Jane Q. Doe" in signed.text and "DRAFT, not signed" not in signed.html
    assert b"Signed: Dr Jane Q. Doe" in as_pdf_text(signed) and b"DRAFT" in as_pdf_text(response.report)
    assert edit(signed, {"Impression": "Else."}).signed is None
    assert edit(signed, {"Impression": "\n".join(signed.section("Impression").paragraphs)}) is signed  # nothing changed
    with pytest.raises(InputError, match="signature needs a name"):
        sign(response.report, "  ")


def as_pdf_text(report) -> bytes:
    """What the PDF's pages draw, uncompressed."""
    streams = re.findall(rb"(?<!end)stream\r?\n([!-uz\s]*)~>", as_pdf(report))
    texts = [zlib.decompress(base64.a85decode(stream)) for stream in streams]
    return b"".join(text for text in texts if b" Tj" in text)


def test_a_kept_report_comes_back_whole_and_a_damaged_file_is_named(response, tmp_path):
    path = keep(tmp_path / "case.medfm-report", with_report(response, sign(response.report, "A B")))
    again = read_editable_report(path)
    assert again.report.signed.name == "A B"
    assert again.report.html.startswith("<!DOCTYPE html>") and again.segmentation["liver"].mask.any()
    assert edit(again.report, {"Impression": "Changed later."}).section("Impression").paragraphs == ("Changed later.",)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged"):
        read_editable_report(path)
    with pytest.raises(InputError, match="There is no file"):
        read_editable_report(tmp_path / "nothing.medfm-report")


# -- the page ----------------------------------------------------------------------------------------------


def test_the_page_fetches_nothing_and_allows_its_own_script_alone(response):
    html = response.report.html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.split("script-src")[1]
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)


def test_words_of_a_model_and_of_a_person_never_become_markup():
    report = respond(ct_phantom(), indication="</script><img src=x onerror=alert(1)>").report
    assert "<img src=x" not in report.html and "&lt;/script&gt;" in report.html


def test_the_page_scrolls_and_shows_outlines_in_a_browser(response, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here (Debian: chromium)")
    path = tmp_path / "report.html"
    path.write_text(response.report.html, encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
         "--virtual-time-budget=4000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    viewer = re.search(r'<figure id="viewer"([^>]*)>.*?<figcaption>([^<]*)</figcaption>', done.stdout, re.S)
    assert "hidden" not in viewer[1]
    assert viewer[2].startswith("axial slice") and ("liver" in viewer[2] or "lung" in viewer[2])
    assert "CONSOLE" not in done.stderr
