"""`qMRMLSegmentsTableView` and `qMRMLSegmentationShow3DButton`: what the Segmentations module lends to panels."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .ctk_widgets import ctkMenuButton, stored
from .node_combo_box import qMRMLWidget
from .observing import Observers
from .ui_loader import register

VISIBLE, COLOR, OPACITY, NAME = range(4)


def _columns_changed(view) -> None:
    view.show_columns()


@register
class qMRMLSegmentsTableView(qMRMLWidget):
    """One row for each segment: visible, colour, opacity, name."""

    selectionChanged = Signal(QtCore.QItemSelection, QtCore.QItemSelection)
    segmentAboutToBeModified = Signal(str)
    selectionMode = Property(int, lambda self: self._mode(), lambda self, mode: self._set_mode(mode))
    headerVisible = Property(bool, lambda self: self._header, lambda self, on: self._set_header(on))
    readOnly = stored(bool, "readOnly", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)
    visibilityColumnVisible = stored(bool, "visibilityColumnVisible", True, _columns_changed)
    colorColumnVisible = stored(bool, "colorColumnVisible", True, _columns_changed)
    opacityColumnVisible = stored(bool, "opacityColumnVisible", True, _columns_changed)
    statusColumnVisible = stored(bool, "statusColumnVisible", False)
    layerColumnVisible = stored(bool, "layerColumnVisible", False)
    jumpToSelectedSegmentEnabled = stored(bool, "jumpToSelectedSegmentEnabled", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None
        self._observers = Observers(self)
        self._header = True
        self._table = QtWidgets.QTableWidget(0, 4)
        self._table.setHorizontalHeaderLabels(["", "", "Opacity", "Name"])
        self._table.verticalHeader().hide()
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self._table.horizontalHeader()
        for column, width in ((VISIBLE, 28), (COLOR, 28), (OPACITY, 64)):
            self._table.setColumnWidth(column, width)
        header.setSectionResizeMode(NAME, QtWidgets.QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(24)
        self._table.selectionModel().selectionChanged.connect(self._on_selection)
        self._table.itemChanged.connect(self._on_item)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def tableWidget(self) -> QtWidgets.QTableView:
        return self._table

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        if node is self._node:
            return
        self._observers.clear()
        self._node = node
        if node is not None:
            events = (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved,
                      slicer.vtkSegmentation.SegmentModified, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent,
                      vtk.vtkCommand.ModifiedEvent)  # fmt: skip
            for event in events:
                self._observers.add(node, event, "fill")
        self.fill()

    def fill(self) -> None:
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        selected = self.selectedSegmentIDs()
        blocked = self._table.blockSignals(True)
        count = segmentation.GetNumberOfSegments() if segmentation is not None else 0
        self._table.setRowCount(count)
        for row in range(count):
            self._fill_row(row, segmentation.GetNthSegmentID(row), segmentation.GetNthSegment(row))
        self._table.blockSignals(blocked)
        self.setSelectedSegmentIDs(selected)

    def _fill_row(self, row: int, segment_id: str, segment) -> None:
        display = self._node.GetDisplayNode()
        visible = QtWidgets.QTableWidgetItem()
        shown = display is None or display.GetSegmentVisibility(segment_id)
        visible.setCheckState(QtCore.Qt.CheckState.Checked if shown else QtCore.Qt.CheckState.Unchecked)
        color = QtWidgets.QTableWidgetItem()
        color.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
        opacity = display.GetSegmentOpacity3D(segment_id) if display is not None else 1.0
        name = QtWidgets.QTableWidgetItem(segment.GetName())
        name.setData(QtCore.Qt.ItemDataRole.UserRole, segment_id)
        for column, item in ((VISIBLE, visible), (COLOR, color), (NAME, name)):
            self._table.setItem(row, column, item)
        self._table.setItem(row, OPACITY, QtWidgets.QTableWidgetItem(f"{opacity:.2f}"))

    def show_columns(self) -> None:
        for column, on in ((VISIBLE, self.visibilityColumnVisible), (COLOR, self.colorColumnVisible),
                           (OPACITY, self.opacityColumnVisible)):  # fmt: skip
            self._table.setColumnHidden(column, not on)

    def _on_item(self, item: QtWidgets.QTableWidgetItem) -> None:
        display = self._node.GetDisplayNode() if self._node is not None else None
        if item.column() == VISIBLE and display is not None:
            display.SetSegmentVisibility(self.segmentIDForRow(item.row()),
                                         item.checkState() == QtCore.Qt.CheckState.Checked)  # fmt: skip

    def _on_selection(self, selected, deselected) -> None:
        self.selectionChanged.emit(selected, deselected)
        if self.jumpToSelectedSegmentEnabled:
            self.jumpSlices()

    def jumpSlices(self) -> None:
        for segment_id in self.selectedSegmentIDs()[:1]:
            center = self._node.GetSegmentCenterRAS(segment_id)
            if center is not None:
                slicer.vtkMRMLSliceNode.JumpAllSlices(self._node.GetScene(), *center[:3])

    def selectedSegmentIDs(self) -> list[str]:
        return [self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows()]

    def setSelectedSegmentIDs(self, segment_ids) -> None:
        self._table.clearSelection()
        for row in range(self._table.rowCount()):
            if self.segmentIDForRow(row) in segment_ids:
                self._table.selectRow(row)

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def segmentIDForRow(self, row: int) -> str:
        item = self._table.item(row, NAME)
        return item.data(QtCore.Qt.ItemDataRole.UserRole) if item is not None else ""

    def displayedSegmentIDs(self) -> list[str]:
        return [self.segmentIDForRow(row) for row in range(self._table.rowCount())]

    segmentCount = Property(int, lambda self: self._table.rowCount())

    def _mode(self) -> int:
        return self._table.selectionMode().value

    def _set_mode(self, mode: int) -> None:
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(mode))

    def _set_header(self, on: bool) -> None:
        self._header = on
        self._table.horizontalHeader().setVisible(on)


@register
class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Makes or removes the surface of a segmentation."""

    locked = stored(bool, "locked", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self._node = None
        self.toggled.connect(self._on_toggled)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._node = node
        blocked = self.blockSignals(True)
        self.setChecked(node is not None and _has_surface(node))
        self.blockSignals(blocked)
        self.setEnabled(node is not None and not self.locked)

    def _on_toggled(self, on: bool) -> None:
        if self._node is None:
            return
        if on:
            self._node.CreateClosedSurfaceRepresentation()
        else:
            self._node.RemoveClosedSurfaceRepresentation()


def _has_surface(node) -> bool:
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return node.GetSegmentation().ContainsRepresentation(name)
