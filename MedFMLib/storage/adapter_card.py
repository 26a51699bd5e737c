"""Read an adapter's card: what it was trained from, its evaluation, and whether it may be used. Loads no weights.

`medfm-adapter.json` is written by `training.finetune`; third-party adapters have none and are not restricted. An
adapter that is
worse than its base, or answers questions that the guard withholds, is used only after the user's confirmation, which is
stored
next to it in `medfm-accepted.json` and is valid for exactly these weights.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from .json_text import read_json

CARD, ACCEPTED, PAGE, WEIGHTS = (
    "medfm-adapter.json",
    "medfm-accepted.json",
    "medfm-adapter.html",
    "adapter_model.safetensors",
)
_judging: list[bool] = []


def read(folder: Path) -> dict[str, Any]:
    """Return the card; {} if the adapter has none.

    Raises:
        ModelError: if it is damaged.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        return {}
    try:
        content = read_json(path.read_bytes())
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"The card of the adapter '{Path(folder).name}' is damaged ({error}); copy the adapter again."
        ) from error


def sha256(folder: Path) -> str:
    """Return the SHA-256 (hex) of an adapter's weights."""
    with (Path(folder) / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check(folder: Path, base: str = "") -> None:
    """Check that an adapter matches its card, fits the base model, and may be used.

    Args:
        folder: the adapter's folder.
        base: revision of the loaded base, "" if it is not known yet.

    Raises:
        ModelError: if not.
    """
    card, name = read(folder), Path(folder).name
    if not card:
        return
    if card.get("sha256") != sha256(folder):
        raise ModelError(f"The weights of the adapter '{name}' do not match its card, so they changed after training; "
                         "copy it again from where it was trained.")  # fmt: skip
    made_for = card.get("base", {})
    revision = made_for.get("revision", "")
    if base and revision and revision != base:
        raise ModelError(
            f"The adapter '{name}' was made for another base, {made_for.get('id', '?')} of revision {revision[:12]}, and this "
            f"one is {base[:12]}; choose that base, or train again."
        )
    reasons = refusal(folder)
    if reasons and not _judging:
        raise ModelError(f"The adapter '{name}' is not offered for use: {reasons}. To use it nevertheless, confirm with "
                         f"`medfm adapters accept {name}`.")  # fmt: skip


def refusal(folder: Path) -> str:
    """Return why it is not offered for use, "" if it is or was accepted."""
    verdict = read(folder).get("verdict", {})
    if verdict.get("offered", True) or accepted(folder):
        return ""
    return "; ".join(verdict.get("reasons", ())) or "its card does not approve it"


def accepted(folder: Path) -> bool:
    """Return whether the user accepted these weights in spite of their card."""
    try:
        content = read_json((Path(folder) / ACCEPTED).read_bytes())
        return content.get("sha256") == sha256(folder)
    except (OSError, ValueError, AttributeError):
        return False


def accept(folder: Path) -> str:
    """Record the user's confirmation and return the reasons against the adapter that they accepted.

    Raises:
        InputError: if there is nothing to accept.
    """
    reasons = refusal(folder)
    if not reasons:
        raise InputError(f"The adapter '{Path(folder).name}' may be used already; there is nothing to accept.")
    content = {"sha256": sha256(folder), "accepted": time.strftime("%Y-%m-%d"), "in_spite_of": reasons}
    (Path(folder) / ACCEPTED).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return reasons


@contextmanager
def judging() -> Iterator[None]:
    """Allow loading of adapters that are not offered for use, for their evaluation."""
    _judging.append(True)
    try:
        yield
    finally:
        _judging.pop()
