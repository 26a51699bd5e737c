"""Connect requests and models: check the request, load the model, run the task, add the provenance.

    request → card → model (kept in memory for the next request) → task → findings + provenance

This is the only module that connects them; worker threads, server processes and the command line use it. Not
thread-safe: one engine has one user at a time.
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

from . import __version__, hardware
from .core.findings import Finding
from .core.image import Image
from .core.request import Provenance, Request, Response
from .errors import InputError, ModelError, OutsideDomain
from .guard import Guard, classifier
from .interfaces import domain as domains
from .interfaces import registry
from .interfaces.jobs import LocalRunner, NoProgress, Progress
from .interfaces.model import CachesImages, LoadedFacts
from .interfaces.task import TaskContext, needs_of, options_of
from .models.runtime import estimates
from .models.runtime.device import choose_device, free_bytes, gigabytes, is_out_of_memory, release_memory
from .models.runtime.memory import MemoryPlan, plan_for
from .models.runtime.precision import choose_precision, lower_precisions, precisions_to_try
from .patient.serving import is_for_patient, run_for_patient
from .storage import licence_acceptance, offline
from .storage.model_card import ModelCard

SURE_BYTES_PER_WEIGHT, SURE_BYTES = 40, 2_000_000_000
"""Free bytes above which no plan is made: ten times the model in fp32, and 2 GB for pictures and libraries."""

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "numpy", "SimpleITK")

Loader = Callable[[ModelCard, str, str, Progress], Any]
Planner = Callable[[ModelCard, int, str], MemoryPlan | None]


class Engine:
    """Runs requests; keeps the last model in memory.

    Args:
        load: loads models, `(card, adapter, precision, progress) -> model`; `load_model` by default.
        plan: plans memory before that, `(card, slices, precision) -> MemoryPlan`, or None where nothing needs planning;
            `plan_model` by default, but no planning if `load` is given.
    """

    def __init__(self, load: Loader | None = None, plan: Planner | None = None):
        self._load = load or load_model
        self._plan = plan or (plan_model if load is None else _no_plan)
        self._key: tuple[str, str, str] | None = None
        self._model: Any = None
        self._reused = 0
        self._planned = ""
        self._held = ""
        self._guard: tuple[Any, Guard] | None = None

    def run(self, request: Request, progress: Progress | None = None) -> Response:
        """Run a request; for a patient, as far as the guard allows.

        Args:
            request: the request.
            progress: receives progress reports and may cancel.

        Raises:
            MedFMError: in one sentence with the next step.
        """
        progress = progress or NoProgress()
        if is_for_patient(request):
            return run_for_patient(request, progress, self._run, self._guarded())
        return self._run(request, progress)

    def _guarded(self) -> Guard:
        """Return the guard with its rules and the classifier chosen on this computer; loaded once."""
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
        self._check(request, card, needs_of(task, request.image))
        request = replace(request, options=options_of(task, request.options))
        task.check(request, card)
        with ThreadPoolExecutor(1) as background:
            digest = background.submit(request.image.digest).result  # ready long before the provenance needs it
            try:
                context, findings = self._work(request, card, task, progress, started, clock, digest)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                del error  # its frames hold references to the tensors that filled the memory
                request, less = self._step_down(request, card)
                try:
                    context, findings = self._work(request, card, task, progress, started, clock, digest, less)
                except Exception as again:
                    if not is_out_of_memory(again):
                        raise
                    raise ModelError(
                        f"The memory ran out again after a reduction. {less} Close other programs, or choose a smaller model."
                    ) from None
            progress.fraction(1.0)
            seconds = time.monotonic() - clock
            return Response(findings, self._provenance(request, card, context, started, seconds, digest))

    def prepare(self, model: str, adapter: str = "", precision: str = "", progress: Progress | None = None) -> None:
        """Load a model ahead of its first request.

        Args:
            model: id or folder.
            adapter: as in a request.
            precision: as in a request.
            progress: receives progress reports and may cancel.

        Raises:
            ModelError: if it can't be loaded.
        """
        self.model(registry.card(model), adapter, precision, progress or NoProgress())

    def cache_bytes(self) -> int:
        """Return the size of the loaded model's image cache in bytes."""
        return self._model.image_cache.bytes if isinstance(self._model, CachesImages) else 0

    def clear_cache(self) -> int:
        """Clear the loaded model's image cache and return the freed bytes. The model stays loaded."""
        freed = self.cache_bytes()
        if freed:
            self._model.image_cache.drop()
            release_memory()
        return freed

    def _work(self, request: Request, card, task, progress, started, clock, digest, note: str = ""):
        """Run a task once and return (its context, its findings)."""
        model = self.model(card, request.adapter, request.precision, progress, _slices_wanted(request, card))

        def run_task(name: str, changed: Request) -> tuple[Finding, ...]:
            inner = registry.task(name)
            own = {o.name: changed.options[o.name] for o in inner.options if o.name in changed.options}
            return inner.run(replace(changed, task=name, options=options_of(inner, own)), context)

        def provenance() -> Provenance:
            return self._provenance(request, card, context, started, time.monotonic() - clock, digest)

        context = TaskContext(model, card, progress, run_task, provenance)
        self._reused = model.image_cache.reused if isinstance(model, CachesImages) else 0
        if card.modalities and request.image.modality not in card.modalities:
            context.note(_not_made_for(card, request.image))
        if request.image.facts.get("modality_guessed"):
            context.note(
                f"The file does not say its modality; {request.image.modality} was guessed from the voxel values."
            )

        for text in (*request.image.notes, note, self._planned, *model.facts.notes):
            if text:
                context.note(text)
        _check_domain(request, context, task)
        return context, task.run(request, context)

    def _step_down(self, request: Request, card: ModelCard) -> tuple[Request, str]:
        """Return (a request that needs less memory, a sentence that describes the reduction), after memory ran out.

        Raises:
            ModelError: if nothing can be reduced.
        """
        shown = getattr(self._model, "shown", 1)
        if isinstance(self._model, CachesImages):
            self._model.image_cache.drop()
        if shown > 1:
            self._model.max_views = shown // 2
            release_memory()
            return request, f"The memory ran out with {shown} slices at a time; {shown // 2} are shown from now on."
        now = self._held or choose_precision(card, request.precision)
        lower = lower_precisions(card, now)
        if not lower:
            raise ModelError(
                f"The memory ran out, and {card.title} has no lower precision; close other programs, choose a smaller model, or "
                "run it on a server."
            )
        self._key, self._model = None, None
        release_memory()
        return replace(
            request, precision=lower[0]
        ), f"The memory ran out in {now}; the model is now loaded in {lower[0]}."

    def model(self, card: ModelCard, adapter: str, precision: str, progress: Progress, slices: int = 1) -> Any:
        """Return the loaded model, from memory if it is the last one; otherwise plan its memory, then load it.

        Args:
            card: which model.
            adapter: name or folder; "none" for the base alone, "" for the card's default.
            precision: one of the card's; "" for the choice of `choose_precision` within the plan.
            progress: of the job.
            slices: largest number of pictures of a question, for the plan.

        Raises:
            ModelError: if it does not fit into memory, in which case nothing was loaded, or can't be loaded.
        """
        adapter = "" if adapter == "none" else adapter or card.default_adapter or next(iter(card.adapters), "")
        key = (card.id, adapter, precision)
        if self._key == key:
            return self._model
        if self._key is not None and self._key[::2] == key[::2] and hasattr(self._model, "use_adapter"):
            progress.stage(f"Switching to adapter {adapter or 'none'}")
            self._key = None  # a failed switch leaves it unknown which one is active
            self._model.use_adapter(adapter)
        else:
            if self._model is not None:  # free the old one first
                self._key, self._model = None, None
                release_memory()
            plan = self._plan(card, slices, precision)
            self._held = choose_precision(card, precision) if plan is None else plan.precision
            self._planned = _stepped_down(card, plan, precision, slices)
            progress.stage(f"Loading {card.title}")
            if doubt := self._planned or (_too_large(card, self._held) if plan is None else ""):
                progress.note(doubt)
            self._model = self._load(card, adapter, self._held, progress)
            if plan is not None and plan.slices < slices and hasattr(self._model, "max_views"):
                self._model.max_views = min(self._model.max_views, plan.slices)
        self._key = key
        return self._model

    def _check(self, request: Request, card: ModelCard, needs: tuple[str, ...]) -> None:
        lacking = [ability for ability in needs if ability not in card.abilities]
        if lacking:
            mark = "mark the structure with points or a box, or " if "outlines" in card.abilities else ""
            raise InputError(
                f"{card.title} can't {request.task}: it only {' and '.join(card.abilities)}; {mark}choose another model."
            )
        precisions_to_try(card, request.precision)

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
            outside_domain=context.outside_domain,
            reused=context.model.image_cache.reused - self._reused if isinstance(context.model, CachesImages) else 0,
        )


def local_runner() -> LocalRunner:
    """Return a runner that computes in this process, with an engine of its own."""
    return LocalRunner(make=lambda: Engine().run)


def plan_model(card: ModelCard, slices: int, precision: str = "") -> MemoryPlan | None:
    """Plan the memory of a model before it is loaded.

    Args:
        card: card of the model.
        slices: largest number of pictures of a question.
        precision: one of the card's; "" for any.

    Returns:
        The plan, which fits; None where nothing needs planning: a model that runs elsewhere, a family without plans, a
        model so small that it fits many times over, or one that is not on this machine.

    Raises:
        ModelError: if the model does not fit, with alternatives that do.
    """
    family = registry.architecture(card.architecture)
    if card.endpoint or not hasattr(family, "memory") or estimates.config_folder(card) is None:
        return None
    if card.parameters and card.parameters * SURE_BYTES_PER_WEIGHT + SURE_BYTES < free_bytes(choose_device())[0]:
        return None
    plan = plan_for(card, family, min(slices, family.TRAITS.max_views), precision)
    if not plan.fits:
        raise ModelError(plan.says)
    return plan


def _not_made_for(card: ModelCard, image: Image) -> str:
    """Return a sentence on an image of a kind that a model was not trained on."""
    kinds = " and ".join(card.modalities)
    if image.is_picture:
        what = {"CR": "radiographs", "US": "ultrasound"}.get(image.modality, "pictures without a place in a patient")
        return f"{card.title} was made for {kinds} volumes, not for {what}; expect errors."
    return f"{card.title} was trained on {kinds} images; this one is {image.modality}, so expect errors."


def _check_domain(request: Request, context: TaskContext, task) -> None:
    """Refuse an image that the model was not made for, unless results were asked for anyway or the task says so itself.

    Raises:
        OutsideDomain: with what the image seems to be, what the model was made for, and the next step.
    """
    domain = context.domain(request.image)
    if domain.known:
        return
    context.outside_domain = domains.outside_sentence(context.card, domain)
    if request.outside_domain:
        context.note(f"{context.outside_domain} {domains.FORCED}")
    elif is_for_patient(request) or not getattr(task, "answers_outside_domain", _never)(request):
        raise OutsideDomain(f"{context.outside_domain} {domains.DRAW_ANYWAY}")


def _never(request: Request) -> bool:
    """Return that a task does not say itself that a model was not made for an image."""
    return False


def _no_plan(card: ModelCard, slices: int, precision: str) -> None:
    """Plan nothing, for models that are not loaded by their architecture."""


def _stepped_down(card: ModelCard, plan: MemoryPlan | None, requested: str, slices: int) -> str:
    """Return a sentence on what a plan reduced compared to the request; "" if nothing."""
    if plan is None:
        return ""
    fewer = plan.slices < min(slices, registry.traits(card).max_views)
    if plan.precision == choose_precision(card, requested) and not fewer and plan.place == "device":
        return ""
    return f"Planned down to the free memory. {plan.says}"


def _slices_wanted(request: Request, card: ModelCard) -> int:
    """Return the most pictures that a question of this request could have: the slices of its plane, up to the family's most."""
    geometry = request.image.geometry
    plane = request.slices.plane or geometry.acquisition_plane
    return max(1, min(geometry.shape[geometry.index_axis(plane)], registry.traits(card).max_views))


def _too_large(card: ModelCard, precision: str) -> str:
    """Return a warning if the weights alone exceed the free main memory of a CPU device; else ""."""
    size, free = estimates.weight_bytes(card, precision), hardware.free_memory()
    if not size or not free or size <= free or choose_device().type != "cpu":
        return ""
    return (
        f"{card.title} takes about {gigabytes(size)} in {precision}, and {gigabytes(free)} are free: it may be very slow or "
        "fail. Close other programs, or choose what `medfm models plan` recommends."
    )


def load_model(card: ModelCard, adapter: str, precision: str, progress: Progress):
    """Load a model with the module of its architecture.

    Args:
        card: card of the model.
        adapter: name or folder of an adapter; "" for none.
        precision: one of the card's precisions.
        progress: receives progress reports and may cancel.

    Raises:
        ModelError: if a library, a file or the adapter is missing or incompatible, or the terms were not accepted.
    """
    # Nothing is downloaded while a model is loaded or used; downloading is a separate step of the user.
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
    """Load the guard's model."""
    from .models.generation.text_judge import TextJudge

    return TextJudge(model, max_tokens)


@cache
def versions() -> dict[str, str]:
    """Return the versions of MedFM, Python and the computing libraries."""
    found = {"MedFM": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
