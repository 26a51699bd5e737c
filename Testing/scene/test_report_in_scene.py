"""A report in the scene: text with links, the page, and the report itself; replaced atomically; the volume's study."""

from dataclasses import replace
from pathlib import Path

import pytest
from reports.conftest import respond
from support.phantoms import ct_phantom

from MedFMLib import scene as medfm_scene
from MedFMLib.errors import InputError, OutputError
from MedFMLib.execution import serialization
from MedFMLib.reports.revising import sign, with_report
from MedFMLib.scene.nodes import find
from MedFMLib.scene.reports import dicom_series, first_instance, replace_report, stored_report


@pytest.fixture
def written(scene, session):
    """(volume node, response) after a drafted report was written into the scene."""
    image = ct_phantom()
    node = session.add_volume(image)
    response = respond(image)
    response = with_report(response, replace(response.report, kept=serialization.dumps(response)))
    medfm_scene.write_response(scene, node, replace(response, findings=(response.report,)))
    return node, response


def test_a_kept_report_comes_out_of_the_scene_as_it_went_in(scene, written):
    node, response = written
    again = serialization.loads(stored_report(scene, node))
    assert again.report.sections == response.report.sections and again.segmentation["liver"].mask.any()
    view = find(scene, node, "report-view").GetText()
    link = next(link for _, link in response.report.section("Findings").linked if link is not None)
    assert f'href="slice:{link.slice.center[0]:.2f},' in view


def test_a_signed_report_takes_the_drafts_place(scene, written):
    node, response = written
    count = scene.GetNumberOfNodes()
    signed = sign(response.report, "A B")
    replace_report(scene, node, signed, serialization.dumps(with_report(response, signed)))
    assert scene.GetNumberOfNodes() == count
    for kind in ("report", "report-view", "report-html"):
        assert "Signed: A B" in find(scene, node, kind).GetText()
    assert serialization.loads(stored_report(scene, node)).report.signed.name == "A B"


def test_a_report_that_was_deleted_meanwhile_is_not_half_replaced(scene, written):
    node, response = written
    scene.RemoveNode(find(scene, node, "report-html"))
    before = find(scene, node, "report").GetText()
    with pytest.raises(OutputError, match="deleted from the scene"):
        replace_report(scene, node, sign(response.report, "A B"), b"x")
    assert find(scene, node, "report").GetText() == before


def test_without_a_report_the_error_names_the_next_step(scene, session):
    with pytest.raises(InputError, match="draft one first"):
        stored_report(scene, session.add_volume(ct_phantom()))


class Database:
    """What Slicer's DICOM database knows."""

    def fileForInstance(self, uid):
        return "/data/study/one.dcm" if uid == "1.2.3" else ""

    def seriesForFile(self, file):
        return "1.2"


def test_the_series_that_a_volume_was_loaded_from_is_found(session):
    node = session.add_volume(ct_phantom())
    assert dicom_series(node, Database()) is None
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    assert dicom_series(node, Database()) == (Path("/data/study"), "1.2")
    assert first_instance(node) == "1.2.3"
    assert dicom_series(node, None) is None
    node.SetAttribute("DICOM.instanceUIDs", "9.9.9")
    assert dicom_series(node, Database()) is None
