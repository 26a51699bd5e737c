"""`medfm models …`: what is listed, shown and accepted."""

import json
import shutil

import pytest

from MedFMLib import hardware
from MedFMLib.cli import models as cli_models
from MedFMLib.interfaces import registry
from MedFMLib.models.runtime import estimates
from MedFMLib.storage import licence_acceptance

GATED = "google/paligemma-3b-mix-224"


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


@pytest.fixture
def free(monkeypatch):
    """A machine with so many bytes free."""

    def set_free(count):
        monkeypatch.setattr(hardware, "free_memory", lambda: count)

    set_free(12_000_000_000)
    return set_free


def listed(medfm, *options):
    done = medfm("models", "list", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_list_says_what_fits_is_gated_and_is_not_downloaded(medfm, free):
    text = medfm("models", "list").stdout
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "nf4, 3.2 GB" in lines["google/medgemma-1.5-4b-it"]  # what a job takes: the card's own precision
    assert "not downloaded; gated" in lines["google/medgemma-1.5-4b-it"]
    assert "nf4, " in lines["lingshu-medical-mllm/Lingshu-7B"]
    assert "not known" in lines["lingshu-medical-mllm/Lingshu-32B"]
    assert " no " in lines["google/medgemma-27b-it"]
    assert "here" in lines["medfm-tiny"]
    assert "12.0 GB free" in text


def test_the_list_can_be_searched_and_kept_to_a_modality(medfm, free):
    found = {row["id"] for row in listed(medfm, "--search", "MEDGEMMA 4b")}
    assert found == {"google/medgemma-1.5-4b-it", "google/medgemma-4b-it"}
    assert {row["id"] for row in listed(medfm, "--search", "mit lingshu")} >= {"lingshu-medical-mllm/Lingshu-7B"}
    assert listed(medfm, "--search", "no such model") == []
    assert "No model matches" in medfm("models", "list", "--search", "no such model").stdout
    for_pet = {row["id"] for row in listed(medfm, "--modality", "pt")}
    assert "MBZUAI/MedMO-8B" in for_pet and "Qwen/Qwen2.5-VL-7B-Instruct" in for_pet  # general: any modality
    assert "JZPeterPan/MedVLM-R1" not in for_pet
    done = medfm("models", "list", "--modality", "XY")
    assert done.returncode == 2
    assert "There is no modality 'XY'; choose one of CT, MR" in done.stderr


def test_the_list_can_be_sorted(medfm, free):
    names = [row["id"].casefold() for row in listed(medfm, "--sort", "name")]
    assert names == sorted(names)
    sizes = [row["parameters"] for row in listed(medfm, "--sort", "size")]
    assert sizes == sorted(sizes)
    rows = listed(medfm, "--sort", "fits")
    fitting = [bool(row["fits"]) for row in rows]
    assert True in fitting and False in fitting and fitting == sorted(fitting, reverse=True)
    sizes = [row["parameters"] for row in rows if row["fits"]]
    assert sizes == sorted(sizes, reverse=True)
    chosen = {row["fits"]: row["precisions"] for row in rows if row["fits"]}
    assert all(precision in known for precision, known in chosen.items()) and len(chosen) > 1
    assert all(row["weight_bytes"][row["fits"]] <= 12_000_000_000 for row in rows if row["fits"])
    free(0)
    assert all(row["fits"] == "" for row in listed(medfm, "--sort", "fits"))


def test_a_model_is_shown_whole(medfm, free):
    done = medfm("models", "show", "google/medgemma-1.5-4b-it")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    card = registry.card("google/medgemma-1.5-4b-it")
    for text in (card.summary, card.gate, card.not_for, card.recipe, card.citation, card.licence_url):
        assert " ".join(text.split()) in words
    assert "4,300,079,472" in words
    assert "nf4 3.2 GB; int8 4.7 GB; bf16 8.6 GB" in words
    assert "macro accuracy (%) 64.7" in words
    assert "not comparable" in words
    row = json.loads(medfm("models", "show", card.id, "--json").stdout)
    assert (
        row["scores"][0]["source"]
        and row["gated"]
        and not row["accepted"]
        and row["fits"] == row["precisions"][0] == "nf4"
    )


def test_a_folder_is_shown_too_and_has_no_gate(medfm, free, tiny_folder):
    row = json.loads(medfm("models", "show", str(tiny_folder), "--json").stdout)
    assert row["downloaded"] and row["accepted"] and not row["gated"]
    assert medfm("models", "show", str(tiny_folder)).returncode == 0


def test_terms_are_accepted_with_yes_or_when_asked(medfm, monkeypatch):
    card = registry.card(GATED)
    monkeypatch.setattr(cli_models.typer, "confirm", lambda _: False)
    done = medfm("models", "accept", GATED)
    assert card.gate in done.stdout
    assert done.returncode == 3 and "were not accepted; nothing was changed" in done.stderr
    assert not licence_acceptance.accepted(card)
    monkeypatch.setattr(cli_models.typer, "confirm", lambda _: True)
    assert medfm("models", "accept", GATED).returncode == 0
    assert licence_acceptance.accepted(card)
    assert medfm("models", "accept", GATED, "--forget").returncode == 0
    assert not licence_acceptance.accepted(card)
    refused = medfm("models", "accept", GATED, "--json")
    assert refused.returncode == 2 and "add --yes" in refused.stderr
    done = medfm("models", "accept", GATED, "--json", "--yes")
    assert json.loads(done.stdout) == {"model": GATED, "gated": True, "accepted": True}
    assert "gated, accepted" in medfm("models", "show", GATED).stdout


def test_a_model_without_gate_needs_no_acceptance(medfm):
    done = medfm("models", "accept", "medfm-tiny")
    assert done.returncode == 0
    assert "has no gate" in done.stdout
    assert not licence_acceptance.file().exists()


def test_sizes_without_a_config_say_that_they_need_it(medfm, tmp_path):
    done = medfm("models", "stats", "lingshu-medical-mllm/Lingshu-32B")
    assert done.returncode == 3
    assert "need its config.json" in done.stderr and done.stderr.count("Error:") == 1


def test_a_downloaded_model_is_found_in_the_cache(monkeypatch, tmp_path, tiny_folder):
    import huggingface_hub

    copy = tmp_path / "snapshot"
    shutil.copytree(tiny_folder / "base", copy)
    card = registry.card("lingshu-medical-mllm/Lingshu-32B")
    assert not estimates.is_here(card)
    found = lambda repo, name, revision=None: str(copy / name) if repo == card.id else None  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", found)
    assert estimates.is_here(card)
    assert estimates.config_folder(card) == copy
    assert estimates.weight_bytes(card, "nf4")
