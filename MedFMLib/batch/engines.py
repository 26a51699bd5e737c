"""Select where the cases of a batch run: worker processes, a MedFM server or Ray. Each returns a factory of runners."""

from __future__ import annotations

from collections.abc import Callable

from .. import hardware
from ..errors import InputError
from ..execution import backends
from ..interfaces import registry
from ..interfaces.jobs import Runner
from ..models.runtime import estimates
from ..models.runtime.precision import choose_precision
from .plan import BatchCase

Make = Callable[[], Runner]


def local(compute: str = "") -> Make:
    """Return a factory of runners with one worker process each, which has its own model.

    Args:
        compute: MODULE:FACTORY in place of the engine, for tests.
    """
    from ..execution.worker import ProcessRunner

    arguments = ("--compute", compute) if compute else ()
    return lambda: ProcessRunner(arguments)


def server(url: str, certificates: str = "") -> Make:
    """Return a factory of runners with one job in flight each on a MedFM server, which needs consent and a key (see `backends`).

    Args:
        url: of the server.
        certificates: file with trusted certificates; "" for the usual ones.

    Raises:
        InputError: if the address is invalid.
        ModelError: if consent or the key is missing.
    """
    from ..execution.remote import RemoteRunner

    backends.check(url)
    key = backends.key(url)
    RemoteRunner(url, key, certificates).close()  # rejects an invalid address before anything is read
    return lambda: RemoteRunner(url, key, certificates)


def check(cases: list[BatchCase]) -> None:
    """Check that every case can run, before anything is read.

    Raises:
        InputError: an unknown model or task, or a model without the required ability.
        MedFMError: see `registry`.
    """
    for model, precision, name in sorted(
        {(c.options.model, c.options.precision, s.task) for c in cases for s in c.steps}
    ):
        card, task = registry.card(model), registry.task(name)
        if lacking := [ability for ability in task.needs if ability not in card.abilities]:
            raise InputError(f"{card.title} can't {name}: it lacks '{lacking[0]}'; choose another --model or --task.")
        choose_precision(card, precision)


def memory(cases: list[BatchCase], workers: int) -> str:
    """Return a sentence on the memory of the models; "" if unknown.

    Args:
        cases: of the batch.
        workers: number of models in memory.
    """
    sizes = []
    for model, precision in {(case.options.model, case.options.precision) for case in cases}:
        card = registry.card(model)
        sizes.append(estimates.weight_bytes(card, choose_precision(card, precision)) or 0)
    size, free = max(sizes, default=0), hardware.free_memory()
    if not size:
        return ""
    said = (
        f"{workers} worker{'s' if workers > 1 else ''} × {size / 1e9:.2f} GB of weights = {workers * size / 1e9:.2f} GB"
    )
    short = "; that is too much, use fewer --workers" if free and workers * size > free else ""
    return said + (f", {free / 1e9:.1f} GB are free{short}." if free else ".")
