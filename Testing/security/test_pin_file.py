"""The PIN's file: guesses by many processes at once, and a home that is full, read-only or closed."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time

import pytest

from MedFMLib.errors import InputError, MedFMError, OutputError
from MedFMLib.guard.lock import PatientLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forked processes with other rights and limits")
PIN = "2468"
PROCESSES, GUESSES = 8, 6
NOBODY = 65534


def fast_clock() -> float:
    """Seconds that pass 100,000 times as fast, so that the longest wait takes 6 ms."""
    return time.time() * 1e5


@pytest.fixture
def lock(tmp_path):
    """Patient mode, on; its folder can be entered by everybody."""
    folder = tmp_path / "home"
    folder.mkdir()
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o055)
    made = PatientLock(folder / "patient-mode.json")
    made.choose_pin(PIN)
    made.enter()
    made.file.chmod(0o644)
    return made


def in_a_process(work) -> str:
    """Run `work` in a forked process and return what it says."""
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    process = context.Process(target=lambda: said.put(work()))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    return said.get()


def tried(lock: PatientLock, pin: str) -> str:
    try:
        lock.leave(pin)
        return "open"
    except MedFMError as error:
        return f"{type(error).__name__}: {error}"


def test_eight_processes_guess_and_every_try_is_counted(lock, attack):
    context = multiprocessing.get_context("fork")
    said, start = context.SimpleQueue(), context.Event()

    def guess(first: int) -> None:
        own = PatientLock(lock.file, fast_clock)
        start.wait()
        answers = []
        while len(answers) < GUESSES:
            answer = tried(own, f"{first + len(answers):05d}")
            if "is being checked" not in answer and "Too many" not in answer:
                answers.append(answer)  # the others were not compared with the PIN
            time.sleep(0.001)
        said.put(answers)

    running = [context.Process(target=guess, args=(10_000 * n,)) for n in range(PROCESSES)]
    for process in running:
        process.start()
    start.set()
    answers = [answer for _ in running for answer in said.get()]
    for process in running:
        process.join(30)
    counted = json.loads(lock.file.read_text())["wrong"]
    attack("tried uncounted", f"{len(answers)} tries of {PROCESSES} processes, {counted} counted")
    assert counted == len(answers) == PROCESSES * GUESSES
    assert all("This PIN is wrong" in answer for answer in answers) and lock.on


@pytest.mark.parametrize("pin", ["1111", PIN])
def test_a_full_disk_keeps_it_on_and_says_the_same_for_every_pin(pin, lock, attack):
    """Files can be made and not be filled, as on a full disk (a limit of 0 bytes a file)."""
    import resource
    import signal

    def guess() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        return "\n".join(tried(lock, pin) for _ in range(5))

    answers = in_a_process(guess).splitlines()
    before = json.loads(lock.file.read_text())
    attack("OSError, a traceback", answers[0][:40])
    assert len(set(answers)) == 1 and answers[0].startswith("OutputError") and "can't be written" in answers[0]
    assert lock.on and "wrong" not in before


@pytest.mark.parametrize("pin", ["1111", PIN])
@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_a_folder_without_rights_keeps_it_on(mode, pin, lock, attack):
    def guess() -> str:
        if os.getuid() == 0:
            os.setuid(NOBODY)  # root may write everywhere
        state = f"on={lock.on}"
        return f"{state} {tried(lock, pin)} on={PatientLock(lock.file).on}"

    lock.file.parent.chmod(mode)
    try:
        answer = in_a_process(guess)
    finally:
        lock.file.parent.chmod(0o755)
    attack("off where the folder can't be entered", answer[:60])
    assert answer.startswith("on=True OutputError") and answer.endswith("on=True") and lock.on


def test_a_computer_is_not_handed_over_if_that_cannot_be_stored(lock, attack):
    lock.leave(PIN)
    lock.file.chmod(0o644)

    def enter() -> str:
        if os.getuid() == 0:
            os.setuid(NOBODY)
        try:
            lock.enter()
        except OutputError as error:
            return str(error)
        return "entered"

    lock.file.parent.chmod(0o555)
    answer = in_a_process(enter)
    lock.file.parent.chmod(0o755)
    attack("-", answer[:60])
    assert "can't be written" in answer


def test_a_pin_is_not_chosen_while_another_process_chooses_one(tmp_path):
    file = tmp_path / "patient-mode.json"
    other = PatientLock(file)
    with PatientLock(file)._alone(), pytest.raises(InputError, match="is being checked"):
        other.choose_pin(PIN)
    assert not file.exists()


@pytest.mark.parametrize("wrong", [5000, 10**9, 1e300])
def test_a_huge_number_of_wrong_tries_costs_nothing_and_stays_locked(wrong, lock, attack):
    lock.file.write_text(json.dumps(json.loads(lock.file.read_text()) | {"wrong": wrong}))
    start = time.monotonic()
    assert "Try again in 600 s" in tried(lock, "1111") and lock.on
    attack("OverflowError, or memory without end", f"waits 600 s, after {time.monotonic() - start:.1f} s")
