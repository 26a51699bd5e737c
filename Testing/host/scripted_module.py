"""Scripted modules: the base classes that a module's file imports, and the C++ side that loads it.

The four base classes become the module `slicer.ScriptedLoadableModule`.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
import unittest
from pathlib import Path

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property

from .ctk_widgets import stored
from .node_combo_box import qMRMLWidget

# -- what a module's file derives from ---------------------------------------------------------


class ScriptedLoadableModule:
    """Title, help and icon of a module."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        for ending in (".svg", ".png"):
            icon = Path(parent.path).parent / "Resources" / "Icons" / (self.moduleName + ending)
            if icon.is_file():
                parent.icon = QtGui.QIcon(str(icon))
                break
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, name: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / name)

    def getDefaultModuleDocumentationLink(self, page=None) -> str:
        return f'<p>See the <a href="{slicer.app.moduleDocumentationUrl(self.moduleName)}">documentation</a>.</p>'

    def runTest(self, msec: int = 100, **options) -> None:
        module = sys.modules[type(self).__module__]
        getattr(module, f"{self.moduleName}Test")().runTest(**options)


class ScriptedLoadableModuleWidget:
    """The Python side of a panel."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        if parent is None:
            self.parent = qMRMLWidget()
            QtWidgets.QVBoxLayout(self.parent)
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()
        slicer.app.moduleManager().moduleAboutToBeUnloaded.connect(self._onModuleAboutToBeUnloaded)

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self) -> None:
        """The real one adds the developer's reload section here."""

    def cleanup(self) -> None:
        pass

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """The part of a module without widgets."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        scene = slicer.mrmlScene
        if self.isSingletonParameterNode:
            node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                node.SetAttribute("ModuleName", self.moduleName)
                return node
        else:
            for node in self.getAllParameterNodes():
                return node
        return scene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A test that also runs inside the application."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.messageDelay = 100

    def delayDisplay(self, message: str, msec: int | None = None) -> None:
        logging.info(message)

    def runTest(self) -> None:
        pass


def build_base_module() -> types.ModuleType:
    """`slicer.ScriptedLoadableModule`, whose star import gives the four classes."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    classes = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for class_ in classes:
        setattr(module, class_.__name__, class_)
    module.__all__ = [class_.__name__ for class_ in classes]
    return module


# -- what the application does with the file ---------------------------------------------------


class qSlicerScriptedLoadableModule(QtCore.QObject):
    """The C++ module object, the `parent` of ScriptedLoadableModule."""

    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    icon = stored(QtGui.QIcon, "icon", QtGui.QIcon())
    hidden = stored(bool, "hidden", False)

    def __init__(self, path: Path):
        super().__init__()
        self._path = str(path)
        self.setObjectName(path.stem)
        self.name = path.stem
        self._representation = None
        self.instance = None

    path = Property(str, lambda self: self._path)

    def logic(self):
        return None

    def widgetRepresentation(self):
        if self._representation is None:
            self._representation = qSlicerScriptedLoadableModuleWidget(self)
            self._representation.setup()
        return self._representation

    def unload(self) -> None:
        """Clean up the panel and delete it."""
        slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(self.name)
        if self._representation is not None:
            self._representation.setMRMLScene(None)
            self._representation.deleteLater()
            self._representation = None
            delattr(slicer.modules, f"{self.name}Widget")


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The C++ panel, the `parent` of ScriptedLoadableModuleWidget."""

    def __init__(self, module: qSlicerScriptedLoadableModule):
        super().__init__()
        self._module = module
        self._python = None
        self._entered = False
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)

    isEntered = Property(bool, lambda self: self._entered)

    def setup(self) -> None:
        name = self._module.name
        self._python = getattr(sys.modules[name], f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._python)
        self._python.setup()

    def self(self):
        return self._python

    def reload(self) -> None:
        self.setup()
        if self._entered:
            self._call("enter")

    def enter(self) -> None:
        self._entered = True
        self._call("enter")

    def exit(self) -> None:
        self._entered = False
        self._call("exit")

    def _call(self, name: str) -> None:
        getattr(self._python, name, lambda: None)()


def load_module(path: Path) -> qSlicerScriptedLoadableModule:
    """Run a module's file and register it as the application does; its panel is made when first asked for.

    Raises:
        FileNotFoundError: if there is no such file.
        Exception: whatever the file or its module class raises.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"There is no module file {path}")
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    file_module = importlib.util.module_from_spec(spec)
    sys.modules[name] = file_module
    spec.loader.exec_module(file_module)
    module = qSlicerScriptedLoadableModule(path)
    module.instance = getattr(file_module, name)(module)
    setattr(slicer.modules, f"{name}Instance", module.instance)
    setattr(slicer.modules, name.lower(), module)
    setattr(slicer.moduleNames, name, name)
    manager = slicer.app.moduleManager()
    manager.by_name[name] = module
    manager.moduleLoaded.emit(name)
    return module
