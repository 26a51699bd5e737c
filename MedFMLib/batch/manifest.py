"""Record what was done in `batch.sqlite`: one row per case, one row per case and task. Depends on SQLite, no models.

A row is `waiting`, `running`, `done` or `failed`. It becomes `done` in one transaction after its files are in place,
so that a process killed at any moment leaves at most a superfluous file, which is written again. Write-ahead log;
every commit is on the disk before it returns. One process writes (see `lock`); many may read.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputError
from .plan import BatchCase, TaskStep, case_as_json, case_from_json

VERSION = 1
SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE cases (
    id TEXT PRIMARY KEY, number INTEGER, source TEXT, content TEXT, stamp TEXT DEFAULT '', digest TEXT DEFAULT ''
);
CREATE TABLE jobs (
    case_id TEXT REFERENCES cases(id), step TEXT, number INTEGER, asked TEXT, state TEXT DEFAULT 'waiting',
    attempts INTEGER DEFAULT 0, seconds REAL DEFAULT 0, error TEXT DEFAULT '', files TEXT DEFAULT '[]', finished TEXT DEFAULT '',
    model TEXT DEFAULT '', revision TEXT DEFAULT '', precision TEXT DEFAULT '', adapter TEXT DEFAULT '',
    adapter_hash TEXT DEFAULT '', found TEXT DEFAULT '{{}}', PRIMARY KEY (case_id, step)
);
CREATE INDEX jobs_by_state ON jobs(state);
"""
NAME = "batch.sqlite"
SAFE = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class ManifestRow:
    """State of one case and task.

    Args:
        case_id: id of the case.
        step: the task.
        state: `waiting`, `running`, `done` or `failed`.
        attempts: number of attempts.
        seconds: duration of the last attempt.
        error: message of a failure, or "".
        files: (name relative to the folder, SHA-256) of each result.
        model: id of the model.
        revision: revision of the model.
        precision: precision of the weights.
        adapter: name of the adapter, or "".
        found: measurements and answers, as `results.found` returns them.
    """

    case_id: str
    step: TaskStep
    state: str
    attempts: int
    seconds: float
    error: str
    files: tuple[tuple[str, str], ...]
    model: str
    revision: str
    precision: str
    adapter: str
    found: dict


class Manifest:
    """The manifest in a folder; created if there is none. Safe to use from several threads.

    Args:
        folder: of the batch.
        key: content of the key file, of cases whose place the manifest must not hold; see `pseudonyms.KeyFile.read`.

    Raises:
        OutputError: if it can't be written.
        InputError: if an existing file is not a manifest of this version.
    """

    def __init__(self, folder: Path, key: Mapping[str, tuple[str, str]] | None = None):
        self.folder, self._lock, self._key = folder, threading.Lock(), key or {}
        path = folder / NAME
        try:
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._base.row_factory = sqlite3.Row
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            version = self._base.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._base.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        except sqlite3.OperationalError as error:
            raise OutputError(f"'{path}' can't be written ({error}); choose another folder with --output.") from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"'{path}' is not a manifest of a batch ({error}); choose another folder.") from error
        if version not in (0, VERSION):
            raise InputError(
                f"'{path}' was written by another version of MedFM; choose another folder, or start over with --again."
            )

    def close(self) -> None:
        """Write pending changes and close."""
        self._base.close()

    # -- before a run --------------------------------------------------------------------------------------

    def cases(self) -> list[BatchCase]:
        """Return all cases in their order."""
        rows = self._base.execute("SELECT content FROM cases ORDER BY number").fetchall()
        return [self._case(row["content"]) for row in rows]

    def _case(self, content: str) -> BatchCase:
        """Return a case with its place.

        Raises:
            InputError: if the key file lacks it.
        """
        case = case_from_json(content)
        if not case.private:
            return case
        if case.id not in self._key:
            raise InputError(
                f"The key file doesn't have '{case.id}' of the batch in '{self.folder}'; give it with --key-file."
            )
        return case.with_place(*self._key[case.id])

    def take(self, cases: list[BatchCase]) -> None:
        """Set the cases of the manifest; new ones are added, and finished ones stay.

        Raises:
            InputError: if a case had other tasks or options before.
        """
        with self._transaction():
            for number, case in enumerate(cases):
                if not SAFE.fullmatch(case.id):
                    raise InputError(
                        f"'{case.id}' is not a valid name of a case; use only letters, digits and _ . + -."
                    )
                self._base.execute(
                    "INSERT INTO cases (id, number, source, content) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                    "number = excluded.number, source = excluded.source, content = excluded.content",
                    (case.id, number, case.without_place().source, case_as_json(case.without_place())),
                )
                before = {
                    row["step"]: row["asked"]
                    for row in self._base.execute("SELECT step, asked FROM jobs WHERE case_id = ?", (case.id,))
                }
                now = {step.key: json.dumps(case.asked(step), sort_keys=True) for step in case.steps}
                if before and before != now:
                    raise InputError(
                        f"{_difference(before, now)} for '{case.id}' than in the batch in '{self.folder}'; "
                        "choose another --output, or start over with --again."
                    )
                for place, step in enumerate(case.steps):
                    self._base.execute(
                        "INSERT OR IGNORE INTO jobs (case_id, step, number, asked) VALUES (?, ?, ?, ?)",
                        (case.id, step.key, place, now[step.key]),
                    )

    def clear(self) -> None:
        """Delete all rows."""
        with self._transaction():
            self._base.execute("DELETE FROM jobs")
            self._base.execute("DELETE FROM cases")

    def known(self, case_id: str) -> tuple[str, str]:
        """Return (stamp, digest) of a case's input when it was last read, "" if it was not."""
        row = self._base.execute("SELECT stamp, digest FROM cases WHERE id = ?", (case_id,)).fetchone()
        return (row["stamp"], row["digest"]) if row else ("", "")

    def remember(self, case_id: str, stamp: str, digest: str) -> None:
        """Store that a case's input was read.

        Args:
            case_id: id of the case.
            stamp: see `cases.stamp`.
            digest: SHA-256 of voxels and grid.
        """
        with self._transaction():
            self._base.execute("UPDATE cases SET stamp = ?, digest = ? WHERE id = ?", (stamp, digest, case_id))

    def wait_again(self) -> None:
        """Reset rows that were running when a process ended, failed, or lost a file to `waiting`; done rows stay."""
        lost = [
            (row.case_id, row.step.key)
            for row in self.rows()
            if row.state == "done" and not all((self.folder / name).is_file() for name, _ in row.files)
        ]
        with self._transaction():
            self._base.execute("UPDATE jobs SET state = 'waiting', error = '' WHERE state IN ('running', 'failed')")
            self._base.executemany("UPDATE jobs SET state = 'waiting' WHERE case_id = ? AND step = ?", lost)

    # -- during a run --------------------------------------------------------------------------------------

    def waiting(self) -> list[tuple[BatchCase, list[TaskStep]]]:
        """Return cases with their remaining tasks; those with fewest attempts come first."""
        rows = self._base.execute(
            "SELECT case_id, asked, content FROM jobs JOIN cases ON id = case_id WHERE state = 'waiting' "
            "ORDER BY (SELECT max(attempts) FROM jobs AS other WHERE other.case_id = id), cases.number, jobs.number"
        ).fetchall()
        found: dict[str, tuple[BatchCase, list[TaskStep]]] = {}
        for row in rows:
            case = found[row["case_id"]][0] if row["case_id"] in found else self._case(row["content"])
            found.setdefault(row["case_id"], (case, []))[1].append(_step(row["asked"]))
        return list(found.values())

    def begin(self, case: BatchCase, step: TaskStep) -> None:
        """Mark a task as running and count the attempt.

        Args:
            case: the case.
            step: its task.
        """
        self._set(case, step, "state = 'running', attempts = attempts + 1")

    def leave(self, case: BatchCase, step: TaskStep) -> None:
        """Mark a task that the user stopped as waiting.

        Args:
            case: the case.
            step: its task.
        """
        self._set(case, step, "state = 'waiting'")

    def fail(self, case: BatchCase, step: TaskStep, error: str, seconds: float, finished: str) -> None:
        """Mark a task as failed.

        Args:
            case: the case.
            step: its task.
            error: message.
            seconds: duration.
            finished: ISO 8601, UTC.
        """
        self._set(case, step, "state = 'failed', error = ?, seconds = ?, finished = ?", error, seconds, finished)

    def finish(
        self, case: BatchCase, step: TaskStep, files, provenance, found: dict, seconds: float, finished: str
    ) -> None:
        """Mark a task as done, after its files are in place.

        Args:
            case: the case.
            step: its task.
            files: (name, SHA-256) of each file.
            provenance: `Provenance` of the response.
            found: see `ManifestRow`.
            seconds: duration.
            finished: ISO 8601, UTC.
        """
        p = provenance
        self._set(
            case, step,
            "state = 'done', error = '', files = ?, seconds = ?, finished = ?, model = ?, revision = ?, precision = ?, "
            "adapter = ?, adapter_hash = ?, found = ?",
            json.dumps(files), seconds, finished, p.model, p.revision, p.precision, p.adapter, p.adapter_hash, json.dumps(found),
        )  # fmt: skip

    # -- queries ---------------------------------------------------------------------------------------------

    def rows(self) -> list[ManifestRow]:
        """Return all rows, in the order of cases and tasks."""
        rows = self._base.execute(
            "SELECT jobs.* FROM jobs JOIN cases ON id = case_id ORDER BY cases.number, cases.id, jobs.number"
        ).fetchall()
        return [
            ManifestRow(
                row["case_id"], _step(row["asked"]), row["state"], row["attempts"], row["seconds"],
                row["error"], tuple((name, sha) for name, sha in json.loads(row["files"])), row["model"], row["revision"],
                row["precision"], row["adapter"], json.loads(row["found"]),
            )
            for row in rows
        ]  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Return a mapping from state to number of rows."""
        found = Counter(dict(self._base.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()))
        return {state: found[state] for state in ("done", "failed", "waiting", "running")}

    # -- implementation ----------------------------------------------------------------------------------------

    def _set(self, case: BatchCase, step: TaskStep, what: str, *values) -> None:
        with self._transaction():
            self._base.execute(f"UPDATE jobs SET {what} WHERE case_id = ? AND step = ?", (*values, case.id, step.key))

    @contextmanager
    def _transaction(self):
        with self._lock:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                yield
                self._base.execute("COMMIT")
            except BaseException as error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise OutputError(
                        f"The manifest in '{self.folder}' can't be written ({error}); free some space, then run the same again."
                    ) from error
                raise


def _step(asked: str) -> TaskStep:
    content = json.loads(asked)
    return TaskStep(content["task"], content["question"])


def _difference(before: dict[str, str], now: dict[str, str]) -> str:
    if before.keys() != now.keys():
        return "Other tasks are given"
    for key, text in now.items():
        old, new = json.loads(before[key]), json.loads(text)
        for name in new:
            if old.get(name) != new[name]:
                return f"Another {name} ({new[name] or 'default'}, not {old.get(name) or 'default'}) is given"
    return "Other options are given"
