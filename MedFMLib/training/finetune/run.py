"""Train an adapter from a data set to a folder, resuming if it was killed. Connects the modules of this package.

RUN/settings.json    what was chosen, of which data        RUN/checkpoints/   the last two, whole
RUN/steps.csv, layers.csv, steps.png   the clip monitor    RUN/progress.json, control   see `control`
RUN/best/            the best on held-out patients         RUN/adapter/       as PEFT lays it out, with its card
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError, ModelError, OutputError
from ...interfaces.jobs import NoProgress, Progress
from ...storage.locks import exclusive
from ..data.dataset import Dataset
from ..data.samples import Sample
from . import checkpoints, control, inputs, monitor
from .board import TensorBoardLog
from .preparing import prepare
from .settings import TrainingSettings

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Args:
        adapter: folder of the adapter.
        steps: number of finished steps.
        finished: False if it was stopped before its end.
        seconds: time of all steps.
        watched: summary of the clip monitor.
        validation: best loss on held-out patients, None without one.
        plan: the estimate.
    """

    adapter: Path
    steps: int
    finished: bool
    seconds: float
    watched: dict[str, Any]
    validation: float | None
    plan: dict[str, Any]


def chosen(dataset: Dataset, split: str, settings: TrainingSettings, most: int = 0) -> list[Sample]:
    """Return the samples of a split that match the settings, or with `most` a seeded choice balanced over patients.

    Args:
        dataset: the data set.
        split: name of the split.
        settings: kinds, categories and seed.
        most: largest number of samples; 0 for all.

    Raises:
        InputError: if there are none.
    """
    found = [s for s in dataset.samples[split]
             if s.kind in settings.kinds and (not settings.categories or s.category in settings.categories)]  # fmt: skip
    if not found:
        raise InputError(
            f"The {split} split has no pairs of {', '.join((*settings.kinds, *settings.categories))}; choose others."
        )
    return by_turns(found, most, settings.seed) if most and most < len(found) else found


def by_turns(samples: list[Sample], most: int, seed: int) -> list[Sample]:
    """Return at most `most` samples, taken from each patient in turn.

    Args:
        samples: to choose from.
        most: largest number.
        seed: of the random order within patients.
    """
    rng, queues = random.Random(seed), {}
    for sample in samples:
        queues.setdefault(sample.patient, []).append(sample)
    for queue in queues.values():
        rng.shuffle(queue)
    order, taken = list(queues.values()), []
    while len(taken) < most and order:
        order = [queue for queue in order if queue]
        taken += [queue.pop() for queue in order][: most - len(taken)]
    return taken


class _Lines:
    """Data set for the Trainer whose samples are read when needed."""

    def __init__(self, reader: inputs.SampleReader, samples: list[Sample]):
        self._reader, self._samples = reader, samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._reader.example(self._samples[number])


def train(data: Path, run: Path, settings: TrainingSettings, progress: Progress | None = None, resume: bool = False,
          tensorboard: bool = False) -> TrainingResult:  # fmt: skip
    """Train an adapter, or resume its training.

    Args:
        data: folder of a built data set.
        run: folder of the training; new, unless it is resumed.
        settings: of the training; ignored when it is resumed.
        progress: receives the stages and may cancel; None for none.
        resume: continue from the last complete checkpoint, with the saved settings; start if there is nothing yet.
        tensorboard: write RUN/tensorboard.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    run, progress = Path(run).expanduser(), progress or NoProgress()
    if "LOCAL_RANK" in os.environ:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    begun = resume and (run / "settings.json").is_file()
    if begun:
        settings = _settings_of(run, data)
    elif not resume and run.exists() and any(run.iterdir()) and os.environ.get("LOCAL_RANK", "0") == "0":
        raise OutputError(f"'{run}' is there already; go on with it with --resume, or choose a new folder.")
    run.mkdir(parents=True, exist_ok=True)
    if int(os.environ.get("RANK", "0")):
        return _train(Path(data), run, settings, progress, begun, tensorboard)
    with exclusive(
        run / ".lock",
        InputError(f"Another training works in '{run}' (process {{}}); wait for it, or choose another folder."),
    ):
        control.tell(run, control.TrainingState("starting"))
        try:
            return _train(Path(data), run, settings, progress, begun, tensorboard)
        except BaseException as error:
            control.tell(run, control.TrainingState("failed", says=str(error) or type(error).__name__))
            raise


def _settings_of(run: Path, data: Path) -> TrainingSettings:
    try:
        content = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"There is no training in '{run}' to resume ({error}); start it without --resume.") from error
    if content["data_sha256"] != Dataset.load(data).digest():
        raise InputError("The data set is not the one that this training began with; give that one, or start again.")
    return TrainingSettings.from_json(content["settings"])


def _train(
    data: Path, run: Path, settings: TrainingSettings, progress: Progress, resume: bool, tensorboard: bool
) -> TrainingResult:
    import transformers

    progress.stage("Checking the data set")
    dataset = Dataset.load(data)
    dataset.check()
    learn, check = chosen(dataset, "train", settings), chosen(dataset, "validation", settings, settings.most_validation)
    known = json.loads((run / "settings.json").read_text(encoding="utf-8")).get("threads", 0) if resume else 0
    root = run / "checkpoints"
    last = checkpoints.newest(root) if resume else None
    done = int(last.name.rpartition("-")[2]) if last else 0
    board = TensorBoardLog(run, done) if tensorboard and not int(os.environ.get("RANK", "0")) else None
    ready = prepare(dataset, learn, settings, progress, fixed=resume, threads=known)
    reader, peft, settings, plan, dry = ready.reader, ready.peft, ready.settings, ready.plan, ready.dry
    progress.note(plan.says)
    steps = settings.total_steps(len(learn))
    minutes = dry.seconds * settings.accumulation * steps / 60
    progress.note(
        f"A dry run took {dry.seconds:.2f} s a pass on {dry.threads} threads: about {minutes:.0f} minutes for {steps} steps. "
        f"{plan.verified}".strip()
    )
    (run / ".settings.part").write_text(
        json.dumps({"settings": settings.as_json(), "data": str(data), "data_sha256": dataset.digest(),
                    "base_revision": ready.model.facts.revision, "threads": dry.threads, "plan": plan.as_json()}, indent=1),
        encoding="utf-8",
    )  # fmt: skip
    (run / ".settings.part").replace(run / "settings.json")
    root.mkdir(exist_ok=True)
    checkpoints.tidy(root)
    clip_monitor = monitor.ClipMonitor(settings.batch, settings.accumulation)
    earlier = monitor.read(run / "steps.csv", done)
    monitor.rewrite(run / "steps.csv", earlier)
    for step in earlier:
        clip_monitor.add(step)
    held = [
        ready.collate([reader.example(s) for s in check[n : n + settings.batch]])
        for n in range(0, len(check), settings.batch)
    ]

    def validate(adapted) -> float:
        sums = [
            (float(inputs.answer_loss(adapted, batch, 1)), int((batch["labels"] != inputs.IGNORED).sum()))
            for batch in held
        ]
        return sum(loss for loss, _ in sums) / sum(tokens for _, tokens in sums)

    def keep_best(value: float, step: int) -> None:
        if int(os.environ.get("RANK", "0")) == 0:
            save(peft, settings, run / "best", {"step": step, "loss": value})

    from .trainer import AdapterTrainer, arguments, validations

    made = AdapterTrainer(
        model=peft, args=arguments(settings, root, steps, ready.bf16), train_dataset=_Lines(reader, learn),
        eval_dataset=check, data_collator=ready.collate, run=run, settings=settings, clip_monitor=clip_monitor, validate=validate,
        keep_best=keep_best, progress=progress, board=board,
    )  # fmt: skip
    progress.stage("Training")
    if done < steps and not (last and control.ordered(run) == "stop"):
        try:
            made.train(resume_from_checkpoint=str(checkpoints.require_complete(last)) if last else None)
        finally:
            if board is not None:
                board.close()
    elif last:
        made._load_from_checkpoint(str(last))
        made.state = transformers.TrainerState.load_from_json(str(last / "trainer_state.json"))
    found = validations(made.state.log_history)
    if "nan" in clip_monitor.warned:
        raise ModelError(clip_monitor.warned["nan"])
    return _finish(made, peft, settings, run, clip_monitor, found, plan, steps)


def estimated(dataset: Dataset, settings: TrainingSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Return the memory and time of a training, verified by a dry run; no files are written.

    Args:
        dataset: the data set.
        settings: as requested.
        progress: receives the stages and may cancel; None for none.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    learn = chosen(dataset, "train", settings)
    ready = prepare(dataset, learn, settings, progress or NoProgress())
    dry, steps = ready.dry, ready.settings.total_steps(len(learn))
    each = dry.seconds * ready.settings.accumulation
    return ready.plan.as_json() | {
        "settings": ready.settings.as_json(), "steps": steps, "seconds_per_step": each, "minutes": each * steps / 60,
        "threads": dry.threads, "norm": dry.norm,
    }  # fmt: skip


def _finish(
    made,
    peft,
    settings: TrainingSettings,
    run: Path,
    clip_monitor: monitor.ClipMonitor,
    found: list[float],
    plan,
    steps: int,
) -> TrainingResult:
    """Write the adapter: the best on held-out patients, or the last one if there was no validation yet."""
    from .plots import plot_steps

    finished = made.state.global_step >= steps or not control.ordered(run)
    trained = TrainingResult(
        run / "adapter",
        made.state.global_step,
        finished,
        sum(s.seconds for s in clip_monitor.steps),
        clip_monitor.summary(),
        min(found) if found else None,
        plan.as_json(),
    )
    if made.is_world_process_zero():
        best = run / "best"
        if found and (best / ADAPTER_FILES[1]).is_file():
            part = run / ".adapter.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(best, part)
            shutil.rmtree(trained.adapter, ignore_errors=True)
            part.replace(trained.adapter)
        else:
            save(peft, settings, trained.adapter, {"step": trained.steps})
        plot_steps(clip_monitor, run / "steps.png")
        control.tell(run, control.TrainingState("done" if finished else "stopped", trained.steps, steps, 0.0,
                                        clip_monitor.steps[-1].loss if clip_monitor.steps else -1.0, found[-1] if found else -1.0,
                                        tuple(clip_monitor.warned.values())))  # fmt: skip
    return trained


def save(peft, settings: TrainingSettings, folder: Path, facts: dict[str, Any]) -> None:
    """Save the adapter atomically in PEFT's format, with the id of its base instead of a folder of this machine.

    Args:
        peft: the PEFT model.
        settings: of the training.
        folder: folder of the adapter.
        facts: content of training.json.
    """
    from ...interfaces import registry

    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    peft.save_pretrained(part)
    (part / "README.md").unlink(missing_ok=True)
    config = json.loads((part / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
    card = registry.card(settings.model)
    config["base_model_name_or_path"] = Path(card.id).name if Path(card.id).is_dir() else card.id
    config["revision"] = card.revision or None
    (part / ADAPTER_FILES[0]).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (part / "training.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
