"""Find and read cases in a process of its own, within limits of time and memory. Knows files, no models.

A file that crashes a library, never ends or takes all memory ends that process only: its case becomes a row with one
sentence. The voxels come back as a file that is mapped, so that this process never holds them.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..core.image import Image
from ..errors import InputError, MedFMError
from ..execution.payload import Payload, unpack
from ..execution.worker.runner import end_tree, python
from ..files.limits import memory_for_reading, size_text
from ..files.pseudonyms import KeyFile
from ..hardware import memory_of
from .cases import SeriesChoice, Tell, find
from .plan import BatchCase, CaseOptions, TaskStep, case_as_json, case_from_json

TOO_LONG = "It took longer than {:g} s and was stopped; increase --time-limit."
ENDED = "Reading it ended the process that reads; it is damaged or too complex, export it again."

SCRIPT = Path(__file__).with_name("reading_main.py")
POLL_SECONDS = 0.05
HEADER_SECONDS = 30.0
"""Longest time for the header of one file while cases are searched."""

BASE = 300 << 20
"""Bytes that the process has before it reads anything: Python, numpy, SimpleITK, pydicom."""

MOST_CRASHES = 100
"""How many files of a folder may end the process before the search gives up."""


class ReadingFailed(MedFMError):
    """The process that reads took too long or too much memory, or ended.

    Args:
        message: a sentence.
        at: the file that it was looking at; "" if unknown.
    """

    def __init__(self, message: str, at: str = ""):
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class ReadCase:
    """A case that was read.

    Args:
        image: its volume; the voxels are mapped from a file, or in memory if a scene is open.
        digest: see `Image.digest`.
        file: of the voxels, to be deleted after use; None if there is none.
    """

    image: Image
    digest: str
    file: Path | None = None

    def discard(self) -> None:
        """Delete the file."""
        if self.file is not None:
            try:
                self.file.unlink(missing_ok=True)
            except OSError:
                pass  # Windows keeps mapped files; the folder is deleted at the end


def in_memory(image: Image) -> ReadCase:
    """Return an image of an open scene as a case that was read."""
    return ReadCase(image, image.digest())


class CaseReader:
    """A process that reads, started when it is first needed and after each that ended. For one thread.

    Args:
        share: of the memory that reading may take, 1 ÷ number of readers.
    """

    def __init__(self, share: float = 1.0):
        self._share = share
        self._process: subprocess.Popen | None = None
        self._lines: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._folder: Path | None = None
        self._number, self._closed = 0, False

    def read(self, case: BatchCase, seconds: float) -> ReadCase:
        """Read the volume of a case.

        Args:
            case: the case.
            seconds: time limit.

        Raises:
            InputError: if it can't be read.
            ReadingFailed: if it takes too long or too much memory, or ends the process.
        """
        self._number += 1
        target = self.scratch() / str(self._number)
        try:
            return stored_case(self.ask({"do": "read", "case": case_as_json(case), "to": str(target)}, seconds))
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def scratch(self) -> Path:
        """Return the temporary folder for voxels; it is deleted by `close`."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="medfm-batch-"))
        return self._folder

    def close(self) -> None:
        """End the process permanently and delete its files; from any thread."""
        self._closed = True
        self._end()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def ask(self, task: dict, seconds: float, tell: Tell = lambda text: None):
        """Do one task in the process and return its result.

        Args:
            task: see `reading_main`.
            seconds: time limit, counted anew with each file that it looks at.
            tell: receives its sentences.

        Raises:
            InputError: the error of the task.
            ReadingFailed: if it takes too long or too much memory, or ends the process.
        """
        try:
            return self._ask(task, seconds, tell)
        except InputError:
            raise
        except BaseException:
            self._end()
            raise

    def _ask(self, task: dict, seconds: float, tell: Tell):
        memory = int(memory_for_reading() * self._share)
        process = self._start()
        at, until = "", time.monotonic() + seconds
        try:
            process.stdin.write(json.dumps({**task, "memory": memory}).encode() + b"\n")
            process.stdin.flush()
        except OSError as error:
            raise ReadingFailed(f"The process that reads can't be reached ({error}); run the same again.") from error
        while True:
            try:
                line = self._lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() > until:
                    raise ReadingFailed(TOO_LONG.format(seconds), at) from None
                if memory_of(process.pid) > memory + BASE:
                    raise _too_much(memory, at) from None
                continue
            match line:
                case None:
                    raise ReadingFailed(ENDED, at)
                case {"at": file}:
                    at, until = file, time.monotonic() + seconds
                case {"tell": text}:
                    tell(text)
                case {"error": text}:
                    raise InputError(text)
                case {"memory": _}:
                    raise _too_much(memory, at)
                case {"result": result}:
                    return result

    def _start(self) -> subprocess.Popen:
        if self._closed:
            raise ReadingFailed(ENDED)
        if self._process is None or self._process.poll() is not None:
            self._lines = queue.SimpleQueue()
            try:
                self._process = subprocess.Popen(
                    [python(), "-u", str(SCRIPT), str(Path(__file__).parents[2]), str(self.scratch())],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                    start_new_session=os.name != "nt",  # Ctrl-C in a terminal is for this process, which then ends that one
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )  # fmt: skip
            except OSError as error:
                raise ReadingFailed(f"The process that reads can't be started ({error}); check the Python.") from error
            threading.Thread(target=_follow, args=(self._process.stdout, self._lines), daemon=True).start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end_tree(process)
            process.wait()
            process.stdin.close()


def find_cases(
    path: Path,
    steps: tuple[TaskStep, ...],
    options: CaseOptions,
    pick: SeriesChoice,
    seconds: float,
    tell: Tell = print,
) -> list[BatchCase]:
    """Return the cases of a folder, a CSV or one file, as `cases.find` does, within limits of time and memory.

    A DICOM file that can't even be looked at becomes a case of its own, whose row says why.

    Args:
        path: the folder, CSV or file.
        steps: tasks of each case.
        options: of each case.
        pick: which series, and how to read volumes.
        seconds: time limit for one file.
        tell: receives sentences about skipped files.

    Raises:
        InputError: if there is nothing to do, or the CSV has invalid content.
        ReadingFailed: if more than `MOST_CRASHES` files end the process.
    """
    path = Path(os.path.abspath(path.expanduser()))
    if not path.is_dir():
        return find(path, steps, options, pick, tell)  # no image is looked at
    task = {"do": "find", "path": str(path), "plain": _plain(steps, options), "pick": asdict(pick)}
    bad: list[str] = []
    reader = CaseReader()
    try:
        while True:
            said: list[str] = []
            try:
                found = reader.ask({**task, "bad": bad}, min(seconds, HEADER_SECONDS), said.append)
            except ReadingFailed as failure:
                if not failure.at or failure.at in bad or len(bad) >= MOST_CRASHES:
                    raise
                bad.append(failure.at)
                continue
            for text in said:
                tell(text)
            return [case_from_json(text) for text in found["cases"]]
    finally:
        reader.close()


def with_numbers(cases: list[BatchCase], key: KeyFile, pseudonym: bool | None) -> list[BatchCase]:
    """Return cases with numbers for names, where that is asked for or the case is DICOM, whose folders name patients.

    Args:
        cases: as found.
        key: the key file, which gets those that it lacks.
        pseudonym: True for all, False for none, None for those of DICOM files.

    Raises:
        InputError: see `KeyFile.numbers`.
        OutputError: see `KeyFile.numbers`.
    """
    if pseudonym is False:
        return cases
    private = [case for case in cases if pseudonym or case.is_dicom]
    if not private:
        return cases
    ids = key.numbers((case.source, case.place) for case in private)
    renamed = {case.id: replace(case, id=name, private=True) for case, name in zip(private, ids, strict=True)}
    return [renamed.get(case.id, case) for case in cases]


@contextmanager
def scene_cases(
    path: Path,
    steps: tuple[TaskStep, ...],
    options: CaseOptions,
    pick: SeriesChoice,
    seconds: float,
    tell: Tell = print,
) -> Iterator[tuple[list[BatchCase], dict[str, ReadCase]]]:
    """Yield the cases of a scene's file and their volumes, read within limits of time and memory.

    Args:
        path: the .mrb or .mrml file.
        steps: tasks of each case.
        options: of each case.
        pick: modality and frame.
        seconds: time limit for the whole scene.
        tell: receives sentences about skipped nodes.

    Raises:
        InputError: see `scenes.from_file`.
        ReadingFailed: if it takes too long or too much memory, or ends the process.
    """
    reader = CaseReader()
    try:
        task = {"do": "scene", "path": str(path), "plain": _plain(steps, options), "pick": asdict(pick)}
        found = reader.ask({**task, "to": str(reader.scratch())}, seconds, tell)
        reader._end()  # its memory is not needed any more
        images = {name: replace(stored_case(stored), file=None) for name, stored in found["images"].items()}
        yield [case_from_json(text) for text in found["cases"]], images
    finally:
        reader.close()


def stored_case(found: dict) -> ReadCase:
    """Return what `reading_main` stored."""
    file = Path(found["voxels"])
    image = unpack(Payload(base64.b64decode(found["rest"]), file)).image
    return ReadCase(image, found["digest"], file)


def _plain(steps: tuple[TaskStep, ...], options: CaseOptions) -> str:
    return case_as_json(BatchCase("", "", steps, options))


def _too_much(memory: int, at: str) -> ReadingFailed:
    return ReadingFailed(
        f"Reading it takes more than {size_text(memory)} of memory, the most that may be used here; crop or resample it, or read "
        "it on a machine with more memory.", at,
    )  # fmt: skip


def _follow(stream, lines: queue.SimpleQueue) -> None:
    try:
        for line in stream:
            lines.put(json.loads(line))
    except (OSError, ValueError):
        pass  # closed, or an incomplete last line
    lines.put(None)
