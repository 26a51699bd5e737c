"""What the scene holds for the chosen volume: segments, report, and the conversation. Knows its own widgets."""

from __future__ import annotations

import time
from pathlib import Path

from MedFMLib.scene.writing import find

from .conversation import Conversation

NO_REPORT = "No report has been drafted for this volume."


class Results:
    """The result's part of the panel.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui):
        self._ui = ui
        self._page = None
        self.conversation = Conversation()

    def show(self, scene, volume) -> None:
        """Show the newest results that belong to a volume node, which may be None."""
        segmentation, text, self._page = (
            find(scene, volume, kind) if volume is not None else None
            for kind in ("segmentation", "report", "report-html")
        )
        self._ui.segmentsTable.setSegmentationNode(segmentation)
        self._ui.show3DButton.setSegmentationNode(segmentation)
        self._ui.reportView.setPlainText(text.GetText() if text is not None else NO_REPORT)
        self._ui.openReportButton.enabled = self._page is not None
        self.show_conversation()

    def show_conversation(self) -> None:
        """Show the questions and answers, the newest in sight."""
        view = self._ui.conversationView
        view.setHtml(self.conversation.html())
        view.verticalScrollBar().setValue(view.verticalScrollBar().maximum)

    def write_page(self, folder: str) -> Path:
        """Write the report page to a new file and return its path."""
        path = Path(folder) / f"MedFM-report-{time.strftime('%Y%m%d-%H%M%S')}.html"
        path.write_text(self._page.GetText(), encoding="utf-8")
        return path


def summary(response) -> str:
    """One or two sentences about a response: what came of it, how long it took, and its notes."""
    found = []
    if response.segmentation is not None:
        count = len(response.segmentation.segments)
        found.append(f"{count} structure{'' if count == 1 else 's'} segmented and measured")
    if response.report is not None:
        found.append("report drafted")
    elif response.answers:
        found.append("question answered")
    text = f"Done in {response.provenance.seconds:.1f} s: {', '.join(found) or 'nothing found'}."
    return " ".join([text, *response.provenance.notes])
