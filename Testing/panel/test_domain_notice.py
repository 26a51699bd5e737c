"""The panel and images that a model was not made for: the first click draws nothing, and what the second one gives is marked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from MedFMLib.core.domain import OUTSIDE_MARK, marked
from MedFMLib.core.findings import Answer
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import ModelError, OutsideDomain
from MedFMLib.interfaces.domain import ASK_ANYWAY, DRAW_ANYWAY

SENTENCE = "Tiny was not made for this image: it shows a spine, not a head. It was made for MR images (brain)."


@pytest.fixture
def of_a_spine(respond):
    """What a model does that was not made for the volume."""

    def compute(request) -> Response:
        forced = request.outside_domain
        if request.task == "ask" and not forced:
            text = f"{SENTENCE} {ASK_ANYWAY}"
            return Response(
                (Answer(request.question, text),), Provenance("ask", request.model, outside_domain=SENTENCE)
            )
        if not forced:
            raise OutsideDomain(f"{SENTENCE} {DRAW_ANYWAY}")
        response = respond(request)
        provenance = replace(response.provenance, outside_domain=SENTENCE)
        if request.task == "ask":
            return Response(tuple(replace(answer, text=marked(answer.text)) for answer in response.answers), provenance)
        segmentation = response.segmentation
        named = tuple(replace(s, label=marked(s.label)) for s in segmentation.segments)
        return Response((replace(segmentation, segments=named),), provenance)

    return compute


def segmentations():
    import slicer.util

    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_nothing_is_drawn_until_the_second_click_which_marks_it(panel, volume, use_runner, finish, of_a_spine):
    runner = use_runner(response=of_a_spine)
    assert not panel.ui.domainFrame.visible
    panel.ui.applyButton.click()
    finish()
    assert not segmentations()
    assert panel.ui.domainFrame.visible and panel.ui.anywayButton.text == "Draw anyway"
    assert panel.ui.domainLabel.text.startswith(SENTENCE) and "--" not in panel.ui.domainLabel.text
    assert "not made for this image" in panel.ui.statusLabel.text
    panel.ui.anywayButton.click()
    finish()
    (node,) = segmentations()
    assert node.GetSegmentation().GetNthSegment(0).GetName() == f"brain{OUTSIDE_MARK}"
    assert [r.outside_domain for r in runner.requests] == [False, True]
    assert not panel.ui.domainFrame.visible
    panel.ui.applyButton.click()  # asks again, for the next time
    finish()
    assert not runner.requests[-1].outside_domain


def test_a_question_is_asked_anyway_at_the_second_click(panel, volume, use_runner, finish, choose_task, of_a_spine):
    runner = use_runner(response=of_a_spine)
    choose_task("ask")
    panel.ui.questionBox.setEditText("Is there a brain?")
    panel.ui.applyButton.click()
    finish()
    assert SENTENCE in panel.ui.conversationView.toPlainText()
    assert panel.ui.domainFrame.visible and panel.ui.anywayButton.text == "Ask anyway"
    panel.ui.anywayButton.click()
    finish()
    assert f"Yes, the brain.{OUTSIDE_MARK}" in panel.ui.conversationView.toPlainText()
    assert runner.requests[1].question == "Is there a brain?" and not panel.ui.domainFrame.visible


def test_the_notice_goes_with_another_volume(panel, volume, add_volume, use_runner, finish, of_a_spine):
    use_runner(response=of_a_spine)
    panel.ui.applyButton.click()
    finish()
    other = add_volume("other")
    panel.ui.volumeSelector.setCurrentNode(other)
    assert not panel.ui.domainFrame.visible
    panel.ui.volumeSelector.setCurrentNode(volume)
    assert panel.ui.domainFrame.visible


def test_another_error_shows_no_notice(panel, volume, use_runner, finish):
    use_runner(response=ModelError("The memory ran out; close other programs."))
    panel.ui.applyButton.click()
    finish()
    assert not panel.ui.domainFrame.visible
