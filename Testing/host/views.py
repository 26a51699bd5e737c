"""Slice and 3D views: real MRML displayable managers on an off-screen window, shown as a picture.

A VTK window inside Qt has no OpenGL context on Qt's offscreen platform, so each view is a QLabel with the
rendered image; a grab of the main window is then a full screenshot on every platform. Of the mouse they know
only the wheel. Keys go to VTK's interactor, as CTK's widget passes them on, and from there to Slicer's own interactor
style and displayable managers, so that `[` and `]` change the layers of a slice view here, too.
"""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtkmodules.util.numpy_support import vtk_to_numpy

SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLTransformsDisplayableManager3D",
)
KEY_SYMBOLS = {"[": "bracketleft", "]": "bracketright", "{": "braceleft", "}": "braceright"}
"""VTK's names of keys that have a meaning in slice views."""

SMALLEST = 50
"""Pixels below which a side is not rendered."""


class MRMLView(QtWidgets.QLabel):
    """A render window with displayable managers.

    Args:
        factory: makes the managers of this kind of view.
        managers: their class names.
        application_logic: whose logics they use.
    """

    def __init__(self, factory, managers, application_logic):
        super().__init__()
        self.setMinimumSize(120, 120)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Ignored)
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetAlphaBitPlanes(1)
        self.window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self._interactor.Initialize()
        self._corner = vtk.vtkCornerAnnotation()
        self.renderer.AddViewProp(self._corner)
        self.add_first_props()
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        factory.SetMRMLApplicationLogic(application_logic)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.forceRender)
        self.managers.Initialize(factory, self.renderer)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        self._tag = self.managers.AddObserver(vtk.vtkCommand.UpdateEvent, lambda *_: self.scheduleRender())

    def add_first_props(self) -> None:
        """Add what must be drawn below everything that the managers add."""

    def fit_node_to_window(self, width: int, height: int) -> None:
        """Tell the view node about a new size in pixels."""

    def scheduleRender(self) -> None:
        if self.isVisible():
            self._timer.start()

    def forceRender(self) -> None:
        """Render now, unless rendering is paused or nobody can see it."""
        if not slicer.app.is_render_paused():
            self.setPixmap(QtGui.QPixmap.fromImage(self.rendered_image()))

    def rendered_image(self) -> QtGui.QImage:
        """What the view shows, at its present size."""
        width, height = max(SMALLEST, self.width()), max(SMALLEST, self.height())
        if tuple(self.window.GetSize()) != (width, height):
            self.window.SetSize(width, height)
            self.fit_node_to_window(width, height)
            self.window.Render()  # the first picture of new buffers may hold what was in their memory before
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.SetInputBufferTypeToRGB()
        grabber.Update()
        columns, rows, _ = grabber.GetOutput().GetDimensions()
        pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())
        pixels = pixels.reshape(rows, columns, 3)[::-1].copy()
        image = QtGui.QImage(pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888)
        return image.copy()  # owns its pixels

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        self._timer.start()

    def showEvent(self, event) -> None:
        super().showEvent(event)
        self._timer.start()

    def use_style(self, style) -> None:
        """Let Slicer's interactor style take what the interactor gets; as `qMRMLSliceView` and `qMRMLThreeDView` do."""
        style.SetDisplayableManagers(self.managers)
        style.SetInteractor(self._interactor)
        self.style_of_view = style

    def keyPressEvent(self, event) -> None:
        """Pass a key on to VTK, as QVTKInteractorAdapter does."""
        self._pass_key(event, "KeyPressEvent", "CharEvent")

    def keyReleaseEvent(self, event) -> None:
        """See `keyPressEvent`."""
        self._pass_key(event, "KeyReleaseEvent")

    def _pass_key(self, event, *names: str) -> None:
        held, text = event.modifiers(), event.text()
        control, shift = QtCore.Qt.KeyboardModifier.ControlModifier, QtCore.Qt.KeyboardModifier.ShiftModifier
        symbol = KEY_SYMBOLS.get(text, text)
        self._interactor.SetKeyEventInformation(bool(held & control), bool(held & shift), text[:1] or "\0", 1, symbol)
        for name in names:
            self._interactor.InvokeEvent(name)

    def renderWindow(self):
        return self.window

    def cornerAnnotation(self):
        return self._corner

    def interactor(self):
        return self._interactor

    def displayableManagerByClassName(self, name: str):
        return self.managers.GetDisplayableManagerByClassName(name)

    def close_view(self) -> None:
        """Let go of the scene and the window."""
        self._timer.stop()
        self.managers.RemoveObserver(self._tag)
        self.managers.SetMRMLDisplayableNode(None)
        self.window.Finalize()


class SliceView(MRMLView):
    """One of Red, Green, Yellow.

    Args:
        name, orientation, color: of the slice node; the colour as three numbers 0…1.
    """

    def __init__(self, scene, application_logic, name: str, orientation: str, color):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, SLICE_MANAGERS, application_logic)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        self.logic.SetMRMLScene(scene)
        application_logic.GetSliceLogics().AddItem(self.logic)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetLayoutColor(*color)
        self.node.SetMappedInLayout(1)
        self.managers.SetMRMLDisplayableNode(self.node)
        style = slicer.vtkMRMLSliceViewInteractorStyle()
        style.SetSliceLogic(self.logic)
        self.use_style(style)
        self.logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._on_logic_modified())
        self._on_logic_modified()

    def add_first_props(self) -> None:
        # Added after the managers' props it would cover them with black.
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._actor.VisibilityOff()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.renderer.AddViewProp(self._actor)

    def _on_logic_modified(self) -> None:
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._actor.SetVisibility(connection is not None)
        self.scheduleRender()

    def fit_node_to_window(self, width: int, height: int) -> None:
        self.logic.ResizeSliceNode(width, height)

    def wheelEvent(self, event) -> None:
        """One slice forward or back."""
        step = self.logic.GetLowestVolumeSliceSpacing()[2] or 1.0
        self.logic.SetSliceOffset(self.logic.GetSliceOffset() + (step if event.angleDelta().y() > 0 else -step))

    def mrmlSliceNode(self):
        return self.node


class ThreeDView(MRMLView):
    """The 3D view."""

    def __init__(self, scene, application_logic):
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, THREE_D_MANAGERS, application_logic)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        self.logic.SetMRMLScene(scene)
        application_logic.GetViewLogics().AddItem(self.logic)
        self.node = self.logic.AddViewNode("1")
        self.node.SetMappedInLayout(1)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.use_style(slicer.vtkMRMLThreeDViewInteractorStyle())

    def mrmlViewNode(self):
        return self.node

    def resetFocalPoint(self) -> None:
        self.resetCamera()

    def resetCamera(self) -> None:
        """Fit what is shown, without the cube and its letters."""
        shown = self.node.GetBoxVisible(), self.node.GetAxisLabelsVisible()
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.renderer.ResetCamera()
        self.node.SetBoxVisible(shown[0])
        self.node.SetAxisLabelsVisible(shown[1])
        self.scheduleRender()
