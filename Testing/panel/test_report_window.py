"""The report window: text is edited, signed and exported from the scene, outside the GUI thread."""

from __future__ import annotations

from dataclasses import replace

import pytest
from host.heartbeat import Heartbeat
from reports.conftest import respond
from support.phantoms import ct_phantom

from MedFMLib.core.findings import Report
from MedFMLib.execution import serialization
from MedFMLib.reports.revising import with_report

LONGEST_BLOCK_MS = 50


@pytest.fixture(scope="module")
def drafted():
    """A response with a report, as the task makes it."""
    response = respond(ct_phantom())
    return with_report(response, replace(response.report, kept=serialization.dumps(response)))


@pytest.fixture
def window(drafted, panel, add_volume, use_runner, host):
    """The window on a report that a job has written."""
    node = add_volume("CASE", shape=(24, 80, 96))

    def answer(request):
        report = next(f for f in drafted.findings if isinstance(f, Report))
        return replace(drafted, findings=(report,))

    use_runner(response=answer)
    panel.ui.taskTabs.setCurrentIndex(2)
    panel.parameters.volume = node
    panel.ui.applyButton.click()
    host.wait_until(lambda: not panel.session.running)
    host.process_events()  # the result is shown in a turn of its own
    panel.ui.editReportButton.click()
    wait(host, panel.report.window)
    return panel.report.window


def choose(window, title) -> None:
    window.section.setCurrentIndex(window.section.findData(title))


def wait(host, window) -> None:
    host.wait_until(lambda: window._task is None, 60, "the end of the task")


def test_a_sentence_of_the_report_moves_the_views(window, panel, drafted):
    import qt
    import slicer

    link = next(
        link for _, link in drafted.report.section("Findings").linked if link is not None and link.segment == "liver"
    )
    address = "slice:" + ",".join(f"{value:.2f}" for value in link.slice.center)
    assert address in panel.ui.reportView.html
    panel.ui.reportView.anchorClicked.emit(qt.QUrl(address))
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    assert red.GetSliceToRAS().GetElement(2, 3) == pytest.approx(link.slice.center[2], abs=0.1)


def test_what_happened_is_not_offered_for_changes(window):
    titles = [window.section.itemText(n) for n in range(window.section.count)]
    assert "Impression" in titles and "Limitations" not in titles and "Provenance" not in titles


def test_a_changed_and_signed_report_is_in_the_scene(window, panel, host):
    choose(window, "Impression")
    window.text.setPlainText("Normal for the age.")
    assert "Impression" in window.hint.text
    window.sign.click()
    assert "enter yours" in window.status.text
    window.name.text = "Dr Jane Doe"
    window.sign.click()
    wait(host, window)
    assert window.status.text.startswith("Signed: Dr Jane Doe")
    words = panel.ui.reportView.toPlainText()
    assert "Normal for the age." in words and "Signed: Dr Jane Doe" in words
    choose(window, "Impression")
    window.text.setPlainText("Else.")
    window.save.click()
    wait(host, window)
    assert "DRAFT, not signed" in panel.ui.reportView.toPlainText()


def test_an_emptied_section_is_refused_and_nothing_changes(window, panel, host):
    before = panel.ui.reportView.toPlainText()
    choose(window, "Impression")
    window.text.setPlainText(" ")
    window.save.click()
    wait(host, window)
    assert "would be empty" in window.status.text and panel.ui.reportView.toPlainText() == before


def test_forms_are_exported_without_the_volumes_name(window, host, tmp_path):
    for name, box in window.forms.items():
        box.setChecked(name in ("page", "pdf", "patient"))
    assert not window.forms["dicom"].enabled  # the volume was not loaded from DICOM
    host.dialogs.answer_next(str(tmp_path))
    window.export.click()
    wait(host, window)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "MedFM-report.medfm-report",
        "MedFM-report.report.html",
        "MedFM-report.report.pdf",
        "MedFM-report.patient.html",
    }
    assert "Wrote 4 files" in window.status.text


def test_unsaved_changes_are_not_exported(window, host):
    choose(window, "Impression")
    window.text.setPlainText("Else.")
    window.export.click()
    assert "Save first: Impression" in window.status.text and not host.dialogs.asked


def test_opening_and_saving_leave_the_window_awake(window, host):
    with Heartbeat() as heart:
        window.open(window._scene, window._volume)
        wait(host, window)
        choose(window, "Impression")
        window.text.setPlainText("Awake.")
        window.save.click()
        wait(host, window)
    assert heart.longest_ms < LONGEST_BLOCK_MS, heart
