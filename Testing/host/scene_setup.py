"""What the application does with a new scene: logics, colour tables, units, crosshair, MRB reading. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer
import vtk

LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Models": "vtkSlicerModelsLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
}
"""Module name → class of its logic (the names follow no rule)."""

WITH_HIERARCHY_ITEM = ("vtkMRMLDisplayableNode", "vtkMRMLTextNode", "vtkMRMLTableNode", "vtkMRMLSequenceBrowserNode")
"""Node classes for which the application's plugins make a subject hierarchy item."""


@dataclass
class SceneParts:
    """The scene and what must live as long as it does."""

    scene: object
    application_logic: object
    logics: dict[str, object]
    kept: list = field(default_factory=list, repr=False)


def build_scene(temporary_folder: str) -> SceneParts:
    """A scene as it is when the application has started, also set as `slicer.mrmlScene`."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetTemporaryPath(temporary_folder)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    application_logic.SetMRMLScene(scene)
    colors = application_logic.GetColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application_logic.SetModuleLogic("Colors", colors)
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logics = {"Colors": colors}
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(temporary_folder)
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
        logics[name] = logic
    parts = SceneParts(scene, application_logic, logics)
    parts.kept += _data_io(scene, application_logic, temporary_folder)
    scene.AddObserver(scene.NodeAddedEvent, _hierarchy_item_maker(scene))
    return parts


def _data_io(scene, application_logic, folder: str) -> list:
    """MRB files are read through these two."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(application_logic)
    remote.GetCacheManager().SetRemoteCacheDirectory(folder)
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLScene(scene)
    manager.SetMRMLApplicationLogic(application_logic)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return [remote, manager]


def _hierarchy_item_maker(scene):
    def make_item(caller, event, node):
        if scene.IsImporting() or node.GetHideFromEditors():
            return  # while importing, the items come from the file
        if any(node.IsA(class_name) for class_name in WITH_HIERARCHY_ITEM):
            hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
            if not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    make_item.CallDataType = vtk.VTK_OBJECT
    return make_item
