"""Provide the objects that the routes of a server share, and check which models a client may name."""

from __future__ import annotations

import functools
import time

from starlette.requests import Request

from ...core.request import Request as MedFMRequest
from ...errors import InputError
from ...interfaces import registry
from ...storage import installed_models
from ...storage.model_card import ModelCard
from ..worker.runner import WorkerProcess
from .accounts import Accounts
from .hardening import UnknownModel
from .jobs import JobQueue
from .metrics import Metrics
from .settings import ServerLimits
from .volumes import Volumes

CARDS_SECONDS = 5


def service_of(request: Request) -> Service:
    """Return the shared objects of the routes."""
    return request.app.state.service


def cards() -> dict[str, ModelCard]:
    """Return the cards of the models that compute on this machine by id, reread at most every few seconds.

    Models at endpoints elsewhere are excluded: consent to send images there was given for this machine's own user.
    """
    return _cards(int(time.monotonic() / CARDS_SECONDS))


@functools.lru_cache(maxsize=1)
def _cards(_when: int) -> dict[str, ModelCard]:
    return {name: card for name, card in registry.cards().items() if not card.endpoint}


class Service:
    """Shared objects of the routes.

    Args:
        limits: limits of clients.
        workers: worker processes that run jobs.
        volumes: the uploaded volumes.
        local: the server listens on this machine only.
    """

    def __init__(self, limits: ServerLimits, workers: list[WorkerProcess], volumes: Volumes, local: bool = True):
        self.limits, self.volumes, self.metrics, self.local = limits, volumes, Metrics(), local
        self.accounts = Accounts(limits.key_memory)
        self.jobs = JobQueue(limits, volumes, self.metrics, workers, self.accounts, local)
        self.workers = workers

    def check(self, request: MedFMRequest) -> None:
        """Check that a client may make this request: a listed model, an allowed number of tokens.

        Raises:
            UnknownModel: see `check_names`.
            InputError: if the answer would be too long, or there is no such task.
        """
        registry.task(request.task)
        self.check_names(request.model, request.adapter)
        if request.max_tokens > self.limits.tokens:
            raise InputError(
                f"The limit for an answer is {self.limits.tokens} tokens here, not {request.max_tokens}; ask for fewer."
            )

    def check_names(self, model: str, adapter: str) -> None:
        """Check that model and adapter are listed; names of folders are never accepted.

        Args:
            model: id of a model.
            adapter: name of an adapter; "", "none" and "automatic" as in a request.

        Raises:
            UnknownModel: if one of them is not listed.
        """
        card = cards().get(model)
        if card is None:
            raise UnknownModel(f"This server has no model '{model[:100]}'; it has {', '.join(cards())}.")
        if adapter not in ("", "none", "automatic", *card.adapters, *installed_models.adapters()):
            raise UnknownModel(f"This server has no adapter '{adapter[:100]}' for {card.title}.")
