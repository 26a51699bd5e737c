"""The card in an adapter's folder that says what it was made from and whether it may be used. Knows JSON; loads no weights.

`medfm-adapter.json` is written by `training.finetune`; adapters of others have none, and nothing is said of them. One that is
worse than its base, or answers what the guard withholds, is used only after a person's yes, which lies beside it in
`medfm-accepted.json` and counts for these very weights.
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

CARD, ACCEPTED, PAGE, WEIGHTS = (
    "medfm-adapter.json",
    "medfm-accepted.json",
    "medfm-adapter.html",
    "adapter_model.safetensors",
)
_judging: list[bool] = []


def read(folder: Path) -> dict[str, Any]:
    """The card; {} if the adapter has none.

    Raises:
        ModelError: if it is damaged.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"The card of the adapter '{Path(folder).name}' is damaged ({error}); copy the adapter again."
        ) from error


def sha256(folder: Path) -> str:
    """SHA-256 (hex) of an adapter's weights."""
    with (Path(folder) / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check(folder: Path, base: str = "") -> None:
    """Make sure that an adapter is the one its card is about, fits the base, and may be used.

    Args:
        base: revision of the loaded base, "" if it is not known yet.

    Raises:
        ModelError: if not.
    """
    card, name = read(folder), Path(folder).name
    if not card:
        return
    if card.get("sha256") != sha256(folder):
        raise ModelError(f"The weights of the adapter '{name}' are not those that its card is about; they changed "
                         "after it was made: copy it again from where it was trained.")  # fmt: skip
    made_for = card.get("base", {})
    revision = made_for.get("revision", "")
    if base and revision and revision != base:
        raise ModelError(
            f"The adapter '{name}' was made for another base, {made_for.get('id', '?')} of revision {revision[:12]}, and this "
            f"one is {base[:12]}; choose that base, or train again."
        )
    reasons = refusal(folder)
    if reasons and not _judging:
        raise ModelError(f"The adapter '{name}' is not offered for use: {reasons}. If you want it all the same, say so with "
                         f"`medfm adapters accept {name}`.")  # fmt: skip


def refusal(folder: Path) -> str:
    """Why it is not offered, "" if it is or was accepted."""
    verdict = read(folder).get("verdict", {})
    if verdict.get("offered", True) or accepted(folder):
        return ""
    return "; ".join(verdict.get("reasons", ())) or "its card says so"


def accepted(folder: Path) -> bool:
    """Did a person accept these weights in spite of their card?"""
    try:
        content = json.loads((Path(folder) / ACCEPTED).read_text(encoding="utf-8"))
        return content.get("sha256") == sha256(folder)
    except (OSError, ValueError, AttributeError):
        return False


def accept(folder: Path) -> str:
    """Note a person's yes; → what they accepted.

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
    """Let adapters be loaded that are not offered: whoever judges them must."""
    _judging.append(True)
    try:
        yield
    finally:
        _judging.pop()
