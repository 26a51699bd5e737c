"""The stand-in's .ui loader refuses what the application would silently replace."""

import pytest

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout">
{widgets}
</layout></widget>
<customwidgets>
<customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header></customwidget>
<customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
<customwidget><class>qMRMLNoSuchWidget</class><extends>QWidget</extends><header>x.h</header></customwidget>
</customwidgets>
<connections>{connections}</connections></ui>"""

COMBO = (
    '<item><widget class="qMRMLNodeComboBox" name="selector"><property name="nodeTypes"><stringlist>'
    "<string>vtkMRMLScalarVolumeNode</string></stringlist></property>{more}</widget></item>"
)
CONNECTION = (
    "<connection><sender>Panel</sender><signal>{}</signal><receiver>selector</receiver><slot>{}</slot></connection>"
)


@pytest.fixture
def load(host, tmp_path):
    """Load a panel with the given widgets and connections."""
    import slicer.util

    def load(widgets, connections=""):
        path = tmp_path / "Panel.ui"
        path.write_text(UI.format(widgets=widgets, connections=connections))
        return slicer.util.loadUI(str(path))

    return load


def test_a_right_file_loads_and_hands_the_scene_on(host, load):
    import slicer

    panel = load(
        COMBO.format(more=""), CONNECTION.format("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
    )
    panel.setMRMLScene(host.scene)
    selector = slicer.util.childWidgetVariables(panel).selector
    assert selector.mrmlScene() is host.scene
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_an_unknown_class_is_an_error(load):
    with pytest.raises(RuntimeError, match="unknown widget class qMRMLNoSuchWidget"):
        load('<item><widget class="qMRMLNoSuchWidget" name="w"/></item>')


def test_an_unknown_property_is_an_error(load):
    with pytest.raises(RuntimeError, match=r"selector.*has no property nonEnabled"):
        load(COMBO.format(more='<property name="nonEnabled"><bool>true</bool></property>'))


def test_an_unknown_property_of_a_qt_class_is_an_error_too(load):
    with pytest.raises(RuntimeError, match="has no property textt"):
        load('<item><widget class="QLabel" name="l"><property name="textt"><string/></property></widget></item>')


def test_a_dynamic_property_is_allowed(load):
    load(COMBO.format(more='<property name="SlicerParameterName" stdset="0"><string>input</string></property>'))


@pytest.mark.parametrize(
    ("signal", "slot", "message"),
    [
        ("sceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)", "no signal"),
        ("mrmlSceneChanged(vtkMRMLScene*)", "setScene(vtkMRMLScene*)", "no slot"),
    ],
)
def test_an_impossible_connection_is_an_error(load, signal, slot, message):
    with pytest.raises(RuntimeError, match=message):
        load(COMBO.format(more=""), CONNECTION.format(signal, slot))


def test_a_missing_file_is_an_error(host):
    import slicer.util

    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadUI("/nowhere/Panel.ui")
