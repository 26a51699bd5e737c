"""The panel from the choice of a volume to nodes in the scene: segment, ask, report, cancel, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from MedFMLib.engine import Engine
from MedFMLib.errors import InputError
from MedFMLib.interfaces.jobs import Fraction, LocalRunner, Note, PartialText, Stage


def nodes(host, class_name):
    import slicer.util

    return slicer.util.getNodesByClass(class_name)


def result_nodes(host):
    return [n for kind in ("Segmentation", "Text", "Table") for n in nodes(host, f"vtkMRML{kind}Node")]


def test_segment_writes_a_segmentation_next_to_the_volume_and_shows_it(host, panel, volume, use_runner, finish):
    import slicer.util

    runner = use_runner()
    assert panel.ui.volumeSelector.currentNode() is volume
    panel.ui.applyButton.click()
    finish()
    (segmentation,) = nodes(host, "vtkMRMLSegmentationNode")
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "brain", volume)
    assert np.array_equal(mask > 0, slicer.util.arrayFromVolume(volume) > 500)
    assert panel.ui.segmentsTable.segmentationNode() is segmentation
    assert panel.ui.segmentsTable.segmentCount == 1
    assert panel.ui.show3DButton.isEnabled()
    assert "1 structure segmented" in panel.ui.statusLabel.text
    assert runner.requests[0].task == "segment"
    assert runner.requests[0].image.name == "head"


def test_ask_streams_the_answer_and_keeps_it_with_its_slices(host, panel, volume, use_runner, finish, choose_task):
    import slicer

    runner = use_runner(script=[PartialText("Yes, "), PartialText("the br")], hold=True)
    choose_task("ask")
    panel.ui.questionBox.setEditText("Is there a brain?")
    panel.ui.applyButton.click()
    host.wait_until(lambda: "Yes, the br" in panel.ui.conversationView.toPlainText(), 5, "partial text")
    runner.release()
    finish()
    shown = panel.ui.conversationView.toPlainText()
    assert "Is there a brain?" in shown and "Yes, the brain." in shown and "axial slice 12" in shown
    assert panel.ui.questionBox.currentText == ""
    (table,) = nodes(host, "vtkMRMLTableNode")
    assert table.GetCellText(0, 1) == "Yes, the brain."
    import qt

    panel.ui.conversationView.anchorClicked(qt.QUrl("slice:3.00,4.00,6.00"))
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    assert red.GetSliceOffset() == pytest.approx(6.0)


def test_a_second_question_carries_the_first_as_history(panel, volume, use_runner, finish, choose_task):
    runner = use_runner()
    choose_task("ask")
    for question in ("Is there a brain?", "And a liver?"):
        panel.ui.questionBox.setEditText(question)
        panel.ui.applyButton.click()
        finish()
    panel.ui.questionBox.setEditText("Anything else?")
    assert runner.requests[0].history == ()
    assert runner.requests[1].history == (("Is there a brain?", "Yes, the brain."),)
    panel.ui.newConversationButton.click()
    panel.ui.applyButton.click()
    finish()
    assert runner.requests[2].history == ()


def test_a_question_that_failed_stays_to_be_asked_again(panel, volume, use_runner, finish, choose_task):
    use_runner(response=InputError("There is no question; type one."))
    choose_task("ask")
    panel.ui.questionBox.setEditText("Is there <b>a brain</b>?")
    panel.ui.applyButton.click()
    finish()
    assert panel.ui.questionBox.currentText == "Is there <b>a brain</b>?"
    shown = panel.ui.conversationView.toPlainText()
    assert "Is there <b>a brain</b>?" in shown and "There is no question" in shown


def test_measurements_are_shown(panel, volume, use_runner, finish):
    use_runner()
    panel.ui.applyButton.click()
    finish()
    table = panel.ui.measurementsTable
    assert [table.horizontalHeaderItem(c).text() for c in range(table.columnCount)] == ["segment", "volume (mL)"]
    assert [table.item(0, c).text() for c in range(2)] == ["brain", "12.5"]


def test_a_new_result_hides_mine_but_not_what_a_person_drew(host, panel, volume, use_runner, finish):
    use_runner()
    drawn = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    drawn.CreateDefaultDisplayNodes()
    drawn.GetSegmentation().AddEmptySegment("lesion", "Lesion")
    for target in (drawn, None, None):
        panel.ui.targetSelector.setCurrentNode(target)
        panel.ui.applyButton.click()
        finish()
    assert [n.GetDisplayVisibility() for n in nodes(host, "vtkMRMLSegmentationNode")] == [1, 0, 1]


def test_enter_in_the_question_asks(panel, volume, use_runner, finish, choose_task):
    runner = use_runner()
    choose_task("ask")
    panel.ui.questionBox.setEditText("Is there a brain?")
    panel.ui.questionBox.lineEdit().returnPressed()
    finish()
    assert runner.requests[0].question == "Is there a brain?"


def test_report_shows_its_text_and_opens_its_page(host, panel, volume, use_runner, finish, choose_task):
    from pathlib import Path
    from urllib.parse import urlparse

    use_runner()
    choose_task("report")
    assert not panel.ui.openReportButton.isEnabled()
    panel.ui.applyButton.click()
    finish()
    assert "Brain: 12.5 mL" in panel.ui.reportView.toPlainText()
    panel.ui.openReportButton.click()
    (address,) = host.dialogs.opened
    page = Path(urlparse(address).path)
    assert page.read_text() == "<html>Brain: 12.5 mL</html>"
    panel.report.close()
    assert not page.exists()  # nobody's report stays among the temporary files


def test_apply_becomes_cancel_and_cancel_writes_nothing(host, panel, volume, use_runner, finish):
    use_runner(script=[Stage("Segmenting the slices"), Fraction(0.4)], hold=True)
    assert panel.ui.applyButton.text == "Segment"
    panel.ui.applyButton.click()
    host.wait_until(lambda: panel.ui.progressBar.value == 40, 5, "40 %")
    assert panel.ui.applyButton.text == "Cancel"
    assert panel.ui.progressBar.isVisible()
    assert not panel.ui.volumeSelector.isEnabled()
    before = len(result_nodes(host))
    panel.ui.applyButton.click()
    finish()
    assert len(result_nodes(host)) == before == 0
    assert "Cancelled; nothing was written." in panel.ui.statusLabel.text
    assert panel.ui.applyButton.text == "Segment"
    assert panel.ui.applyButton.isEnabled() and panel.ui.volumeSelector.isEnabled()
    assert not panel.ui.progressBar.isVisible()


def test_after_a_cancel_the_next_job_runs(host, panel, volume, use_runner, finish):
    use_runner(hold=True)
    panel.ui.applyButton.click()
    panel.ui.applyButton.click()
    finish()
    use_runner()
    panel.ui.applyButton.click()
    finish()
    assert len(nodes(host, "vtkMRMLSegmentationNode")) == 1


def test_a_failure_is_one_sentence_and_not_a_traceback(host, panel, volume, use_runner, finish):
    use_runner(
        response=InputError("'head' is constant, so there is nothing to analyse; check that it was loaded correctly.")
    )
    panel.ui.applyButton.click()
    finish()
    assert "there is nothing to analyse" in panel.ui.statusLabel.text
    assert "Traceback" not in panel.ui.statusLabel.text
    assert result_nodes(host) == []
    assert "there is nothing to analyse" in panel.ui.logView.plainText


def test_a_note_is_shown_and_logged(host, panel, volume, use_runner, finish):
    use_runner(script=[Note("About 12 min on two CPU cores.")], hold=True)
    panel.ui.applyButton.click()
    host.wait_until(lambda: "About 12 min" in panel.ui.statusLabel.text, 5, "the note")
    assert "About 12 min" in panel.ui.logView.plainText


def test_deleting_the_volume_while_the_job_runs_cancels_it(host, panel, volume, use_runner):
    runner = use_runner(hold=True)
    panel.ui.applyButton.click()
    job = panel.session._job
    host.scene.RemoveNode(volume)
    assert not panel.session.running
    assert job.cancelled()
    runner.release()
    host.wait_until(lambda: job.ended, 5, "the job's end")
    host.process_events()
    assert result_nodes(host) == []
    assert "'head' was deleted, so the job was cancelled and nothing was written" in panel.ui.statusLabel.text


def test_deleting_another_volume_leaves_the_job_alone(host, panel, volume, add_volume, use_runner, finish):
    other = add_volume("other")
    runner = use_runner(hold=True)
    panel.ui.applyButton.click()
    host.scene.RemoveNode(other)
    assert panel.session.running
    runner.release()
    finish()
    assert len(nodes(host, "vtkMRMLSegmentationNode")) == 1


def test_closing_the_scene_while_the_job_runs_cancels_it(host, panel, volume, use_runner):
    runner = use_runner(hold=True)
    panel.ui.applyButton.click()
    job = panel.session._job
    host.scene.Clear(0)
    assert not panel.session.running
    assert job.cancelled()
    runner.release()
    host.wait_until(lambda: job.ended, 5, "the job's end")
    host.process_events()
    assert result_nodes(host) == []
    assert "The scene was closed, so the job was cancelled and nothing was written" in panel.ui.statusLabel.text


def test_after_closing_the_scene_the_panel_works_again(host, panel, volume, add_volume, use_runner, finish):
    use_runner()
    host.scene.Clear(0)
    assert not panel.ui.applyButton.isEnabled()
    add_volume("second")
    assert panel.ui.applyButton.isEnabled()
    panel.ui.applyButton.click()
    finish()
    assert len(nodes(host, "vtkMRMLSegmentationNode")) == 1


def test_a_volume_deleted_after_the_job_ended_but_before_the_panel_looked_gets_nothing(host, panel, volume, use_runner):
    use_runner()
    panel.timer.setInterval(60_000)
    panel.ui.applyButton.click()
    job = panel.session._job
    host.wait_until(lambda: job.ended, 5, "the job's end")
    host.scene.RemoveNode(volume)
    panel.onTimer()
    assert result_nodes(host) == []
    assert "'head' was deleted" in panel.ui.statusLabel.text


def test_an_empty_volume_is_refused_before_anything_starts(host, panel, use_runner):
    runner = use_runner()
    host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    panel.ui.applyButton.click()
    assert runner.requests == []
    assert "'empty' is empty" in panel.ui.statusLabel.text


def test_results_are_added_to_the_chosen_segmentation(host, panel, volume, use_runner, finish):
    use_runner()
    mine = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    mine.CreateDefaultDisplayNodes()
    mine.GetSegmentation().AddEmptySegment("drawn", "Drawn")
    panel.ui.targetSelector.setCurrentNode(mine)
    panel.ui.applyButton.click()
    finish()
    assert nodes(host, "vtkMRMLSegmentationNode") == [mine]
    assert panel.ui.segmentsTable.displayedSegmentIDs() == ("drawn", "brain")


def test_a_question_about_an_roi_carries_it_as_a_prompt(host, panel, volume, use_runner, finish, choose_task):
    runner = use_runner()
    roi = host.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "lesion")
    roi.SetCenter(18, 20, 20)
    roi.SetSize(10, 10, 10)
    panel.ui.regionSelector.setCurrentNode(roi)
    choose_task("ask")
    panel.ui.questionBox.setEditText("What is this?")
    panel.ui.applyButton.click()
    finish()
    (box,) = runner.requests[0].prompts
    assert tuple(box.center) == (18, 20, 20)


def outlining_model(panel):
    """Choose a model that draws what is marked."""
    panel.ui.modelSelector.setCurrentIndex(panel.ui.modelSelector.findData("facebook/sam2.1-hiera-tiny"))
    assert panel.parameters.model == "facebook/sam2.1-hiera-tiny"


def test_a_model_that_draws_what_is_marked_gets_the_chosen_markup(host, panel, volume, use_runner, finish):
    runner = use_runner()
    assert not panel.ui.marksSelector.visible
    outlining_model(panel)
    assert panel.ui.marksSelector.visible and panel.ui.marksLabel.visible
    assert not panel.ui.labelList.visible
    assert panel.ui.labelHint.text.startswith("This model segments from prompts: place a point")
    points = host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "spots")
    points.AddControlPoint(18, 20, 20)
    points.AddControlPoint(10, 20, 20)
    points.SetNthControlPointLabel(1, "-")
    panel.ui.marksSelector.setCurrentNode(points)
    assert panel.parameters.marks is points
    assert panel.ui.labelHint.text == "To segment: the marked structure, by 'spots'."
    panel.ui.freeLabelsEdit.text = "liver"
    assert panel.ui.labelHint.text == "To segment: liver, by 'spots'."
    panel.ui.applyButton.click()
    finish()
    (request,) = runner.requests
    assert (request.task, request.labels) == ("outline", ("liver",))
    (prompt,) = request.prompts
    assert prompt.inside.tolist() == [[18, 20, 20]]
    assert prompt.outside.tolist() == [[10, 20, 20]]
    assert "brain" in panel.ui.segmentsTable.displayedSegmentIDs()


def test_without_marks_the_panel_says_what_to_do_and_other_models_never_get_them(
    host, panel, volume, use_runner, finish
):
    outlining_model(panel)
    points = host.scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "spots")
    points.AddControlPoint(18, 20, 20)
    panel.ui.marksSelector.setCurrentNode(points)
    panel.ui.modelSelector.setCurrentIndex(panel.ui.modelSelector.findData("medfm-tiny"))
    assert not panel.ui.marksSelector.visible
    runner = use_runner()
    panel.ui.applyButton.click()
    finish()
    assert (runner.requests[0].task, runner.requests[0].prompts) == ("segment", ())
    outlining_model(panel)
    panel.ui.marksSelector.setCurrentNode(None)
    use_runner(LocalRunner(Engine(load=lambda *_: None).run))
    panel.ui.applyButton.click()
    finish()
    assert "There are no prompts; place a point in the structure" in panel.ui.statusLabel.text


def test_deleting_the_shown_segmentation_empties_the_table(host, panel, volume, use_runner, finish):
    use_runner()
    panel.ui.applyButton.click()
    finish()
    host.scene.RemoveNode(panel.ui.segmentsTable.segmentationNode())
    assert panel.ui.segmentsTable.segmentCount == 0
    assert not panel.ui.show3DButton.isEnabled()


def test_a_colour_picture_can_be_asked_about(host, panel, use_runner, finish, choose_task):
    import slicer
    import vtk
    from vtkmodules.util.numpy_support import numpy_to_vtk

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    data = vtk.vtkImageData()
    data.SetDimensions(30, 20, 1)
    data.GetPointData().SetScalars(numpy_to_vtk(pixels.reshape(-1, 3), deep=True))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    node.SetAndObserveImageData(data)
    panel.ui.volumeSelector.setCurrentNode(node)
    runner = use_runner()
    choose_task("ask")
    panel.ui.questionBox.setEditText("What is shown?")
    panel.ui.applyButton.click()
    finish()
    image = runner.requests[0].image
    assert image.is_picture and image.is_colour
    assert np.array_equal(image.voxels[:, :, :, 0].transpose(2, 1, 0), pixels)
