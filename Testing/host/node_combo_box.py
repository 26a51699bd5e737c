"""`qMRMLNodeComboBox` and `qMRMLWidget`: the selector of a node of the scene, behaving as measured on the real one."""

from __future__ import annotations

from typing import ClassVar

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from .ctk_widgets import stored
from .observing import Observers
from .ui_loader import register


@register
class qMRMLWidget(QtWidgets.QWidget):
    """A widget that has a scene and hands it on."""

    mrmlSceneChanged = Signal(object)
    cpp_signals: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _refill(widget) -> None:
    widget.refill()


@register
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Lists the nodes of some types. Measured behaviour of the choice:

    * when the scene is set the first node is taken, unless None is allowed;
    * a node that is added later is taken only if the list was empty and None, add and remove are all off;
    * when the current node goes, the previous row becomes current; a cleared scene leaves None;
    * with None allowed, further `currentNodeChanged(None)` come: handlers must not mind.
    """

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    currentNodeValidityChanged = Signal(bool)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    cpp_signals: ClassVar = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeValidityChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }

    nodeTypes = stored("QStringList", "nodeTypes", [], _refill)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], _refill)
    showHidden = stored(bool, "showHidden", False, _refill)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, _refill)
    noneEnabled = stored(bool, "noneEnabled", False, _refill)
    noneDisplay = stored(str, "noneDisplay", "None", _refill)
    addEnabled = stored(bool, "addEnabled", True, _refill)
    removeEnabled = stored(bool, "removeEnabled", True, _refill)
    renameEnabled = stored(bool, "renameEnabled", False)
    editEnabled = stored(bool, "editEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None
        self._current = None
        self._rows: list[str] = []
        self._observers = Observers(self)
        self._attributes: list[tuple[str, str, str | None]] = []
        self._box = QtWidgets.QComboBox()
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._box.setMinimumContentsLength(8)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._on_activated)
        self.setEnabled(False)

    # -- scene ---------------------------------------------------------------------------------

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        if scene is self._scene:
            return
        self._observers.clear()
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent,
                          scene.EndCloseEvent, scene.EndImportEvent):  # fmt: skip
                self._observers.add(scene, event, "on_scene_event")
        self.refill(scene_is_new=True)

    def on_scene_event(self) -> None:
        if self._scene is not None and not self._scene.IsBatchProcessing():
            self.refill()

    def nodes(self) -> list:
        """Return the scene's nodes that may be chosen; by class, in C++, since this runs at every node that is added."""
        scene, kinds = self._scene, list(self.nodeTypes)
        if scene is None:
            every = ()
        elif len(kinds) == 1:
            every = (scene.GetNthNodeByClass(i, kinds[0]) for i in range(scene.GetNumberOfNodesByClass(kinds[0])))
        else:
            every = (scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes()))
        return [node for node in every if self._matches(node)]

    def _matches(self, node) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if not any(node.IsA(t) if self.showChildNodeTypes else node.GetClassName() == t for t in self.nodeTypes):
            return False
        if any(node.IsA(t) for t in self.hideChildNodeTypes):
            return False
        return all(
            not node.IsA(kind) or (node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)))
            for kind, name, value in self._attributes
        )

    def addAttribute(self, node_type, name, value=None) -> None:
        self._attributes.append((node_type, name, value))
        self.refill()

    # -- list ----------------------------------------------------------------------------------

    def refill(self, scene_is_new: bool = False) -> None:
        """Bring the rows up to date with the scene, then the choice."""
        before, nodes = self._rows, self.nodes()
        self._rows = [node.GetID() for node in nodes]
        self._box.clear()
        if self.noneEnabled or self._current is None:
            kind = self.nodeTypes[0] if self.nodeTypes else ""
            self._box.addItem(self.noneDisplay if self.noneEnabled else f"Select a {self._label(kind)}", "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        if self.addEnabled:
            for kind in self.nodeTypes:
                self._box.addItem(f"Create new {self._label(kind)}", f"add {kind}")
        self._choose(before, nodes, scene_is_new)
        self._show_current()

    def _choose(self, before: list[str], nodes: list, scene_is_new: bool) -> None:
        if self._current is not None and self._current not in nodes:
            row = before.index(self._current_id) - 1 if self._current_id in before else -1
            self._set_current(nodes[min(max(row, 0), len(nodes) - 1)] if nodes else None)
        elif self._current is None and nodes and self._takes_first(before, scene_is_new):
            self._set_current(nodes[0])

    def _takes_first(self, before: list[str], scene_is_new: bool) -> bool:
        return not self.noneEnabled and (scene_is_new or not (before or self.addEnabled or self.removeEnabled))

    def _label(self, kind: str) -> str:
        tag = self._scene.GetTagByClassName(kind) if self._scene is not None and kind else None
        return tag or kind.replace("vtkMRML", "").removesuffix("Node")

    def _show_current(self) -> None:
        self._box.setCurrentIndex(max(0, self._box.findData(self.currentNodeID)))

    def _set_current(self, node) -> None:
        if node is self._current:
            return
        self._current = node
        self._current_id = node.GetID() if node is not None else ""
        self._show_current()
        self.currentNodeChanged.emit(node)
        self.currentNodeValidityChanged.emit(node is not None)
        self.currentNodeIDChanged.emit(self._current_id)

    _current_id = ""

    def _on_activated(self, row: int) -> None:
        data = self._box.itemData(row)
        if data.startswith("add "):
            self.nodeAddedByUser.emit(self.addNode(data.removeprefix("add ")))
        else:
            self._set_current(self._scene.GetNodeByID(data) if data else None)
        self.nodeActivated.emit(self._current)

    # -- the rest of the interface -------------------------------------------------------------

    def addNode(self, node_type=None):
        kind = node_type or self.nodeTypes[0]
        name = self._scene.GenerateUniqueName(self.baseName or self._label(kind))
        node = self._scene.AddNewNodeByClass(kind, name)
        self.refill()
        if self.selectNodeUponCreation:
            self._set_current(node)
        self.nodeAdded.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self._current is not None:
            self._scene.RemoveNode(self._current)

    def currentNode(self):
        return self._current

    def setCurrentNode(self, node) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene is not None else None
        self._set_current(node if node is not None and self._matches(node) else None)

    def setCurrentNodeID(self, node_id) -> None:
        self.setCurrentNode(node_id or None)

    currentNodeID = Property(str, lambda self: self._current_id, setCurrentNodeID)

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int):
        return self.nodes()[index]

    def setCurrentNodeIndex(self, index: int) -> None:
        self._set_current(self.nodes()[index] if 0 <= index < self.nodeCount() else None)
