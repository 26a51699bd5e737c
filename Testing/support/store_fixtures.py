"""Fixtures: a user's own folders and a hub on this machine."""

import json
import shutil
from dataclasses import replace

import pytest
from support.fake_hub import FakeHub

from MedFMLib.interfaces import registry
from MedFMLib.storage import offline, resources

ID = "acme/eyes-3b"


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    """An empty folder for installed models, with separate settings and hub cache."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in ("HF_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in (offline.SWITCH, offline.MARK):  # set first, so that what loading a model sets is taken back, too
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "xdg_data_home" / "MedFM"


@pytest.fixture
def published(tmp_path, dense_folder):
    """A model as its makers publish it: with a pickle, code and a picture that are not ours to take."""
    folder = tmp_path / "published"
    shutil.copytree(dense_folder, folder, ignore=shutil.ignore_patterns("medfm-card.json", "mask_codec"))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_eyes.py").write_text("raise SystemExit('code of a model ran')")
    (folder / "logo.png").write_bytes(b"png")
    return folder


@pytest.fixture
def hub(published, models_folder, monkeypatch):
    """The hub, where every process of the test looks."""
    with FakeHub({ID: published}).running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Resources with a zoo of the embedded model and one on the hub; returns how to change the latter's card."""
    folder = tmp_path / "resources"
    (folder / "zoo").mkdir(parents=True)
    real = resources.root()
    shutil.copy(real / "zoo" / "medfm-tiny.json", folder / "zoo")
    (folder / "models").symlink_to(real / "models")
    card = {"id": ID, "title": "Eyes", "architecture": "paligemma", "summary": "Random weights.", "licence": "none",
            "parameters": 1, "image_size": 64, "abilities": ["writes", "segments", "locates"],
            "precisions": ["fp32", "nf4"]}  # fmt: skip

    def change(**more):
        (folder / "zoo" / "eyes.json").write_text(json.dumps(card | more))
        return registry.card(ID)

    monkeypatch.setenv("MEDFM_RESOURCES", str(folder))
    change()
    return change


@pytest.fixture
def card(zoo):
    """The card of the model on the hub."""
    return replace(registry.card(ID))
