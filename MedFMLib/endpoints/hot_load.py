"""Load LoRA adapters into a running vLLM server, and unload them. Uses two requests of vLLM's API; no chat.

    POST /v1/load_lora_adapter    {"lora_name": NAME, "lora_path": PATH}
    POST /v1/unload_lora_adapter  {"lora_name": NAME}

The server must run with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True
(docs.vllm.ai/en/latest/features/lora). The
path is on the server's disk; no weights are sent. Ray Serve has no such request: it loads adapters from its store on
first use.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..errors import InputError, OutputError
from ..storage.model_card import AUTOMATIC, ModelCard
from . import book, keys
from .client import EndpointClient
from .failures import EndpointError, words_of
from .settings import Endpoint

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def load(card: ModelCard, adapter: str, path: str, client: EndpointClient | None = None) -> ModelCard:
    """Load a LoRA on the server, and add it to the endpoint's adapters.

    Args:
        card: of the endpoint.
        adapter: its name from now on, for `--adapter`.
        path: folder of a PEFT adapter on the server's disk, or its name on the hub.
        client: for tests; by default one for the endpoint.

    Returns:
        The card with the adapter.

    Raises:
        InputError: if the name or path is invalid.
        EndpointError: if the server can't load it.
        OutputError: see `book.save`.
    """
    if not NAME.fullmatch(adapter) or adapter in (AUTOMATIC, "none"):
        raise InputError(
            f"'{adapter}' is not a valid name of an adapter; use letters, digits, dots, dashes and underscores."
        )
    if adapter == Endpoint.of(card).model:
        raise InputError(f"'{adapter}' is the name of the model itself; choose another for the adapter.")
    if not path.strip():
        raise InputError("The adapter's path is empty; give its folder on the server.")
    try:
        _post(card, "/load_lora_adapter", {"lora_name": adapter, "lora_path": path}, client)
    except EndpointError as error:
        if "already been loaded" not in str(error) and "already loaded" not in str(error):
            raise
    names = (*card.adapters, *(() if adapter in card.adapters else (adapter,)))
    return _kept(replace(card, adapters=names, default_adapter=card.default_adapter or AUTOMATIC))


def unload(card: ModelCard, adapter: str, client: EndpointClient | None = None) -> ModelCard:
    """Unload a LoRA on the server, and remove it from the endpoint's adapters.

    Args:
        card: of the endpoint.
        adapter: its name.
        client: for tests; by default one for the endpoint.

    Returns:
        The card without the adapter.

    Raises:
        InputError: if the endpoint has no such adapter.
        EndpointError: if the server can't unload it.
        OutputError: see `book.save`.
    """
    if adapter not in card.adapters:
        there = ", ".join(card.adapters) or "none"
        raise InputError(f"{card.title} has no adapter '{adapter}'; it has {there}.")
    try:
        _post(card, "/unload_lora_adapter", {"lora_name": adapter}, client)
    except EndpointError as error:
        if error.kind != "model":  # the server was restarted and doesn't have it
            raise
    names = tuple(name for name in card.adapters if name != adapter)
    default = card.default_adapter if names and card.default_adapter != adapter else AUTOMATIC if names else ""
    return _kept(replace(card, adapters=names, default_adapter=default))


def _kept(card: ModelCard) -> ModelCard:
    if card.id in book.cards():
        try:
            book.save(card)
        except OutputError as error:
            raise OutputError(f"The server made the change, but {str(error)[0].lower()}{str(error)[1:]}") from error
    return card


def _post(card: ModelCard, path: str, content: dict, client: EndpointClient | None) -> None:
    client = client or EndpointClient(card.id, Endpoint.of(card), keys.key(card))
    status, body = client.post(path, content)
    if 200 <= status < 300:
        return
    where, shown = client.failures.where, client.failures.shown
    _, text = words_of(body)
    if status in (404, 405) and not re.search("adapter|lora", text, re.I):
        raise EndpointError(
            f"{where} loads no adapters while it runs ({status}); start vLLM with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or name adapters when it starts.",
            "refused",
        )
    if status in (401, 403, 407, 429, 502, 503) or 300 <= status < 400:
        raise client.failures.of_status(status, body)
    kind = "model" if status == 404 else "refused"
    raise EndpointError(f"{where} refused the adapter '{content['lora_name']}' ({status}): {shown(text)}.", kind)
