"""The four-up layout: three slice widgets and a 3D widget, as `slicer.app.layoutManager()`. Always that one layout."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .views import SliceView, ThreeDView

SLICES = (
    ("Red", "Axial", (0.953, 0.290, 0.200), (0, 0)),
    ("Green", "Coronal", (0.431, 0.690, 0.294), (1, 0)),
    ("Yellow", "Sagittal", (0.929, 0.835, 0.298), (1, 1)),
)
"""Name, orientation, colour of the bar, (row, column)."""

FOUR_UP = 3
"""vtkMRMLLayoutNode::SlicerLayoutFourUpView."""


class qMRMLSliceControllerWidget(QtWidgets.QLabel):
    """The coloured bar above a slice view; the real one names the volumes, too."""

    def __init__(self, view: SliceView):
        super().__init__(f" {view.node.GetName()}")
        self._view = view

    def fitSliceToBackground(self) -> None:
        self._view.logic.FitSliceToBackground()


class qMRMLSliceWidget(QtWidgets.QWidget):
    """A coloured bar and a slice view."""

    def __init__(self, view: SliceView):
        super().__init__()
        self._view = view
        self._bar = bar = qMRMLSliceControllerWidget(view)
        bar.setFixedHeight(16)
        bar.setStyleSheet("background: rgb({}, {}, {}); color: black".format(
            *(round(255 * c) for c in view.node.GetLayoutColor())))  # fmt: skip
        _stack(self, bar, view)

    def sliceView(self) -> SliceView:
        return self._view

    def sliceLogic(self):
        return self._view.logic

    def mrmlSliceNode(self):
        return self._view.node

    def mrmlSliceCompositeNode(self):
        return self._view.logic.GetSliceCompositeNode()

    def sliceController(self):
        return self._bar

    def fitSliceToBackground(self) -> None:
        self._view.logic.FitSliceToBackground()


class qMRMLThreeDViewControllerWidget(QtWidgets.QLabel):
    """The coloured bar above the 3D view."""


class qMRMLThreeDWidget(QtWidgets.QWidget):
    """A bar and the 3D view."""

    def __init__(self, view: ThreeDView):
        super().__init__()
        self._view = view
        self._bar = bar = qMRMLThreeDViewControllerWidget(" 1")
        bar.setFixedHeight(16)
        bar.setStyleSheet("background: rgb(116, 144, 222); color: black")
        _stack(self, bar, view)

    def threeDController(self) -> qMRMLThreeDViewControllerWidget:
        return self._bar

    def threeDView(self) -> ThreeDView:
        return self._view

    def mrmlViewNode(self):
        return self._view.node

    def viewLogic(self):
        return self._view.logic


def _stack(widget: QtWidgets.QWidget, bar: QtWidgets.QWidget, view: QtWidgets.QWidget) -> None:
    layout = QtWidgets.QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    layout.addWidget(bar)
    layout.addWidget(view, 1)


class qSlicerLayoutManager(QtCore.QObject):
    """Finds the views by name."""

    layoutChanged = Signal(int)

    def __init__(self, scene, application_logic):
        super().__init__()
        self._logic = application_logic
        self._viewport = QtWidgets.QWidget()
        grid = QtWidgets.QGridLayout(self._viewport)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        self._slices: dict[str, qMRMLSliceWidget] = {}
        for name, orientation, color, place in SLICES:
            widget = qMRMLSliceWidget(SliceView(scene, application_logic, name, orientation, color))
            self._slices[name] = widget
            grid.addWidget(widget, *place)
        self._three_d = qMRMLThreeDWidget(ThreeDView(scene, application_logic))
        grid.addWidget(self._three_d, 0, 1)

    def viewport(self) -> QtWidgets.QWidget:
        return self._viewport

    def sliceViewNames(self) -> list[str]:
        return list(self._slices)

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        return self._slices.get(name)

    def threeDWidget(self, index: int) -> qMRMLThreeDWidget | None:
        return self._three_d if index == 0 else None

    def mrmlSliceLogics(self):
        return self._logic.GetSliceLogics()

    def setLayout(self, number: int) -> None:
        """Kept for callers; the stand-in has the four-up layout only."""

    def resetThreeDViews(self) -> None:
        self._three_d.threeDView().resetFocalPoint()

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    threeDViewCount = Property(int, lambda self: 1)
    tableViewCount = Property(int, lambda self: 0)
    plotViewCount = Property(int, lambda self: 0)
    layout = Property(int, lambda self: FOUR_UP)

    def views(self) -> list:
        """Every view, for rendering them all at once."""
        return [w.sliceView() for w in self._slices.values()] + [self._three_d.threeDView()]

    def close_views(self) -> None:
        """Let go of scene and windows."""
        for view in self.views():
            view.close_view()
