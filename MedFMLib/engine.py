"""Where a request meets a model: check, load, run the task, add the provenance. The only joiner.

    request → card → model (kept while the same one is asked for) → task → findings + provenance

Used by whatever runs jobs: a worker thread, a server process, the command. Not thread-safe: one engine has one
user at a time.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from . import __version__
from .core.findings import Finding
from .core.request import Provenance, Request, Response
from .environment import hardware
from .errors import InputError, ModelError
from .guard import Guard, classifier
from .interfaces import registry
from .interfaces.jobs import NoProgress, Progress
from .interfaces.model import CachesImages, LoadedFacts, ModelCard
from .interfaces.task import TaskContext
from .models.runtime import loading
from .models.runtime.memory import gigabytes, give_back, is_out_of_memory
from .patient.serving import is_for_patient, run_for_patient
from .storage import licence_acceptance, offline

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "SimpleITK")

LESS_EXACT = ("fp32", "bf16", "int8", "nf4")
"""Precisions, each taking less memory than the one before."""

Loader = Callable[[ModelCard, str, str, Progress], Any]


class Engine:
    """Runs requests; keeps the last model in memory.

    Args:
        load: how models are loaded, `(card, adapter, precision, progress) -> model`; the architecture's own by
            default.
    """

    def __init__(self, load: Loader | None = None):
        self._load = load or load_model
        self._key: tuple[str, str, str] | None = None
        self._model: Any = None
        self._reused = 0
        self._guard: tuple[Any, Guard] | None = None

    def run(self, request: Request, progress: Progress | None = None) -> Response:
        """Do what is asked; for a patient, as far as the guard allows.

        Raises:
            MedFMError: in one sentence with the next step.
        """
        progress = progress or NoProgress()
        if is_for_patient(request):
            return run_for_patient(request, progress, self._run, self._guarded())
        return self._run(request, progress)

    def _guarded(self) -> Guard:
        """The rules, and the classifier that was chosen for this computer; loaded once."""
        key = classifier.chosen()
        if self._guard is None or self._guard[0] != key:
            self._guard = (key, classifier.by_choice(_judge))
        return self._guard[1]

    def _run(self, request: Request, progress: Progress) -> Response:
        started, clock = datetime.now(UTC), time.monotonic()
        task = registry.task(request.task)
        progress.stage("Checking the image")
        request.image.check_usable()
        card = registry.card(request.model)
        self._check(request, card, task.needs)
        task.check(request, card)
        with ThreadPoolExecutor(1) as background:
            digest = background.submit(request.image.digest).result  # ready long before the provenance needs it
            try:
                context, findings = self._work(request, card, task, progress, started, clock, digest)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                del error  # its frames hold what filled the memory
                request, less = self._step_down(request, card)
                try:
                    context, findings = self._work(request, card, task, progress, started, clock, digest, less)
                except Exception as again:
                    if not is_out_of_memory(again):
                        raise
                    raise ModelError(
                        f"The memory ran out, with less, too. {less} Close other programs, or choose a smaller model."
                    ) from None
            progress.fraction(1.0)
            seconds = time.monotonic() - clock
            return Response(findings, self._provenance(request, card, context, started, seconds, digest))

    def prepare(self, model: str, adapter: str = "", precision: str = "", progress: Progress | None = None) -> None:
        """Load a model before it is asked anything.

        Raises:
            ModelError: if it can't be loaded.
        """
        self.model(registry.card(model), adapter, precision, progress or NoProgress())

    def cache_bytes(self) -> int:
        """Bytes that the loaded model keeps of pictures, for the next question about them."""
        return self._model.image_cache.bytes if isinstance(self._model, CachesImages) else 0

    def clear_cache(self) -> int:
        """Drop what the loaded model keeps of pictures; → bytes that are free again. The model stays loaded."""
        freed = self.cache_bytes()
        if freed:
            self._model.image_cache.drop()
            give_back()
        return freed

    def _work(self, request: Request, card, task, progress, started, clock, digest, note: str = ""):
        """(work with what was noted, findings) of one run of a task."""
        model = self.model(card, request.adapter, request.precision, progress)

        def run_task(name: str, changed: Request) -> tuple[Finding, ...]:
            return registry.task(name).run(replace(changed, task=name), context)

        def provenance() -> Provenance:
            return self._provenance(request, card, context, started, time.monotonic() - clock, digest)

        context = TaskContext(model, card, progress, run_task, provenance)
        self._reused = model.image_cache.reused if isinstance(model, CachesImages) else 0
        if card.modalities and request.image.modality not in card.modalities:
            context.note(
                f"{card.title} was trained on {' and '.join(card.modalities)} images; "
                f"this one is {request.image.modality}, so expect errors."
            )
        if request.image.facts.get("modality_guessed"):
            context.note(
                f"The file does not say its modality; {request.image.modality} was guessed from the voxel values."
            )

        for text in (note, *model.facts.notes):
            if text:
                context.note(text)
        return context, task.run(request, context)

    def _step_down(self, request: Request, card: ModelCard) -> tuple[Request, str]:
        """(a request that takes less memory, what is less in a sentence), after memory ran out.

        Raises:
            ModelError: if there is nothing to give up.
        """
        shown = getattr(self._model, "shown", 1)
        if isinstance(self._model, CachesImages):
            self._model.image_cache.drop()
        if shown > 1:
            self._model.max_views = shown // 2
            give_back()
            return request, f"The memory ran out with {shown} slices at a time; {shown // 2} are shown from now on."
        now = request.precision or card.precisions[0]
        lower = (
            [p for p in LESS_EXACT[LESS_EXACT.index(now) + 1 :] if p in card.precisions] if now in LESS_EXACT else []
        )
        if not lower:
            raise ModelError(
                f"The memory ran out, and {card.title} can't be held in less; close other programs, choose a smaller model, or "
                "run it on a server."
            )
        self._key, self._model = None, None
        give_back()
        return replace(
            request, precision=lower[0]
        ), f"The memory ran out in {now}; the model is now held in {lower[0]}."

    def model(self, card: ModelCard, adapter: str, precision: str, progress: Progress):
        """The loaded model, from memory if it is the last one."""
        precision = precision or card.precisions[0]
        adapter = "" if adapter == "none" else adapter or card.default_adapter or next(iter(card.adapters), "")
        key = (card.id, adapter, precision)
        if self._key == key:
            return self._model
        if self._key is not None and self._key[::2] == key[::2] and hasattr(self._model, "use_adapter"):
            progress.stage(f"Switching to adapter {adapter or 'none'}")
            self._key = None  # a failed switch leaves it unknown which one is active
            self._model.use_adapter(adapter)
        else:
            progress.stage(f"Loading {card.title}")
            if doubt := _too_large(card, precision):
                progress.note(doubt)
            if self._model is not None:  # free the old one first
                self._key, self._model = None, None
                give_back()
            self._model = self._load(card, adapter, precision, progress)
        self._key = key
        return self._model

    def _check(self, request: Request, card: ModelCard, needs: tuple[str, ...]) -> None:
        lacking = [ability for ability in needs if ability not in card.abilities]
        if lacking:
            mark = "mark the structure with points or a box, or " if "outlines" in card.abilities else ""
            raise InputError(
                f"{card.title} can't {request.task}: it only {' and '.join(card.abilities)}; {mark}choose another model."
            )
        if request.precision and request.precision not in card.precisions:
            raise InputError(
                f"{card.title} can't be held as '{request.precision}'; choose one of {', '.join(card.precisions)}."
            )

    def _provenance(
        self,
        request: Request,
        card: ModelCard,
        context: TaskContext,
        started: datetime,
        seconds: float,
        digest: Callable[[], str],
    ) -> Provenance:
        facts: LoadedFacts = context.model.facts
        return Provenance(
            task=request.task,
            model=card.id,
            title=card.title,
            revision=facts.revision,
            precision=facts.precision,
            adapter=facts.adapter,
            adapter_hash=facts.adapter_hash,
            image=digest(),
            prompts=tuple(context.prompts),
            slices=tuple(context.slices),
            versions=dict(versions()),
            started=started.isoformat(timespec="seconds"),
            seconds=round(seconds, 2),
            notes=tuple(context.notes),
            tokens=context.tokens,
            reused=context.model.image_cache.reused - self._reused if isinstance(context.model, CachesImages) else 0,
        )


def _too_large(card: ModelCard, precision: str) -> str:
    """A warning if the weights alone exceed what is free in main memory, where that is what they go into; else ""."""
    size, free = hardware.weight_bytes(card, precision), hardware.free_memory()
    if not size or not free or size <= free or loading.device().type != "cpu":
        return ""
    return (
        f"{card.title} takes about {gigabytes(size)} in {precision}, and {gigabytes(free)} are free: it may be very slow or "
        "fail. Close other programs, or choose what `medfm models plan` says."
    )


def load_model(card: ModelCard, adapter: str, precision: str, progress: Progress):
    """Load by the card's architecture.

    Raises:
        ModelError: if a library, a file or the adapter is missing or doesn't fit, or the terms were not accepted.
    """
    # Nothing is fetched while a model is loaded or used; downloading is a person's own step.
    offline.while_loading()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    module = registry.architecture(card.architecture)
    licence_acceptance.check(card)
    try:
        return module.load(card, adapter, precision, progress)
    except ImportError as error:
        name = error.name or str(error)
        raise ModelError(
            f"{card.title} needs the Python package '{name.split('.')[0]}', which can't be imported ({error}); "
            "install MedFM's packages (Slicer: the button in the panel; command line: pip install medfm)."
        ) from error


def _judge(model: str, max_tokens: int):
    """The guard's model, loaded."""
    from .models.generation.text_judge import TextJudge

    return TextJudge(model, max_tokens)


@cache
def versions() -> dict[str, str]:
    """Versions of MedFM, Python and the libraries that compute."""
    found = {"MedFM": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
