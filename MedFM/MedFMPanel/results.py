"""Show the results in the scene for the selected volume: segments, measurements, report, conversation."""

from __future__ import annotations

import qt
from MedFMLib.scene.writing import KIND, VOLUME_ROLE, find

from .conversation import Conversation

SOURCE_TAG = "MedFM.Source"
"""Tag of every segment written by MedFM."""


class Results:
    """The part of the panel about results.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui):
        self._ui = ui
        ui.questionBox.lineEdit().placeholderText = "Type a question"
        self.conversation = Conversation()
        self.html_for_patient = None  # in patient mode: turns → HTML made of approved parts

    def show(self, scene, volume) -> None:
        """Show the newest results of a volume.

        Args:
            scene: the MRML scene.
            volume: its node, or None.
        """
        segmentation, measurements = (
            find(scene, volume, kind) if volume is not None else None for kind in ("segmentation", "measurements")
        )
        self._ui.segmentsTable.setSegmentationNode(segmentation)
        self._ui.show3DButton.setSegmentationNode(segmentation)
        self._show_measurements(measurements)
        self.show_conversation()

    def _show_measurements(self, node) -> None:
        table = self._ui.measurementsTable
        columns = range(node.GetNumberOfColumns() if node is not None else 0)
        table.setColumnCount(len(columns))
        table.setHorizontalHeaderLabels([node.GetColumnName(column) for column in columns])
        table.setRowCount(node.GetNumberOfRows() if node is not None else 0)
        model = table.model()  # creates the items in C++, so that Python doesn't own and delete them
        for row in range(table.rowCount):
            for column in columns:
                model.setData(model.index(row, column), node.GetCellText(row, column))
        table.verticalHeader().hide()
        table.resizeColumnsToContents()

    def new_conversation(self) -> None:
        """Clear the conversation."""
        self.conversation.clear()
        self.show_conversation()

    def show_conversation(self) -> None:
        """Show the questions and answers, scrolled to the newest."""
        html = self.html_for_patient(self.conversation.turns) if self.html_for_patient else self.conversation.html()
        self._ui.conversationView.setHtml(html)
        self._ui.conversationView.moveCursor(qt.QTextCursor.End)

    def hide_older(self, scene, volume, newest) -> None:
        """Hide earlier segmentations of the same volume that have only MedFM's own segments.

        Two overlapping results can't be distinguished. Nothing is deleted: the eye icon in the Data module
        shows them again.

        Args:
            scene: the MRML scene.
            volume: its node.
            newest: the segmentation node that stays visible, or None.
        """
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") if newest is not None else 0):
            node = scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
            mine = node.GetAttribute(KIND) == "segmentation" and node.GetNodeReferenceID(VOLUME_ROLE) == volume.GetID()
            if node is not newest and mine and _is_only_ours(node.GetSegmentation()):
                node.SetDisplayVisibility(False)


def summary(response) -> str:
    """Return one or two sentences about a response: its result, its duration, and its notes."""
    found = []
    if response.segmentation is not None:
        count = len(response.segmentation.segments)
        found.append(
            f"{count or 'no'} structure{'' if count == 1 else 's'} {'segmented and measured' if count else 'found'}"
        )
    if response.report is not None:
        found.append("report drafted")
    elif response.answers:
        found.append("question answered")
    p = response.provenance
    text = f"Done in {p.seconds:.1f} s by {p.title or p.model}: {', '.join(found) or 'nothing found'}."
    return " ".join([text, *([p.reuse] if p.reuse else []), *p.notes])


def _is_only_ours(segmentation) -> bool:
    segments = (segmentation.GetNthSegment(n) for n in range(segmentation.GetNumberOfSegments()))
    return all(segment.HasTag(SOURCE_TAG) for segment in segments)
