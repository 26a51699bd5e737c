"""What the routes of a server share: its limits, volumes, jobs and workers, and which models a client may name."""

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
from .hardening import UnknownModel
from .jobs import JobQueue
from .metrics import Metrics
from .settings import ServerLimits
from .volumes import Volumes

CARDS_SECONDS = 5


def service_of(request: Request) -> Service:
    """What the routes share."""
    return request.app.state.service


def cards() -> dict[str, ModelCard]:
    """Cards of the models that compute here by id, read again at most every few seconds.

    Those at endpoints elsewhere are left out: the yes to send images there was given for this machine's own.
    """
    return _cards(int(time.monotonic() / CARDS_SECONDS))


@functools.lru_cache(maxsize=1)
def _cards(_when: int) -> dict[str, ModelCard]:
    return {name: card for name, card in registry.cards().items() if not card.endpoint}


class Service:
    """What the routes share.

    Args:
        limits: what clients may take. workers: what computes.
    """

    def __init__(self, limits: ServerLimits, workers: list[WorkerProcess], volumes: Volumes):
        self.limits, self.volumes, self.metrics = limits, volumes, Metrics()
        self.jobs = JobQueue(limits, volumes, self.metrics, workers)
        self.workers = workers

    def check(self, request: MedFMRequest) -> None:
        """Refuse what a stranger may not ask for: other than listed models, more words than allowed.

        Raises:
            UnknownModel: see `check_names`.
            InputError: the answer would be too long, or there is no such task.
        """
        registry.task(request.task)
        self.check_names(request.model, request.adapter)
        if request.max_tokens > self.limits.tokens:
            raise InputError(f"An answer may be {self.limits.tokens} tokens long here, not {request.max_tokens}.")

    def check_names(self, model: str, adapter: str) -> None:
        """Refuse models and adapters that are not on the list; names of folders are never followed.

        Raises:
            UnknownModel: it is none of them.
        """
        card = cards().get(model)
        if card is None:
            raise UnknownModel(f"This server has no model '{model[:100]}'; it has {', '.join(cards())}.")
        if adapter not in ("", "none", "automatic", *card.adapters, *installed_models.adapters()):
            raise UnknownModel(f"This server has no adapter '{adapter[:100]}' for {card.title}.")
