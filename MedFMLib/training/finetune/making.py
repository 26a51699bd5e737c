"""Make an installed adapter from a data set: train, evaluate, write the card, install.

Used by command line and console.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...interfaces.jobs import NoProgress, Progress
from ...models.runtime.device import release_memory
from ...storage import adapter_card, installed_models
from . import control, judging, monitor, page, run
from .settings import MOST, TrainingSettings


def finetune(
    data: Path,
    output: Path,
    settings: TrainingSettings = TrainingSettings(),
    *,
    name: str = "",
    licence: str = "",
    resume: bool = False,
    most: int = MOST,
    precisions=None,
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train an adapter on a built data set, evaluate it on held-out patients, and install it.

    Args:
        data: folder of `data.building.build`.
        output: folder of the training.
        settings: of the training; ignored when it is resumed.
        name: of the installed adapter, which the panel lists; "" to leave it in `output`.
        licence: of the adapter.
        resume: continue from the last complete checkpoint.
        most: largest number of held-out pairs to ask.
        precisions: see `judging.judge`.
        tensorboard: write RUN/tensorboard.
        progress: receives the stages and may cancel; None for none.

    Returns:
        The card, with `folder`, and `installed_as` (its name) if it is installed.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    progress, output = progress or NoProgress(), Path(output).expanduser()
    if name and (installed_models.adapters_root() / installed_models.folder_name(name)).exists():
        raise InputError(f"An adapter '{name}' is already installed; remove it, or give another name.")
    trained = run.train(data, output, settings, progress, resume, tensorboard)
    release_memory()
    content = json.loads((output / "settings.json").read_text(encoding="utf-8"))
    settings = TrainingSettings.from_json(content["settings"])
    reported = control.state_of(output)
    control.tell(
        output,
        control.TrainingState("evaluating", trained.steps, trained.steps, says="Asking held-out patients' questions"),
    )
    result = judging.judge(Path(data), trained.adapter, settings, progress, most=most, precisions=precisions)
    facts = judging.training_facts(trained, content["base_revision"])
    card = judging.card_of(name or output.name, trained.adapter, Path(data), settings, facts, result, licence)
    write(
        trained.adapter,
        card,
        monitor.ClipMonitor(settings.batch, settings.accumulation, monitor.read(output / "steps.csv")),
    )
    placed = put(trained.adapter, name) if name else trained.adapter
    state = "done" if trained.finished else "stopped"
    steps = reported.steps if reported else trained.steps
    control.tell(output, control.TrainingState(state, trained.steps, steps, 0.0, says=sentence(card)))
    return card | {"folder": str(placed)} | ({"installed_as": name} if name else {})


def write(adapter: Path, card: dict[str, Any], clip_monitor: monitor.ClipMonitor | None = None) -> None:
    """Write a card and its page into an adapter's folder.

    Args:
        adapter: folder of the adapter.
        card: result of `judging.card_of`.
        clip_monitor: steps of the training, for a plot; None for none.
    """
    (adapter / adapter_card.PAGE).write_text(page.html(card, clip_monitor), encoding="utf-8")
    part = adapter / f".{adapter_card.CARD}"
    part.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(adapter / adapter_card.CARD)


def put(adapter: Path, name: str) -> Path:
    """Install an adapter with its card, so that panel, console and command line list it; return its folder.

    Args:
        adapter: folder of the adapter.
        name: of the installed adapter.
    """
    from ...model_store import files

    final = installed_models.adapters_root() / installed_models.folder_name(name)
    with files.staged(final) as staging:
        for path in sorted(adapter.iterdir()):
            if path.is_file() and path.name[0] != ".":
                shutil.copyfile(path, staging / path.name)
        facts = {
            p: {"size": f.stat().st_size, "sha256": files.sha256(f)} for p, f in files.wanted_files(staging).items()
        }
        files.write_json(
            staging / installed_models.MANIFEST, files.make_manifest("adapter", name, name, facts, "trained here")
        )
    return final


def sentence(card: dict[str, Any]) -> str:
    """Return the card's result in one sentence."""
    row, safe = card["results"]["table"]["all"], card["results"]["safety"]["parts"]["patients' questions"]
    gained = row["difference"]
    said = "may be used" if card["verdict"]["offered"] else f"is not offered: {'; '.join(card['verdict']['reasons'])}"
    return (f"Held-out patients: {row['before']['score']:.3f} before, {row['after']['score']:.3f} after, difference "
            f"{gained['score']:+.3f} (95 % interval {gained['low']:+.3f} to {gained['high']:+.3f}); unsafe answers "
            f"{safe['before']:.0%} before, {safe['after']:.0%} after. It {said}.")  # fmt: skip
