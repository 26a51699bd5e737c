"""The node selector chooses as the real one was seen to."""

import pytest


@pytest.fixture
def combo(host):
    """A selector of scalar volumes without a scene; deleted afterwards so that it lets go of the scene."""
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    yield box
    box.setMRMLScene(None)


@pytest.fixture
def add(host):
    return lambda name, kind="vtkMRMLScalarVolumeNode": host.scene.AddNewNodeByClass(kind, name)


def test_without_a_scene_it_is_disabled(combo, host):
    assert not combo.isEnabled()
    combo.setMRMLScene(host.scene)
    assert combo.isEnabled()


def test_the_first_node_is_chosen_when_the_scene_is_set(combo, host, add):
    first = add("a")
    add("b")
    combo.setMRMLScene(host.scene)
    assert combo.currentNode() is first


def test_with_none_allowed_nothing_is_chosen(combo, host, add):
    add("a")
    combo.noneEnabled = True
    combo.setMRMLScene(host.scene)
    assert combo.currentNode() is None


def test_a_node_added_later_is_not_chosen(combo, host, add):
    combo.setMRMLScene(host.scene)
    add("a")
    assert combo.currentNode() is None


def test_a_node_added_later_is_chosen_if_none_add_and_remove_are_off(combo, host, add):
    combo.addEnabled = combo.removeEnabled = False
    combo.setMRMLScene(host.scene)
    node = add("a")
    assert combo.currentNode() is node
    add("b")
    assert combo.currentNode() is node


def test_when_the_current_node_goes_the_previous_row_is_chosen(combo, host, add):
    first, second = add("a"), add("b")
    combo.setMRMLScene(host.scene)
    combo.setCurrentNode(second)
    host.scene.RemoveNode(second)
    assert combo.currentNode() is first


def test_a_cleared_scene_leaves_none(combo, host, add):
    add("a")
    combo.setMRMLScene(host.scene)
    host.scene.Clear(0)
    assert combo.currentNode() is None
    assert combo.currentNodeID == ""


def test_other_types_and_hidden_nodes_are_not_listed(combo, host, add):
    add("text", "vtkMRMLTextNode")
    add("hidden").SetHideFromEditors(True)
    combo.setMRMLScene(host.scene)
    assert combo.nodeCount() == 1 - 1


def test_labelmaps_are_listed_unless_hidden_as_a_child_type(combo, host, add):
    add("labels", "vtkMRMLLabelMapVolumeNode")
    combo.setMRMLScene(host.scene)
    assert combo.nodeCount() == 1
    combo.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
    assert combo.nodeCount() == 0


def test_add_node_chooses_it_and_names_it_by_its_tag(combo, host):
    combo.setMRMLScene(host.scene)
    node = combo.addNode()
    assert combo.currentNode() is node
    assert node.GetName() == "Volume"


def test_the_signals_tell_node_id_and_validity(combo, host, add):
    seen = []
    combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node))
    combo.connect("currentNodeChanged(bool)", lambda valid: seen.append(valid))
    combo.connect("currentNodeIDChanged(QString)", lambda node_id: seen.append(node_id))
    node = add("a")
    combo.setMRMLScene(host.scene)
    assert seen == [node, True, node.GetID()]
