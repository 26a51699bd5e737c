"""What a training tells, and is told, through small files in its folder: works from a panel, a console, another terminal.

progress.json   where it is: state, step, of how many, seconds left, last loss, warnings; replaced in one step
control         "pause", "stop" or nothing; written by whoever watches, read after each step
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import InputError

PROGRESS, CONTROL = "progress.json", "control"
STATES = ("starting", "training", "paused", "stopped", "evaluating", "done", "failed")
WORDS = ("pause", "resume", "stop")


@dataclass(frozen=True)
class TrainingState:
    """Where a training is.

    Args:
        state: one of `STATES`. step, steps: done, and of how many. seconds_left: about so many; -1 if not known.
        loss, validation: the last of each, -1 before. warnings: of the monitor. says: one sentence for people.
    """

    state: str = "starting"
    step: int = 0
    steps: int = 0
    seconds_left: float = -1.0
    loss: float = -1.0
    validation: float = -1.0
    warnings: tuple[str, ...] = ()
    says: str = ""
    when: float = field(default=0.0)


def tell(run: Path, state: TrainingState) -> None:
    """Replace the file; whoever reads sees the old or the new one."""
    part = run / f".{PROGRESS}.{os.getpid()}"
    part.write_text(json.dumps(asdict(state) | {"when": time.time()}), encoding="utf-8")
    part.replace(run / PROGRESS)


def state_of(run: Path) -> TrainingState | None:
    """What was told last, or None."""
    try:
        content = json.loads((Path(run) / PROGRESS).read_text(encoding="utf-8"))
        return TrainingState(**{**content, "warnings": tuple(content["warnings"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def order(run: Path, word: str) -> None:
    """Tell a training to pause, resume or stop; it hears it after the step that it is in.

    Raises:
        InputError: for another word, or a folder without a training.
    """
    if word not in WORDS:
        raise InputError(f"A training can be told {', '.join(WORDS)}, not '{word}'.")
    if not (Path(run) / "settings.json").is_file():
        raise InputError(f"There is no training in '{run}'.")
    if word == "resume":
        (Path(run) / CONTROL).unlink(missing_ok=True)
    else:
        (Path(run) / CONTROL).write_text(word, encoding="utf-8")


def ordered(run: Path) -> str:
    """ "pause", "stop" or ""."""
    try:
        word = (Path(run) / CONTROL).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return word if word in WORDS else ""
