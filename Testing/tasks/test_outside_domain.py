"""Images that a model was not made for: no task and no entry point draws unasked, and forced results are marked everywhere."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from support.domain_model import ABILITIES, KNOWN, SPINE, DomainModel
from support.scripted_model import ScriptedModel, engine

from MedFMLib import api
from MedFMLib.core.domain import OUTSIDE_MARK, ImageDomain, marked, unmarked
from MedFMLib.core.findings import Segmentation
from MedFMLib.core.geometry import PICTURE, Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.prompts import Points
from MedFMLib.core.request import PATIENT, Reference, ReliabilityChoice, Request
from MedFMLib.errors import InputError, OutsideDomain
from MedFMLib.execution import messages, payload, serialization
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.domain import made_for, outside_sentence
from MedFMLib.measure import measure_fully
from MedFMLib.patient.serving import run_for_patient

MARK = OUTSIDE_MARK.strip()
TASKS = ("segment", "outline", "explain", "compare", "report")
"""Every task but `ask`, which says so in its answer."""


def request_of(task: str, model: DomainModel, **changes) -> Request:
    """A request of a task that the model could do."""
    image, more = model.image, {}
    if task == "outline":
        more = {"prompts": (Points([image.geometry.center], label="liver"),)}
    elif task in ("ask", "explain"):
        more = {"question": "What do you see?"}
    elif task == "compare":
        from support.phantoms import torso

        other, segments = torso()
        measured = measure_fully(segments, other)
        more = {
            "references": (
                Reference("own", "healthy torso", measurements=measured, image=other, segmentation=segments),
            )
        }
    return Request(task, image, **{**more, **changes})


@pytest.fixture
def run(monkeypatch):
    """Runs a request with a model that knows its domain."""

    def call(task, model, **changes):
        return engine(model, monkeypatch, abilities=ABILITIES).run(request_of(task, model, **changes))

    return call


def texts_in(value) -> str:
    """All text of a response."""
    return json.dumps(
        asdict(value) if hasattr(value, "__dataclass_fields__") else value, default=str, ensure_ascii=False
    )


# -- unasked ----------------------------------------------------------------------------------------------------


def test_every_task_of_the_registry_is_tested_here():
    assert set(registry.tasks()) - {"ask"} <= set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_draws_and_writes_nothing_unasked_and_says_what_to_do(task, run):
    model = DomainModel()
    with pytest.raises(OutsideDomain) as error:
        run(task, model)
    assert model.calls == ["domain"]
    said = str(error.value)
    assert "it shows a spine, not a torso" in said
    assert "made for CT images (liver, lung)" in said
    assert "--outside-domain" in said and "Draw anyway" in said and "another model" in said


def test_a_question_is_answered_with_one_sentence_and_the_model_is_not_asked(run):
    model = DomainModel()
    response = run("ask", model)
    (answer,) = response.answers
    assert model.calls == ["domain"]
    assert "it shows a spine" in answer.text and "Ask anyway" in answer.text and answer.evidence == ()
    assert response.provenance.outside_domain and OUTSIDE_MARK not in answer.text


def test_the_first_samples_and_the_saliency_of_such_a_question_ask_no_model_either(run):
    model = DomainModel()
    response = run("ask", model, reliability=ReliabilityChoice(samples=4, blind=True))
    assert model.calls == ["domain"]
    assert response.answers[0].reliability.samples == ()


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Which part of the body is this?", "The image seems to show the spine"),
        ("which plane is this?", "The volume's slices are axial (from the image's header)."),
        ("Is this a sagittal scan?", "No, the volume's slices are axial"),
        ("which modality is this?", "It is CT (computed tomography) (from the image's header)."),
        ("How many slices are there?", "The volume has 36 axial slices"),
    ],
)
def test_what_the_header_knows_is_answered_of_any_image(run, question, said):
    model = DomainModel()
    assert run("ask", model, question=question).answers[0].text.startswith(said)
    assert model.calls == ["domain"]


def test_a_region_that_the_model_does_not_know_is_not_guessed(run):
    model = DomainModel(replace(SPINE, region=""))
    answer = run("ask", model, question="which body part is this?").answers[0]
    assert answer.text == "The body part is not known to this model."


def test_a_task_of_an_extension_is_refused_too(monkeypatch):
    class Other:
        name, needs, title, summary, button, tab, options = "other", ("writes",), "Other", "…", "Go", 0, ()

        def check(self, request, card):
            pass

        def run(self, request, context):
            raise AssertionError("it ran")

    monkeypatch.setattr("MedFMLib.interfaces.registry.tasks", lambda: {"other": Other()})
    model = DomainModel()
    with pytest.raises(OutsideDomain):
        engine(model, monkeypatch).run(Request("other", model.image))


def test_a_model_without_the_ability_draws_as_before(monkeypatch):
    known = DomainModel(KNOWN)
    plain = ScriptedModel(known.truth, known.geometry)
    drawn = [engine(model, monkeypatch).run(Request("segment", known.image)) for model in (known, plain)]
    assert [[s.label for s in one.segmentation.segments] for one in drawn] == [["liver", "left lung", "right lung"]] * 2
    assert not any(one.provenance.outside_domain for one in drawn)


def test_the_model_is_asked_once_a_job(run):
    model = DomainModel(KNOWN)
    run("report", model)
    assert model.calls.count("domain") == 1
    run("ask", model, question="How large is the liver?")
    assert model.calls.count("domain") == 2


def test_a_report_on_pictures_shows_them_without_a_word_of_the_model(monkeypatch):
    grid = Geometry((40, 30, 2), np.eye(4), space=PICTURE, metric=False)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 40, 30, 2)).astype(np.uint8)
    model = DomainModel(ImageDomain(False, "it is a picture, and the model was made for volumes", 0.0))
    made = engine(model, monkeypatch, abilities=ABILITIES)
    report = made.run(Request("report", Image(pixels, grid, "CR"))).report
    assert model.calls == ["domain"] and report.key_images
    assert "it is a picture" in report.text and "own words" not in report.text
    with pytest.raises(OutsideDomain):  # an answer with its saliency would be the model's
        made.run(Request("report", Image(pixels, grid, "CR"), question="What is it?"))
    assert (
        "it is a picture" in made.run(Request("ask", Image(pixels, grid, "CR"), question="What is it?")).answers[0].text
    )
    assert set(model.calls) == {"domain"}


# -- forced -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [*TASKS, "ask"])
def test_what_was_forced_is_marked_in_every_finding_and_recorded(task, run):
    model = DomainModel(answers={"describe": "a torso"})
    response = run(task, model, outside_domain=True)
    assert response.provenance.outside_domain.startswith("Scripted was not made for this image")
    assert any("computed anyway" in note for note in response.provenance.notes)
    segmentation = response.segmentation
    assert segmentation is not None or task in ("ask", "explain")
    for segment in segmentation.segments if segmentation else ():
        assert segment.label.endswith(OUTSIDE_MARK) and segment.code is not None
    assert all(m.segment.endswith(OUTSIDE_MARK) for m in response.measurements)
    assert all(answer.text.endswith(OUTSIDE_MARK) for answer in response.answers)
    assert all(saliency.answer.endswith(OUTSIDE_MARK) for saliency in response.saliencies)
    back = serialization.loads(serialization.dumps(response))
    assert back.provenance.outside_domain == response.provenance.outside_domain
    if task == "compare":
        assert response.comparison.title.endswith(OUTSIDE_MARK) and response.comparison.landmarks
        assert response.comparison.differences
        assert all(d.segment.endswith(OUTSIDE_MARK) for d in response.comparison.differences)


def test_a_forced_report_is_marked_in_its_text_page_and_table_and_misses_nothing(run):
    report = run("report", DomainModel(answers={"describe": "a torso"}), outside_domain=True).report
    for title in ("Findings", "Impression"):
        assert report.section(title).paragraphs[0].startswith("OUTSIDE OF THE MODEL'S DOMAIN: Scripted was not made")
    assert all(row[0].endswith(OUTSIDE_MARK) for row in report.table[1:]) and len(report.table) == 4
    assert f"“a torso{OUTSIDE_MARK}”" in report.text
    assert "OUTSIDE OF THE MODEL" in report.html and "Looked for and not seen" not in report.text
    assert report.html.count(OUTSIDE_MARK.replace("'", "&#39;")) >= 3


def test_a_forced_report_is_marked_in_its_pdf(run):
    pypdf = pytest.importorskip("pypdf")
    from MedFMLib.reports.pdf import as_pdf

    response = run("report", DomainModel(), outside_domain=True)
    pages = pypdf.PdfReader(io.BytesIO(as_pdf(response.report, response.measurements))).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert "OUTSIDE OF THE MODEL'S DOMAIN" in text and MARK in text


def test_a_forced_segmentation_is_marked_in_the_files(run, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    from MedFMLib.files import write_segmentation
    from MedFMLib.files.label_maps import write_label_files, write_labels

    response = run("segment", DomainModel(), outside_domain=True)
    picture = sitk.ReadImage(
        str(write_segmentation(tmp_path / "a.seg.nrrd", response.segmentation, response.provenance))
    )
    assert picture.GetMetaData("Segment0_Name") == f"liver{OUTSIDE_MARK}"
    assert "not made for this image" in picture.GetMetaData("MedFM_Provenance")
    tables = [
        p
        for p in write_labels(tmp_path / "b.nii.gz", response.segmentation, print)
        if p.suffix in (".txt", ".csv", ".json")
    ]
    assert tables and all(MARK in path.read_text(encoding="utf-8") for path in tables)
    assert len(write_label_files(tmp_path / "each", response.segmentation)) == 3


def test_a_forced_segmentation_is_marked_in_a_data_frame(run):
    pytest.importorskip("pandas")
    table = run("segment", DomainModel(), outside_domain=True).measurements_table()
    assert table["segment"].str.endswith(OUTSIDE_MARK).all()


def test_a_forced_segmentation_is_marked_in_dicom(run, tmp_path):
    pytest.importorskip("highdicom")
    from support.dicom_writer import write_series

    from MedFMLib.exports import read_source
    from MedFMLib.exports.segmentation import segmentation_object

    model = DomainModel()
    response = run("segment", model, outside_domain=True)
    write_series(model.image, tmp_path)
    source = read_source(tmp_path)
    made = segmentation_object(response.segmentation, source, response.provenance)
    assert made.ContentDescription.endswith("image outside of the model's domain")
    assert all(s.SegmentLabel.endswith("the model's domain)") for s in made.SegmentSequence)


def test_the_mark_stands_once_and_goes_again():
    assert marked(marked("liver")) == f"liver{OUTSIDE_MARK}" and unmarked(marked("liver")) == "liver"


# -- parts that can't be there -------------------------------------------------------------------------------------


def test_what_cannot_be_in_the_field_of_view_is_not_drawn_and_named_in_one_note(run):
    model = DomainModel(ImageDomain(True, parts_outside=("Lung, left", "right lung")))
    response = run("segment", model)
    assert [s.label for s in response.segmentation.segments] == ["liver"]
    notes = [note for note in response.provenance.notes if "lung" in note]
    assert notes == ["Not drawn because it can't be in the field of view: left lung, right lung."]
    assert run("segment", model, labels=("lung",)).segmentation.segments == ()
    report = run("report", model).report
    assert "Looked for and not seen" not in report.text
    answer = run("ask", model, question="Is the left lung visible?").answers[0]
    assert answer.text == "No, the left lung can't be in the field of view of this image."


def test_what_cannot_be_there_is_drawn_and_marked_when_it_was_asked_for(run):
    model = DomainModel(ImageDomain(True, parts_outside=("left lung",)))
    labels = [s.label for s in run("segment", model, outside_domain=True).segmentation.segments]
    assert labels == ["liver", f"left lung{OUTSIDE_MARK}", "right lung"]


# -- entry points ----------------------------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path):
    from MedFMLib.files.writing import write_volume

    image = DomainModel().image
    return write_volume(tmp_path / "scan.nii.gz", image.scalars, image.geometry)


@pytest.fixture
def python(monkeypatch):
    """The Python functions with a model that was not made for the image."""
    model = DomainModel()
    monkeypatch.setattr(api, "_engine", engine(model, monkeypatch, abilities=ABILITIES))
    return model


@pytest.mark.parametrize("call", [api.segment, api.report, lambda *a, **k: api.explain(*a, "What?", **k),
                                  lambda *a, **k: api.run_task("segment", *a, **k)])  # fmt: skip
def test_the_python_functions_refuse_and_draw_when_told_to(call, python):
    with pytest.raises(OutsideDomain):
        call(python.image)
    assert set(python.calls) == {"domain"}
    assert call(python.image, outside_domain=True).provenance.outside_domain


def test_a_healthy_case_is_not_made_of_such_a_segmentation(python):
    with pytest.raises(InputError, match="not made for this image.*Give the case its segmentation"):
        api.add_healthy(python.image, "a case")
    assert python.calls == ["domain"]


@pytest.mark.parametrize("command", ["segment", "report", "explain", "ask"])
def test_the_commands_refuse_and_draw_when_told_to(command, scan, tmp_path, monkeypatch, capfd):
    pytest.importorskip("typer")
    import sys

    from MedFMLib.cli import app, running

    model = DomainModel()
    made = engine(model, monkeypatch, abilities=ABILITIES)
    monkeypatch.setattr(running, "_engine", lambda: made)
    out = tmp_path / "saliency.png" if command == "explain" else tmp_path / "out"
    question = ["What is it?"] if command in ("ask", "explain") else []

    def call(*more):
        monkeypatch.setattr(
            sys, "argv", ["medfm", command, str(scan), *question, "--output", str(out), "--modality", "CT", *more]
        )
        capfd.readouterr()
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, "".join(capfd.readouterr())

    code, said = call()
    assert code == (0 if command == "ask" else 2) and "it shows a spine" in said
    assert set(model.calls) == {"domain"}
    code, said = call("--outside-domain", "--json")
    content = json.loads(said[said.index("{") :])
    assert code == 0 and MARK in texts_in(content["answers"]) + texts_in(content["segments"])
    assert content["provenance"]["outside_domain"]


def test_a_command_of_a_task_without_one_of_its_own_has_the_option():
    pytest.importorskip("typer")
    import inspect

    from MedFMLib.cli.task_options import commands

    for name, function in commands(set(), set()).items():
        assert "outside_domain" in inspect.signature(function).parameters, name


def test_a_batch_has_a_row_with_the_sentence_and_does_not_fail(scan, tmp_path, monkeypatch):
    from MedFMLib.batch import cases, running
    from MedFMLib.batch.manifest import Manifest
    from MedFMLib.batch.plan import CaseOptions, TaskStep
    from MedFMLib.interfaces.jobs import LocalRunner

    model = DomainModel()
    made = engine(model, monkeypatch, abilities=ABILITIES)
    steps = (TaskStep("segment"), TaskStep("ask", "What is it?"))

    def run(name, **options):
        found = cases.find(scan, steps, CaseOptions(**options), cases.SeriesChoice(modality="CT"))
        counts = running.run(tmp_path / name, found, lambda: LocalRunner(made.run))
        manifest = Manifest(tmp_path / name)
        rows = manifest.rows()
        manifest.close()
        return counts, rows

    counts, (segment, ask) = run("plain")
    assert (counts["done"], counts["failed"]) == (2, 0) and set(model.calls) == {"domain"}
    assert "it shows a spine" in segment.found["note"] and segment.files == () and segment.error == ""
    assert "it shows a spine" in ask.found["answers"][0]["answer"]
    page, table = ((tmp_path / "plain" / name).read_text(encoding="utf-8") for name in ("index.html", "summary.csv"))
    assert "it shows a spine" in page and table.count("it shows a spine") == 2
    assert run("plain")[0]["done"] == 2  # not computed again
    counts, (segment, ask) = run("forced", outside_domain=True)
    assert counts["failed"] == 0 and all(name.endswith(OUTSIDE_MARK) for name in segment.found["segments"])
    assert ask.found["answers"][0]["answer"].endswith(OUTSIDE_MARK) and "it shows a spine" in segment.found["note"]
    assert MARK in (tmp_path / "forced" / "summary.csv").read_text(encoding="utf-8")


def test_a_batch_of_before_this_option_continues():
    from MedFMLib.batch.plan import BatchCase, CaseOptions, TaskStep

    step = TaskStep("segment")
    assert "outside_domain" not in BatchCase("a", "/a.nii", (step,)).asked(step)
    assert BatchCase("a", "/a.nii", (step,), CaseOptions(outside_domain=True)).asked(step)["outside_domain"]


def test_the_option_and_the_error_reach_a_server_and_come_back():
    model = DomainModel()
    packed = payload.pack(request_of("segment", model, outside_domain=True))
    assert payload.unpack(packed).outside_domain
    error = messages.error_from_json(messages.error_as_json(OutsideDomain("It shows a spine.")))
    assert type(error) is OutsideDomain and str(error) == "It shows a spine."


def test_a_chat_of_the_server_takes_the_field():
    pytest.importorskip("starlette")
    from MedFMLib.execution.server.chats import read_chat
    from MedFMLib.execution.server.settings import ServerLimits

    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    words = {"type": "text", "text": "What is it?"}
    body = {"model": "medfm-tiny", "messages": [{"role": "user", "content": [picture, words]}]}
    image = DomainModel().image
    assert not read_chat(body, ServerLimits()).request(image).outside_domain
    assert read_chat({**body, "outside_domain": True}, ServerLimits()).request(image).outside_domain
    with pytest.raises(InputError, match="true or false"):
        read_chat({**body, "outside_domain": "yes"}, ServerLimits())


# -- patients ---------------------------------------------------------------------------------------------------------


class Quiet:
    """A progress that keeps what is shown."""

    def __init__(self):
        self.words = []

    def stage(self, name):
        self.words.append(name)

    def fraction(self, value):
        pass

    def partial(self, text):
        self.words.append(text)

    def note(self, text):
        self.words.append(text)

    def cancelled(self):
        return False


@pytest.mark.parametrize("task", ["ask", "segment", "compare"])
@pytest.mark.parametrize("free_text", [False, True])
def test_a_patient_is_shown_nothing_of_the_models_even_if_it_was_forced(task, free_text, monkeypatch):
    from MedFMLib.patient.settings import PatientSettings

    model, heard = DomainModel(answers=lambda view, text: "It shows your liver."), Quiet()
    made = engine(model, monkeypatch, abilities=ABILITIES)
    settings = PatientSettings(free_text=free_text, model_chooses=free_text)
    request = request_of(task, model, audience=PATIENT, outside_domain=True)
    request = replace(request, question="What am I looking at?") if task == "ask" else request
    try:
        response = run_for_patient(request, heard, made._run, settings=settings)
        found = [f for f in response.findings if isinstance(f, Segmentation)]
        assert not [s for one in found for s in one.segments]
        shown = " ".join(answer.text for answer in response.answers)
    except InputError as error:
        shown = str(error)
    assert set(model.calls) <= {"domain"}
    assert "spine" not in " ".join([shown, *heard.words]) and "--" not in shown


def test_there_is_no_patients_version_of_a_forced_report(run):
    from MedFMLib.patient import make_leaflet

    with pytest.raises(InputError, match="not made for"):
        make_leaflet(run("report", DomainModel(), outside_domain=True))


# -- words -----------------------------------------------------------------------------------------------------------


def test_what_a_model_was_made_for_comes_from_its_card():
    from support.scripted_model import card

    assert made_for(card()) == "CT images (liver, lung)"
    labels = {"MR": ("brain", "left putamen", "thalamus", "caudate"), "CT": ("liver",)}
    assert (
        made_for(card(labels=labels, on_request=("brain",)))
        == "MR images (putamen, thalamus, caudate) and CT images (liver)"
    )
    assert made_for(card(labels={"*": ()}, modalities=())) == "other images, see its card"
    sentence = outside_sentence(card(), ImageDomain(False, "", 0.0, "knee"))
    assert sentence.startswith(
        "Scripted was not made for this image: it is of another kind (it seems to show the knee). "
    )
    assert np.isclose(SPINE.chance, 0.02)
