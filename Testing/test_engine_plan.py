"""Jobs use the memory plan: on a real tiny model with a set limit, a job is planned down, and says so, or loads nothing."""

import json

import pytest

pytest.importorskip("torch")

from support.phantoms import ct_phantom

from MedFMLib.core.request import Request, SliceChoice
from MedFMLib.engine import Engine, plan_model
from MedFMLib.errors import InputError, ModelError
from MedFMLib.interfaces import registry
from MedFMLib.models import gemma3
from MedFMLib.models.runtime import device
from MedFMLib.models.runtime.precision import choose_precision, precisions_to_try


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Gemma 3 whose card prefers fp32."""
    folder = gemma3.random_checkpoint(tmp_path_factory.mktemp("plan") / "tiny")
    card = registry.card(str(folder)).as_json() | {"precisions": ["fp32", "nf4"]}
    (folder / "medfm-card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def limit(folder, monkeypatch):
    """Set the memory limit so that a number of slices just fits in a precision."""

    def set_limit(precision: str, slices: int) -> None:
        card = registry.card(str(folder))
        needed = gemma3.memory(card, precision, slices, compute="fp32").total
        monkeypatch.setenv("MEDFM_MEMORY_LIMIT", f"{(needed + 10_000) / device.ROOM / 1e6:.4f} MB")

    return set_limit


@pytest.fixture
def loads(monkeypatch):
    """Precisions in which the family was really loaded."""
    found, load = [], gemma3.load

    def counted(card, adapter, precision, progress):
        found.append(precision)
        return load(card, adapter, precision, progress)

    monkeypatch.setattr(gemma3, "load", counted)
    return found


def ask(folder, **changes):
    request = Request("ask", ct_phantom(), question="what?", model=str(folder), max_tokens=2,
                      slices=SliceChoice("axial"), **changes)  # fmt: skip
    return Engine().run(request)


def test_with_enough_memory_the_card_s_own_precision_is_used_and_nothing_is_said(folder, loads, monkeypatch):
    monkeypatch.delenv("MEDFM_MEMORY_LIMIT", raising=False)
    response = ask(folder)
    assert loads == ["fp32"] and response.provenance.precision == "fp32"
    assert not [note for note in response.provenance.notes if "memory" in note]


def test_a_job_is_planned_down_to_a_precision_that_fits(folder, limit, loads):
    limit("nf4", 24)
    response = ask(folder)
    assert loads == ["nf4"]
    (note,) = [note for note in response.provenance.notes if "Planned down" in note]
    assert "fits in nf4: 47 MB of 51 MB free" in note


def test_a_job_is_planned_down_to_fewer_slices(folder, limit, loads):
    limit("nf4", 6)
    response = ask(folder)
    assert loads == ["nf4"]
    (note,) = [note for note in response.provenance.notes if "Planned down" in note]
    assert "fits in nf4 with 6 of 24 slices" in note
    assert len(response.answers[0].evidence) == 6


def test_a_job_that_does_not_fit_stops_with_what_would_and_loads_nothing(folder, limit, loads, monkeypatch):
    monkeypatch.setenv("MEDFM_MEMORY_LIMIT", "48 MB")
    with pytest.raises(
        ModelError, match=r"does not fit: even in nf4 with one slice it takes 46 MB, and 48 MB are free; close"
    ):
        ask(folder)
    limit("nf4", 1)
    with pytest.raises(ModelError, match="does not fit: even in fp32"):
        ask(folder, precision="fp32")  # what was asked for is not swapped for another precision
    assert loads == []


def test_small_models_need_no_plan_and_large_ones_get_one(monkeypatch):
    monkeypatch.delenv("MEDFM_MEMORY_LIMIT", raising=False)
    monkeypatch.setattr("MedFMLib.engine.free_bytes", lambda _: (16 * 10**9, 0, 0))
    assert plan_model(registry.card("medfm-tiny"), 24) is None
    monkeypatch.setattr(device, "free_bytes", lambda _: (16 * 10**9, 0, 0))
    plan = plan_model(registry.card("google/medgemma-1.5-4b-it"), 24)
    assert plan.fits and plan.precision == registry.card("google/medgemma-1.5-4b-it").precisions[0]


def test_a_limit_that_is_no_size_is_refused(folder, monkeypatch):
    monkeypatch.setenv("MEDFM_MEMORY_LIMIT", "plenty")
    with pytest.raises(InputError, match="MEDFM_MEMORY_LIMIT is 'plenty'; write a size such as '6 GB'"):
        ask(folder)


def test_one_rule_chooses_the_precision(folder):
    card = registry.card(str(folder))
    assert precisions_to_try(card) == ("fp32", "nf4")
    assert choose_precision(card) == "fp32"
    assert choose_precision(card, "nf4") == "nf4"
    assert choose_precision(card, fits=lambda p: p == "nf4") == "nf4"
    assert choose_precision(card, fits=lambda p: False) == "nf4"  # the least, so that a plan can say what it takes
    with pytest.raises(InputError, match="can't be held as 'int8'; choose one of fp32, nf4"):
        choose_precision(card, "int8")
