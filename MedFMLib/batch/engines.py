"""Where cases of a batch run: worker processes of this machine, a MedFM server, Ray. Each gives a function that makes runners."""

from __future__ import annotations

from collections.abc import Callable

from ..environment import hardware
from ..errors import InputError
from ..execution import backends
from ..interfaces import registry
from ..interfaces.jobs import Runner
from .plan import BatchCase

Make = Callable[[], Runner]


def local(compute: str = "") -> Make:
    """Each runner has a worker process of its own, with a model of its own.

    Args:
        compute: MODULE:FACTORY in place of the engine, for tests.
    """
    from ..execution.worker import ProcessRunner

    arguments = ("--compute", compute) if compute else ()
    return lambda: ProcessRunner(arguments)


def server(url: str, certificates: str = "") -> Make:
    """Each runner has one job in flight on a MedFM server, which needs a person's yes and a key (see `places`).

    Raises:
        InputError: the address can't be used. ModelError: the yes or the key is missing.
    """
    from ..execution.remote import RemoteRunner

    backends.check(url)
    key = backends.key(url)
    RemoteRunner(url, key, certificates).close()  # refuses an address that can't be used, before anything is read
    return lambda: RemoteRunner(url, key, certificates)


def check(cases: list[BatchCase]) -> None:
    """Refuse what no case could do, before anything is read.

    Raises:
        InputError: an unknown model or task, or a model that can't do it. MedFMError: see `registry`.
    """
    for model, precision, name in sorted(
        {(c.options.model, c.options.precision, s.task) for c in cases for s in c.steps}
    ):
        card, task = registry.card(model), registry.task(name)
        if lacking := [ability for ability in task.needs if ability not in card.abilities]:
            raise InputError(f"{card.title} can't {name}: it lacks '{lacking[0]}'; choose another --model or --task.")
        if precision and precision not in card.precisions:
            raise InputError(
                f"{card.title} can't be held as '{precision}'; choose one of {', '.join(card.precisions)}."
            )


def memory(cases: list[BatchCase], workers: int) -> str:
    """What `workers` models take, as a sentence; "" if it can't be said."""
    sizes = []
    for model, precision in {(case.options.model, case.options.precision) for case in cases}:
        card = registry.card(model)
        sizes.append(hardware.weight_bytes(card, precision or card.precisions[0]) or 0)
    size, free = max(sizes, default=0), hardware.free_memory()
    if not size:
        return ""
    said = (
        f"{workers} worker{'s' if workers > 1 else ''} × {size / 1e9:.2f} GB of weights = {workers * size / 1e9:.2f} GB"
    )
    short = "; that is too much, take fewer --workers" if free and workers * size > free else ""
    return said + (f", {free / 1e9:.1f} GB are free{short}." if free else ".")
