"""Distribute cases to runners and update the manifest. Knows neither models nor where jobs run.

One thread per runner has a case read (see `reading`) while the case before it runs, runs its remaining tasks in order, and
writes their files. A case that crashes its worker, takes too long or can't be read becomes one row with an error message;
the others continue. A full disk or a lost server stops the batch, and the same command continues it later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..core.image import Image
from ..core.request import Provenance
from ..errors import Cancelled, InputError, MedFMError, ModelError, OutputError, OutsideDomain
from ..execution.remote.client import ConnectionLost
from ..execution.worker import ProcessRunner
from ..files.pseudonyms import KeyFile
from ..files.writing import make_folder
from ..interfaces.jobs import Runner
from ..storage.locks import exclusive
from . import cases, results, summary
from .manifest import Manifest
from .plan import BatchCase, TaskStep
from .reading import CaseReader, ReadCase

log = logging.getLogger(__name__)

LOCK = ".lock"
BUSY = "Another batch is running in '{folder}' (process {{}}); wait for it, or choose another --output."

GRACE_SECONDS = 10.0
"""Time that threads have to end when the user stops the batch."""


@dataclass(frozen=True)
class RunLimits:
    """Limits for running cases.

    Args:
        workers: number of cases at the same time.
        seconds: time limit for one task of a case, including the loading of a model.
        retries: number of further attempts after a crash of the worker; invalid input is never tried again.
        pause: seconds before the first retry, doubled for each further one.

    Raises:
        InputError: if a number is out of range.
    """

    workers: int = 1
    seconds: float = 3600.0
    retries: int = 1
    pause: float = 2.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"There must be at least 1 worker, not {self.workers}.")
        if self.seconds <= 0 or self.retries < 0:
            raise InputError(f"A time limit of {self.seconds:g} s or {self.retries} retries is too small; give more.")


class JobTimeout(MedFMError):
    """A job exceeded its time limit."""


Watch = Callable[[dict[str, int], str], None]
"""Called after each change with rows by state, and a message or ""."""


def run(
    folder: Path,
    found: list[BatchCase] | None,
    make_runner: Callable[[], Runner],
    limits: RunLimits = RunLimits(),
    read: Callable[[BatchCase], ReadCase] | None = None,
    watch: Watch = lambda counts, text: None,
    again: bool = False,
    key: KeyFile | None = None,
) -> dict[str, int]:
    """Run the missing tasks of a batch, and return the number of rows by state.

    Args:
        folder: for results; created if needed.
        found: the cases; None for those of the existing manifest.
        make_runner: called once per worker, and after a job that had to be killed.
        limits: number of workers, time limit, retries.
        read: returns the volume of a case, for cases of a scene; None reads files, in processes of their own.
        watch: receives rows by state and messages.
        again: delete an earlier batch in the folder, with its results.
        key: the key file of private cases; None if there are none.

    Raises:
        InputError: if the folder has another batch, or another process is using it.
        OutputError: if a result can't be written.
        Cancelled: if the user stopped it (KeyboardInterrupt).
        ConnectionLost: if the server was lost.
    """
    if found is None and not (folder / "batch.sqlite").is_file():
        raise InputError(f"There is no batch in '{folder}' to continue; give a folder or a CSV of cases.")
    make_folder(folder)
    with exclusive(folder / LOCK, InputError(BUSY.format(folder=folder))):
        results.clear(folder)
        manifest = Manifest(folder, key.read() if key is not None else None)
        try:
            if again:
                results.remove_results(folder, [name for row in manifest.rows() for name, _ in row.files])
                manifest.clear()
            if found is not None:
                manifest.take(found)
            _check_inputs(manifest, read, limits)
            manifest.wait_again()
            try:
                _Pool(manifest, make_runner, limits, read, watch).run()
            finally:
                results.clear(folder)
                summary.write(folder, manifest.rows(), __version__)
            return manifest.counts()
        finally:
            manifest.close()


def _check_inputs(manifest: Manifest, read: Callable[[BatchCase], ReadCase] | None, limits: RunLimits) -> None:
    """Check that the images of finished cases have not changed."""
    holder = _Holder(None, read, limits)
    try:
        _compare_inputs(manifest, holder)
    finally:
        holder.close()


def _compare_inputs(manifest: Manifest, holder: _Holder) -> None:
    done = {row.case_id for row in manifest.rows() if row.state == "done"}
    for case in manifest.cases():
        before, digest = manifest.known(case.id)
        if case.id not in done or not digest:
            continue
        now = cases.stamp(case)
        if now and now == before:
            continue
        try:
            found = holder.read(case)
        except MedFMError:
            continue  # the image was moved or can't be read any more; its results are kept
        found.discard()
        if found.digest != digest:
            raise InputError(
                f"The image of '{case.id}' changed after it was processed; choose another --output, or start over with --again."
            )
        manifest.remember(case.id, now, digest)


class _Pool:
    """The threads of one run."""

    def __init__(self, manifest: Manifest, make_runner, limits: RunLimits, read, watch: Watch):
        self._manifest, self._make_runner, self._limits = manifest, make_runner, limits
        self._read, self._watch = read, watch
        self._left: deque[tuple[BatchCase, list[TaskStep]]] = deque(manifest.waiting())
        self._stop, self._watching = threading.Event(), threading.Lock()
        self._error: BaseException | None = None

    def run(self) -> None:
        self._tell("")
        count = min(self._limits.workers, len(self._left))
        threads = [threading.Thread(target=self._work, name=f"case worker {n}", daemon=True) for n in range(count)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
        except KeyboardInterrupt:
            self._stop.set()
            until = time.monotonic() + GRACE_SECONDS
            for thread in threads:
                thread.join(max(until - time.monotonic(), 0))
            counts = self._manifest.counts()
            raise Cancelled(
                f"Stopped; {counts['done']} of {sum(counts.values())} results are finished. The same command continues."
            ) from None
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        holder = _Holder(self._make_runner, self._read, self._limits)
        try:
            task = self._take(holder, ahead=False)
            if task is not None:
                holder.start_runner()  # while the first case is read
            while task is not None and not self._stop.is_set():
                following = self._take(holder, ahead=True)
                self._case(*task, holder)
                task = following or self._take(holder, ahead=False)
        except Cancelled:
            pass
        except BaseException as error:
            if not isinstance(error, MedFMError):
                log.exception("A batch failed")
            self._error = self._error or error
            self._stop.set()
        finally:
            holder.close()

    def _take(self, holder: _Holder, ahead: bool):
        """Return (next case, its tasks, what is read of it), None if there is none.

        Args:
            holder: of the thread.
            ahead: take it before it can run, so that it is read meanwhile; not if another thread would lack a case.
        """
        if self._stop.is_set() or (ahead and len(self._left) < self._limits.workers):
            return None
        try:
            case, steps = self._left.popleft()
        except IndexError:
            return None
        return case, steps, holder.read_soon(case)

    def _result(self, reading: Future) -> ReadCase:
        """Return what was read or raise its error; a reading that is stopped ends with its holder."""
        while not self._stop.is_set():
            try:
                return reading.result(0.2)
            except TimeoutError:
                continue
        raise Cancelled()

    def _case(self, case: BatchCase, steps: list[TaskStep], reading: Future, holder: _Holder) -> None:
        started = time.monotonic()
        try:
            read = self._result(reading)
            self._manifest.remember(case.id, cases.stamp(case), read.digest)
        except (OutputError, Cancelled):
            raise
        except Exception as error:  # any error of a reader is recorded for its case only
            for step in steps:
                self._manifest.begin(case, step)
                self._fail(case, step, _sentence(error, "The image can't be read"), started)
            return
        try:
            for step in steps:
                self._step(case, step, read.image, holder)
        finally:
            read.discard()

    def _step(self, case: BatchCase, step: TaskStep, image: Image, holder: _Holder) -> None:
        for number in range(self._limits.retries + 1):
            started = time.monotonic()
            self._manifest.begin(case, step)
            last = number == self._limits.retries
            try:
                response = self._response(case.request(step, image), holder)
            except Cancelled:
                self._manifest.leave(case, step)
                raise
            except OutsideDomain as error:
                self._leave_out(case, step, str(error), started)
                return
            except (InputError, ModelError, OutputError, JobTimeout) as error:
                self._fail(case, step, str(error), started)
                return
            except Exception as error:
                if last and isinstance(error, ConnectionLost):
                    self._manifest.leave(case, step)
                    raise
                if last:
                    self._fail(case, step, _sentence(error, "The task failed"), started)
                    return
                self._stop.wait(self._limits.pause * 2**number)
                continue
            try:
                files = results.write(self._manifest.folder, case, step, response)
            except BaseException:
                self._manifest.leave(case, step)
                raise
            seconds = round(time.monotonic() - started, 3)
            self._manifest.finish(case, step, files, response.provenance, results.found(response), seconds, _now())
            self._tell("")
            return

    def _response(self, request, holder: _Holder):
        """Return the response or raise its error; a job that takes too long is killed with its runner."""
        job = holder.runner().submit(request)
        until = time.monotonic() + self._limits.seconds
        while not self._stop.is_set():
            try:
                return job.result(max(min(0.2, until - time.monotonic()), 0.0))
            except TimeoutError:
                if time.monotonic() >= until:
                    job.cancel()
                    holder.stop_runner()
                    raise JobTimeout(
                        f"It took longer than {self._limits.seconds:g} s and was stopped; increase --time-limit."
                    ) from None
        job.cancel()
        raise Cancelled()

    def _leave_out(self, case: BatchCase, step: TaskStep, sentence: str, started: float) -> None:
        """Finish a task of an image that the model was not made for: a row with the sentence, without files."""
        note, seconds = case.clean(sentence), round(time.monotonic() - started, 3)
        self._manifest.finish(case, step, [], Provenance(step.task, ""), {"note": note}, seconds, _now())
        self._tell(f"{case.id}, {step.key}: {note}")

    def _fail(self, case: BatchCase, step: TaskStep, error: str, started: float) -> None:
        error = case.clean(error)
        self._manifest.fail(case, step, error, round(time.monotonic() - started, 3), _now())
        self._tell(f"{case.id}, {step.key}: {error}")

    def _tell(self, text: str) -> None:
        with self._watching:
            self._watch(self._manifest.counts(), text)


class _Holder:
    """The runner and the reader of one thread, created when they are first needed."""

    def __init__(self, make_runner: Callable[[], Runner] | None, read, limits: RunLimits):
        self._make, self._runner = make_runner, None
        self._read, self._limits, self._reader = read, limits, None
        self._thread = ThreadPoolExecutor(1, "case reader")

    def read_soon(self, case: BatchCase) -> Future:
        """Read a case on another thread."""
        return self._thread.submit(self.read, case)

    def start_runner(self) -> None:
        """Let the runner start without waiting for it; what is wrong is reported by its first job."""
        if isinstance(runner := self.runner(), ProcessRunner):
            with suppress(MedFMError):
                runner.start()

    def read(self, case: BatchCase) -> ReadCase:
        if self._read is not None:
            return self._read(case)
        if self._reader is None:
            self._reader = CaseReader(1 / self._limits.workers)
        return self._reader.read(case, self._limits.seconds)

    def runner(self) -> Runner:
        if self._runner is None:
            self._runner = self._make()
        return self._runner

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        self.stop_runner()

    def stop_runner(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


def _sentence(error: Exception, what: str) -> str:
    if isinstance(error, MedFMError):
        return str(error)
    log.exception("%s", what)
    return f"{what} ({type(error).__name__}: {str(error).strip()[:200] or 'no details'})."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
