"""What a patient could read of others, and which diagnosis, in patient mode; each is tried in the stand-in for Slicer."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from panel.conftest import add_volume, host, panel, running_host, use_runner  # noqa: F401  (fixtures)
from panel.test_patient_mode import NAME, PIN, handed_over, lock, texts  # noqa: F401  (fixtures)

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.patient import glossary, make_leaflet, plain_lines
from MedFMLib.scene.nodes import KIND, VOLUME_ROLE

OTHER = "OTHER^PATIENT 1955"
DIAGNOSES = (
    "lung tumor",
    "left lung tumor",
    "metastasis?",
    "liver lesion",
    "Doe John",
    "glioblastoma IV",
    "kidney stone",
)
KEYS = {"[": "Key_BracketLeft", "]": "Key_BracketRight", "{": "Key_BraceLeft", "}": "Key_BraceRight"}


def press(host, widget, text: str) -> None:  # noqa: F811
    """Press and release a key where the operating system would send it."""
    import qt

    key = getattr(qt.Qt, KEYS.get(text, f"Key_{text.upper()}"))
    for kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
        host.app.sendEvent(widget, qt.QKeyEvent(kind, key, qt.Qt.NoModifier, text))
    host.process_events()


def recorder():
    """An event filter of a widget, which comes after the application's: it keeps the keys and tips that the widget would get."""
    import qt

    class Recorder(qt.QObject):
        def __init__(self):
            qt.QObject.__init__(self)
            self.keys, self.tips = [], []

        def eventFilter(self, watched, event):
            if event.type() in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
                self.keys.append(watched)
            if event.type() in (qt.QEvent.ToolTip, qt.QEvent.WhatsThis, qt.QEvent.StatusTip):
                self.tips.append(watched)
            return False

    return Recorder()


def composites():
    import slicer

    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def layers() -> dict:
    """What each slice view shows."""
    return {
        c.GetID(): (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), c.GetLabelVolumeID()) for c in composites()
    }


@pytest.fixture
def two_patients(lock, panel, add_volume, host):  # noqa: F811
    """Two volumes with names, the second in the foreground, before patient mode."""
    import slicer

    mine, other = add_volume(NAME), add_volume(OTHER)
    slicer.util.setSliceViewerLayers(background=mine, foreground=other, fit=False)
    host.process_events()
    panel.parameters.volume = mine
    panel.patient.lock = lock
    lock.choose_pin(PIN)
    yield mine, other
    if lock.on:
        lock.leave(PIN)
        panel.patient.show()


def leave(panel):  # noqa: F811
    panel.ui.pinEdit.text = PIN
    panel.ui.leavePatientButton.click()


# -- other patients' volumes ------------------------------------------------------------------------------


def test_keys_in_a_slice_view_change_its_layers_before(two_patients, host):  # noqa: F811
    """The stand-in does what Slicer does, or the next tests prove nothing."""
    view = host.app.layoutManager().sliceWidget("Red").sliceView()
    seen = set()
    for key in KEYS:
        press(host, view, key)
        seen.add(next(iter(layers().values())))
    assert len(seen) > 1


def test_no_key_reaches_a_view(two_patients, panel, host, attack):  # noqa: F811
    mine, _ = two_patients
    panel.patient.enter()
    views = host.app.layoutManager().views()
    reached = []
    tags = [(v, v.interactor().AddObserver(e, lambda *_: reached.append(1))) for v in views
            for e in ("KeyPressEvent", "KeyReleaseEvent", "CharEvent")]  # fmt: skip
    for view in views:
        for key in (*KEYS, "v", "r", "g", "b", "t", "q"):
            press(host, view, key)
            for event in ("KeyPressEvent", "CharEvent", "KeyReleaseEvent"):  # past Qt, straight to VTK
                view.interactor().SetKeyEventInformation(0, 0, key, 1, key)
                view.interactor().InvokeEvent(event)
    for view, tag in tags:
        view.interactor().RemoveObserver(tag)
    attack("[ ] { } showed other patients", f"{len(reached)} of {len(views) * 10} keys reached a view")
    assert not reached
    assert set(layers().values()) == {(mine.GetID(), None, None)}


def test_keys_reach_the_question_and_the_pin_only(two_patients, panel, host, attack):  # noqa: F811
    panel.patient.enter()
    edit, pin = panel.ui.questionBox.lineEdit(), panel.ui.pinEdit
    edit.clear()
    for field in (edit, pin):
        press(host, field, "[")
    assert edit.text == "[" and pin.text == "["
    seen = recorder()
    others = [w for w in host.main_window.findChildren("QWidget")
              if w.isVisible() and w not in (edit, pin, panel.ui.questionBox)]  # fmt: skip
    for widget in others:
        widget.installEventFilter(seen)
        press(host, widget, "a")
        widget.removeEventFilter(seen)
    attack("a list of forbidden keys", f"{len(seen.keys)} of {len(others)} other widgets got one")
    assert len(others) > 10 and not seen.keys
    pin.clear()
    leave(panel)
    label = panel.ui.statusLabel  # the recorder does see keys
    label.installEventFilter(seen)
    press(host, label, "a")
    label.removeEventFilter(seen)
    assert seen.keys


def test_volumes_of_others_leave_the_views_and_lists_and_come_back(two_patients, panel, host, attack):  # noqa: F811
    import slicer

    mine, other = two_patients
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hidden before")
    hidden.SetHideFromEditors(True)
    before = layers()
    panel.patient.enter()
    assert set(layers().values()) == {(mine.GetID(), None, None)}
    assert other.GetHideFromEditors() and not mine.GetHideFromEditors()
    for composite in composites():  # whatever else would put one there
        composite.SetBackgroundVolumeID(other.GetID())
        composite.SetForegroundVolumeID(other.GetID())
        composite.SetLabelVolumeID(other.GetID())
    assert set(layers().values()) == {(mine.GetID(), None, None)}
    panel.patient.show()
    leave(panel)
    assert layers() == before and hidden.GetHideFromEditors() and not other.GetHideFromEditors()
    assert not any("MedFMShut" in (n or "") for node in slicer.util.getNodesByClass("vtkMRMLNode")
                   for n in (node.GetAttributeNames() or ()))  # fmt: skip
    attack("in the foreground", "out of views and lists, then as before")


def test_a_crash_leaves_a_scene_that_can_be_restored(two_patients, panel, host, tmp_path, attack):  # noqa: F811
    """The records are in the nodes: what a new process finds in a saved scene is restored when the mode is off."""
    import slicer
    from MedFMPanel.kiosk_views import ViewLimits

    _, other = two_patients
    before = layers()
    panel.patient.enter()
    panel.patient._kiosk.stop()  # nothing of the old process acts any more
    text = other.GetAttribute("MedFMShut")
    recorded = [json.loads(c.GetAttribute("MedFMShutLayers")) for c in composites()]
    assert text == "1" and [tuple(r) for r in recorded] == list(before.values())
    ViewLimits().open()
    assert layers() == before and not other.GetHideFromEditors()
    for node in composites():
        node.SetAttribute("MedFMShutLayers", "{not json")
    ViewLimits().open()
    assert slicer.mrmlScene.GetNumberOfNodes()
    attack("layers were lost", "restored from the scene")


def test_a_volume_that_is_loaded_in_patient_mode_is_not_shown(two_patients, panel, add_volume, host, attack):  # noqa: F811
    mine, _ = two_patients
    panel.patient.enter()
    third = add_volume("THIRD^PATIENT")
    host.process_events()
    assert set(layers().values()) == {(mine.GetID(), None, None)}
    panel.updateButtons()
    assert third.GetHideFromEditors()
    attack("shown at once", "never in a layer")


def test_corners_name_nobody_and_afterwards_the_right_one(two_patients, panel, host, monkeypatch, attack):  # noqa: F811
    import types

    import slicer
    from host.slice_annotations import SliceAnnotations

    made = SliceAnnotations(host.app.layoutManager())
    probe = types.SimpleNamespace(infoWidget=types.SimpleNamespace(sliceAnnotations=made))
    monkeypatch.setattr(slicer.modules, "DataProbeInstance", probe, raising=False)
    corners = [view.cornerAnnotation() for view in host.app.layoutManager().views()[:3]]
    assert all("MILLER" in corner.GetText(0) for corner in corners)
    panel.patient.enter()
    corners[0].SetText(3, OTHER)  # whoever writes it
    said = [corner.GetText(n) for corner in corners for n in range(8)]
    attack("kept the name for the session", f"{sum(map(bool, said))} texts in corners")
    assert not any(said)
    leave(panel)
    assert all("MILLER" in corner.GetText(0) for corner in corners)
    _, other = two_patients
    slicer.util.setSliceViewerLayers(background=other, foreground=None)
    host.process_events()
    assert all("OTHER" in corner.GetText(0) and "MILLER" not in corner.GetText(0) for corner in corners)
    made.removeObservers()


def test_no_tool_tip_and_no_status_tip_is_shown(two_patients, panel, host, attack):  # noqa: F811
    import qt

    panel.patient.enter()
    seen, label = recorder(), panel.ui.statusLabel
    label.installEventFilter(seen)
    for kind in (qt.QEvent.ToolTip, qt.QEvent.WhatsThis, qt.QEvent.StatusTip):
        host.app.sendEvent(label, qt.QEvent(kind))
    label.removeEventFilter(seen)
    attack("names of files and models", f"{len(seen.tips)} shown")
    assert not seen.tips


# -- names of structures ------------------------------------------------------------------------------------


def drawn(volume, *names):
    """A segmentation by MedFM with these segments."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "result")
    node.CreateDefaultDisplayNodes()
    ids = [node.GetSegmentation().AddEmptySegment("", name) for name in names]
    node.SetAttribute(KIND, "segmentation")
    node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID())
    return node, ids


def test_segments_without_a_plain_name_are_not_in_the_views(two_patients, panel, attack):  # noqa: F811
    mine, _ = two_patients
    node, ids = drawn(mine, "liver", *DIAGNOSES)
    display = node.GetDisplayNode()
    display.SetSegmentVisibility(ids[2], False)
    before = [display.GetSegmentVisibility(i) for i in ids]
    panel.patient.enter()
    assert [display.GetSegmentVisibility(i) for i in ids] == [True] + [False] * len(DIAGNOSES)
    leave(panel)
    assert [display.GetSegmentVisibility(i) for i in ids] == before
    attack("all were shown", f"{len(DIAGNOSES)} of {len(DIAGNOSES)} hidden, then as before")


def test_boxes_and_whatever_else_is_drawn_is_hidden(two_patients, panel, attack):  # noqa: F811
    import slicer

    mine, _ = two_patients
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsClosedCurveNode", "lung tumor")
    box.SetAttribute(KIND, "box")
    box.SetNodeReferenceID(VOLUME_ROLE, mine.GetID())
    text = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "hidden from editors")
    text.SetHideFromEditors(True)
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "metastasis")
    for node in (box, text, model):
        node.CreateDefaultDisplayNodes()
    made = [node.GetDisplayNode() for node in (box, text, model)]
    panel.patient.enter()
    shown = [d.GetClassName() for d in made if d.GetVisibility()]
    attack("MedFM's own boxes stayed", f"{len(shown)} of {len(made)} shown")
    assert not shown
    leave(panel)
    assert all(d.GetVisibility() for d in made)


@pytest.mark.parametrize("label", DIAGNOSES)
def test_a_label_without_a_plain_name_is_nowhere_in_the_leaflet(label, attack):
    from reports.conftest import respond
    from support.phantoms import ct_phantom

    from MedFMLib.errors import InputError

    response = respond(ct_phantom(), [])
    part = next(iter(response.report.colors))
    measured = tuple(
        dataclasses.replace(f, segment=label) if getattr(f, "segment", "") == part else f for f in response.findings
    )
    colors = {label if name == part else name: color for name, color in response.report.colors.items()}
    report = dataclasses.replace(response.report, colors=colors, missing=(*response.report.missing, label))
    measured = tuple(report if f is response.report else f for f in measured)
    told = dataclasses.replace(response, findings=measured)
    page = make_leaflet(told)
    assert label.lower() not in (page.html + page.text).lower()
    assert not any(label in line for line in plain_lines(told.measurements, (label,), glossary()))
    with pytest.raises(InputError, match="can't be given to a patient"):
        make_leaflet(told, own=f"{page.text}\nThe {label} takes up 3 mL.")
    attack("printed as it is", "left out")


def test_an_answer_and_its_segments_have_names_of_the_glossary_only(attack):
    from support.phantoms import ct_phantom

    from MedFMLib.core.request import PATIENT, Provenance, Request, Response
    from MedFMLib.interfaces.jobs import Progress, ProgressBase
    from MedFMLib.patient.serving import run_for_patient

    image = ct_phantom()
    mask = np.ones(image.geometry.shape, bool)

    def run(request: Request, progress: Progress) -> Response:
        parts = tuple(Segment(name, mask) for name in ("esophagus", "left lung", *DIAGNOSES))
        return Response((Segmentation(parts, image.geometry),), Provenance("segment", "m"))

    class Silent(ProgressBase):
        def report(self, event) -> None:
            pass

        def cancelled(self) -> bool:
            return False

    for question in ("What am I looking at?", "Where is my liver?"):
        response = run_for_patient(Request("ask", image, question=question, audience=PATIENT), Silent(), run)
        words = f"{response.answers[0].text} {[s.label for s in response.segmentation.segments]}"
        assert [s.label for s in response.segmentation.segments] == ["food pipe", "left lung"]
        assert not any(name in words for name in DIAGNOSES)
    attack("“lung tumor is marked in the picture”", "left out")
