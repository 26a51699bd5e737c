"""Provide an MRML scene outside of Slicer, with the wheel `slicer-core`: for the command line, tests and demos."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from ..core.image import Image
from ..errors import ModelError, OutputError
from .reading import DICOM_MODALITY, to_vtk


class SceneSession:
    """A scene with the logics that the Slicer application would connect.

    Raises:
        ModelError: if slicer-core or a system library it needs is missing.
    """

    def __init__(self) -> None:
        try:
            import slicer
            import vtk
        except ImportError as error:
            raise ModelError(
                f"Scenes outside of 3D Slicer need the package slicer-core ({error}); `pip install medfm[samples]`, and on "
                "Debian or Ubuntu `apt-get install libegl1 libgl1 libopengl0 libxrender1`."
            ) from error
        self.slicer, self._folder = slicer, tempfile.TemporaryDirectory(prefix="medfm-")
        self.scene = slicer.vtkMRMLScene()
        self._logics = [slicer.vtkMRMLRemoteIOLogic(), slicer.vtkDataIOManagerLogic()]
        application = slicer.vtkSlicerApplicationLogic()
        self._logics.append(application)
        remote, manager = self._logics[0], self._logics[1]
        remote.GetCacheManager().SetRemoteCacheDirectory(self._folder.name)
        remote.SetMRMLScene(self.scene)
        manager.SetMRMLApplicationLogic(application)
        manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
        remote.AddDataIOToScene()
        application.SetMRMLScene(self.scene)
        colors = application.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()
        application.SetModuleLogic("Colors", colors)
        application.SetSliceLogics(vtk.vtkCollection())
        application.SetViewLogics(vtk.vtkCollection())
        segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
        segmentations.SetMRMLApplicationLogic(application)
        segmentations.SetMRMLScene(self.scene)
        application.SetModuleLogic("Segmentations", segmentations)
        self._logics.append(segmentations)

    def add_volume(self, image: Image):
        """Return a new scalar volume node with the image's voxels (copied) on its grid."""
        import vtk
        from vtkmodules.util.numpy_support import numpy_to_vtk

        values = image.scalars
        if values.dtype == bool or values.dtype.itemsize == 8:
            values = values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
        data = vtk.vtkImageData()
        data.SetDimensions(*values.shape)
        data.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values.transpose(2, 1, 0)).ravel(), deep=True))
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", image.name)
        node.SetIJKToRASMatrix(to_vtk(image.geometry.affine))
        node.SetAndObserveImageData(data)
        node.SetAttribute(DICOM_MODALITY, image.modality)
        node.CreateDefaultDisplayNodes()
        return node

    def save(self, path: Path) -> Path:
        """Write the scene as .mrb and return the path.

        Raises:
            OutputError: if it can't be written; an existing file is unchanged.
        """
        try:
            # a temporary folder, since the bundle's inner folder is named after the file
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".medfm-") as folder:
                temporary = Path(folder) / path.name
                if not self.scene.WriteToMRB(str(temporary)) or not temporary.exists():
                    raise OutputError(
                        f"The scene can't be written to '{path}'; free some space or choose another folder."
                    )
                os.replace(temporary, path)
        except OSError as error:
            raise OutputError(
                f"The scene can't be written to '{path}' ({error.strerror}); choose another folder."
            ) from error
        return path


def surface_picture(segmentation, size: int = 470) -> np.ndarray:
    """Return a picture of the segments' closed surfaces, seen from the front and slightly above, rendered off-screen.

    Args:
        segmentation: segmentation node.
        size: width and height in pixels.

    Returns:
        (size, size, 3) uint8
    """
    import vtk
    from vtkmodules.util.numpy_support import vtk_to_numpy

    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        os.environ.setdefault(
            "VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow"
        )  # otherwise VTK warns of a missing X server
    segmentation.CreateClosedSurfaceRepresentation()
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(0, 0, 0)
    segments = segmentation.GetSegmentation()
    sizes = {}
    for n in range(segments.GetNumberOfSegments()):
        surface = vtk.vtkPolyData()
        segmentation.GetClosedSurfaceRepresentation(segments.GetNthSegmentID(n), surface)
        if surface.GetNumberOfPoints():
            bounds = np.array(surface.GetBounds()).reshape(3, 2)
            sizes[n] = (float(np.prod(bounds[:, 1] - bounds[:, 0])), surface)
    largest = max((volume for volume, _ in sizes.values()), default=1.0)
    for n, (volume, surface) in sizes.items():
        mapper = vtk.vtkPolyDataMapper()
        mapper.SetInputData(surface)
        mapper.ScalarVisibilityOff()
        actor = vtk.vtkActor()
        actor.SetMapper(mapper)
        actor.GetProperty().SetColor(*segments.GetNthSegment(n).GetColor())
        # large ones are translucent, so that the segments inside them are visible
        actor.GetProperty().SetOpacity(0.3 if volume > 0.25 * largest and len(sizes) > 2 else 1.0)
        renderer.AddActor(actor)
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetAlphaBitPlanes(1)
    renderer.SetUseDepthPeeling(1)
    window.SetSize(size, size)
    window.AddRenderer(renderer)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0.35, 1.0, 0.35)
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera()
    camera.Zoom(1.25)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    data = grab.GetOutput()
    width, height, _ = data.GetDimensions()
    return vtk_to_numpy(data.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3].copy()
