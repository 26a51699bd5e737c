"""`slicer.app.coreIOManager()`: loads and saves nodes for `slicer.util.load…` and `save…`. Knows a few file types."""

from __future__ import annotations

import os

import slicer
from PySide6 import QtCore
from PySide6.QtCore import Signal

BY_EXTENSION = (
    ("SceneFile", (".mrb", ".mrml")),
    ("SegmentationFile", (".seg.nrrd",)),
    ("TextFile", (".txt", ".json")),
    ("TableFile", (".tsv", ".csv")),
    ("ModelFile", (".vtp", ".vtk", ".stl", ".ply", ".obj")),
    ("TransformFile", (".h5", ".tfm")),
    ("VolumeFile", (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".dcm", ".png", ".jpg")),
)
"""File type and endings, the first match wins."""

NODE_AND_STORAGE = {
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    "TextFile": ("vtkMRMLTextNode", "vtkMRMLTextStorageNode"),
    "TableFile": ("vtkMRMLTableNode", "vtkMRMLTableStorageNode"),
    "ModelFile": ("vtkMRMLModelNode", "vtkMRMLModelStorageNode"),
    "TransformFile": ("vtkMRMLLinearTransformNode", "vtkMRMLTransformStorageNode"),
}


class qSlicerCoreIOManager(QtCore.QObject):
    """Reads files into the scene and writes nodes to files."""

    newFileLoaded = Signal(object)

    def fileType(self, path: str) -> str:
        for kind, endings in BY_EXTENSION:
            if str(path).lower().endswith(endings):
                return kind
        return "NoFile"

    def loadNodes(self, kind: str, properties: dict, nodes=None, messages=None) -> bool:
        path = str(properties["fileName"])
        if not os.path.exists(path):
            return False
        if kind == "SceneFile":
            return self._load_scene(path)
        name = properties.get("name") or os.path.basename(path).split(".")[0]
        node = self._load_volume(path, name, properties) if kind == "VolumeFile" else self._load(kind, path, name)
        if node is not None and nodes is not None:
            nodes.AddItem(node)
        return node is not None

    def _load_scene(self, path: str) -> bool:
        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path))
        scene.SetURL(path)
        return bool(scene.Import())

    def _load_volume(self, path: str, name: str, properties: dict):
        node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, int(bool(properties.get("labelmap"))))
        if node is not None and properties.get("show", True):
            slicer.app.applicationLogic().GetSelectionNode().SetReferenceActiveVolumeID(node.GetID())
            slicer.app.applicationLogic().PropagateVolumeSelection(1)
        return node

    def _load(self, kind: str, path: str, name: str):
        node_class, storage_class = NODE_AND_STORAGE[kind]
        scene = slicer.mrmlScene
        storage = scene.AddNewNodeByClass(storage_class)
        storage.SetFileName(path)
        node = scene.AddNewNodeByClass(node_class, name)
        node.SetAndObserveStorageNodeID(storage.GetID())
        if not storage.ReadData(node):
            scene.RemoveNode(node)
            scene.RemoveNode(storage)
            return None
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def saveNodes(self, kind: str, properties: dict, messages=None) -> bool:
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return self._save_scene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))

    def _save_scene(self, path: str) -> bool:
        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.WriteToMRB(path))
        scene.SetURL(path)
        scene.SetRootDirectory(os.path.dirname(path))
        return bool(scene.Commit())

    def fileWriterFileType(self, node, format_: str = "") -> str:
        return "NodeFile"
