"""Use models behind OpenAI's chat protocol: vLLM, llama.cpp, Ollama, LM Studio, a hospital's endpoint. Needs no torch.

The recipe for volumes is our own, since nothing is known about the model: up to as many uniform slices as its card
says, numbered, half as wide as a single slice. Windows and views are those of every model (`view`). Pictures leave the
machine only with the user's consent (`endpoints.egress`), and burned-in text is blackened (`burned_in_text`) if the
card says so. Loads no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.view import View
from ..endpoints import egress, keys
from ..endpoints.client import EndpointClient
from ..endpoints.failures import EndpointError
from ..endpoints.settings import Endpoint
from ..endpoints.turns import encode, first_turn
from ..errors import Cancelled, InputError, ModelError
from ..imaging import burned_in_text
from ..imaging.key_images import resize
from ..interfaces.family import FamilyTraits
from ..interfaces.model import Callbacks, LoadedFacts
from ..storage.model_card import AUTOMATIC, ModelCard
from .generation.chat import INSTRUCTION, REQUESTS, uniform

MODEL_TYPES = ()

TRAITS = FamilyTraits()
"""Defaults; no folder with weights belongs to this family."""

HELD = "as served"
"""Value in place of a precision, which the endpoint does not report."""

LEAST_SIDE = 224
LARGE = 1.5
"""A slice wider than the sent picture by more than this factor is shrunk before burned-in text is searched."""


def load(card: ModelCard, adapter: str, precision: str, progress) -> OpenAIModel:
    """Return a model that is ready to ask; nothing is sent yet.

    Args:
        card: card with the endpoint.
        adapter: name of an adapter at the endpoint; "" for none.
        precision: not used.
        progress: not used.

    Raises:
        ModelError: if the card, key or adapter can't be used, or the user has not allowed the endpoint.
    """
    egress.check(card)
    made = OpenAIModel(card, EndpointClient(card.id, Endpoint.of(card), keys.key(card)))
    made.use_adapter(adapter)
    return made


class OpenAIModel:
    """A model at an endpoint: `Writes` and `Samples`.

    Args:
        card: with `endpoint`.
        client: sends the requests.
    """

    remembers = True

    def __init__(self, card: ModelCard, client: EndpointClient):
        self.card, self.client, self.endpoint = card, client, client.endpoint
        self.max_views = self.endpoint.max_pictures
        self.facts = LoadedFacts(f"{self.endpoint.model} at {self.endpoint.host}", HELD)
        self._name = self.endpoint.model

    def use_adapter(self, name: str) -> None:
        """Use an adapter's name instead of the model's, as in vLLM; the base for "" and `AUTOMATIC`.

        Raises:
            ModelError: if the card has no such adapter.
        """
        name = "" if name == AUTOMATIC else name
        if name and name not in self.card.adapters:
            known = f"it has {', '.join(self.card.adapters)}" if self.card.adapters else "its card names none"
            raise ModelError(
                f"{self.card.title} has no adapter '{name}': {known}; an adapter must be at the endpoint, and is named with "
                "`medfm endpoints add … --adapter`."
            )
        self._name = name or self.endpoint.model
        self.facts = replace(self.facts, adapter=name, revision=f"{self._name} at {self.endpoint.host}")

    def choose_slices(self, count: int) -> list[int]:
        """Implement `ChoosesSlices.choose_slices` with uniform ones."""
        return uniform(count, self.max_views)

    def side(self, count: int) -> int:
        """Return the side in pixels of each of `count` pictures."""
        return (
            self.card.image_size
            if count == 1
            else max(min(self.card.image_size, LEAST_SIDE), self.card.image_size // 2)
        )

    def write(
        self,
        views: Sequence[View],
        text: str = "",
        *,
        kind: str = "answer",
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        callbacks: Callbacks = Callbacks(),
    ) -> str:
        """Implement `Writes.write`; the pictures are in the first of all turns.

        Raises:
            InputError: for no views or more than `max_views`.
            ModelError: in one sentence, for every error of the endpoint.
            Cancelled: within 200 ms after `callbacks.cancelled()` returns true; the connection is closed.
        """
        return self._ask(views, text if kind == "answer" else REQUESTS[kind], history, max_tokens, callbacks)

    def sample(
        self,
        views: Sequence[View],
        text: str,
        count: int,
        *,
        temperature: float = 1.0,
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        callbacks: Callbacks = Callbacks(),
    ) -> list[str]:
        """Implement `Samples.sample`; answers differ each time, since the endpoint chooses the seed."""
        answers = []
        for number in range(count):
            answers.append(
                self._ask(views, text, history, max_tokens, replace(callbacks, on_text=Callbacks.on_text), temperature)
            )
            callbacks.on_fraction((number + 1) / count)
        return answers

    def _ask(self, views, question: str, history, max_tokens: int, callbacks: Callbacks, temperature: float = 0) -> str:
        if not 1 <= len(views) <= self.max_views:
            raise InputError(f"{self.card.title} takes 1 to {self.max_views} pictures per question, not {len(views)}.")
        egress.check(self.card)  # the user may have withdrawn the consent
        side = self.side(len(views))
        pictures, blackened = [], 0
        for view in views:
            picture, areas = self._picture(view, side, callbacks)
            pictures.append(encode(picture, self.endpoint.format))
            blackened += areas
        callbacks.on_prompt(self._shown(len(views), side, question, history))
        said = self.client.chat(
            self._body(pictures, question, history, max_tokens, temperature), callbacks.cancelled, callbacks.on_text
        )
        self._note(said, len(views), side, question, history, blackened, max_tokens, callbacks)
        return said.text.strip()

    def _picture(self, view: View, side: int, callbacks: Callbacks) -> tuple[np.ndarray, int]:
        """Return ((H, W, 3) uint8 as sent, number of blackened areas)."""

        def stop_if_cancelled() -> None:
            if callbacks.cancelled():
                raise Cancelled

        stop_if_cancelled()
        if not self.endpoint.mask_text:
            return _sized(view, side), 0
        if max(view.pixels.shape) > LARGE * side:
            picture, areas = burned_in_text.mask(_sized(view, side), stop_if_cancelled)
            return picture, len(areas)
        pixels, areas = burned_in_text.mask(view.pixels, stop_if_cancelled)
        return _sized(replace(view, pixels=pixels), side), len(areas)

    def _body(
        self, pictures: Sequence[str], question: str, history, max_tokens: int, temperature: float = 0
    ) -> dict[str, Any]:
        """Return the body of the request. Nothing else leaves the machine."""
        turns = [{"role": "system", "content": INSTRUCTION}]
        for number, (asked, answer) in enumerate([*history, (question, None)]):
            turns.append({"role": "user", "content": asked if number else first_turn(pictures, asked)})
            if answer is not None:
                turns.append({"role": "assistant", "content": answer})
        body = {"model": self._name, "messages": turns, "max_tokens": max_tokens, "stream": True}
        body["temperature"] = temperature
        return body | ({"stop": list(self.endpoint.stop)} if self.endpoint.stop else {})

    def _shown(self, count: int, side: int, question: str, history) -> str:
        """Return the prompt as recorded in the provenance."""
        lines = [f"system: {INSTRUCTION}"]
        pictures = f"[{count} × {side}×{side} {self.endpoint.format}] "
        for number, (asked, answer) in enumerate([*history, (question, None)]):
            lines.append(f"user: {'' if number else pictures}{asked}")
            lines += [] if answer is None else [f"assistant: {answer}"]
        return "\n".join(lines)

    def _note(
        self, said, count: int, side: int, question: str, history, blackened: int, max_tokens: int, callbacks
    ) -> None:
        """Note where the answer came from, what was sent there, and its limitations."""
        reported = "".join(c for c in said.model if c.isprintable())[:120] or self._name
        self.facts = replace(self.facts, revision=f"{reported} at {self.endpoint.host}")
        sent = egress.sent(self.card, count, side, question, history)
        callbacks.on_tokens(*said.tokens)
        callbacks.on_note(
            f"The answer came from {self.endpoint.host}, which calls the model {reported} and was sent {sent}."
        )
        if self.endpoint.mask_text:
            areas = f"{blackened} area{'s' * (blackened != 1)}" if blackened else "No area"
            callbacks.on_note(
                f"{areas} that may be burned-in text {'were' if blackened > 1 else 'was'} blackened before sending."
            )
        if said.finish == "length" and not said.text.strip():
            raise EndpointError(
                f"{self.card.title} wrote nothing within {max_tokens} tokens, as models that think first do; allow more.",
                "length",
            )
        if said.finish == "length":
            callbacks.on_note(f"The answer was cut at {max_tokens} tokens.")


def _sized(view: View, side: int) -> np.ndarray:
    """Return the square of a slice; a picture in its own proportions, at most `side` pixels long."""
    picture = view.for_model(side)
    longest = max(picture.shape[:2])
    if longest <= side:
        return picture
    rows, columns = (max(1, round(n * side / longest)) for n in picture.shape[:2])
    return resize(picture, rows, columns)
