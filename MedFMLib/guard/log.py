"""Log every verdict as one line: time, kind of text and rule. Never a text, a name or an image."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from ..storage import paths
from .judging import Verdict

LARGEST = 2_000_000
"""Size in bytes at which a new log file is started; the previous one is kept next to it."""


class VerdictLog:
    """A log file in the user's data folder.

    Args:
        file: another file.
    """

    def __init__(self, file: Path | None = None):
        self.file = file or paths.data() / "guard-log.jsonl"

    def add(self, kind: str, verdict: Verdict) -> None:
        """Append a verdict; a log that can't be written must not stop the message to the patient.

        Args:
            kind: "question" or "answer".
            verdict: the decision.
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
