"""Report the state of a training, and control it, through small files in its folder.

This works from a panel, a console or another terminal.

progress.json   state, step, number of steps, seconds left, last loss, warnings; replaced atomically
control         "pause", "stop" or nothing; written by the controlling program, read after each step
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
    """State of a training.

    Args:
        state: one of `STATES`.
        step: number of finished steps.
        steps: number of all steps.
        seconds_left: estimate; -1 if not known.
        loss: the last training loss; -1 before the first.
        validation: the last validation loss; -1 before the first.
        warnings: of the monitor.
        says: one sentence for the user.
        when: time of the report, seconds since the epoch.
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
    """Write the state atomically.

    Args:
        run: folder of the training.
        state: the state; `when` is set here.
    """
    part = run / f".{PROGRESS}.{os.getpid()}"
    part.write_text(json.dumps(asdict(state) | {"when": time.time()}), encoding="utf-8")
    part.replace(run / PROGRESS)


def state_of(run: Path) -> TrainingState | None:
    """Return the last reported state, or None."""
    try:
        content = json.loads((Path(run) / PROGRESS).read_text(encoding="utf-8"))
        return TrainingState(**{**content, "warnings": tuple(content["warnings"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def order(run: Path, word: str) -> None:
    """Send a command to a training, which reads it after the current step.

    Args:
        run: folder of the training.
        word: "pause", "resume" or "stop".

    Raises:
        InputError: for another word, or a folder without a training.
    """
    if word not in WORDS:
        raise InputError(f"A training accepts the commands {', '.join(WORDS)}, not '{word}'.")
    if not (Path(run) / "settings.json").is_file():
        raise InputError(f"There is no training in '{run}'; give the folder of a training that was started.")
    if word == "resume":
        (Path(run) / CONTROL).unlink(missing_ok=True)
    else:
        (Path(run) / CONTROL).write_text(word, encoding="utf-8")


def ordered(run: Path) -> str:
    """Return the pending command: "pause", "stop" or ""."""
    try:
        word = (Path(run) / CONTROL).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return word if word in WORDS else ""
