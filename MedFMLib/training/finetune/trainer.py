"""Extend Hugging Face's Trainer: atomic checkpoints, the clip monitor, pause and stop, loss on answers alone.

Knows training; nothing of data sets or models. Accelerate distributes it over GPUs and machines (Resources/training).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from . import checkpoints, control, monitor, plots
from .base import trained
from .inputs import answer_loss
from .settings import TrainingSettings

SCHEDULES = {"cosine": "cosine", "constant": "constant_with_warmup"}
PAUSE_SECONDS = 0.5
DRAW_SECONDS = 20
LAYER_EVERY = 10
"""Steps between two records of the layers' norms, which are slow to write."""


def arguments(settings: TrainingSettings, root: Path, steps: int, bf16: bool) -> TrainingArguments:
    """Return the arguments of the Trainer.

    Args:
        settings: of the training.
        root: folder of the checkpoints.
        steps: number of all steps.
        bf16: use autocast to bfloat16.
    """
    return TrainingArguments(
        output_dir=str(root), per_device_train_batch_size=settings.batch, per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation, learning_rate=settings.rate, max_steps=steps,
        num_train_epochs=math.ceil(settings.epochs), lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=round(settings.warmup * steps), max_grad_norm=settings.clip, weight_decay=settings.decay,
        seed=settings.seed, data_seed=settings.seed, bf16=bf16, use_cpu=not torch.cuda.is_available() and not _mps(),
        save_strategy="steps", save_steps=settings.save_every, eval_strategy="steps", eval_steps=settings.evaluate_every,
        logging_steps=10, logging_nan_inf_filter=False, disable_tqdm=True, remove_unused_columns=False,
        report_to="none", dataloader_pin_memory=torch.cuda.is_available(),
        full_determinism=False, label_names=["labels"],
    )  # fmt: skip


def _mps() -> bool:
    return getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available()


class AdapterTrainer(Trainer):
    """Trainer of all weights that are not frozen.

    Args:
        args: see `Trainer`.
        run: folder of the training.
        settings: see `TrainingSettings`.
        clip_monitor: the monitor.
        validate: model → mean loss on held-out patients; called each `evaluate_every` steps.
        keep_best: called with (loss, step) when the loss is the lowest so far.
        progress: receives notes and fractions.
        board: a `board.TensorBoardLog`, or None.
        options: see `Trainer`.
    """

    def __init__(
        self,
        *args,
        run: Path,
        settings: TrainingSettings,
        clip_monitor: monitor.ClipMonitor,
        validate: Callable[[object], float],
        keep_best: Callable[[float, int], None],
        progress,
        board=None,
        **options,
    ):
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = True  # our loss is divided by the tokens of the whole step
        self.run, self.settings, self.clip_monitor = Path(run), settings, clip_monitor
        self.validate, self.keep_best, self.progress, self.board = validate, keep_best, progress, board
        self.remove_callback(next(c for c in self.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"))
        self.add_callback(TrainingCallback(self))
        self.weights = trained(self.accelerator.unwrap_model(self.model))
        self.norm, self.loss_sum = math.nan, 0.0
        self._saving = False

    # -- a step ------------------------------------------------------------------------------------

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss of the answers alone, divided by the number of answer tokens of the whole step.

        Args:
            model: the PEFT model.
            inputs: a batch.
            return_outputs: return (loss, None).
            num_items_in_batch: number of answer tokens of the whole step.
        """
        loss = answer_loss(model, inputs, num_items_in_batch)
        self.loss_sum = self.loss_sum + loss.detach()
        return (loss, None) if return_outputs else loss

    def _get_grad_norm(self, model, grad_norm=None):
        found = super()._get_grad_norm(model, grad_norm)
        self.norm = float(found)
        return found

    # -- validation --------------------------------------------------------------------------------

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Return the mean loss on held-out patients as metrics, and log it.

        Args:
            eval_dataset: not used.
            ignore_keys: not used.
            metric_key_prefix: of the metric's name.
        """
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            value = self.validate(model)
        model.train()
        earlier = validations(self.state.log_history)
        if not earlier or value < min(earlier):
            self.keep_best(value, self.state.global_step)
        if self.board is not None:
            self.board.add_validation(value, self.state.global_step)
        metrics = {f"{metric_key_prefix}_loss": value}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- checkpoints -------------------------------------------------------------------------------

    def _get_output_dir(self, trial):
        root = super()._get_output_dir(trial)
        return str(Path(root) / ".part") if self._saving else root

    def _save_checkpoint(self, model, trial):
        root, step = Path(self.args.output_dir), self.state.global_step
        self._saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._saving = False
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            checkpoints.finish(root, step)
        self.accelerator.wait_for_everyone()


def validations(history: list[dict]) -> list[float]:
    """Return the losses on held-out patients so far, in order."""
    return [line["eval_loss"] for line in history if "eval_loss" in line]


class TrainingCallback(TrainerCallback):
    """Callback that records each step, issues warnings, reports the state and obeys commands.

    Args:
        trainer: the trainer that it belongs to.
    """

    def __init__(self, trainer: AdapterTrainer):
        self.trainer, self._before, self._began, self._took, self._reported = trainer, [], 0.0, [], 0.0
        self._drawn = time.monotonic()
        self._writer = trainer.is_world_process_zero()

    def on_step_begin(self, args, state, control, **_):
        """Implement `TrainerCallback.on_step_begin`: start the clock."""
        self._began = time.perf_counter()
        self.trainer.loss_sum = 0.0

    def on_pre_optimizer_step(self, args, state, control, **_):
        """Implement `TrainerCallback.on_pre_optimizer_step`: copy the weights, to measure the update."""
        self._before = [p.detach().clone() for p in self.trainer.weights.values()]

    def on_optimizer_step(self, args, state, control, **_):
        """Implement `TrainerCallback.on_optimizer_step`: measure the update."""
        now = [p.detach() for p in self.trainer.weights.values()]
        moved = torch._foreach_sub(now, self._before)
        self._update = float(torch.stack(torch._foreach_norm(moved)).norm())
        self._norms = torch.stack(torch._foreach_norm(now))
        self._rate = self.trainer._get_learning_rate()

    def on_step_end(self, args, state, flow, **_):
        """Implement `TrainerCallback.on_step_end`: record the step, issue warnings, report the state, obey commands."""
        trainer, clip = self.trainer, self.trainer.settings.clip
        norm, seconds = trainer.norm, time.perf_counter() - self._began
        left = min(1.0, clip / norm) if clip and norm > 0 and math.isfinite(norm) else 1.0
        step = monitor.TrainingStep(state.global_step, float(trainer.loss_sum), float(self._rate), norm, clip, left, self._update,
                            float(self._norms.norm()), seconds)  # fmt: skip
        for warning in trainer.clip_monitor.add(step):
            trainer.progress.note(warning)
        self._took = [*self._took[-50:], seconds]
        if self._writer:
            monitor.append(trainer.run / "steps.csv", step)
            if trainer.board is not None:
                trainer.board.add(trainer.clip_monitor)
            if state.global_step % LAYER_EVERY == 1 or state.global_step == state.max_steps:
                norms = self._norms.tolist()
                monitor.append_layers(trainer.run / "layers.csv", state.global_step, trainer.weights, norms)
                if trainer.board is not None:
                    trainer.board.add_layers(trainer.weights, norms, state.global_step)
        if "nan" in trainer.clip_monitor.warned:
            flow.should_training_stop = True
            return flow
        word = control.ordered(trainer.run)
        if word or state.global_step >= state.max_steps:
            flow.should_save = True
        flow.should_training_stop |= word == "stop"
        self.tell(state, step)
        if self._writer and time.monotonic() - self._drawn > DRAW_SECONDS:
            plots.plot_steps(trainer.clip_monitor, trainer.run / "steps.png")
            self._drawn = time.monotonic()
        trainer.progress.fraction(state.global_step / max(1, state.max_steps))
        return flow

    def on_evaluate(self, args, state, flow, metrics=None, **_):
        """Implement `TrainerCallback.on_evaluate`: end the training after `patience` evaluations without progress."""
        found, patience = validations(state.log_history), self.trainer.settings.patience
        best = found.index(min(found))
        if patience and len(found) - 1 - best >= patience:
            self.trainer.progress.note(f"No progress on held-out patients for {patience} evaluations; training ends.")
            flow.should_save = flow.should_training_stop = True
        return flow

    def on_save(self, args, state, flow, **_):
        """Implement `TrainerCallback.on_save`: after saving, wait while the training is paused."""
        if control.ordered(self.trainer.run) != "pause":
            return flow
        self.tell(state, None, "paused")
        while control.ordered(self.trainer.run) == "pause":
            time.sleep(PAUSE_SECONDS)
        flow.should_training_stop |= control.ordered(self.trainer.run) == "stop"
        return flow

    def tell(self, state, step: monitor.TrainingStep | None, name: str = "training") -> None:
        """Report the state, at most four times per second.

        Args:
            state: the Trainer's state.
            step: the last step; None for the last recorded one.
            name: one of `control.STATES`.
        """
        if not self._writer or (name == "training" and time.monotonic() - self._reported < 0.25):
            return
        self._reported = time.monotonic()
        found = validations(state.log_history)
        left = sorted(self._took)[len(self._took) // 2] * (state.max_steps - state.global_step) if self._took else -1.0
        warnings = tuple(self.trainer.clip_monitor.warned.values())
        loss = (
            step.loss
            if step is not None
            else self.trainer.clip_monitor.steps[-1].loss
            if self.trainer.clip_monitor.steps
            else -1.0
        )
        control.tell(self.trainer.run, control.TrainingState(name, state.global_step, state.max_steps, left, loss,
                                                     found[-1] if found else -1.0, warnings))  # fmt: skip
