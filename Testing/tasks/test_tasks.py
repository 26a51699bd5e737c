"""Tasks with a model that finds exactly the known truth: results have the right position."""

import re

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom, rotation
from support.scripted_model import ScriptedModel, engine

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.prompts import Box, Points, Region, Scribble
from MedFMLib.core.request import Request, SliceChoice
from MedFMLib.core.view import make_view
from MedFMLib.errors import Cancelled, InputError
from MedFMLib.fact_check import REMOVED
from MedFMLib.imaging import region_views
from MedFMLib.imaging.slices import display_mask
from MedFMLib.interfaces.jobs import Job, LocalRunner, Note, PartialText
from MedFMLib.measure import plain, plane_from_image
from MedFMLib.tasks.ask import views_for
from MedFMLib.tasks.combining import combine


def truth_of(image: Image):
    values = image.scalars
    index = np.stack(np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij"), axis=-1)
    right = (image.geometry.to_world(index) - image.geometry.center)[..., 0] > 0
    return {"liver": values == 90, "right lung": (values == -800) & right, "left lung": (values == -800) & ~right}


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


GRIDS = {
    "as scanned": ct_phantom().geometry,
    "isotropic": Geometry((96, 80, 40), affine(spacing=(3.5, 3.5, 3.5))),
    "coronal, flipped": Geometry((96, 24, 40), affine(np.diag([1, -1, -1]), (3.6, 10, 3.2))),
    "axes turned": Geometry((30, 100, 70), affine(np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]]), (4.5, 3.4, 3.6))),
    "oblique": Geometry((96, 80, 24), affine(rotation(8, -11, 14), (3.6, 3.6, 5.5), (50, -40, 30))),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_segments_land_on_the_original_grid(grid, monkeypatch):
    image = ct_phantom(GRIDS[grid])
    truth = truth_of(image)
    model = ScriptedModel(truth, image.geometry)
    response = engine(model, monkeypatch).run(Request("segment", image, slices=SliceChoice(step=1)))
    assert response.segmentation.geometry == image.geometry
    for label, mask in truth.items():
        assert dice(response.segmentation[label].mask, mask) > 0.95, label
    sides = {m.segment: m.value for m in response.measurements if m.name == "side"}
    assert sides == {"liver": "right", "left lung": "left", "right lung": "right"}


def test_a_volume_of_few_slices_is_drawn_to_its_ends(monkeypatch):
    """A model that draws whole volumes sees pictures further apart than such a volume is high."""
    image = ct_phantom(Geometry((96, 80, 3), affine(spacing=(3.6, 3.6, 1.0))))
    truth = truth_of(image)

    class Whole(ScriptedModel):
        draws_volumes = True

        def segment_volume(self, image, labels, *, callbacks=None):
            raise AssertionError("it was drawn as a whole")

    truth = {label: mask for label, mask in truth.items() if mask.any()}
    response = engine(Whole(truth, image.geometry), monkeypatch).run(Request("segment", image))
    assert len(truth) == 2
    for label, mask in truth.items():
        drawn = response.segmentation[label].mask
        assert mask.any(axis=(0, 1)).all() and drawn.any(axis=(0, 1)).all(), label
        assert dice(drawn, mask) > 0.95, label


def test_a_step_saves_slices_and_loses_little(monkeypatch):
    image = ct_phantom(GRIDS["isotropic"])
    truth = truth_of(image)
    model = ScriptedModel(truth, image.geometry)
    response = engine(model, monkeypatch).run(Request("segment", image, ("liver",), slices=SliceChoice(step=3)))
    assert len(response.provenance.slices) == 14
    assert dice(response.segmentation["liver"].mask, truth["liver"]) > 0.93


def test_only_the_chosen_slices_are_looked_at_and_filled(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel(truth_of(image), image.geometry)
    request = Request("segment", image, ("lung",), slices=SliceChoice("axial", 10, 14, 2))
    response = engine(model, monkeypatch).run(request)
    assert response.provenance.slices == ("axial slice 10", "axial slice 12", "axial slice 14")
    used = np.flatnonzero(response.segmentation["left lung"].mask.any(axis=(0, 1)))
    assert used.min() == 10
    assert used.max() == 14


def test_what_is_not_there_is_said_and_makes_no_segment(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel({"liver": truth_of(image)["liver"]}, image.geometry)
    job = LocalRunner(engine(model, monkeypatch).run).submit(Request("segment", image))
    events = list(job.stream(60))
    response = job.result()
    assert [s.label for s in response.segmentation.segments] == ["liver"]
    note = "Not found on the examined slices: left lung, right lung."
    assert Note(note) in events
    assert note in response.provenance.notes


def test_a_slow_model_says_so_before_it_starts(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel(truth_of(image), image.geometry)
    job = Job(Request("segment", image))
    response = engine(model, monkeypatch, seconds_per_slice=60.0).run(job.request, job)
    first = next(e for e in job.events() if isinstance(e, Note))
    assert re.search(r"24 of 24 slices at about 60 s each.*about 24 min", first.text)
    assert first.text in response.provenance.notes


def test_cancelling_in_the_middle_gives_nothing(monkeypatch):
    image = ct_phantom()
    job = Job(Request("segment", image))
    model = ScriptedModel(truth_of(image), image.geometry)
    original, calls = model._see, []

    def see(view, label):
        calls.append(view.number)
        if len(calls) == 5:
            job.cancel()
        return original(view, label)

    model._see = see
    with pytest.raises(Cancelled):
        engine(model, monkeypatch).run(job.request, job)
    assert len(set(calls)) <= 3


# -- ask -------------------------------------------------------------------------------------------------


def test_a_question_about_one_slice_is_streamed_and_cites_it(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel({}, image.geometry, {"Which plane is this?": "axial of course"})
    request = Request("ask", image, question=" Which  plane is this? ", slices=SliceChoice("axial", 7, 7))
    job = Job(request)
    response = engine(model, monkeypatch).run(request, job)
    (answer,) = response.answers
    assert answer.text == "axial of course"
    assert [str(s) for s in answer.evidence] == ["axial slice 7"]
    np.testing.assert_allclose(image.geometry.to_index(answer.evidence[0].center)[2], 7, atol=1e-6)
    assert [e.text for e in job.events() if isinstance(e, PartialText)] == ["axial ", "of ", "course "]
    assert response.provenance.prompts == ("answer Which plane is this?",)


def test_a_one_picture_model_is_asked_about_several_slices_and_differences_are_said(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel({}, image.geometry, lambda view, _: "yes" if view.number > 10 else "no")
    response = engine(model, monkeypatch).run(Request("ask", image, question="Is there lung?"))
    assert response.answers[0].text == "yes; on axial slice 6 the model says “no” instead."
    assert len(response.answers[0].evidence) == 3


def test_a_model_of_many_pictures_gets_them_at_once(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel({}, image.geometry, max_views=8)
    engine(model, monkeypatch).run(Request("ask", image, question="What?", history=(("a", "b"),)))
    ((views, _, history),) = model.seen
    assert len(views) == 8
    assert history == (("a", "b"),)


def test_equal_answers_are_given_once():
    image = ct_phantom()
    views = [make_view(image, "axial", n) for n in (1, 2)]
    assert combine([(views[0], "CT"), (views[1], "CT ")]) == "CT"
    assert combine([(views[0], "Yes, a liver."), (views[1], "yes, liver")]) == "Yes, a liver."


def test_of_answers_from_which_something_was_removed_nothing_is_quoted():
    views = [make_view(ct_phantom(), "axial", n) for n in (6, 11, 22)]
    gone = "[not supported by a measurement]"
    assert combine(list(zip(views, (gone, "no", f"It has {gone}."), strict=True))) == "no"
    assert combine([(view, f"It has {gone}.") for view in views]) == REMOVED
    assert combine([(view, "") for view in views]) == ""


def test_answers_without_a_majority_are_one_sentence_with_their_slices():
    views = [make_view(ct_phantom(), "axial", n) for n in (6, 11, 22)]
    said = combine(list(zip(views, ("a liver", "two lungs.", "the heart"), strict=True)))
    assert said == (
        "The answers differ: on axial slice 6 the model says “a liver”, on axial slice 11 the model says “two lungs” and on "
        "axial slice 22 the model says “the heart”."
    )


@pytest.mark.parametrize("kind", ["box", "points", "region", "scribble"])
def test_a_question_about_a_region_shows_its_surroundings(kind):
    image = ct_phantom()
    center = image.geometry.to_world((30, 40, 6))
    mask = np.zeros(image.geometry.shape, bool)
    mask[24:36, 34:46, 5:8] = True
    prompt = {
        "box": Box(center, (40, 40, 15)),
        "points": Points(center),
        "region": Region(mask, image.geometry),
        "scribble": Scribble([center, center + np.array((10.0, 0, 0))]),
    }[kind]
    (view,) = views_for(Request("ask", image, question="What?", prompts=(prompt,)), 1)
    assert view.number in (5, 6, 7)
    assert 40 <= view.side <= 110
    np.testing.assert_allclose(view.to_world(0.5, 0.5)[:2], center[:2], atol=12)


@pytest.mark.parametrize("flip", [1, -1])
def test_a_model_of_many_pictures_sees_a_region_outlined_and_from_near_with_its_size_and_side(monkeypatch, flip):
    phantom = ct_phantom()
    affine = phantom.geometry.affine.copy()
    affine[0] *= flip  # the same voxels, right and left swapped
    image = Image(phantom.voxels, Geometry(phantom.geometry.shape, affine), "CT")
    mask = np.zeros(image.geometry.shape, bool)
    mask[12:22, 30:46, 5:8] = True
    model = ScriptedModel({}, image.geometry, max_views=8)
    request = Request("ask", image, question="What is this?", prompts=(Region(mask, image.geometry),))
    response = engine(model, monkeypatch).run(request)
    ((views, text, _),) = model.seen
    whole, near = views
    assert whole.number == near.number == 5
    assert whole.side > 1.5 * near.side
    yellow = (whole.pixels == region_views.OUTLINE).all(-1)
    inside = display_mask(mask, image.geometry, "axial", 5)
    assert yellow.any()
    assert not (yellow & inside).any()
    assert np.abs(np.argwhere(yellow).mean(0) - np.argwhere(inside).mean(0)).max() < 1
    assert not (near.pixels == region_views.OUTLINE).all(-1).any()
    size = sorted((10 * image.geometry.spacing[0], 16 * image.geometry.spacing[1]), reverse=True)
    assert f"{size[0]:.0f} × {size[1]:.0f} mm in this plane, {3 * image.geometry.spacing[2]:.0f} mm across it" in text
    away = plane_from_image(image).distance(image.geometry.to_world(np.argwhere(mask))).mean()
    side = "right" if away > 0 else "left"
    assert f"on the patient's {side} side. What is this?" in text
    assert response.answers[0].question == "What is this?"


def test_a_mark_outside_of_the_volume_is_refused():
    image = ct_phantom()
    with pytest.raises(InputError, match="outside of the volume"):
        views_for(Request("ask", image, question="What?", prompts=(Points([9999.0, 0, 0]),)), 1)


# -- report ----------------------------------------------------------------------------------------------


def test_a_report_has_its_sections_numbers_pictures_and_provenance(monkeypatch):
    image = ct_phantom()
    image = Image(image.voxels, image.geometry, "CT", "x", {"SliceThickness": "5", "Contrast": "yes"})
    model = ScriptedModel(truth_of(image), image.geometry, {"describe": "an <b>axial</b> CT"})
    response = engine(model, monkeypatch).run(Request("report", image, history=(("What?", "A liver."),)))
    report = response.report
    titles = [s.title for s in report.sections]
    assert titles == [
        "Indication", "Technique", "Comparison", "Findings", "Impression", "Questions and answers", "Limitations", "Provenance",
    ]  # fmt: skip
    volume = next(m for m in response.measurements if (m.segment, m.name) == ("liver", "volume"))
    findings = report.section("Findings").paragraphs
    assert any(re.match(rf"Liver: {volume.value:.0f} mL, .*mean 90 ± 1 HU; lies on the right", p) for p in findings), (
        findings
    )
    assert "slice thickness 5 mm" in report.text
    assert "Q: What? — A: A liver." in report.text
    assert "scripted-revision"[:16] in report.text
    assert 1 <= len(report.key_images) <= 3
    assert all(k.png.startswith(b"\x89PNG") and k.overlay_png != k.png for k in report.key_images)
    assert "&lt;b&gt;axial&lt;/b&gt;" in report.html  # what a model writes is text, never markup
    assert "http" not in report.html.replace("http-equiv", "")
    assert response.segmentation is not None


def test_a_model_without_the_ability_is_refused(monkeypatch):
    image = ct_phantom()
    model = ScriptedModel({}, image.geometry)
    with pytest.raises(InputError, match="Scripted can't report: it only writes"):
        engine(model, monkeypatch, abilities=("writes",)).run(Request("report", image))


def test_a_model_for_another_modality_warns_and_one_without_labels_refuses(monkeypatch):
    image = ct_phantom()
    mr = Image(image.voxels, image.geometry, "MR", "x", {"modality_guessed": "yes"})
    model = ScriptedModel({}, image.geometry)
    with pytest.raises(InputError, match="no structures in MR images, only in CT"):
        engine(model, monkeypatch).run(Request("segment", mr, ("liver",)))
    response = engine(model, monkeypatch, modalities=("CT",)).run(Request("ask", mr, question="What?"))
    assert any("trained on CT images; this one is MR" in note for note in response.provenance.notes)
    assert any("was guessed" in note for note in response.provenance.notes)


def test_an_unknown_precision_is_refused(monkeypatch):
    image = ct_phantom()
    with pytest.raises(InputError, match="can't be held as 'int3'; choose one of fp32"):
        engine(ScriptedModel({}, image.geometry), monkeypatch).run(
            Request("ask", image, question="?", precision="int3")
        )


def test_the_model_is_loaded_once_for_equal_requests(monkeypatch):
    pytest.importorskip("torch")
    image = ct_phantom()
    loads = []
    made = engine(ScriptedModel({}, image.geometry), monkeypatch)
    original = made._load
    made._load = lambda *arguments: loads.append(arguments[1:3]) or original(*arguments)
    for adapter in ("", "", "none", "other"):
        made.run(Request("ask", image, question="What?", adapter=adapter))
    assert loads == [("", "fp32"), ("other", "fp32")]


def test_a_report_keeps_only_what_was_measured_of_the_models_words(monkeypatch):
    image = ct_phantom()
    said = (
        "The liver has {liver.volume} and lies on the {liver.side}. A 12 mm nodule in the left kidney; {spleen.volume}."
    )
    model = ScriptedModel({"liver": truth_of(image)["liver"]}, image.geometry, {"describe": said})
    response = engine(model, monkeypatch).run(Request("report", image, labels=("liver",)))
    volume = next(m for m in response.measurements if m.name == "volume")
    (line,) = [text for section in response.report.sections for text in section.paragraphs if "own words" in text]
    assert f"The liver has {plain(volume.value)} mL" in line
    assert "12 mm" not in line and "left kidney" not in line
    assert line.count("[not supported by a measurement]") == 2 and "[not measured]" in line
    (note,) = [note for note in response.provenance.notes if note.startswith("Removed from")]
    assert "12 mm" in note and "{spleen.volume}" in note
