"""Cards, tasks and architectures are found in their folders; errors of broken cards name the problem."""

import json

import pytest

from MedFMLib.core.image import MODALITIES
from MedFMLib.core.request import DEFAULT_MODEL
from MedFMLib.engine import load_model
from MedFMLib.errors import InputError, MedFMError, ModelError
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.storage import resources
from MedFMLib.storage.model_card import ModelCard, Score

GOOD = {
    "id": "x", "title": "X", "architecture": "paligemma", "summary": "s", "licence": "l", "parameters": 1, "image_size": 2,
    "abilities": ["writes"], "precisions": ["fp32"],
}  # fmt: skip


def card(tmp_path, **changes):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not None}))
    return ModelCard.from_json(path)


FAMILIES = {"paligemma", "gemma3", "qwen_vl", "llava", "sam2"}
"""Architectures that cards may name; one that is not built yet is said so when it is loaded."""


def test_the_zoo_has_medical_and_general_models_of_every_family():
    cards = registry.cards()
    assert next(iter(cards)) == DEFAULT_MODEL
    assert {"google/medgemma-1.5-4b-it", "lingshu-medical-mllm/Lingshu-7B", "google/paligemma-3b-mix-224"} <= set(cards)
    assert len(cards) >= 14
    assert {each.architecture for each in cards.values()} == FAMILIES
    assert len(cards) == len(list(resources.path("zoo").glob("*.json")))  # no id twice


@pytest.mark.parametrize("each", registry.cards().values(), ids=lambda card: card.id)
def test_every_card_of_the_zoo_says_what_a_person_must_know(each):
    for text in (each.summary, each.licence, each.not_for, each.citation, each.data, each.recipe):
        assert text
    for sentence in (each.summary, each.not_for, each.recipe, each.data):
        assert sentence.endswith("."), sentence
    assert set(each.modalities) <= set(MODALITIES)
    assert all(score.source for score in each.scores)
    assert len({(s.benchmark, s.metric, s.source) for s in each.scores}) == len(each.scores)
    if each.weights or each.config:
        assert resources.path(*(each.weights or each.config).split("/")).is_dir()


@pytest.mark.parametrize("each", [c for c in registry.cards().values() if c.gate], ids=lambda card: card.id)
def test_a_gate_says_in_plain_words_what_to_accept_and_where(each):
    assert each.gate.startswith("It is gated: ") and each.gate.endswith(".")
    assert f"huggingface.co/{each.id}, accept the " in each.gate
    assert each.licence_url.startswith("https://")


def test_an_architecture_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match=r"^There is no architecture 'none'; MedFM knows .*paligemma.*\.$"):
        load_model(card(tmp_path, architecture="none"), "", "fp32", NoProgress())


def test_the_tasks_are_found_with_what_they_need():
    tasks = registry.tasks()
    assert {"segment", "ask", "report"} <= set(tasks)
    assert tasks["report"].needs == ("writes", "segments")
    with pytest.raises(InputError, match="no task 'dance'; choose one of ask"):
        registry.task("dance")


def test_a_card_may_have_only_known_fields_of_the_right_kind(tmp_path):
    assert card(tmp_path, labels={"CT": ["liver"]}).labels_for("CT") == ("liver",)
    assert card(tmp_path, labels={"*": ["liver"]}).labels_for("MR") == ("liver",)
    with pytest.raises(ModelError, match="unknown fields colour"):
        card(tmp_path, colour="red")
    with pytest.raises(ModelError, match="'parameters' must be a whole number, not '12'"):
        card(tmp_path, parameters="12")
    with pytest.raises(ModelError, match="lacks title"):
        card(tmp_path, title=None)
    with pytest.raises(ModelError, match="unknown abilities.*flies"):
        card(tmp_path, abilities=["flies"])
    with pytest.raises(ModelError, match="at least one precision"):
        card(tmp_path, precisions=[])
    with pytest.raises(ModelError, match="'recipe' must be a text"):
        card(tmp_path, recipe=["one slice"])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ModelError, match="bad.json can't be used"):
        ModelCard.from_json(tmp_path / "bad.json")


def test_a_score_says_what_was_counted_and_who_published_it(tmp_path):
    score = {"benchmark": "SLAKE", "metric": "accuracy (%)", "value": 83, "source": "a table"}
    assert card(tmp_path, scores=[score]).scores == (Score(**score),)
    page = registry.page(card(tmp_path, scores=[score], recipe="One slice."))
    assert "SLAKE 83 (accuracy (%); a table)" in page
    assert "**Shown to it:** One slice." in page
    with pytest.raises(ModelError, match="score of card 'x' .* unknown fields year"):
        card(tmp_path, scores=[{**score, "year": 2026}])
    with pytest.raises(ModelError, match="'value' must be a number, not '83'"):
        card(tmp_path, scores=[{**score, "value": "83"}])
    with pytest.raises(ModelError, match="'source' must not be empty"):
        card(tmp_path, scores=[{**score, "source": ""}])


def test_a_folder_is_a_model_if_its_type_is_known(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "paligemma", "vision_config": {"image_size": 336}}))
    found = registry.card(str(tmp_path))
    assert (found.architecture, found.image_size) == ("paligemma", 336)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mystery"}))
    with pytest.raises(ModelError, match="of type 'mystery', which MedFM does not know"):
        registry.card(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match="no config.json"):
        registry.card(str(tmp_path))
    with pytest.raises(ModelError, match="no model 'nothing'"):
        registry.card("nothing")


def test_missing_resources_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "a" / "b")
    monkeypatch.delenv("MEDFM_RESOURCES", raising=False)
    with pytest.raises(MedFMError, match="not found in .*install MedFM again"):
        resources.root()
