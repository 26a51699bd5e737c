"""Loading LoRA adapters onto a running vLLM: the requests, its refusals, and answers from the adapter."""

from __future__ import annotations

import json
import sys

import pytest
from support.fake_endpoint import MODEL, FakeEndpoint, refuse
from support.store_fixtures import models_folder  # noqa: F401

from MedFMLib.endpoints import book, hot_load
from MedFMLib.endpoints.failures import EndpointError
from MedFMLib.endpoints.settings import Endpoint
from MedFMLib.errors import InputError

PATH = "/srv/adapters/chest"


@pytest.fixture
def vllm(models_folder, monkeypatch):  # noqa: F811
    """A server that takes adapters as vLLM 0.10 does, with its words."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    fake = FakeEndpoint()

    def step(handler):
        path, _, body = fake.requests[-1]
        content = json.loads(body)
        loaded = [model["id"] for model in fake.models]
        if path == "/v1/load_lora_adapter":
            if content["lora_name"] in loaded:
                text = f"The lora adapter '{content['lora_name']}' has already been loaded."
                return refuse(400, {"error": {"message": text, "type": "InvalidUserInput", "code": 400}})(handler)
            if not content["lora_path"].startswith("/srv/"):
                text = f"Loading lora {content['lora_name']} failed: No adapter found for {content['lora_path']}"
                return refuse(404, {"error": {"message": text, "type": "NotFoundError", "code": 404}})(handler)
            fake.models.append({"id": content["lora_name"], "parent": MODEL})
        elif path == "/v1/unload_lora_adapter":
            if content["lora_name"] not in loaded:
                text = f"The lora adapter '{content['lora_name']}' cannot be found."
                return refuse(404, {"error": {"message": text, "type": "NotFoundError", "code": 404}})(handler)
            fake.models = [model for model in fake.models if model["id"] != content["lora_name"]]
        handler.reply(200, b"Success")

    with fake.running() as running:
        running.step = step
        yield running


@pytest.fixture
def card(vllm):
    return book.add("ward", Endpoint(vllm.url, MODEL))


def test_an_adapter_is_loaded_kept_and_unloaded(vllm, card):
    vllm.script = [vllm.step]
    assert hot_load.load(card, "chest", PATH).adapters == ("chest",)
    assert vllm.requests[-1][0] == "/v1/load_lora_adapter"
    assert json.loads(vllm.requests[-1][2]) == {"lora_name": "chest", "lora_path": PATH}
    kept = book.card("ward")
    assert (kept.adapters, kept.default_adapter) == (("chest",), "automatic")
    vllm.script = [vllm.step] * 3
    assert hot_load.load(kept, "chest", PATH).adapters == ("chest",)  # loaded already is loaded
    assert hot_load.unload(kept, "chest").adapters == ()
    assert hot_load.unload(kept, "chest").default_adapter == ""  # a server that forgot it is no obstacle
    assert book.card("ward").adapters == ()


def test_a_server_that_can_t_or_won_t_is_reported_in_one_sentence(vllm, card):
    for step, reason in (
        (vllm.step, "refused the adapter 'chest' .* No adapter found for /elsewhere"),
        (refuse(404, {"detail": "Not Found"}), "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (refuse(401, {"error": "who?"}), "wants a key"),
    ):
        vllm.script = [step]
        with pytest.raises(EndpointError, match=reason):
            hot_load.load(card, "chest", "/elsewhere")
    assert book.card("ward").adapters == ()


@pytest.mark.parametrize("name", ["", "a/b", "none", "automatic", MODEL, "../x", "a b"])
def test_a_name_that_can_t_be_one_is_not_sent(name, vllm, card):
    with pytest.raises(InputError):
        hot_load.load(card, name, PATH)
    assert vllm.requests == []
    with pytest.raises(InputError, match="has no adapter"):
        hot_load.unload(card, "unknown")


def test_the_command_does_it(vllm, card):
    from typer.testing import CliRunner

    from MedFMLib.cli import endpoints as cli_endpoints

    vllm.script = [vllm.step]
    done = CliRunner().invoke(cli_endpoints.app, ["load-adapter", "ward", "chest", PATH])
    assert done.exit_code == 0 and f"chest was loaded at 127.0.0.1:{vllm.port}" in done.output
    assert book.card("ward").adapters == ("chest",)
