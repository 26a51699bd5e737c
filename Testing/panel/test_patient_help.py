"""Help in patient mode: a call of the staff, keys, names in the slices, pictograms, reading aloud; and what is forgotten."""

from __future__ import annotations

import re
import threading

import pytest
from panel.test_patient_mode import NAME, PIN, handed_over, lock  # noqa: F401  (fixtures)
from panel.test_patient_screen import HEADINGS, OWN, done, outside, press, said, segmented, shown_buttons
from support.closed_set import ClosedSet

from MedFMLib.patient import glossary, languages
from MedFMLib.scene.nodes import KIND


@pytest.fixture
def help_module():
    """The loaded module, whose functions a test replaces."""
    import sys

    return sys.modules[next(name for name in sys.modules if name.endswith("MedFMPanel.patient_help"))]


@pytest.fixture
def silent(monkeypatch, help_module):
    """No sound and no server; returns what was played and the settings that were called with."""
    played, called = [], []
    monkeypatch.setattr(help_module, "play", lambda sound: played.append(sound) or True)
    monkeypatch.setattr(help_module, "call_staff", lambda settings: called.append(settings) or bool(settings.call_url))
    return played, called


def button(panel, name):
    (found,) = [b for b in panel.patient.screen.frame.findChildren("QPushButton") if b.objectName == name]
    return found


def wanted(panel):
    return panel.patient.screen.frame.findChild("QLabel", "wantedLabel")


def tap_call(host, panel) -> None:
    button(panel, "callButton").click()
    host.process_events()
    host.wait_until(lambda: panel.patient.call._sent is None)


def test_one_tap_calls_and_it_stays_until_somebody_comes(handed_over, host, silent):  # noqa: F811
    panel, (played, called) = handed_over, silent
    closed = ClosedSet(languages(), (OWN,), HEADINGS)
    tap_call(host, panel)
    assert "A signal is given here" in said(panel) and len(called) == 1
    host.wait_until(lambda: len(played) == 1)
    assert wanted(panel).isVisible() and re.fullmatch(r"Help is wanted here\. \d\d:\d\d", wanted(panel).text)
    assert outside(host.main_window, closed) == []
    panel.patient.forget()  # as after the time-out
    panel.patient.show()
    assert wanted(panel).isVisible(), "who no longer moves still needs help"
    button(panel, "seenButton").click()
    host.process_events()
    assert not wanted(panel).isVisible() and panel.patient.call.since == ""


def test_a_server_that_takes_the_call_is_believed(handed_over, host, silent):  # noqa: F811
    panel = handed_over
    panel.patient.screen.settings = type(panel.patient.screen.settings)(call_url="http://127.0.0.1:1/", place="Room 2")
    tap_call(host, panel)
    assert "I have called somebody" in said(panel)
    assert [s.place for s in silent[1]] == ["Room 2"]


def test_a_call_needs_no_language_and_does_not_wait_for_a_job(handed_over, use_runner, host, silent):  # noqa: F811
    panel = handed_over
    runner = use_runner(response=lambda request: segmented(request, "brain"), hold=True)
    panel.ui.questionBox.setEditText(OWN)
    panel.ui.applyButton.click()
    tap_call(host, panel)
    assert wanted(panel).isVisible() and panel.session.running
    runner.release()
    done(host, panel)
    press(host, panel, "Start again")
    assert button(panel, "callButton").isVisible() and button(panel, "callButton").enabled
    tap_call(host, panel)
    assert len(silent[1]) == 2


def test_ending_the_mode_ends_the_call(handed_over, host, silent):  # noqa: F811
    panel = handed_over
    tap_call(host, panel)
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    host.process_events()
    assert panel.patient.call.since == "" and not wanted(panel).isVisible()


def test_an_emergency_offers_the_call_in_every_language():
    from MedFMLib.patient.parts import render
    from MedFMLib.patient.replies import escalate

    for code in languages():
        for kind in ("chest", "self_harm"):
            assert glossary(code).parts["call_offer"] in render(escalate(kind), code)


# -- keys ------------------------------------------------------------------------------------------------------


def key(host, name: str, modifiers=None):
    """Press a key as the operating system delivers it: to the window."""
    import qt

    held = qt.Qt.NoModifier if modifiers is None else modifiers
    for kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
        focused = host.main_window.focusWidget() or host.main_window
        host.app.sendEvent(focused, qt.QKeyEvent(kind, getattr(qt.Qt, f"Key_{name}"), held))
    host.process_events()


def focused(host):
    return host.main_window.focusWidget()


def test_tab_visits_every_control_and_comes_back(handed_over, host):  # noqa: F811
    import qt

    panel = handed_over
    controls = panel.patient.controls()
    assert len(controls) > 15
    host.main_window.activateWindow()
    host.app.layoutManager().sliceWidget("Red").sliceView().setFocus()
    host.process_events()
    visited = []
    for _ in controls:
        key(host, "Tab")
        visited.append(focused(host))
    assert [v.objectName or v.accessibleName for v in visited] == [c.objectName or c.accessibleName for c in controls]
    key(host, "Backtab", qt.Qt.ShiftModifier)
    assert focused(host) == controls[-2]
    assert all(c.accessibleName or c.text for c in controls), "a screen reader has a name for each"


def test_everything_works_with_keys_alone(handed_over, use_runner, host, silent):  # noqa: F811
    panel, words = handed_over, glossary()
    use_runner(response=lambda request: segmented(request, "brain", "cerebellum"))
    host.main_window.activateWindow()

    def choose(text: str, with_key: str = "Space") -> None:
        for _ in range(60):
            key(host, "Tab")
            if focused(host).accessibleName == text:
                break
        assert focused(host).accessibleName == text
        key(host, with_key)
        done(host, panel)

    choose(words.buttons["again"])
    choose(glossary("de").name_of_language, "Return")
    assert panel.patient.screen.language == "de"
    german = glossary("de")
    choose(german.buttons["looking_at"])
    host.wait_until(lambda: panel.patient.picture.index is not None)
    assert focused(host) == panel.ui.conversationView, "a screen reader reads what has the focus"
    assert german.plain("brain") in panel.ui.conversationView.accessibleName
    choose(german.buttons["where_is"], "Enter")
    choose(german.plain("cerebellum"))
    assert german.what("cerebellum") in said(panel)
    choose(german.buttons["call"])
    assert wanted(panel).isVisible()


def test_other_keys_reach_no_button(handed_over, host):  # noqa: F811
    import qt

    panel = handed_over
    host.main_window.activateWindow()
    first = panel.patient.screen.buttons[0]
    first.setFocus()
    pressed = []
    first.connect("clicked(bool)", lambda *_: pressed.append(1))
    for name, held in (("Space", qt.Qt.ControlModifier), ("A", None), ("Escape", None), ("F5", None)):
        key(host, name, held)
    assert not pressed and focused(host) == first
    panel.ui.pinEdit.setFocus()
    for name in ("Up", "Down"):
        key(host, name)
    assert focused(host) == panel.ui.pinEdit


# -- the picture -------------------------------------------------------------------------------------------------


def overlays(host):
    layout = host.app.layoutManager()
    views = [layout.sliceWidget(name).sliceView() for name in layout.sliceViewNames()]
    return [view.findChild("QLabel", "patientNames") for view in views]


@pytest.fixture
def segmented_panel(handed_over, use_runner, host):  # noqa: F811
    panel = handed_over
    use_runner(response=lambda request: segmented(request, "brain", "left kidney", "lung tumor"))
    press(host, panel, glossary().buttons["looking_at"])
    done(host, panel)
    host.wait_until(lambda: panel.patient.picture.index is not None)
    host.main_window.resize(1500, 1000)
    host.process_events()
    panel.patient.names.refresh()
    return panel


def test_names_lie_over_the_slices_in_the_patients_language(segmented_panel, host):
    import qt

    panel = segmented_panel
    names = [o.accessibleName for o in overlays(host) if o is not None and o.isVisible()]
    assert names and any("brain" in text and "left kidney" in text for text in names)
    assert not any("tumor" in text for text in names)
    assert all(o.testAttribute(qt.Qt.WA_TransparentForMouseEvents) for o in overlays(host) if o is not None)
    panel.patient.act("language", "de")
    panel.patient.names.refresh()
    assert any("Gehirn" in o.accessibleName for o in overlays(host) if o is not None)
    press(host, panel, glossary("de").buttons["again"])
    panel.patient.names.refresh()
    assert not any(o is not None and o.isVisible() for o in overlays(host))


def test_a_line_ends_in_its_structure_and_follows_the_slice(segmented_panel, host):
    panel = segmented_panel
    widget = next(
        w
        for w in map(host.app.layoutManager().sliceWidget, host.app.layoutManager().sliceViewNames())
        if w.mrmlSliceNode().GetOrientation() == "Axial"
    )
    index, view, node = panel.patient.picture.index, widget.sliceView(), widget.mrmlSliceNode()
    from MedFMLib.scene.reading import to_numpy

    found = panel.patient.names._names(index, to_numpy(node.GetXYToRAS()), view, "en", "")
    assert {label for label, *_ in found} == {"brain", "left kidney"}
    for label, _, x, y in found:
        position = node.GetXYToRAS().MultiplyPoint((x, view.height - 1 - y, 0, 1))[:3]
        assert index.at(position).label == label
    node.SetSliceOffset(1e4)
    host.process_events()
    panel.patient.names.refresh()
    overlay = view.findChild("QLabel", "patientNames")
    assert overlay is None or not overlay.isVisible()


def test_leaving_removes_the_names(segmented_panel, host):
    panel = segmented_panel
    assert any(o is not None for o in overlays(host))
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    host.process_events()
    assert all(o is None for o in overlays(host))


def test_every_button_that_is_not_a_choice_has_a_pictogram(handed_over, host):  # noqa: F811
    panel = handed_over
    buttons = [
        *shown_buttons(panel),
        button(panel, "callButton"),
        button(panel, "readButton"),
        button(panel, "seenButton"),
    ]
    assert len(buttons) > 12
    for one in buttons:
        picture = one.icon.pixmap(26, 26).toImage()
        assert any(picture.pixelColor(x, y).alpha() > 200 for x in range(26) for y in range(26)), one.accessibleName


# -- reading aloud, and forgetting ----------------------------------------------------------------------------------


def test_the_answer_is_read_and_a_second_tap_stops(handed_over, host, monkeypatch):  # noqa: F811
    panel, spoken, stopped = handed_over, [], threading.Event()

    class Voice:
        speaking = False

        def say(self, text, language):
            spoken.append((text, language))
            self.speaking = True
            return True

        def stop(self):
            self.speaking = False
            stopped.set()

    monkeypatch.setattr(panel.patient.reader, "_voice", Voice())
    press(host, panel, glossary().buttons["about_me"])
    panel.patient.act("read", "")
    host.wait_until(lambda: spoken)
    assert spoken == [(panel.patient.screen.spoken, "en")] and glossary().parts["about_me"] in spoken[0][0]
    panel.patient.act("read", "")
    host.wait_until(stopped.is_set)


def test_where_nothing_can_be_read_there_is_no_button(handed_over, host):  # noqa: F811
    panel = handed_over
    for reads, allowed in ((True, True), (True, False), (False, True)):
        panel.patient.screen._reads = reads
        panel.patient.screen.settings = type(panel.patient.screen.settings)(read_aloud=allowed)
        panel.patient.screen.show_intents()
        assert button(panel, "readButton").isVisible() is (reads and allowed)


def test_what_a_patient_typed_is_nowhere_in_the_scene(handed_over, use_runner, host):  # noqa: F811
    import slicer

    panel = handed_over
    use_runner(response=lambda request: segmented(request, "brain"))
    panel.ui.questionBox.setEditText("Is my secret aunt Ottilie in there?")
    panel.ui.applyButton.click()
    done(host, panel)
    assert "Ottilie" in said(panel)
    panel.patient.forget()
    panel.patient.show()
    host.process_events()
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    assert not [
        n.GetAttribute(KIND) for n in nodes if n.GetAttribute(KIND) in ("answer", "conversation", "patient-visit")
    ]
    for node in nodes:
        text = str(node)
        assert "Ottilie" not in text
        if node.IsA("vtkMRMLTextNode"):
            assert "Ottilie" not in (node.GetText() or "")
    assert "Ottilie" not in said(panel)
