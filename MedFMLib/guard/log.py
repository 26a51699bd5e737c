"""Every verdict, a line each: when, on what kind of text, which rule. Never a text, a name or an image."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from ..storage import paths
from .judging import Verdict

LARGEST = 2_000_000
"""Bytes from which the log is begun anew; the one before is kept beside it."""


class VerdictLog:
    """Appends to a file of the person's data folder.

    Args:
        file: another file.
    """

    def __init__(self, file: Path | None = None):
        self.file = file or paths.data() / "guard-log.jsonl"

    def add(self, kind: str, verdict: Verdict) -> None:
        """Write one down; a log that can't be written stops nobody from being told to call the staff.

        Args:
            kind: "question" or "answer".
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"when": now, "kind": kind, "verdict": verdict.verdict, "rule": verdict.rule})
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if self.file.is_file() and self.file.stat().st_size > LARGEST:
                self.file.replace(self.file.with_suffix(".old.jsonl"))
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            logging.warning("MedFM: the guard's log can't be written (%s)", type(error).__name__)
