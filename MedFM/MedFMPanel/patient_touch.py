"""Touching the picture in patient mode: what is under the finger, and its highlight in slices and in 3D.

Knows MRML nodes and views. Segments are copied on the GUI thread and placed on another one; a touch is answered from the
result at once.
"""

from __future__ import annotations

import json

import numpy as np
import qt
import slicer
import vtk
from MedFMLib.core.terminology import structure
from MedFMLib.patient.naming import NamedVoxels
from MedFMLib.patient.touching import BodyMask, Touched, structure_at
from MedFMLib.scene import read_image
from MedFMLib.scene.nodes import KIND, VOLUME_ROLE, find
from MedFMLib.scene.reading import copy_segmentation, to_vtk

from .background_task import BackgroundTask
from .kiosk_views import TOUCHED

OPACITIES = "MedFMOpacities"
"""Attribute with the opacities that segments had before one was highlighted, as JSON."""

STILL = 6
"""Pixels that a finger may move while it touches."""

FAINT, FULL = 0.12, 0.75
LOOK_MS = 50
LEAST_LIGHT = 0.85
"""Of the brightest channel of the touched structure's surface."""
MOST_VOXELS = 60_000
"""Size of the box that a surface is made from; a larger one would keep the window waiting, since VTK holds Python's lock."""


class TouchIndex:
    """What a volume's segments cover, ready to be asked.

    Args:
        image: the volume.
        copied: copy of its segmentation node.
    """

    def __init__(self, image, copied):
        self.image, self.body = image, BodyMask(image)
        self.segmentation = copied.on(image.geometry)
        self.named = NamedVoxels(self.segmentation)

    def at(self, position) -> Touched:
        """Return what is at (R, A, S) in mm."""
        return structure_at(self.segmentation, position, self.image, self.body)

    def surface(self, label: str):
        """Return the surface of a structure as vtkPolyData in RAS mm, and its color; coarse where the structure is large."""
        segment = self.segmentation[label]
        inside, step = np.pad(segment.boxed.inside, 1).astype(np.float32), 1
        while inside.size / step**3 > MOST_VOXELS:
            step += 1
        inside = np.pad(inside, [(0, -n % step) for n in inside.shape])
        coarse = inside.reshape([n for size in inside.shape for n in (size // step, step)]).mean(axis=(1, 3, 5))
        coarse = np.pad(coarse, 1)
        affine = self.segmentation.geometry.affine.copy()
        first = np.array(segment.boxed.start) - 1 - step + (step - 1) / 2  # index of the first coarse voxel's center
        affine[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
        affine[:3, :3] *= step
        return _surface(_smooth(coarse), affine), _light(segment.color)


class TouchedPicture:
    """Answers touches in the slice views of one volume.

    Args:
        touched: called with a `Touched`, or None where the segments are not known yet, and the node under the finger.
    """

    def __init__(self, touched):
        self._touched, self._pressed = touched, None
        self._volume, self._key, self._task, self.index = None, None, None, None
        self._surface, self._label = None, ""
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._look)

    def begin(self, volume) -> None:
        """Read the segments if they have changed; may be called repeatedly.

        Args:
            volume: the patient's volume node, or None.
        """
        node = find(slicer.mrmlScene, volume, "segmentation") if volume is not None else None
        key = (volume, node, node.GetSegmentation().GetMTime() if node is not None else 0)
        if key == self._key or self._task is not None:
            return
        self.index = self.index if volume is self._volume else None  # an older one answers until the new one is ready
        self._volume, self._key = volume, key
        if node is None or node.GetSegmentation().GetNumberOfSegments() == 0:
            return
        image, copied = read_image(volume), copy_segmentation(node)
        self._task = BackgroundTask(lambda progress: TouchIndex(image, copied))
        self._timer.start()

    def end(self) -> None:
        """Forget the segments."""
        self._timer.stop()
        self._task, self._key, self.index, self._volume, self._surface = None, None, None, None, None
        restore()
        for node in _surfaces():
            slicer.mrmlScene.RemoveNode(node)

    @property
    def touched(self) -> str:
        """Label of the highlighted structure; "" if there is none."""
        return self._label

    @property
    def labels(self) -> list[str]:
        """Labels of the segments, largest first."""
        if self.index is None:
            return []
        sizes = {s.label: int(s.boxed.inside.sum()) for s in self.index.segmentation.segments}
        return sorted(sizes, key=lambda label: -sizes[label])

    def mouse(self, watched, event) -> None:
        """Take a press or release of the left button, or of a finger, wherever it happens.

        Args:
            watched: widget that gets the event.
            event: Qt mouse event.
        """
        if event.button() != qt.Qt.LeftButton or (widget := _slice_widget(watched)) is None:
            return
        place, pressed = _place(event), self._pressed
        if event.type() != qt.QEvent.MouseButtonRelease:
            self._pressed = place
            return
        self._pressed = None
        if pressed is None or max(abs(a - b) for a, b in zip(place, pressed, strict=True)) > STILL:
            return
        scale = watched.devicePixelRatioF()
        position = ras_of(widget, (scale * place[0], scale * (watched.height - 1 - place[1])))
        shown = slicer.mrmlScene.GetNodeByID(widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() or "")
        self._touched(self.index.at(position) if self.index is not None else None, shown)

    def highlight(self, label: str) -> None:
        """Show one structure strongly and the others faintly, in slices and in 3D.

        Args:
            label: of a segment; "" restores all.
        """
        restore()
        self._label, index = label, self.index
        if label and index is not None and label in self.labels:
            self._surface = (label, BackgroundTask(lambda progress: index.surface(label)))
            self._timer.start()
        node = find(slicer.mrmlScene, self._volume, "segmentation") if self._volume is not None and label else None
        if node is None or node.GetDisplayNode() is None:
            return
        display, segments, before = node.GetDisplayNode(), node.GetSegmentation(), {}
        for n in range(segments.GetNumberOfSegments()):
            segment = segments.GetNthSegmentID(n)
            before[segment] = [get(segment) for get, _ in _opacities(display)]
            meant = structure(segments.GetNthSegment(n).GetName()).label == label
            for _, put in _opacities(display):
                put(segment, FULL if meant else FAINT)
        display.SetAttribute(OPACITIES, json.dumps(before))

    # -- implementation -----------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._task is not None and self._task.ended:
            self.index, self._task = self._task.result, None
        if self._surface is not None and self._surface[1].ended:
            (label, task), self._surface = self._surface, None
            if label == self._label and task.result is not None and self._volume is not None:
                _show_surface(*task.result, self._volume)
        if self._task is None and self._surface is None:
            self._timer.stop()


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the values without the steps of voxels; structures that are too thin for that stay as they are."""
    made = values
    for axis in range(3):
        made = (np.roll(made, 1, axis) + 2 * made + np.roll(made, -1, axis)) / 4  # the border is empty
    return made if (made > 0.5).sum() > 0.7 * (values > 0.5).sum() else values


def _light(color) -> tuple[float, float, float]:
    """Return a color that stands out from the background, mixed with white if it is too dark."""
    brightest = max(color)
    share = max(0.0, LEAST_LIGHT - brightest) / max(1e-6, 1 - brightest)
    return tuple(channel + share * (1 - channel) for channel in color)


def _surface(values: np.ndarray, affine: np.ndarray):
    """Return the surface between inside and outside.

    Args:
        values: (i, j, k) share of each voxel that is inside, 0…1.
        affine: 4×4, index → RAS mm.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(values.ravel(order="F"), deep=True))
    edges, transform, placed = vtk.vtkFlyingEdges3D(), vtk.vtkTransform(), vtk.vtkTransformPolyDataFilter()
    edges.SetInputData(image)
    edges.SetValue(0, 0.5)
    edges.ComputeScalarsOff()
    edges.ComputeNormalsOff()  # a flipped grid would turn them inward
    normals = vtk.vtkPolyDataNormals()
    normals.SplittingOff()
    normals.AutoOrientNormalsOn()
    normals.SetInputConnection(placed.GetOutputPort())
    transform.SetMatrix(to_vtk(affine))
    placed.SetTransform(transform)
    placed.SetInputConnection(edges.GetOutputPort())
    normals.Update()
    return normals.GetOutput()


def _show_surface(surface, color, volume) -> None:
    """Show the surface of the touched structure in the 3D views, always in the same node."""
    node = next(iter(_surfaces()), None)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "MedFM")
        node.SetAttribute(KIND, TOUCHED)
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetScalarVisibility(False)
        node.GetDisplayNode().SetVisibility2D(False)
    node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID())
    node.SetAndObservePolyData(surface)
    node.GetDisplayNode().SetColor(*color)
    node.GetDisplayNode().SetVisibility(True)


def _surfaces() -> list:
    return [n for n in slicer.util.getNodesByClass("vtkMRMLModelNode") if n.GetAttribute(KIND) == TOUCHED]


def _place(event) -> tuple[int, int]:
    """Return the position of a mouse event in its widget, in Qt's pixels."""
    return int(event.pos().x()), int(event.pos().y())


def _slice_widget(watched):
    """Return the slice widget whose view gets an event, or None."""
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames() if layout is not None and watched.isWidgetType() else ():
        view = layout.sliceWidget(name).sliceView()
        if watched == view or view.isAncestorOf(watched):
            return layout.sliceWidget(name)
    return None


def ras_of(widget, place) -> tuple[float, float, float]:
    """Return the position in the patient of a pixel of a slice view.

    Args:
        widget: slice widget.
        place: (x, y) in pixels from the view's lower left corner.

    Returns:
        (R, A, S) in mm.
    """
    x, y = float(place[0]), float(place[1])
    view, depth = widget.sliceView(), 0.0
    if hasattr(view, "convertDeviceToXYZ"):
        x, y, depth = view.convertDeviceToXYZ([int(place[0]), int(place[1])])
    matrix = widget.mrmlSliceNode().GetXYToRAS()
    return tuple(matrix.MultiplyPoint((x, y, depth, 1.0))[:3])


def turn_page(steps: int) -> None:
    """Show the next slice in the first view and in those of the same orientation, such as the healthy one beside it.

    Args:
        steps: number of slices, forward or back.
    """
    layout = slicer.app.layoutManager()
    widgets = [layout.sliceWidget(name) for name in layout.sliceViewNames()] if layout is not None else []
    for widget in widgets:
        if widget.mrmlSliceNode().GetOrientation() == widgets[0].mrmlSliceNode().GetOrientation():
            logic = widget.sliceLogic()
            logic.SetSliceOffset(logic.GetSliceOffset() + steps * (logic.GetLowestVolumeSliceSpacing()[2] or 1.0))


def restore() -> None:
    """Give all segments the opacities that they had before one was highlighted, also after a reload."""
    for node in _surfaces():
        node.GetDisplayNode().SetVisibility(False)
    for display in slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"):
        recorded = display.GetAttribute(OPACITIES)
        if not recorded:
            continue
        display.RemoveAttribute(OPACITIES)
        try:
            before = json.loads(recorded)
        except ValueError:
            continue
        for segment, values in before.items() if isinstance(before, dict) else ():
            for (_, put), value in zip(_opacities(display), values if isinstance(values, list) else (), strict=False):
                if isinstance(value, int | float):
                    put(segment, float(value))


def _opacities(display) -> tuple:
    """Return (getter, setter) of a segment's opacity as an area and a line in slices, and in 3D."""
    return (
        (display.GetSegmentOpacity2DFill, display.SetSegmentOpacity2DFill),
        (display.GetSegmentOpacity2DOutline, display.SetSegmentOpacity2DOutline),
        (display.GetSegmentOpacity3D, display.SetSegmentOpacity3D),
    )
