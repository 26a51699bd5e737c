"""The terms of gated models are accepted once per machine; without acceptance the error says what to do."""

import json
import sys
from dataclasses import replace

import pytest

from MedFMLib.engine import load_model
from MedFMLib.errors import ModelError, OutputError
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.storage import licence_acceptance


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "MedFM"


@pytest.fixture
def gated():
    return registry.card("google/paligemma-3b-mix-224")


def test_an_acceptance_is_saved_until_it_is_withdrawn(gated, settings):
    assert not licence_acceptance.accepted(gated)
    licence_acceptance.accept(gated)
    assert licence_acceptance.accepted(gated)
    assert not licence_acceptance.accepted(registry.card("google/paligemma2-3b-mix-448"))
    said = json.loads(licence_acceptance.file().read_text())[gated.id]
    assert said["gate"] == gated.gate and said["licence"] == gated.licence and said["when"]
    assert list(settings.iterdir()) == [licence_acceptance.file()]  # no temporary file is left
    licence_acceptance.revoke(gated)
    licence_acceptance.revoke(gated)
    assert not licence_acceptance.accepted(gated)


def test_other_terms_must_be_accepted_anew(gated):
    licence_acceptance.accept(gated)
    assert not licence_acceptance.accepted(replace(gated, gate=gated.gate + " And more."))


def test_a_model_without_gate_or_from_a_folder_needs_nothing(gated, tmp_path):
    assert licence_acceptance.accepted(registry.card("medfm-tiny"))
    assert licence_acceptance.accepted(replace(gated, id=str(tmp_path)))


def test_a_gated_model_is_refused_in_one_sentence_before_anything_is_read(gated):
    pytest.importorskip("torch")
    with pytest.raises(ModelError, match=r"is gated and its terms .*with `medfm models accept google/.*`\.$") as error:
        load_model(gated, "", "nf4", NoProgress())
    assert str(error.value).count(". ") == 0
    licence_acceptance.accept(gated)
    with pytest.raises(ModelError, match="not on this machine"):
        load_model(gated, "", "nf4", NoProgress())


@pytest.mark.parametrize("content", ["{", "[]", '{"google/paligemma-3b-mix-224": true}'])
def test_a_damaged_file_asks_again_and_can_be_replaced(gated, settings, content):
    settings.mkdir()
    licence_acceptance.file().write_text(content)
    assert not licence_acceptance.accepted(gated)
    licence_acceptance.accept(gated)
    assert licence_acceptance.accepted(gated)


def test_a_folder_that_cannot_be_written_is_said(gated, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="can't be written to"):
        licence_acceptance.accept(gated)


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", ".config"), ("darwin", "Library/Application Support"), ("win32", "AppData/Roaming")],
)
def test_it_lies_where_the_system_keeps_settings(monkeypatch, tmp_path, platform, folder):
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(licence_acceptance.Path, "home", lambda: tmp_path)
    assert licence_acceptance.file() == tmp_path / folder / "MedFM" / "accepted.json"
