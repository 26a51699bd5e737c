"""Control the reliability assessment of answers and their saliency maps: a part of the Ask tab."""

from __future__ import annotations

from dataclasses import replace

import slicer
from MedFMLib import reliability
from MedFMLib.errors import InputError
from MedFMLib.core.request import Request, ReliabilityChoice
from MedFMPanel.error_display import shown

WAYS = {"demand": "Assess an answer on demand", "always": "Assess every answer", "off": "Don't assess answers"}
METHODS = {"attention": "by attention (quick)", "occlusion": "by hiding parts (slow)"}
CHOICE = ReliabilityChoice(samples=10, blind=True)
"""Ten samples, as in the embedded model's calibration."""

OPACITY = 0.6


class ReliabilityControls:
    """The widgets for reliability.

    Args:
        ui: the panel's widgets by name.
        status: its status line.
        start: starts a job, with a function that changes its request.
        conversation: the questions and answers so far.
    """

    def __init__(self, ui, status, start, conversation):
        self._ui, self._status, self._start, self._conversation = ui, status, start, conversation
        self._seconds, self._running = 0.0, False
        for kind, title in WAYS.items():
            ui.reliabilitySelector.addItem(title, kind)
        for kind, title in METHODS.items():
            ui.methodSelector.addItem(title, kind)
        ui.reliabilitySelector.connect("currentIndexChanged(int)", self._chosen)
        ui.checkButton.connect("clicked(bool)", self.assess_answer)
        ui.explainButton.connect("clicked(bool)", self.explain)
        self.show(False)

    def apply(self, request: Request) -> Request:
        """Return a request with an assessment if every answer is to be assessed."""
        wanted = request.task == "ask" and self._ui.reliabilitySelector.currentData == "always"
        return replace(request, reliability=CHOICE) if wanted else request

    @shown
    def assess_answer(self) -> None:
        """Ask the last question again, and assess its answer."""
        question, history = self._last()
        self._start(
            lambda request: replace(request, task="ask", question=question, history=history, reliability=CHOICE)
        )

    @shown
    def explain(self) -> None:
        """Show which pixels the last answer depends on."""
        question, history = self._last()
        method = self._ui.methodSelector.currentData
        self._start(lambda request: replace(request, task="explain", question=question, history=history, method=method))

    def take(self, written) -> None:
        """Process the end of a job: the duration of an answer, and its saliency map over the slices."""
        response = written.response
        if response.provenance.task == "ask" and response.answers:
            looked = response.answers[0].reliability
            self._seconds = max(0.0, response.provenance.seconds - (looked.seconds if looked else 0.0))
        for node, saliency in zip(written.saliencies, response.saliencies, strict=True):
            slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=OPACITY)
            if saliency.evidence:
                slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *saliency.evidence[0].center)

    def showError(self, text: str) -> None:
        """See `slots.shown`."""
        self._status.say(text, problem=True)

    def show(self, running: bool) -> None:
        """Enable the buttons that are possible now, and show the cost."""
        self._running = running
        ui, way = self._ui, self._ui.reliabilitySelector.currentData
        answered = bool(self._conversation.history) and not running
        ui.checkButton.visible = way == "demand"
        ui.checkButton.enabled = ui.explainButton.enabled = answered
        ui.reliabilitySelector.enabled = ui.methodSelector.enabled = not running
        cost = reliability.words(CHOICE, self._seconds)
        ui.reliabilityCostLabel.text = "" if way == "off" else f"Assessing an answer takes {cost}."

    def _chosen(self, *_) -> None:
        self.show(self._running)

    def _last(self) -> tuple[str, tuple]:
        history = self._conversation.history
        if not history:
            raise InputError("There is no answer yet; ask a question first.")
        return history[-1][0], history[:-1]
