"""Backends of jobs: saved, created, allowed; keys are never written to a file of MedFM."""

from __future__ import annotations

import pytest
from support.server_in_test import TOKEN

from MedFMLib.engine import local_runner
from MedFMLib.errors import InputError, ModelError
from MedFMLib.execution import backends
from MedFMLib.execution.backends import Backend
from MedFMLib.execution.remote import RemoteRunner, ServerRunner
from MedFMLib.execution.worker import ProcessRunner
from MedFMLib.interfaces.jobs import LocalRunner
from MedFMLib.storage import paths

ELSEWHERE = "https://server.hospital:8765"


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(backends.KEY, "")  # so that it is as before afterwards
    monkeypatch.delenv(backends.KEY)


def test_a_choice_is_saved_and_a_damaged_one_is_the_default():
    assert backends.load() == Backend("process")
    backends.save(Backend("remote", ELSEWHERE, "/ca.pem"))
    assert backends.load() == Backend("remote", ELSEWHERE, "/ca.pem")
    backends.file().write_text('{"kind": "moon"}')
    assert backends.load() == Backend("process")


@pytest.mark.parametrize(
    ("kind", "runner"), [("process", ProcessRunner), ("server", ServerRunner), ("here", LocalRunner)]
)
def test_each_backend_has_its_runner_and_nothing_starts(kind, runner):
    made = backends.make_runner(Backend(kind), local=local_runner)
    assert type(made) is runner
    if kind != "here":
        assert made.state().doing == "stopped"
    made.close()


def test_nothing_is_sent_elsewhere_without_consent_that_shows_what():
    backends.store_key(ELSEWHERE, TOKEN)
    with pytest.raises(
        ModelError, match=r"was not allowed .*medfm server allow --server https://server\.hospital:8765"
    ):
        backends.make_runner(Backend("remote", ELSEWHERE))
    assert "voxels of the volume" in backends.says(ELSEWHERE)
    backends.allow(ELSEWHERE)
    assert type(backends.make_runner(Backend("remote", ELSEWHERE))) is RemoteRunner
    with pytest.raises(ModelError, match="was not allowed"):
        backends.make_runner(Backend("remote", "https://another.hospital:8765"))
    backends.revoke(ELSEWHERE)
    assert backends.needed(ELSEWHERE)
    assert not backends.needed("http://127.0.0.1:8765")


def test_a_key_is_in_no_file_of_ours(monkeypatch):
    backends.save(Backend("remote", ELSEWHERE))
    backends.allow(ELSEWHERE)
    backends.store_key(ELSEWHERE, TOKEN)
    assert backends.key(ELSEWHERE) == TOKEN
    files = [path for path in paths.settings().rglob("*") if path.is_file()]
    assert len(files) == 2
    assert not any(TOKEN in path.read_text() for path in files)


@pytest.mark.parametrize("text", ["", "  ", "two words"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises((InputError, ModelError), match="key"):
        backends.store_key(ELSEWHERE, text)


def test_a_missing_key_is_named():
    with pytest.raises(ModelError, match=r"key of server\.hospital is not known"):
        backends.key(ELSEWHERE)
