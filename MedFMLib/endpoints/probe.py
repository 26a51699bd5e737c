"""Test what an endpoint supports: its models, pictures, streaming, context.

Sends a red square and a word; no patient data.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..storage.model_card import ModelCard
from . import keys, turns
from .client import EndpointClient
from .failures import EndpointError
from .settings import Endpoint

SIDE = 64
TOKENS = 24
QUESTION = "What colour is this picture? Answer with one word."
CONTEXTS = ("max_model_len", "context_length", "max_context_length", "n_ctx", "n_ctx_train", "context_window")
"""Fields in which servers state the context length in tokens: vLLM, OpenRouter, LM Studio, llama.cpp."""

FATAL = ("key", "down", "tls", "timeout", "moved")
"""Kinds of failure after which further requests are pointless."""


def probe(
    card: ModelCard, client: EndpointClient | None = None, cancelled: Callable[[], bool] = bool
) -> dict[str, Any]:
    """Query and test an endpoint.

    Args:
        card: of the endpoint.
        client: for tests; by default one for the endpoint.
        cancelled: checked every 50 ms.

    Returns:
        A dict with `models`: names it offers; `offered`: whether the card's model is among them (None if unknown);
        `missing`: adapters of the card that are not; `context`: tokens, 0 if unknown; `writes`, `pictures`, `streams`:
        whether each worked; `said`: its answer about a red square; `reported`: its model's name; `problem`: a sentence,
        "" if none; `when`: ISO 8601, UTC.

    Raises:
        EndpointError: if it can't be reached at all.
        Cancelled: on request.
    """
    client = client or EndpointClient(card.id, Endpoint.of(card), keys.key(card))
    endpoint = client.endpoint
    found: dict[str, Any] = {"models": [], "offered": None, "missing": [], "context": 0, "writes": False, "pictures": False,
                             "streams": False, "said": "", "reported": "", "problem": ""}  # fmt: skip
    try:
        models = client.models(cancelled)
        names = [model["id"] for model in models]
        found["models"] = names[:100]
        if names:
            found["offered"] = endpoint.model in names
            found["missing"] = [name for name in card.adapters if name not in names]
        found["context"] = next((context_of(model) for model in models if model["id"] == endpoint.model), 0)
    except EndpointError as error:
        if error.kind in FATAL:
            raise
    try:
        said = client.chat(_question(endpoint, True), cancelled)
        found |= {"writes": True, "pictures": True}
    except EndpointError as error:
        if error.kind not in ("pictures", "refused", "server", "nonsense"):
            raise
        found["problem"] = str(error)
        said = client.chat(_question(endpoint, False), cancelled)
        found["writes"] = True
    found |= {"streams": said.streamed, "reported": said.model[:200], "said": said.text.strip()[:200]}
    return found | {"when": datetime.now(UTC).isoformat(timespec="seconds")}


def context_of(model: dict[str, Any]) -> int:
    """Return the context length in tokens in a server's description of a model; 0 if it is missing."""
    meta = model.get("meta")
    for place in (model, meta if isinstance(meta, dict) else {}):
        for name in CONTEXTS:
            if type(place.get(name)) is int:
                return place[name]
    return 0


def _question(endpoint: Endpoint, picture: bool) -> dict[str, Any]:
    content: Any = "Say: yes."
    if picture:
        red = np.zeros((SIDE, SIDE, 3), np.uint8)
        red[..., 0] = 255
        content = turns.first_turn([turns.encode(red, endpoint.format)], QUESTION)
    messages = [{"role": "user", "content": content}]
    return {"model": endpoint.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0, "stream": True}
