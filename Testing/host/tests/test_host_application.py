"""The stand-in's scene, views, files and modules."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTING = Path(__file__).parents[2]


@pytest.fixture
def volume(host):
    """A bright ellipsoid, 24×30×36 voxels (K, J, I) of 2×1.5×1 mm."""
    import slicer.util

    k, j, i = np.mgrid[:24, :30, :36]
    inside = ((k - 12) / 9) ** 2 + ((j - 15) / 11) ** 2 + ((i - 18) / 14) ** 2 < 1
    node = slicer.util.addVolumeFromArray((1000 * inside).astype(np.int16), name="head")
    node.SetSpacing(1, 1.5, 2)
    node.CreateDefaultDisplayNodes()
    return node


@pytest.fixture
def segmentation(host, volume):
    """One segment, the volume's bright part."""
    import slicer.util

    node = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "parts")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("brain", "Brain", (1, 0, 0))
    mask = (slicer.util.arrayFromVolume(volume) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, volume)
    return node


def picture(view):
    """(H, W, 3) what a view shows."""
    image = view.rendered_image()
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)


def test_a_slice_view_shows_the_volume_and_nothing_without_one(host, volume):
    import slicer.util

    host.main_window.show()
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    assert picture(view).max() < 250
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    assert (picture(view).min(axis=2) > 250).mean() > 0.1


def test_a_segment_is_drawn_over_the_slice(host, volume, segmentation):
    import slicer.util

    host.main_window.show()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    pixels = picture(slicer.app.layoutManager().sliceWidget("Red").sliceView()).astype(int)
    reddish = (pixels[..., 0] - pixels[..., 1]) > 60
    assert reddish.mean() > 0.1


def test_the_3d_view_shows_a_surface_once_show_3d_is_pressed(host, segmentation):
    import slicer

    host.main_window.show()
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    button = slicer.qMRMLSegmentationShow3DButton()
    assert not button.isEnabled()
    button.setSegmentationNode(segmentation)
    before = picture(view).astype(int)
    button.click()
    view.resetFocalPoint()
    assert np.abs(picture(view).astype(int) - before).max() > 50
    button.click()
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    assert not segmentation.GetSegmentation().ContainsRepresentation(name)


def test_the_segments_table_follows_the_segmentation(host, segmentation):
    import slicer

    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(segmentation)
    assert table.segmentCount == 1
    segmentation.GetSegmentation().AddEmptySegment("skull", "Skull")
    assert table.displayedSegmentIDs() == ("brain", "skull")
    table.setSelectedSegmentIDs(["skull"])
    assert table.selectedSegmentIDs() == ("skull",)
    table.setSegmentationNode(None)
    assert table.segmentCount == 0


def test_jumping_moves_all_slices(host, volume):
    import slicer

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer.vtkMRMLSliceNode.JumpAllSlices(host.scene, 3.0, 4.0, 6.0)
    views = slicer.app.layoutManager()
    offsets = {n: views.sliceWidget(n).sliceLogic().GetSliceOffset() for n in views.sliceViewNames()}
    assert offsets == pytest.approx({"Red": 6.0, "Yellow": -3.0, "Green": 4.0})  # sagittal counts leftwards


def test_the_wheel_moves_one_slice(host, volume):
    import slicer.util
    from PySide6 import QtCore, QtGui

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    widget = slicer.app.layoutManager().sliceWidget("Red")
    before = widget.sliceLogic().GetSliceOffset()
    nothing, none = QtCore.QPoint(), QtCore.Qt.KeyboardModifier.NoModifier
    event = QtGui.QWheelEvent(
        QtCore.QPointF(), QtCore.QPointF(), nothing, QtCore.QPoint(0, 120), QtCore.Qt.MouseButton.NoButton, none,
        QtCore.Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    host.app.sendEvent(widget.sliceView(), event)
    assert widget.sliceLogic().GetSliceOffset() == pytest.approx(before + 2.0)


def test_a_new_node_gets_one_hierarchy_item_and_a_reloaded_scene_no_second_one(host, volume, tmp_path):
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(host.scene)
    assert hierarchy.GetItemByDataNode(volume)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    host.scene.Clear(0)
    slicer.util.loadScene(path)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(host.scene)
    reloaded = slicer.util.getNode("head")
    assert hierarchy.GetItemByDataNode(reloaded)
    assert hierarchy.GetNumberOfItems() == 1
    assert slicer.util.arrayFromVolume(reloaded).max() == 1000


def test_a_volume_survives_its_file(host, volume, tmp_path):
    import slicer.util

    path = str(tmp_path / "head.nrrd")
    assert slicer.util.saveNode(volume, path)
    again = slicer.util.loadVolume(path)
    assert np.array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(volume))
    assert again.GetSpacing() == pytest.approx((1, 1.5, 2))


def test_a_message_box_nobody_expects_is_an_error(host):
    import slicer.util

    with pytest.raises(AssertionError, match="did not expect"):
        slicer.util.messageBox("Are you there?")


MODULE = """
import slicer
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

class Probe(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Probe"

class ProbeWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    events = []
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        slicer.probe_events.append("setup")
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onClose)
    def onClose(self, caller, event):
        slicer.probe_events.append("close")
    def enter(self): slicer.probe_events.append("enter")
    def exit(self): slicer.probe_events.append("exit")
    def cleanup(self):
        self.removeObservers()
        slicer.probe_events.append("cleanup")

class ProbeLogic(ScriptedLoadableModuleLogic):
    pass
"""


@pytest.fixture
def probe(host, tmp_path):
    """The file of a module that tells what happens to it in `slicer.probe_events`."""
    import slicer

    slicer.probe_events = []
    path = tmp_path / "Probe.py"
    path.write_text(MODULE)
    return path


def test_a_module_lives_through_setup_enter_reload_exit_and_cleanup(host, probe):
    import slicer

    host.load_module(probe)
    host.select_module("Probe")
    assert slicer.probe_events == ["setup", "enter"]
    slicer.util.reloadScriptedModule("Probe")
    assert slicer.probe_events == ["setup", "enter", "cleanup", "setup", "enter"]
    host.scene.Clear(0)
    assert slicer.probe_events[5:] == ["close"]  # not from the old widget as well
    host.unload_modules()
    assert slicer.probe_events[6:] == ["exit", "cleanup"]
    host.scene.Clear(0)
    assert len(slicer.probe_events) == 8


def test_a_logic_has_one_parameter_node(host, probe):
    import slicer

    host.load_module(probe)
    logic = sys.modules["Probe"].ProbeLogic()
    node = logic.getParameterNode()
    assert node.GetAttribute("ModuleName") == "Probe"
    assert logic.getParameterNode() is node
    assert slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode") == [node]


def test_a_module_file_that_raises_is_not_swallowed(host, tmp_path):
    path = tmp_path / "Broken.py"
    path.write_text("raise ValueError('broken file')")
    with pytest.raises(ValueError, match="broken file"):
        host.load_module(path)


def test_a_missing_system_library_is_named_with_its_package():
    from host import system

    def load(name):
        if name == "libEGL.so.1":
            raise OSError(name)

    with pytest.raises(ImportError, match=r"libEGL\.so\.1.*apt-get install libegl1 "):
        system.check(load=load)
    system.check(load=lambda name: None)


def test_the_command_writes_a_screenshot(host, probe, tmp_path):
    probe.write_text(MODULE.replace("slicer.probe_events.append", "print"))
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [sys.executable, "-m", "host", str(probe), "--shot", str(shot)],
        cwd=TESTING,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shot.stat().st_size > 5000
