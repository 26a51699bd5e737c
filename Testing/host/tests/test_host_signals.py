"""Connecting, and what happens to exceptions, in the stand-in."""

import pytest


@pytest.fixture
def qt(host):
    import qt

    return qt


def test_a_slot_gets_as_many_arguments_as_it_takes(qt):
    button, seen = qt.QPushButton(), []
    button.connect("clicked(bool)", lambda: seen.append("none"))
    button.connect("clicked(bool)", lambda checked: seen.append(checked))
    button.connect("clicked(bool)", lambda checked, extra=None: seen.append((checked, extra)))
    button.click()
    assert seen == ["none", False, (False, None)]


def test_a_signature_without_arguments_passes_none(qt):
    button, seen = qt.QPushButton(), []
    button.connect("clicked()", lambda *arguments: seen.append(arguments))
    button.click()
    assert seen == [()]


@pytest.mark.parametrize("signature", ["nosuch(bool)", "clicked(QString)", "clicked(int,int)"])
def test_an_unknown_signal_is_an_error(host, qt, signature):
    with host.problems.expected("does not exist"), pytest.raises(ValueError, match="does not exist"):
        qt.QPushButton().connect(signature, print)


def test_a_signal_of_a_stand_in_needs_the_real_signature(host):
    import slicer

    combo = slicer.qMRMLNodeComboBox()
    assert combo.connect("currentNodeChanged(vtkMRMLNode*)", print)
    assert combo.connect("currentNodeChanged(bool)", print)
    with host.problems.expected("does not exist"), pytest.raises(ValueError, match="QString"):
        combo.connect("currentNodeChanged(QString)", print)


def test_a_signal_can_be_connected_as_an_attribute(qt):
    box, seen = qt.QComboBox(), []
    box.currentIndexChanged.connect(seen.append)
    box.addItem("a")
    assert seen == [0]


def test_disconnect_removes_one_slot_and_leaves_the_other(qt):
    button, seen = qt.QPushButton(), []

    def first():
        seen.append(1)

    def second():
        seen.append(2)

    button.connect("clicked(bool)", first)
    button.connect("clicked(bool)", second)
    assert button.disconnect("clicked(bool)", first)
    button.click()
    assert seen == [2]


def test_a_slot_of_another_object_can_be_named(qt):
    button, line = qt.QPushButton(), qt.QLineEdit("text")
    button.connect("clicked()", line, "clear()")
    button.click()
    assert line.text == ""


def test_a_method_of_a_qt_object_can_be_a_slot(qt):
    check, line = qt.QCheckBox(), qt.QLineEdit()
    check.connect("toggled(bool)", line.setDisabled)
    check.click()
    assert not line.isEnabled()


def test_an_exception_in_a_slot_does_not_reach_the_caller_but_is_collected(host, qt):
    button = qt.QPushButton()

    def broken():
        raise RuntimeError("slot went wrong")

    button.connect("clicked(bool)", broken)
    with host.problems.expected("slot went wrong") as seen:
        button.click()
    assert len(seen) == 1


def test_an_exception_in_a_timer_is_collected(host, qt):
    def broken():
        raise RuntimeError("timer went wrong")

    with host.problems.expected("timer went wrong") as seen:
        qt.QTimer.singleShot(0, broken)
        host.wait_until(lambda: seen, 2, "the timer's exception")


def test_an_exception_in_a_scene_observer_is_collected(host):
    def broken(caller, event):
        raise RuntimeError("observer went wrong")

    tag = host.scene.AddObserver(host.scene.NodeAddedEvent, broken)
    with host.problems.expected("observer went wrong"):
        host.scene.AddNewNodeByClass("vtkMRMLTextNode")
    host.scene.RemoveObserver(tag)


def test_a_vtk_error_is_collected(host):
    with host.problems.expected("failed to create node by class vtkMRMLNoSuchNode"):
        host.scene.AddNewNodeByClass("vtkMRMLNoSuchNode")


def test_an_unexpected_problem_fails_the_check(host):
    host.scene.AddNewNodeByClass("vtkMRMLNoSuchNode")
    with pytest.raises(AssertionError, match="vtkMRMLNoSuchNode"):
        host.problems.check()


def test_an_expectation_that_never_fires_fails(host):
    with pytest.raises(AssertionError, match="none came"), host.problems.expected("anything"):
        pass


def test_python_signals_work(qt):
    class Source(qt.QObject):
        ready = qt.Signal(object)

    source, seen = Source(), []
    source.ready.connect(seen.append)
    source.ready.emit({"a": 1})
    assert seen == [{"a": 1}]
