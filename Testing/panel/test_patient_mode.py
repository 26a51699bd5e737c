"""Patient mode in the strict host: no way out without the PIN, and nothing on the screen that names anybody."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest

from MedFMLib.core.findings import Answer, Part
from MedFMLib.core.request import PATIENT, Provenance, Response
from MedFMLib.errors import InputError
from MedFMLib.guard import PatientLock

PIN = "2468"
NAME = "MILLER^ANNA 1961"
SEEN = ("conversationView", "questionBox", "applyButton", "statusLabel", "noticeLabel", "pinEdit", "leavePatientButton")


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock of this test's own, which panels that are made later find, too."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return PatientLock()


@pytest.fixture
def handed_over(lock, panel, add_volume, host):
    """The panel in patient mode, with a volume whose name tells who it is of."""
    add_volume(NAME)
    host.process_events()
    panel.patient.lock = lock
    panel.ui.newPinEdit.text = PIN
    panel.ui.choosePinButton.click()
    panel.ui.enterPatientButton.click()
    assert lock.on
    panel.patient.act("language", "en")
    yield panel
    if PatientLock().on:
        import slicer

        PatientLock().leave(PIN)
        slicer.modules.MedFMWidget.patient.show()


def texts(window) -> str:
    """Every word on the screen."""
    found = []
    for widget in window.findChildren("QWidget"):
        if widget.isVisible():
            for name in ("text", "windowTitle", "title", "currentText", "plainText", "html"):
                value = widget.property(name)
                found.append(value if isinstance(value, str) else "")
    return "\n".join([window.windowTitle, *found])


def visible(panel, name) -> bool:
    return getattr(panel.ui, name).isVisible()


def test_without_a_pin_nobody_can_be_handed_the_computer(lock, panel, volume):
    panel.patient.lock = lock
    panel.patient.show()
    assert not panel.ui.enterPatientButton.enabled
    panel.patient.enter()
    assert "Choose a PIN first" in panel.ui.statusLabel.text and not lock.on


def test_only_the_conversation_stays_in_sight(handed_over, host):
    panel, window = handed_over, host.main_window
    assert all(visible(panel, name) for name in SEEN)
    hidden = (
        "volumeSelector",
        "modelSelector",
        "advancedButton",
        "placeButton",
        "logButton",
        "resultButton",
        "patientButton",
    )
    assert not any(visible(panel, name) for name in hidden)
    assert not window.menuBar().isVisible() and not window.statusBar().isVisible()
    assert not any(bar.isVisible() for bar in window.findChildren("QToolBar"))
    assert not any(action.isEnabled() for action in window.findChildren("QAction"))


def test_no_name_is_on_the_screen(handed_over, host):
    shown = texts(host.main_window)
    assert "MILLER" not in shown and "Research and education only" in shown
    assert "medfm-tiny" not in shown.lower()


def test_a_question_is_asked_for_a_patient_and_what_the_guard_says_is_shown(handed_over, use_runner, host):
    def respond(request):
        assert request.audience == PATIENT
        answer = Answer(request.question, "A tumor.", verdict="rephrase", parts=(Part("refusal.meaning"),))
        return Response((answer,), Provenance("ask", "m", notes=("technical",)))

    panel = handed_over
    use_runner(response=respond)
    panel.ui.questionBox.setEditText("Is it cancer?")
    panel.ui.applyButton.click()
    host.wait_until(lambda: not panel.session.running)
    host.process_events()
    said = panel.ui.conversationView.toPlainText()
    assert "only your radiologist can say" in said and "tumor" not in said and "tell the staff now" in said
    assert panel.ui.statusLabel.text == "" and panel.ui.logView.toPlainText() == ""


def test_a_problem_of_the_computer_names_no_folder_when_the_pin_is_typed(handed_over, monkeypatch):
    from MedFMLib.errors import OutputError

    def leave(pin):
        raise OutputError(f"Patient mode's state can't be written to /home/{NAME}/x.json.")

    monkeypatch.setattr(handed_over.patient.lock, "leave", leave)
    handed_over.ui.leavePatientButton.click()
    assert "MILLER" not in handed_over.ui.statusLabel.text and "tell the staff" in handed_over.ui.statusLabel.text


def test_a_healthy_case_is_shown_next_to_it_without_a_name(handed_over, use_runner, host):
    from support.phantoms import torso

    from MedFMLib.core.findings import Comparison, MatchedSlice, SliceReference

    image, _ = torso()
    where = SliceReference("axial", 3, (0.0, 0.0, 0.0))
    shown = Comparison("one", "OTHER^CASE", False, image, np.eye(4), (MatchedSlice(where, where, b""),))

    def respond(request):
        assert request.audience == PATIENT and request.task == "ask"
        return Response((Answer(request.question, "", parts=(Part("healthy"),)), shown), Provenance("ask", "m"))

    use_runner(response=respond)
    handed_over.ui.questionBox.setEditText("What does a healthy one look like?")
    handed_over.ui.applyButton.click()
    host.wait_until(lambda: not handed_over.session.running)
    host.process_events()
    assert "Here is a healthy one beside yours" in handed_over.ui.conversationView.toPlainText()
    assert "OTHER" not in texts(host.main_window) and handed_over.patient.on


def test_what_others_show_meanwhile_is_hidden_again(handed_over):
    handed_over.ui.checkButton.visible = handed_over.ui.logButton.visible = True
    handed_over.updateButtons()
    assert not visible(handed_over, "checkButton") and not visible(handed_over, "logButton")


def test_a_failed_job_names_nobody_in_the_conversation(handed_over, use_runner, host):
    use_runner(response=InputError(f"'{NAME}' is damaged."))
    handed_over.ui.questionBox.setEditText("What is this?")
    handed_over.ui.applyButton.click()
    host.wait_until(lambda: not handed_over.session.running)
    words = handed_over.ui.conversationView.toPlainText()
    assert "MILLER" not in words and "tell the staff" in words


def test_a_problem_is_reported_without_its_details(handed_over):
    handed_over.showError(f"'{NAME}' can't be read")
    assert "MILLER" not in handed_over.ui.statusLabel.text and "tell the staff" in handed_over.ui.statusLabel.text


def test_a_wrong_pin_stays_and_the_right_one_brings_everything_back(handed_over, host):
    panel, window = handed_over, host.main_window
    panel.ui.pinEdit.text = "1111"
    panel.ui.leavePatientButton.click()
    assert panel.patient.on and "PIN is wrong" in panel.ui.statusLabel.text and panel.ui.pinEdit.text == ""
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    assert not panel.patient.on
    assert visible(panel, "volumeSelector") and visible(panel, "resultButton") and not visible(panel, "patientBar")
    assert window.menuBar().isVisible() and window.windowTitle != "MedFM"
    assert any(action.isEnabled() for action in window.findChildren("QAction"))
    assert panel.ui.taskTabs.tabBar().isVisible()


# -- every other way out -----------------------------------------------------------------------------------


def test_other_tabs_cannot_be_chosen(handed_over, host):
    import qt

    panel = handed_over
    for n in range(panel.ui.taskTabs.count):
        panel.ui.taskTabs.setCurrentIndex(n)
        assert panel.parameters.task == "ask"
    assert not panel.ui.taskTabs.tabBar().isVisible()
    press(host, panel.ui.taskTabs, qt.Qt.Key_Tab, qt.Qt.ControlModifier)
    assert panel.parameters.task == "ask"


def press(host, widget, key, modifiers) -> None:
    import qt

    for kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
        host.app.sendEvent(widget, qt.QKeyEvent(kind, key, modifiers))
    host.process_events()


def test_shortcuts_do_nothing(handed_over, host):
    import qt

    window, done = host.main_window, []
    for keys in ("Ctrl+O", "F5"):
        shortcut = qt.QShortcut(qt.QKeySequence(keys), window)
        shortcut.connect("activated()", lambda: done.append(1))
    window.activateWindow()
    press(host, window, qt.Qt.Key_O, qt.Qt.ControlModifier)
    press(host, window, qt.Qt.Key_F5, qt.Qt.NoModifier)
    assert not done


def test_letters_can_still_be_typed(handed_over, host):
    import qt

    edit = handed_over.ui.questionBox.lineEdit()
    edit.clear()
    for letter, modifier in (("W", qt.Qt.ShiftModifier), ("o", qt.Qt.NoModifier)):
        key = getattr(qt.Qt, f"Key_{letter.upper()}")
        host.app.sendEvent(edit, qt.QKeyEvent(qt.QEvent.KeyPress, key, modifier, letter))
    assert edit.text == "Wo"


def test_keys_typed_into_the_window_reach_the_field_with_the_focus_and_no_view(handed_over, host):
    """As the operating system delivers them: to the window, which passes them on."""
    import qt

    window, view = host.main_window, host.app.layoutManager().sliceWidget("Red").sliceView()
    window.activateWindow()
    typed = []
    tag = view.interactor().AddObserver("KeyPressEvent", lambda *_: typed.append(1))
    for widget in (handed_over.ui.pinEdit, view):
        widget.setFocus()
        host.process_events()
        assert window.focusWidget() == widget
        event = qt.QKeyEvent(qt.QEvent.KeyPress, qt.Qt.Key_4, qt.Qt.NoModifier, "4")
        host.app.sendEvent(window.windowHandle(), event)
    view.interactor().RemoveObserver(tag)
    assert handed_over.ui.pinEdit.text == "4" and not typed
    handed_over.ui.pinEdit.text = ""


def test_one_page_is_in_sight_after_leaving(handed_over, host):
    panel = handed_over
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    host.process_events()
    pages = [panel.ui.taskTabs.widget(n) for n in range(panel.ui.taskTabs.count)]
    assert sum(page.isVisible() for page in pages) == 1


def test_the_window_does_not_close_and_takes_no_files(handed_over, host):
    window = host.main_window
    window.close()
    host.process_events()
    assert window.isVisible()


def test_right_clicks_open_nothing(handed_over, host):
    import qt

    view = host.app.layoutManager().sliceWidget("Red").sliceView()
    seen = []
    view.setContextMenuPolicy(qt.Qt.CustomContextMenu)
    view.connect("customContextMenuRequested(QPoint)", lambda *_: seen.append(1))
    event = qt.QContextMenuEvent(qt.QContextMenuEvent.Mouse, qt.QPoint(5, 5), qt.QPoint(5, 5))
    host.app.sendEvent(view, event)
    assert not seen


@pytest.fixture
def reloadable():
    """A reload takes the library afresh; other tests go on with the one they have."""
    ours = ("MedFMLib", "MedFMPanel")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ours}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
        del sys.modules[name]
    sys.modules.update(before)


def test_a_reload_comes_up_locked(reloadable, handed_over, host):
    handed_over.onReload()
    import slicer

    panel = slicer.modules.MedFMWidget
    host.process_events()
    assert panel.patient.on and not panel.ui.volumeSelector.isVisible() and not host.main_window.menuBar().isVisible()
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    assert host.main_window.menuBar().isVisible() and panel.ui.volumeSelector.isVisible()


def test_a_closed_and_loaded_scene_changes_nothing_and_shows_nobody_else(handed_over, add_volume, host):
    import slicer

    panel = handed_over
    slicer.mrmlScene.Clear(0)
    host.process_events()
    assert panel.patient.on and not panel.ui.volumeSelector.isVisible()
    add_volume("OTHER^PATIENT")
    panel.initialize()
    assert panel.parameters.volume is None and not panel.ui.applyButton.enabled
    assert "OTHER" not in texts(host.main_window)


def test_another_module_comes_back_to_ours(handed_over, host):
    handed_over.exit()
    host.wait_until(lambda: handed_over.uiWidget.isVisible())
    assert handed_over.patient.on


def test_a_restart_comes_up_locked(lock, panel, host, monkeypatch):
    import slicer

    chosen = []
    monkeypatch.setattr(slicer.util, "selectModule", chosen.append)
    host.app.startupCompleted.emit()
    assert not chosen
    lock.choose_pin(PIN)
    lock.enter()
    host.app.startupCompleted.emit()
    assert set(chosen) == {"MedFM"}  # once for each time the module was loaded
    lock.leave(PIN)


# -- what else a real Slicer shows ---------------------------------------------------------------------------


@pytest.fixture
def furnished(host, panel, lock):
    """What a real Slicer has around a panel: help with links, developers' buttons, the data probe; and its error log."""
    import qt

    panel.patient.lock = lock
    log = qt.QWidget()
    log.setWindowTitle("Error log")
    log.show()
    around = [qt.QPushButton("Reload"), qt.QLabel(f"F: {NAME}")]
    panel.layout.insertWidget(0, around[0])
    panel.layout.addWidget(around[1])
    for widget in around:
        widget.show()
    host.process_events()
    assert log.isVisible() and all(widget.isVisible() for widget in around)
    yield log, around
    for widget in (log, *around):
        widget.hide()
        widget.deleteLater()


def test_what_stands_around_the_panel_goes_and_comes_back(furnished, handed_over, host):
    log, around = furnished
    assert not log.isVisible() and not any(widget.isVisible() for widget in around)
    assert "MILLER" not in texts(host.main_window)
    handed_over.ui.pinEdit.text = PIN
    handed_over.ui.leavePatientButton.click()
    assert all(widget.isVisible() for widget in around)


def test_the_panels_own_dock_does_not_close(handed_over, host):
    (dock,) = [d for d in host.main_window.findChildren("QDockWidget") if d.isAncestorOf(handed_over.uiWidget)]
    dock.close()
    host.process_events()
    assert dock.isVisible() and handed_over.uiWidget.isVisible()


def test_what_clinicians_marked_or_drew_is_not_in_the_views_for_a_patient(lock, panel, add_volume, host):
    import slicer

    add_volume(NAME)
    marks = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "metastasis?")
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "was hidden before")
    for node, on in ((marks, True), (hidden, False)):
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility(on)
    panel.patient.lock = lock
    lock.choose_pin(PIN)
    panel.patient.enter()
    assert not marks.GetDisplayNode().GetVisibility()
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    assert marks.GetDisplayNode().GetVisibility() and not hidden.GetDisplayNode().GetVisibility()


@pytest.mark.parametrize(
    ("number", "tables", "left"), [(41, 0, True), (501, 0, True), (3, 1, True), (3, 0, False), (29, 0, False)]
)
def test_layouts_with_tables_or_the_list_of_all_patients_are_left(handed_over, monkeypatch, number, tables, left):
    """41 is the DICOM browser's, 501 one of a module; 3 and 29 are four views, and two side by side."""
    import types

    import slicer

    chosen = []
    layout = types.SimpleNamespace(
        layout=number,
        tableViewCount=tables,
        plotViewCount=0,
        setLayout=chosen.append,
        sliceViewNames=lambda: [],
        threeDViewCount=0,
    )
    from MedFMPanel import kiosk

    app = types.SimpleNamespace(layoutManager=lambda: layout)
    stand_in = types.SimpleNamespace(app=app, modules=slicer.modules, vtkMRMLLayoutNode=slicer.vtkMRMLLayoutNode)
    with monkeypatch.context() as patched:
        patched.setattr(kiosk, "slicer", stand_in)
        kiosk.Kiosk(handed_over.uiWidget)._quiet_views()
    assert chosen == ([slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView] if left else [])


class Corners:
    """Slicer's annotations in the corners of slices."""

    def __init__(self, on):
        self.sliceViewAnnotationsEnabled = on

    def updateSliceViewFromGUI(self):
        pass


@pytest.mark.parametrize("on", [True, False])
def test_corners_are_empty_for_a_patient_and_then_as_they_were(lock, panel, add_volume, monkeypatch, on):
    import types

    import slicer

    corners = Corners(on)
    probe = types.SimpleNamespace(infoWidget=types.SimpleNamespace(sliceAnnotations=corners))
    monkeypatch.setattr(slicer.modules, "DataProbeInstance", probe, raising=False)
    panel.initialize()
    assert corners.sliceViewAnnotationsEnabled is on
    add_volume(NAME)
    panel.patient.lock = lock
    lock.choose_pin(PIN)
    panel.patient.enter()
    assert not corners.sliceViewAnnotationsEnabled
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    assert corners.sliceViewAnnotationsEnabled is on


def test_nothing_about_the_patient_is_in_files(handed_over, lock, tmp_path):
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert lock.file in written
    for path in written:
        content = re.sub(
            rb'"[0-9a-f]{32,64}"', b'"random"', path.read_bytes()
        )  # any four digits may stand in salt and hash
        assert b"MILLER" not in content and PIN.encode() not in content
    assert set(json.loads(lock.file.read_text())) <= {"salt", "hash", "on"}
