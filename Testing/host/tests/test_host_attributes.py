"""The stand-in's objects have PythonQt's manners, as measured on the real one."""

import pytest


@pytest.fixture
def qt(host):
    import qt

    return qt


def test_a_property_is_a_value_and_cannot_be_called(qt):
    button = qt.QPushButton("Go")
    assert button.text == "Go"
    with pytest.raises(TypeError, match="not callable"):
        button.text()


def test_setters_and_is_methods_stay_methods(qt):
    button = qt.QPushButton()
    button.setText("Stop")
    assert button.text == "Stop"
    assert button.isEnabled() is True
    button.enabled = False
    assert button.isEnabled() is False


def test_layout_is_a_method_and_count_is_a_value(qt):
    widget = qt.QWidget()
    assert widget.layout() is None
    box = qt.QComboBox()
    box.addItem("a", "data of a")
    assert (box.count, box.currentText, box.currentData) == (1, "a", "data of a")


def test_name_is_the_object_name(qt):
    widget = qt.QWidget()
    widget.name = "left"
    assert widget.objectName == "left"
    widget.objectName = "right"
    assert widget.name == "right"


def test_a_new_attribute_on_a_qt_object_is_refused(qt):
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        qt.QPushButton().lable = "typo"


def test_a_new_attribute_on_a_stand_in_widget_is_refused_too(host):
    import ctk

    with pytest.raises(AttributeError, match="not allowed"):
        ctk.ctkCollapsibleButton().colapsed = True


def test_a_python_subclass_may_have_attributes_but_no_read_only_property(qt):
    class Panel(qt.QWidget):
        pass

    panel = Panel()
    panel.runner = "mine"
    assert panel.runner == "mine"
    with pytest.raises(AttributeError, match="read-only"):
        panel.x = 1


def test_lists_come_back_as_tuples(qt):
    parent = qt.QWidget()
    qt.QPushButton(parent)
    assert isinstance(parent.children(), tuple)
    assert isinstance(qt.QListWidget().selectedItems(), tuple)


def test_a_string_property_takes_anything(qt):
    label = qt.QLabel()
    label.text = None
    assert label.text == "None"
    label.text = 3
    assert label.text == "3"


@pytest.mark.parametrize("value", ["7", None])
def test_a_number_property_takes_only_numbers(qt, value):
    with pytest.raises(AttributeError, match="does not accept"):
        qt.QSpinBox().value = value


def test_find_children_goes_by_class_name_and_object_name(qt):
    parent = qt.QWidget()
    for name in ("a", "b"):
        qt.QPushButton(parent).name = name
    assert len(parent.findChildren("QPushButton")) == 2
    assert parent.findChild("QPushButton", "b").name == "b"
    assert parent.findChild("QPushButton", "c") is None
    assert parent.findChild("QLabel", "b") is None


def test_inherits_knows_real_and_stand_in_classes(host, qt):
    import slicer

    assert qt.QPushButton().inherits("QWidget")
    assert slicer.qMRMLNodeComboBox().inherits("qMRMLNodeComboBox")
    assert not slicer.qMRMLNodeComboBox().inherits("QComboBox")


def test_a_destroyed_object_raises_value_error(qt):
    label = qt.QLabel("x")
    label.delete()
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text


def test_a_dynamic_property_can_be_read_like_an_attribute(qt):
    label = qt.QLabel()
    label.setProperty("role", "status")
    assert label.role == "status"


def test_an_unknown_attribute_is_an_error(qt):
    with pytest.raises(AttributeError):
        _ = qt.QLabel().texxt


def test_a_file_dialog_returns_only_the_path(host, qt):
    host.dialogs.answer_next("/data/head.nii.gz")
    assert qt.QFileDialog.getOpenFileName(None, "Open") == "/data/head.nii.gz"


def test_a_dialog_that_nobody_expects_is_an_error(host, qt):
    with pytest.raises(AssertionError, match="did not expect"):
        qt.QFileDialog.getSaveFileName(None, "Save")


def test_settings_lists_are_tuples(qt):
    settings = qt.QSettings()
    settings.setValue("list", ["a", "b"])
    settings.sync()
    assert isinstance(settings.allKeys(), tuple)
