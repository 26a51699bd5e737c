"""Memory plans: what is counted, the settings chosen to fit, and the error if nothing fits."""

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from MedFMLib.errors import ModelError  # noqa: E402
from MedFMLib.interfaces import registry  # noqa: E402
from MedFMLib.models.runtime import device, memory  # noqa: E402
from MedFMLib.models.runtime.device import ROOM, is_out_of_memory, placement  # noqa: E402
from MedFMLib.models.runtime.memory import MemoryParts, choose  # noqa: E402

GB = 10**9
MEDGEMMA = "google/medgemma-1.5-4b-it"
PER_WEIGHT = {"bf16": 8, "int8": 5, "nf4": 3}


def estimate(precision, slices):
    return MemoryParts(PER_WEIGHT[precision] * GB, slices * GB // 10, GB)


@pytest.fixture(scope="module")
def card():
    return replace(registry.card(MEDGEMMA), precisions=("bf16", "int8", "nf4"))


@pytest.mark.parametrize(
    ("free", "precision", "slices"),
    [(30, "bf16", 40), (14, "int8", 40), (10, "nf4", 40), (8, "nf4", 20), (6, "nf4", 10), (4.6, "nf4", 2)],
)
def test_less_exact_weights_come_before_fewer_slices(card, free, precision, slices):
    made = choose(card, estimate, int(free * GB), 40)
    assert (made.precision, made.slices, made.place, made.fits) == (precision, slices, "device", True)
    assert made.parts.total <= free * GB
    assert ("of 40 slices" in made.says) == (slices < 40)


def test_what_was_asked_for_is_not_swapped_for_another_precision(card):
    assert choose(card, estimate, 12 * GB, 40, "bf16").slices == 20
    assert not choose(card, estimate, 8 * GB, 40, "bf16").fits


def test_a_gpu_borrows_main_memory_and_then_the_disk_in_bf16(card):
    made = choose(card, estimate, 3 * GB, 4, other_memory=20 * GB, disk=50 * GB)
    assert (made.precision, made.place, made.slices) == ("bf16", "device and main memory", 1)
    made = choose(card, estimate, 3 * GB, 4, other_memory=4 * GB, disk=50 * GB)
    assert made.place == "device, main memory and disk"
    assert "times slower" in made.says


def test_what_does_not_fit_is_said_with_what_it_would_take(card):
    made = choose(card, estimate, 2 * GB, 4)
    assert not made.fits
    assert "does not fit: even in nf4 with one slice it takes 4.1 GB, and 2.0 GB are free" in made.says
    assert "smaller model" in made.says


def counted(precision, slices, **more):
    return registry.architecture("gemma3").memory(registry.card(MEDGEMMA), precision, slices, **more)


def test_parts_are_counted_from_the_config(card):
    """MedGemma 4B by hand: 34 layers, 4 key-value heads of 256; every sixth layer sees all, the others 1,024 tokens."""
    one, many = counted("bf16", 1, answer=100, question=28), counted("bf16", 8, answer=100, question=28)
    assert one.weights == many.weights == pytest.approx(8.60e9, rel=0.01)
    tokens = 8 * 256 + 128
    layers = 34 // 6 * tokens + (34 - 34 // 6) * 1024
    assert many.cache == 2 * 4 * 256 * 2 * layers
    assert one.cache == 2 * 4 * 256 * 2 * 34 * 384
    assert many.activations > one.activations
    assert counted("nf4", 1).weights < 0.42 * one.weights


def test_an_adapter_and_training_are_counted(card):
    plain, with_adapter = counted("nf4", 1), counted("nf4", 1, adapter_rank=16)
    training = counted("nf4", 1, adapter_rank=16, training=True)
    per_layer = 3 * (2560 + 10240) + (2560 + 2048) + 2 * (2560 + 1024) + (2048 + 2560)
    assert with_adapter.adapter == 34 * 16 * per_layer * 4
    assert plain.adapter == plain.optimizer == with_adapter.optimizer == 0
    assert training.optimizer == 3 * training.adapter
    assert training.activations > with_adapter.activations


@pytest.mark.parametrize(
    "model", ["google/paligemma-3b-mix-224", "lingshu-medical-mllm/Lingshu-7B", "llava-hf/llava-1.5-7b-hf"]
)
def test_every_family_that_writes_can_be_planned(model):
    card = registry.card(model)
    parts = registry.architecture(card.architecture).memory(card, "nf4", 1)
    assert parts.weights < parts.total < 2 * parts.weights


def test_the_command_plans(capsys, monkeypatch):
    from typer.testing import CliRunner

    from MedFMLib.cli.app import app

    run = CliRunner().invoke(app, ["models", "plan", MEDGEMMA, "--slices", "85", "--memory", "10", "--json"])
    assert run.exit_code == 0, run.output
    made = json.loads(run.output)
    assert made["precision"] == "nf4"
    assert made["fits"]
    assert made["total"] == sum(made["parts"].values()) < 10e9
    run = CliRunner().invoke(app, ["models", "plan", MEDGEMMA, "--memory", "2"])
    assert "does not fit" in " ".join(run.output.split())


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("shapes don't match"), False),
    ],
)
def test_running_out_of_memory_is_recognized(error, is_one):
    assert is_out_of_memory(error) == is_one


def test_a_plan_for_this_machine_counts_what_is_free(monkeypatch):
    monkeypatch.setattr(device, "free_bytes", lambda _: (11 * GB, 0, 100 * GB))
    made = memory.plan_for(registry.card(MEDGEMMA), registry.architecture("gemma3"), 85)
    assert made.free == 11 * GB
    assert made.fits


# -- stepping down once ----------------------------------------------------------------------------


class Greedy:
    """A model that runs out of memory with more than `fits` slices, or in more than the least precision."""

    remembers = True

    def __init__(self, precision, fits=10**6):
        from MedFMLib.interfaces.model import LoadedFacts

        self.facts, self.fits, self.max_views, self.shown = LoadedFacts(precision=precision), fits, 8, 0

    def choose_slices(self, count):
        return list(range(min(count, self.max_views)))

    def write(self, views, text="", **_):
        self.shown = len(views)
        if self.shown > self.fits:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return f"{'|' * self.shown} in {self.facts.precision}"  # a number would be held against measurements


def engine_and_request(fits):
    from support.phantoms import ct_phantom

    from MedFMLib.core.request import Request
    from MedFMLib.engine import Engine

    loads = []

    def load(card, adapter, precision, progress):
        loads.append(precision)
        return Greedy(precision, fits[precision])

    request = Request("ask", ct_phantom(), model=MEDGEMMA, question="what?", precision="bf16")
    return Engine(load), request, loads


def test_running_out_of_memory_gives_up_slices_first():
    engine, request, loads = engine_and_request({"bf16": 4})
    response = engine.run(request)
    assert response.findings[0].text == "|||| in bf16"
    assert "The memory ran out with 8 slices at a time; 4 are shown from now on." in response.provenance.notes
    assert loads == ["bf16"]


def test_running_out_of_memory_twice_is_an_error_and_not_a_crash():
    engine, request, _ = engine_and_request({"bf16": 3})
    with pytest.raises(ModelError, match="ran out again after a reduction. .* Close other programs"):
        engine.run(request)


def test_running_out_of_memory_with_one_slice_gives_up_precision():
    engine, request, loads = engine_and_request({"bf16": 0, "int8": 5, "nf4": 5})
    request = replace(request, slices=replace(request.slices, plane="axial", first=3, last=3))
    response = engine.run(request)
    assert loads[0] == "bf16"
    assert response.findings[0].text == f"| in {loads[1]}"
    assert any("ran out in bf16; the model is now loaded in" in note for note in response.provenance.notes)


def test_running_out_of_memory_while_loading_gives_up_precision():
    from MedFMLib.engine import Engine

    _, request, _ = engine_and_request({})

    def load(card, adapter, precision, progress):
        if precision == "bf16":
            raise MemoryError
        return Greedy(precision)

    assert "ran out in bf16" in Engine(load).run(request).provenance.notes[0]


def test_what_cannot_be_held_in_less_is_said():
    from MedFMLib.engine import Engine

    _, request, _ = engine_and_request({})

    def load(*_):
        raise MemoryError

    with pytest.raises(ModelError, match="has no lower precision; close other programs"):
        Engine(load).run(replace(request, precision="nf4"))


# -- weights that don't fit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "free", "needed", "where"),
    [
        ("cpu", 10 * GB, 5 * GB, {"": "cpu"}),
        ("cpu", 4 * GB, 5 * GB, "auto"),
        ("cpu", 0, 5 * GB, {"": "cpu"}),  # nobody knows what is free
        ("cuda", 4 * GB, 5 * GB, "auto"),
    ],
)
def test_weights_are_spread_only_where_they_do_not_fit(monkeypatch, kind, free, needed, where):
    monkeypatch.setattr(device, "free_bytes", lambda _: (free, 8 * GB if kind == "cuda" else 0, 100 * GB))
    placed = placement(torch.device(kind), needed)
    if where == "auto":
        assert placed["device_map"] == "auto"
        first = 0 if kind == "cuda" else "cpu"
        assert placed["max_memory"][first] == int(free * ROOM)
        assert placed.get("max_memory").get("cpu", 0) <= 8 * GB
    else:
        assert {k: str(v) for k, v in placed["device_map"].items()} == where


def test_a_model_partly_on_disk_answers_the_same(monkeypatch, tmp_path, one_thread):
    from support import random_families
    from support.phantoms import ct_phantom

    from MedFMLib.core.view import make_view
    from MedFMLib.engine import load_model
    from MedFMLib.interfaces.jobs import NoProgress
    from MedFMLib.models.runtime import checkpoint

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    card = registry.card(str(random_families.gemma3(tmp_path / "gemma3")))
    views = [make_view(ct_phantom(), "axial", 12)]
    whole = load_model(card, "", "bf16", NoProgress())
    needed = 2 * checkpoint.weights_count(checkpoint.check_folder(tmp_path / "gemma3"))
    monkeypatch.setattr(device, "free_bytes", lambda _: (int(0.6 * needed), 0, 100 * GB))
    spread = load_model(card, "", "bf16", NoProgress())
    assert spread.facts.precision == "bf16, partly on disk"
    assert spread.write(views, "what?", max_tokens=8) == whole.write(views, "what?", max_tokens=8)


@pytest.mark.parametrize(("free", "warned"), [(100 * GB, False), (5 * GB, True), (0, False)])
def test_a_model_larger_than_the_memory_is_said_before_it_is_loaded(monkeypatch, free, warned):
    from MedFMLib import hardware
    from MedFMLib.interfaces.jobs import Job, Note

    monkeypatch.setattr(hardware, "free_memory", lambda: free)
    engine, request, _ = engine_and_request({"bf16": 8})
    job = Job(request)
    engine.run(request, job)
    notes = [event.text for event in job.events() if isinstance(event, Note)]
    assert any("takes about 8.6 GB in bf16, and 5.0 GB are free" in note for note in notes) == warned
