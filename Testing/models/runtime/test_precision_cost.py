"""The cost of a precision is measured against the same dense model, and saved for the model's page."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from support import random_families  # noqa: E402

from MedFMLib.engine import load_model  # noqa: E402
from MedFMLib.errors import ModelError  # noqa: E402
from MedFMLib.interfaces import registry  # noqa: E402
from MedFMLib.interfaces.jobs import NoProgress  # noqa: E402
from MedFMLib.models.runtime import precision_cost  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["gemma3", "paligemma"])
def folder(request, tmp_path_factory, dense_folder):
    if request.param == "paligemma":
        return dense_folder
    return random_families.gemma3(tmp_path_factory.mktemp("cost") / "gemma3")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def measured(folder, **more):
    card = registry.card(str(folder))
    return card, precision_cost.measure(card, lambda held: load_model(card, "", held, NoProgress()), **more)


def test_less_exact_weights_move_the_next_words_further(folder):
    card, costs = measured(folder)
    by = {cost.precision: cost for cost in costs}
    assert costs[0].precision == costs[0].against == "bf16"
    assert (costs[0].divergence, costs[0].same_word, costs[0].same_answer) == (0, 1, 1)
    assert set(by) == set(card.precisions)
    assert 0 < by["fp32"].divergence < by["nf4"].divergence
    assert by["nf4"].same_word <= by["fp32"].same_word <= 1
    assert by["nf4"].gigabytes < by["fp32"].gigabytes  # what stays dense of so small a model is fp32


def test_the_result_is_kept_for_the_page_of_the_model(folder):
    card, costs = measured(folder, precisions=("fp32",))
    date, again = precision_cost.known(card)
    assert date
    assert again == costs
    precision_cost.file(card).write_text("{")
    assert precision_cost.known(card) == ("", [])


def test_a_model_that_does_not_write_has_no_answers_to_compare():
    card = registry.card("facebook/sam2.1-hiera-tiny")
    with pytest.raises(ModelError, match="can't write text in bf16 or fp32"):
        precision_cost.measure(card, None)


def test_the_command_prints_and_shows_it(folder):
    from typer.testing import CliRunner

    from MedFMLib.cli.app import app

    run = CliRunner().invoke(app, ["models", "bench", str(folder), "--precision", "fp32", "--json"])
    assert run.exit_code == 0, run.output
    assert [cost["precision"] for cost in json.loads(run.output)] == ["bf16", "fp32"]
    shown = CliRunner().invoke(app, ["models", "show", str(folder)])
    assert "What precision costs" in shown.output
