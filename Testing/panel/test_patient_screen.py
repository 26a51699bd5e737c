"""The patient's screen: a hostile model cannot write on it, touching names what is there, and everything is reached by taps."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from panel.test_patient_mode import NAME, PIN, handed_over, lock, texts  # noqa: F401  (fixtures)
from support.closed_set import ClosedSet

from MedFMLib.core.findings import Answer, Part, Segment, Segmentation
from MedFMLib.core.request import PATIENT, Provenance, Response
from MedFMLib.errors import InputError, ModelError
from MedFMLib.interfaces.jobs import Fraction, Note, PartialText, Stage
from MedFMLib.patient import glossary, languages
from MedFMLib.patient.replies import PERMITTED, Facts, reply

EVIL = ("You have cancer.", "liver tumor…", "<b>MILLER^ANNA</b> will die", "{own}")
OWN = "Is that round thing big?"
STYLES = re.compile(r"<style.*?</style>|<[^>]+>", re.DOTALL)
HEADINGS = ("MedFM", "PIN", "\u26a0", "0%", "100%", "%p%", "48%", "Module")
"""Fixed texts of Slicer's window, and what the progress bar shows."""


def mask_of(image, low=(0.3, 0.3, 0.3), high=(0.7, 0.7, 0.7)):
    mask = np.zeros(image.geometry.shape, bool)
    mask[tuple(slice(int(a * n), int(b * n)) for a, b, n in zip(low, high, image.geometry.shape, strict=True))] = True
    return mask


def segmented(request, *labels):
    """What the engine gives for a patient: approved parts and plain names."""
    facts = Facts("MR", dict.fromkeys(labels, 12.0))
    parts = reply(request.intent or "looking_at", "", facts, request.language or "en")
    width = 0.4 / max(1, len(labels))
    segments = tuple(
        Segment(label, mask_of(request.image, (0.3 + n * width, 0.3, 0.3), (0.3 + (n + 1) * width, 0.7, 0.7)))
        for n, label in enumerate(labels)
    )
    findings = (Answer(request.question, "", parts=parts), Segmentation(segments, request.image.geometry))
    return Response(findings, Provenance("ask", "m"))


def press(host, panel, text):
    """Press the patient's button with this text."""
    (button,) = [
        b for b in panel.patient.screen.frame.findChildren("QPushButton") if b.accessibleName == text and b.isVisible()
    ]
    button.click()
    host.process_events()
    return button


def shown_buttons(panel):
    """The buttons that change; those for a call and for reading aloud are always there."""
    found = panel.patient.screen.frame.findChildren("QPushButton")
    return [b for b in found if not b.isHidden() and b.objectName not in ("callButton", "readButton", "seenButton")]


def done(host, panel):
    host.wait_until(lambda: not panel.session.running)
    host.process_events()


def said(panel):
    return panel.ui.conversationView.toPlainText()


def words_on(window) -> list[str]:
    """Every text that is visible, line by line, without the markup of the text browser."""
    found = []
    for widget in window.findChildren("QWidget"):
        if widget.isVisible():
            for name in ("text", "title", "plainText", "placeholderText", "windowTitle", "accessibleName", "format"):
                value = widget.property(name)
                if isinstance(value, str) and widget.inherits("QPushButton"):  # whose long texts have several lines
                    value = value.replace("\n", " ")
                found += value.splitlines() if isinstance(value, str) else []
            if widget.inherits("QComboBox"):
                found += [widget.itemText(n) for n in range(widget.count)]
    return [STYLES.sub("", line).removeprefix("\u26a0").strip() for line in found if line.strip()]


def outside(window, closed) -> list[str]:
    return [line for line in words_on(window) if line and not closed.has(line)]


# -- a hostile model ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_that_a_runner_says_reaches_the_screen_or_the_log(handed_over, use_runner, host, evil, caplog):  # noqa: F811
    panel, closed = handed_over, ClosedSet(languages(), (OWN,), HEADINGS)
    checked = 0

    def respond(request):
        assert request.audience == PATIENT
        mask = mask_of(request.image)
        answer = Answer(
            evil, evil, verdict=evil, parts=(Part("free", {"free": evil}), Part(evil)), suggestions=(evil, "healthy")
        )
        parts = tuple(Segment(label, mask) for label in ("brain", evil))
        found = (answer, Segmentation(parts, request.image.geometry))
        return Response(found, Provenance(evil, evil, notes=(evil,), title=evil))

    script = [Stage(evil), Note(evil), PartialText(evil), Fraction(0.48)]
    answers = (respond, InputError(evil), ModelError(f"{evil}…"), RuntimeError(evil))
    with caplog.at_level(logging.DEBUG):
        for response in answers:
            runner = use_runner(response=response, script=script, hold=True)
            panel.ui.questionBox.setEditText(OWN)
            panel.ui.applyButton.click()
            host.wait_until(lambda: panel.ui.progressBar.value == 48)
            checked += len(words_on(host.main_window))
            assert outside(host.main_window, closed) == []
            runner.release()
            done(host, panel)
            checked += len(words_on(host.main_window))
            assert outside(host.main_window, closed) == []
            assert "tell the staff now" in said(panel)
        for action, value in (("intent", evil), ("subject", evil), ("keep", evil), ("language", evil)):
            panel.patient.act(action, value)
            host.process_events()
            assert outside(host.main_window, closed) == []
        panel.showError(evil)
        panel.abandonJob(evil)
        assert outside(host.main_window, closed) == []
    ours = [r.getMessage() for r in caplog.records if r.name != "MedFMLib.interfaces.jobs"]
    assert evil not in "\n".join([*ours, panel.ui.logView.toPlainText()])
    assert checked > 100


def test_the_check_sees_what_does_not_belong_on_the_screen(handed_over, host):  # noqa: F811
    closed = ClosedSet(languages(), (OWN,), HEADINGS)
    handed_over.ui.statusLabel.text = EVIL[0]
    assert outside(host.main_window, closed) == [EVIL[0]]


# -- taps ---------------------------------------------------------------------------------------------------


def test_the_start_page_has_languages_only_and_a_tap_leads_on(handed_over, host):  # noqa: F811
    panel = handed_over
    press(host, panel, "Start again")
    names = [b.accessibleName for b in shown_buttons(panel)]
    assert names == [glossary(code).name_of_language for code in panel.patient.screen.languages()]
    assert not panel.ui.conversationView.isVisible() and not panel.ui.questionBox.isVisible()
    press(host, panel, "English")
    assert panel.ui.conversationView.isVisible() and "What am I looking at?" in [
        b.accessibleName for b in shown_buttons(panel)
    ]


def test_everything_can_be_asked_without_typing(handed_over, use_runner, host):  # noqa: F811
    panel, asked = handed_over, []
    use_runner(response=lambda request: asked.append(request.intent) or segmented(request, "brain", "cerebellum"))
    words = glossary()
    press(host, panel, words.buttons["looking_at"])
    done(host, panel)
    assert "around these parts of your body: brain, small brain" in said(panel)
    host.wait_until(lambda: panel.patient.picture.index is not None)
    for intent in PERMITTED:
        if intent in ("small_talk", "looking_at"):
            continue
        press(host, panel, words.buttons[intent])
        done(host, panel)
        if intent in ("where_is", "explain", "measurement"):
            press(host, panel, "Brain" if any(b.accessibleName == "Brain" for b in shown_buttons(panel)) else "brain")
            assert words.what("brain") in said(panel) or "takes up about" in said(panel)
        if intent == "ask_doctor":
            press(host, panel, words.ask[2])
            press(host, panel, words.buttons["back"])
        assert "tell the staff now" in said(panel), intent
    assert set(asked) == {"looking_at", "healthy"}
    press(host, panel, words.buttons["list"])
    assert words.ask[2] in said(panel)


def test_a_refusal_offers_three_buttons_and_the_list_for_the_doctor(handed_over, use_runner, host):  # noqa: F811
    panel, words = handed_over, glossary()
    parts = (Part("refusal.meaning"), Part("instead"), Part("staff"))

    def respond(request):
        answer = Answer(
            request.question, "", verdict="withhold", parts=parts, suggestions=("healthy", "viewer", "explain")
        )
        return Response((answer,), Provenance("ask", "m"))

    use_runner(response=respond)
    panel.ui.questionBox.setEditText(OWN)
    panel.ui.applyButton.click()
    done(host, panel)
    assert [b.accessibleName for b in shown_buttons(panel)][:3] == [
        words.buttons[i] for i in ("healthy", "viewer", "explain")
    ]
    press(host, panel, words.buttons["keep"])
    press(host, panel, words.buttons["list"])
    assert OWN in said(panel)


def test_buttons_are_large_enough_and_have_enough_contrast(handed_over, host):  # noqa: F811
    from MedFMPanel.patient_screen import LARGE, STYLE

    buttons = shown_buttons(handed_over)
    assert len(buttons) > 8 and all(b.height >= 44 and b.width >= 44 for b in buttons)
    outer = handed_over.uiWidget
    for language in (code for code in languages() if code != "hi"):  # whose font is on no test machine
        handed_over.patient.act("language", language)
        host.process_events()
        need = handed_over.patient.screen.frame.minimumSizeHint.width()
        assert need <= 540, (language, need)  # nothing is cut off at the panel's smallest width
    assert outer.isVisible()

    def luminance(color):
        channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    pairs = re.findall(r"color: (#\w{6}); background: (#\w{6})", STYLE + LARGE)
    assert len(pairs) >= 4
    for pair in pairs:
        dark, light = sorted(map(luminance, pair))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, pair


def test_the_panel_is_wide_enough_and_as_before_afterwards(lock, panel, add_volume, host):  # noqa: F811
    (dock,) = [d for d in host.main_window.findChildren("QDockWidget") if d.isAncestorOf(panel.uiWidget)]
    before, highest = dock.minimumWidth, panel.ui.conversationView.maximumHeight
    add_volume(NAME)
    panel.patient.lock = lock
    lock.choose_pin(PIN)
    for _ in range(2):
        panel.patient.enter()
        panel.patient.show()
        assert dock.minimumWidth >= 560 and panel.ui.conversationView.maximumHeight < highest
        panel.ui.pinEdit.text = PIN
        panel.ui.leavePatientButton.click()
        assert (dock.minimumWidth, panel.ui.conversationView.maximumHeight) == (before, highest)


def test_the_visit_is_kept_for_the_page_when_the_staff_end_the_mode(looked_at, host):
    import slicer

    from MedFMLib.patient import read_visit
    from MedFMLib.patient.visit import KIND as VISIT
    from MedFMLib.scene.nodes import find

    panel, words = looked_at, glossary()
    press(host, panel, words.buttons["ask_doctor"])
    press(host, panel, words.ask[1])
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    visit = read_visit(find(slicer.mrmlScene, panel.parameters.volume, VISIT).GetText())
    assert visit.language == "en" and visit.chosen == (Part("ask.2"),)
    assert [a.question for a in visit.asked] == [words.buttons["looking_at"], words.buttons["ask_doctor"]]
    assert panel.results.conversation.turns == []


# -- the picture answers to a finger ------------------------------------------------------------------------


def touch(host, name, ras):
    """Touch a slice view at a position in the patient."""
    import vtk

    widget = host.app.layoutManager().sliceWidget(name)
    widget.mrmlSliceNode().JumpSliceByOffsetting(*ras)
    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), inverse)
    x, y = (round(v) for v in inverse.MultiplyPoint((*ras, 1.0))[:2])
    send(host, widget.sliceView(), ((x, y), (x, y)))


def send(host, view, places):
    """Press and release at (x, y) in pixels from the lower left corner of a view."""
    import qt

    for kind, (x, y) in zip((qt.QEvent.MouseButtonPress, qt.QEvent.MouseButtonRelease), places, strict=True):
        place = qt.QPointF(x, view.height - 1 - y)
        held = qt.Qt.LeftButton if kind == qt.QEvent.MouseButtonPress else qt.Qt.NoButton
        host.app.sendEvent(view, qt.QMouseEvent(kind, place, place, qt.Qt.LeftButton, held, qt.Qt.NoModifier))
    host.process_events()


@pytest.fixture
def looked_at(handed_over, use_runner, host):  # noqa: F811
    """The panel after the first question, with two structures."""
    panel = handed_over
    use_runner(response=lambda request: segmented(request, "brain", "cerebellum"))
    press(host, panel, glossary().buttons["looking_at"])
    done(host, panel)
    host.wait_until(lambda: panel.patient.picture.index is not None)
    return panel


@pytest.mark.parametrize("view", ["Red", "Green", "Yellow"])
def test_touching_a_structure_names_explains_and_highlights_it(looked_at, host, view):
    from MedFMLib.scene.nodes import find

    panel, words = looked_at, glossary()
    import slicer

    node = find(slicer.mrmlScene, panel.parameters.volume, "segmentation")
    display, index = node.GetDisplayNode(), panel.patient.picture.index
    for segment in index.segmentation.segments:
        middle = index.image.geometry.to_world(np.argwhere(segment.mask).mean(axis=0))
        touch(host, view, middle)
        assert f"You touch this part: {words.plain(segment.label)}." in said(panel)
        assert words.what(segment.label) in said(panel)
        ids = {
            node.GetSegmentation().GetNthSegment(n).GetName(): node.GetSegmentation().GetNthSegmentID(n)
            for n in range(2)
        }
        shown = {words.key(name): display.GetSegmentOpacity2DFill(i) for name, i in ids.items()}
        assert max(shown, key=shown.get) == words.key(segment.label)
        solid = {words.key(name): display.GetSegmentOpacity3D(i) for name, i in ids.items()}
        assert max(solid, key=solid.get) == words.key(segment.label)
    touch(host, view, index.image.geometry.to_world((0, 0, 0)))
    assert words.parts["touch_outside"] in said(panel)
    inside = np.argwhere(index.image.scalars > 500)
    free = [v for v in inside if not any(s.mask[tuple(v)] for s in index.segmentation.segments)]
    far = max(free, key=lambda v: abs(v - np.array(index.image.geometry.shape) / 2).max())
    touch(host, view, index.image.geometry.to_world(far))
    assert words.parts["touch_nothing"] in said(panel)


def test_the_touched_structure_has_a_surface_in_3d_at_its_place(looked_at, host):
    import slicer
    from MedFMPanel.kiosk_views import TOUCHED

    from MedFMLib.scene.nodes import KIND

    def models():
        found = slicer.util.getNodesByClass("vtkMRMLModelNode")
        return [n for n in found if n.GetAttribute(KIND) == TOUCHED and n.GetDisplayNode().GetVisibility()]

    picture = looked_at.patient.picture
    for segment in picture.index.segmentation.segments:
        picture.highlight(segment.label)
        host.wait_until(lambda: models())
        looked_at.updateButtons()  # what is not allowed in the views is hidden again
        (model,) = models()
        assert model.GetDisplayNode().GetVisibility()
        found = np.array(model.GetPolyData().GetBounds()).reshape(3, 2)
        places = picture.index.image.geometry.to_world(np.argwhere(segment.mask))
        spacing = picture.index.image.geometry.spacing.max()
        assert np.abs(found - np.stack([places.min(0), places.max(0)], axis=1)).max() <= spacing
    picture.highlight("")
    assert not models()
    picture.end()
    assert not any(n.GetAttribute(KIND) == TOUCHED for n in slicer.util.getNodesByClass("vtkMRMLModelNode"))


def test_opacities_come_back_when_the_mode_ends(looked_at, host):
    import slicer

    from MedFMLib.scene.nodes import find

    panel = looked_at
    node = find(slicer.mrmlScene, panel.parameters.volume, "segmentation")
    display, segment = node.GetDisplayNode(), node.GetSegmentation().GetNthSegmentID(0)
    before = display.GetSegmentOpacity2DFill(segment)
    panel.patient.picture.highlight("cerebellum")
    assert display.GetSegmentOpacity2DFill(segment) != before
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    assert display.GetSegmentOpacity2DFill(segment) == before and not display.GetAttribute("MedFMOpacities")


def test_a_drag_is_no_touch(looked_at, host):
    panel = looked_at
    panel.patient.say(Part("viewer"))
    send(host, host.app.layoutManager().sliceWidget("Red").sliceView(), ((60, 60), (90, 60)))
    assert "Touch a part" in said(panel)


def test_before_anything_is_named_a_touch_says_what_to_do(handed_over, host):  # noqa: F811
    touch(host, "Red", (10.0, 10.0, 10.0))
    assert glossary().parts["touch_first"] in said(handed_over)


def test_the_arrows_turn_the_page(handed_over, host):  # noqa: F811
    logic = host.app.layoutManager().sliceWidget("Red").sliceLogic()
    before = logic.GetSliceOffset()
    press(host, handed_over, glossary().buttons["up"])
    assert logic.GetSliceOffset() != before
    press(host, handed_over, glossary().buttons["down"])
    assert logic.GetSliceOffset() == pytest.approx(before)


# -- forgetting ---------------------------------------------------------------------------------------------


def test_after_the_time_out_everything_is_forgotten(looked_at, host):
    panel = looked_at
    panel.patient.act("keep", "1")
    panel.ui.questionBox.setEditText(OWN)
    panel.patient.tick()
    assert panel.patient.screen.chosen_language  # not yet
    panel.patient._last -= panel.patient.screen.settings.timeout + 1
    panel.patient.tick()
    host.process_events()
    assert not panel.patient.screen.chosen_language and panel.patient.chosen == []
    assert panel.results.conversation.turns == [] and panel.ui.questionBox.currentText == ""
    assert not panel.ui.conversationView.isVisible() and OWN not in texts(host.main_window)
    assert panel.patient.on and panel.ui.statusLabel.text == ""


def test_a_touch_or_key_puts_the_time_out_off(handed_over, host):  # noqa: F811
    import qt

    handed_over.patient._last = 0.0
    label = handed_over.ui.statusLabel
    event = qt.QMouseEvent(qt.QEvent.MouseButtonPress, qt.QPointF(1, 1), qt.QPointF(1, 1), qt.Qt.LeftButton, qt.Qt.LeftButton,
                           qt.Qt.NoModifier)  # fmt: skip
    host.app.sendEvent(label, event)
    assert handed_over.patient._last > 0


def test_a_job_of_somebody_who_left_writes_nothing(handed_over, use_runner, host):  # noqa: F811
    runner = use_runner(response=lambda request: segmented(request, "brain"), hold=True)
    press(host, handed_over, glossary().buttons["looking_at"])
    handed_over.patient._last = -1e9
    handed_over.patient.tick()
    runner.release()
    host.process_events()
    assert not handed_over.session.running and handed_over.results.conversation.turns == []
    assert handed_over.ui.statusLabel.text == ""


# -- the clinic's choices and languages ---------------------------------------------------------------------


def test_the_clinics_choices_are_stored_and_free_text_comes_with_a_warning(lock, panel, host):  # noqa: F811
    from MedFMLib.patient import read_settings

    form = panel.patient.form
    assert not read_settings().free_text and not read_settings().model_chooses and read_settings().timeout == 180
    form.free.setChecked(True)
    form.timeout.setValue(60)
    assert read_settings().free_text and read_settings().timeout == 60 and not form.warning.isHidden()
    form.free.setChecked(False)
    assert not read_settings().free_text and form.warning.isHidden()


@pytest.mark.parametrize("language", languages())
def test_every_language_has_its_texts_on_the_whole_screen(handed_over, host, language):  # noqa: F811
    import qt

    panel, closed = handed_over, ClosedSet((language,), (), HEADINGS)
    panel.patient.act("language", language)
    host.process_events()
    assert outside(host.main_window, closed) == []
    right = panel.patient.screen.frame.layoutDirection == qt.Qt.RightToLeft
    assert right == (language == "ar") and len(words_on(host.main_window)) > 15
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()
    assert (
        "Research and education only" in panel.ui.noticeLabel.text
        and panel.ui.leavePatientButton.text == "End patient mode"
    )
