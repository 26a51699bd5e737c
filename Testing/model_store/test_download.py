"""Downloads from a local hub: atomic, resumable, verified, with errors in one sentence."""

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_hub import COMMIT, FakeHub
from support.store_progress import Recorder

from MedFMLib import model_store
from MedFMLib.errors import Cancelled, InputError, ModelError, OutputError
from MedFMLib.interfaces import registry
from MedFMLib.model_store import download, download_main
from MedFMLib.models.runtime import estimates
from MedFMLib.storage import installed_models, licence_acceptance, offline

ID = "acme/eyes-3b"


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def nothing_is_there(models_folder):
    assert installed_models.model_folder(ID) is None
    assert ID not in {card.id for card in installed_models.cards()}


def test_what_would_be_downloaded_is_reported_before(hub, card, models_folder):
    offer = model_store.look(card)
    names = {file["name"] for file in offer.files}
    assert "model.safetensors" in names and "config.json" in names
    assert not {"pytorch_model.bin", "modeling_eyes.py", "logo.png"} & names
    assert offer.commit == COMMIT and offer.host == hub.url and offer.here == 0
    assert offer.total == sum(file["size"] for file in offer.files)
    assert not models_folder.exists()


def test_a_model_is_fetched_checked_and_found(hub, card, published, models_folder):
    reported = Recorder()
    folder = model_store.get(card, reported)
    assert weights(folder) == weights(published)
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.py")) + list(folder.glob("*.part"))
    assert estimates.is_here(card) and installed_models.model_folder(ID) == folder
    manifest = installed_models.manifest(folder)
    assert manifest["revision"] == COMMIT and manifest["source"] == hub.url
    for name, facts in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"], name
    assert reported.stages[0] == "Asking for Eyes" and "Downloading Eyes" in reported.stages
    assert reported.fractions == sorted(reported.fractions) and reported.fractions[-1] == 1.0
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    from MedFMLib.models.runtime import loading

    assert loading.base_folder(card) == folder
    with pytest.raises(InputError, match="is already installed; remove it first"):
        model_store.get(card)


@pytest.fixture
def large(published):
    """The model with 25 MB more: huggingface_hub writes 10 MB at a time."""
    import numpy as np
    from safetensors.numpy import save_file

    published.joinpath("more.safetensors").unlink(missing_ok=True)
    numbers = np.random.default_rng(0).integers(0, 255, 25_000_000, np.uint8)
    save_file({"filler": numbers}, published / "more.safetensors")
    return published / "more.safetensors"


def test_a_lost_connection_goes_on_where_it_was(hub, card, published, large):
    hub.cut[large.name] = [12_000_000]
    folder = model_store.get(card)
    assert hub.ranges == [f"bytes={10 << 20}-"]
    assert (folder / large.name).read_bytes() == large.read_bytes()
    assert weights(folder) == weights(published)


def test_a_stopped_download_goes_on_in_a_new_process(hub, card, published, models_folder, large):
    hub.slow = 0.1
    part = download.unfinished(installed_models.models_root() / "acme--eyes-3b") / f"{large.name}.part"
    reported = Recorder(cancelled=lambda: part.is_file() and part.stat().st_size > 0)
    with pytest.raises(Cancelled, match="the downloaded part is kept"):
        model_store.get(card, reported)
    nothing_is_there(models_folder)
    arrived = part.stat().st_size
    assert 0 < arrived < large.stat().st_size
    assert model_store.look(card).here >= arrived
    hub.slow = 0.0
    folder = model_store.get(card)
    assert hub.ranges == [f"bytes={arrived}-"]
    assert (folder / large.name).read_bytes() == large.read_bytes()


def test_a_wrong_checksum_is_refused_and_the_file_deleted(hub, card, models_folder):
    hub.wrong.add("model.safetensors")
    with pytest.raises(
        ModelError, match="was damaged during the download: the checksum of model.safetensors is not the hub's"
    ):
        model_store.get(card)
    nothing_is_there(models_folder)
    assert not list(models_folder.rglob("model.safetensors"))
    hub.wrong.clear()
    assert model_store.get(card)


def test_a_small_file_is_checked_too(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    right = FakeHub.etag(b"{}", "")
    assert download_main._check(tmp_path / "config.json", {"name": "config.json", "sha256": "", "blob": right})
    with pytest.raises(download_main.DamagedDownload):
        download_main._check(tmp_path / "config.json", {"name": "config.json", "sha256": "", "blob": "1" * 40})


def test_a_gated_model_says_where_to_accept_and_where_the_token_goes(hub, zoo, models_folder, monkeypatch):
    card = zoo(gate="Accept its terms.")
    hub.gated.add(ID)
    with pytest.raises(ModelError, match="terms .* were not accepted on this machine"):
        model_store.get(card)
    licence_acceptance.accept(card)
    with pytest.raises(ModelError, match=f"is gated. Accept its terms at {hub.url}/{ID}, log in with `hf auth login`"):
        model_store.get(card)
    nothing_is_there(models_folder)
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    folder = model_store.get(card)
    assert "Bearer hf_secretsecret" in hub.tokens
    for path in models_folder.rglob("*"):
        assert not path.is_file() or b"hf_secret" not in path.read_bytes(), path
    assert folder.is_dir()


def test_an_unknown_model_and_one_of_pickles_alone_are_named(hub, zoo, published):
    card = zoo()
    with pytest.raises(ModelError, match="has no 'acme/nothing', or hides it"):
        model_store.look(replace(card, id="acme/nothing"))
    (published / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="without .safetensors weights"):
        model_store.look(card)


def test_without_network_the_sentence_has_the_ways_out(hub, card, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(ModelError) as caught:
        model_store.look(card)
    for words in ("127.0.0.1 can't be reached", "HTTPS_PROXY", "HF_ENDPOINT", "medfm models import"):
        assert words in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://anna:secret@localhost:{port}")
    with pytest.raises(ModelError, match="through the proxy localhost") as caught:
        model_store.look(card)
    assert "secret" not in str(caught.value)


def test_offline_is_respected_if_a_person_set_it_and_not_if_loading_did(hub, card, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        model_store.look(card)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    offline.while_loading()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert model_store.get(card).is_dir()


def test_a_disk_that_is_too_small_is_reported_before(hub, card, models_folder, monkeypatch):
    monkeypatch.setattr(download.files.shutil, "disk_usage", lambda _: type("", (), {"free": 1000}))
    with pytest.raises(OutputError, match=r"are needed in .*, where 0.0 MB are free; free some space there"):
        model_store.get(card)
    assert not models_folder.exists()


def test_a_disk_that_gets_full_leaves_no_cut_file(tmp_path, monkeypatch):
    import huggingface_hub.file_download as hf

    def fill(url, stream, **_):
        stream.write(b"half")
        stream.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hf, "http_get", fill)
    monkeypatch.setattr(hf, "get_hf_file_metadata", lambda url: type("", (), {"size": 8, "location": url}))
    with pytest.raises(OSError) as caught:
        download_main._fetch(
            "a/b", COMMIT, {"name": "model.safetensors", "size": 8, "sha256": "", "blob": ""}, tmp_path
        )
    assert download_main.kind_of(caught.value) == "disk"
    assert list(tmp_path.iterdir()) == []
    error = download._sentence({"error": "disk", "detail": ""}, "Eyes", "", ID)
    assert isinstance(error, OutputError) and "disk became full" in str(error)


def test_the_process_ends_with_its_parents_pipe(hub, card):
    hub.slow = 1.0
    root = str(Path(download_main.__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, download_main.__file__, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=offline.environment(),
    )
    offer = model_store.look(card)
    folder = Path(offer.folder).parent / ".test.part"
    task = {"do": "get", "id": ID, "commit": offer.commit, "files": offer.files, "to": str(folder)}
    process.stdin.write(json.dumps(task).encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    started = time.monotonic()
    process.stdin.close()
    process.wait(10)
    assert time.monotonic() - started < 3
    process.stdout.close()


def test_an_adapter_is_fetched_by_its_id(hub, tiny_folder, card):
    hub.repositories["acme/lungs-lora"] = tiny_folder / "adapters" / "default"
    folder = model_store.get_adapter("acme/lungs-lora")
    assert installed_models.adapter_folder("acme/lungs-lora") == folder
    with pytest.raises(ModelError, match="is no PEFT adapter in safetensors: it lacks adapter_config.json"):
        model_store.get_adapter(ID)


def test_models_of_ones_own_are_nothing_to_get(models_folder, tiny_folder):
    with pytest.raises(InputError, match="comes with MedFM"):
        model_store.look(registry.card("medfm-tiny"))
    with pytest.raises(InputError, match="is your own folder"):
        model_store.look(registry.card(str(tiny_folder)))


def test_cancel_takes_effect_while_the_hub_is_slow_to_answer(hub, card):
    started = time.monotonic()
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    hub.slow = 5.0
    with pytest.raises(Cancelled):
        model_store.get(card, Recorder(cancelled=stop.is_set))
    assert time.monotonic() - started < 5
