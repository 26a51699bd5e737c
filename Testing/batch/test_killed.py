"""A batch that is killed at random moments runs every case exactly once, and writes the files of an uninterrupted one."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import sys
import time
from contextlib import closing

import psutil
import pytest
from support.batch_in_test import COMPUTES, checksums, kill_tree, write_volume

CASES, KILLS = 200, 10


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """200 cases."""
    folder = tmp_path_factory.mktemp("volumes")
    for number in range(CASES):
        write_volume(folder / f"scan_{number:03d}.nrrd", number)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(volumes, tmp_path_factory):
    """Result files of an uninterrupted batch, run through the library in this process."""
    from MedFMLib.batch import cases, running
    from MedFMLib.batch.plan import CaseOptions, TaskStep
    from MedFMLib.interfaces.jobs import LocalRunner

    sys.path.insert(0, str(COMPUTES))
    from batch_examples import ByName

    sys.path.pop(0)
    folder = tmp_path_factory.mktemp("uninterrupted")
    found = cases.find(
        volumes, (TaskStep("segment"), TaskStep("ask", "How many?")), CaseOptions(), cases.SeriesChoice()
    )
    counts = running.run(folder, found, lambda: LocalRunner(ByName().run), running.RunLimits(workers=2))
    assert counts["done"] == 2 * CASES
    return checksums(folder)


TASKS = ("--task", "segment", "--task", "ask:How many?")


def done_rows(folder) -> dict[str, list[str]]:
    """case/step → its files, of rows that are done; as another process sees them."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'batch.sqlite'}?mode=ro", uri=True)) as base:
            rows = base.execute("SELECT case_id, step, files FROM jobs WHERE state = 'done'").fetchall()
    except sqlite3.OperationalError:
        return {}
    return {f"{case}/{step}": re.findall(r'"([^"]+/[^"]+)"', files) for case, step, files in rows}


def test_every_case_is_done_exactly_once_though_it_was_killed_ten_times(
    volumes, uninterrupted, start_batch, batch, tmp_path, monkeypatch
):
    monkeypatch.setenv("MEDFM_TEST_SECONDS", "0.005")
    chance, folder = random.Random(20), tmp_path / "out"
    seen: dict[str, tuple[int, int]] = {}  # file → (inode, time) when its row was first known as done
    moments, amid = [], 0
    for _ in range(KILLS):
        before, until = len(done_rows(folder)), time.monotonic() + 60
        target = before + chance.randrange(1, 36)
        process = start_batch(volumes, *TASKS, "--output", folder, "--workers", 2)
        while len(done_rows(folder)) < target:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.02))
        kill_tree(process)
        rows = done_rows(folder)
        moments.append(len(rows))
        amid += (folder / ".partial").exists() and any((folder / ".partial").iterdir())
        for files in rows.values():
            for name in files:
                facts = (folder / name).stat()
                assert seen.setdefault(name, (facts.st_ino, facts.st_mtime_ns)) == (facts.st_ino, facts.st_mtime_ns)
    code, said, error = batch(volumes, *TASKS, "--output", folder, "--workers", 2, "--resume")
    assert code == 0, error
    assert said["done"] == 2 * CASES and said["failed"] == 0
    assert moments[-1] < 2 * CASES and amid > 0, "the kills came too late, or never amid writing"
    assert checksums(folder) == uninterrupted
    assert not (folder / ".partial").exists()
    for name, facts in seen.items():  # what was done before a kill was not touched after it
        assert ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) == facts
    print(f"killed with {moments} of {2 * CASES} results done, {amid} times amid writing files")


def test_workers_end_when_only_the_driver_is_killed(volumes, start_batch, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDFM_TEST_SECONDS", "0.2")
    process = start_batch(volumes, *TASKS, "--output", tmp_path / "out", "--workers", 2)
    until = time.monotonic() + 60
    while len(done_rows(tmp_path / "out")) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 4  # two workers, and two that read
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.slow
def test_the_same_on_ray_where_one_case_crashes_its_actor_and_one_hangs(
    volumes, uninterrupted, start_batch, tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    for name in ("crash_1", "hang_1"):
        (volumes / f"{name}.nrrd").write_bytes((volumes / "scan_000.nrrd").read_bytes())
    try:
        process = start_batch(
            volumes,
            *TASKS,
            "--output",
            tmp_path / "out",
            "--engine",
            "ray",
            "--workers",
            2,
            "--time-limit",
            12,
            "--retries",
            0,
        )
        until, listening = time.monotonic() + 120, set()
        while len(done_rows(tmp_path / "out")) < 4:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        for member in [psutil.Process(process.pid), *family]:
            try:
                listening |= {c.laddr.ip for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN}
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        said, error = process.communicate(timeout=150)
    finally:
        for name in ("crash_1", "hang_1"):
            (volumes / f"{name}.nrrd").unlink()
    assert process.returncode == 1, error
    assert listening and listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    rows = json.loads(said)["rows"]
    wrong = {(row["case"], row["error"].split(";")[0].split("(")[0].strip()) for row in rows if row["state"] != "done"}
    assert wrong == {
        ("crash_1", "The worker on Ray ended unexpectedly"),
        ("hang_1", "It took longer than 12 s and was stopped"),
    }
    files = {name: sha for name, sha in checksums(tmp_path / "out").items() if name.startswith("scan_")}
    assert files == uninterrupted
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
