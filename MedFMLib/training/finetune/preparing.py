"""Prepare a model for training from settings, with a plan verified by a dry run. Writes no files."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...environment import allocator
from ...errors import ModelError
from ...interfaces.jobs import Progress
from ...models.runtime import checkpoint
from ...models.runtime.device import choose_device
from ..data.dataset import Dataset
from ..data.samples import Sample
from . import base, estimate, inputs
from .settings import TrainingSettings


@dataclass(frozen=True)
class PreparedTraining:
    """Everything that a training needs.

    Args:
        model: the loaded base.
        reader: converts samples to its tensors.
        peft: the base, frozen, with a new LoRA.
        settings: as requested, or changed so that it fits.
        plan: with the peak memory of the dry run.
        dry: further results of the dry run.
        bf16: whether autocast to bfloat16 is used.
        collate: examples → batch.
    """

    model: Any
    reader: inputs.SampleReader
    peft: Any
    settings: TrainingSettings
    plan: estimate.TrainingPlan
    dry: base.DryRun
    bf16: bool
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]


def prepare(
    dataset: Dataset,
    learn: list[Sample],
    settings: TrainingSettings,
    progress: Progress,
    *,
    fixed: bool = False,
    threads: int = 0,
) -> PreparedTraining:
    """Load a base, choose settings that fit, add a LoRA, and run two passes.

    Args:
        dataset: the data set.
        learn: samples of the training.
        settings: as requested.
        progress: receives the stages.
        fixed: keep the settings, since a training is resumed with them.
        threads: see `base.dry_run`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    import torch
    import transformers

    checkpoint.quiet_bitsandbytes()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="(transformers|peft|torch|accelerate)")
    progress.stage("Loading the base")
    before = _library_memory() if choose_device().type == "cpu" else 0
    model = base.load(settings, progress)
    reader = inputs.SampleReader(model, dataset)
    reader.check(settings.kinds)
    plan = estimate.plan(model.model, settings, reader.example(learn[0]), estimate.free_bytes(), before)
    if not plan.fits:
        raise ModelError(plan.says)
    settings = settings if fixed else plan.settings
    if settings.low_memory:
        allocator.return_freed_memory()
    peft = base.add_lora(model.model, settings)
    bf16 = base.compute_in_bfloat16(settings, peft)
    collate = inputs.collator(model.processor.tokenizer.pad_token_id or 0)
    some = collate([reader.example(sample) for sample in learn[: settings.batch]])

    def loss():
        with torch.autocast(choose_device().type, torch.bfloat16, enabled=bf16):
            return inputs.answer_loss(peft, some)

    progress.stage("Dry run of two passes")
    earlier = _peak_bytes()
    dry = base.dry_run(peft, loss, threads)
    if (reached := _peak_bytes()) > earlier:  # else an earlier peak hides this one
        plan = replace(plan, reached=reached)
    return PreparedTraining(model, reader, peft, settings, plan, dry, bf16, collate)


def _library_memory() -> int:
    """Return the bytes of this process after all imports, which are not a cost of the model."""
    import peft  # noqa: F401
    from transformers import AutoModelForImageTextToText, PaliGemmaForConditionalGeneration  # noqa: F401

    from . import trainer  # noqa: F401

    with contextlib.suppress(ImportError):
        import bitsandbytes  # noqa: F401
    return estimate.resident_bytes()


def _peak_bytes() -> int:
    """Return the peak memory so far of the device that trains; 0 if it is not known."""
    import torch

    where = choose_device().type
    if where == "cuda":
        return torch.cuda.max_memory_reserved()
    return base.peak_bytes() if where == "cpu" else 0
