"""Thousands of damaged files and hostile names: nothing crashes, hangs, grows, or is written elsewhere."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.batch_in_test import ROOT

from MedFMLib.errors import InputError, MedFMError
from MedFMLib.files import read_image
from MedFMLib.storage.archives import check_name, unpacked

SCRIPT = Path(__file__).with_name("fuzz_files.py")
COUNT = 2000
QUICK = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def fuzzed(folder: Path, count: int, seed: int) -> dict:
    """What `fuzz_files` prints, run with limits."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (240, 240))

    (folder / "room").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "room"), str(count), str(seed)], capture_output=True, text=True, cwd=ROOT,
        preexec_fn=limit, env=environment, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
@pytest.mark.parametrize("seed", [1])
def test_thousands_of_damaged_files_and_archives(seed, tmp_path, attack):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    found = fuzzed(tmp_path, COUNT, seed)
    assert not found["failures"], found["failures"][0]
    assert sum(found["outcome"].values()) == COUNT and min(found["outcome"].values()) > COUNT / 10
    assert abs(found["after"] / found["before"] - 1) < 0.05
    assert found["slowest"][0] < 10 and found["peak MB"] < 600
    assert (
        not found["left"]
        and victim.read_text() == "mine"
        and {p.name for p in tmp_path.iterdir()} <= {"room", "home", "victim.txt"}
    )
    growth = found["after"] / found["before"] - 1
    attack(
        "crashes of ITK, tracebacks", f"{found['outcome']}, memory {growth:+.1%}, slowest {found['slowest'][0]:.2f} s"
    )


@pytest.mark.slow
def test_many_more_damaged_files(tmp_path):
    for seed in range(2, 12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert not fuzzed(folder, 4000, seed)["failures"], seed


HOSTILE = [
    ("space", "left-posterior-superior" + "-superior" * 40), ("kinds", "domain domain d" + "a" * 300), ("dimension", "9" * 11),
    ("space directions", "(1,0,0) (0,1,0) (0,0,1) " + "(1,0,0) " * 400), ("sizes", "4 " * 4000), ("data file", "%s%s%n.raw"),
    ("data file", "../x.raw"), ("content\0", "x"), ("spac" + "a" * 900, "x"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), HOSTILE, ids=[f"{field} {value[:12]}" for field, value in HOSTILE])
def test_a_header_that_overflows_a_library_is_refused_before_it_reads(field, value, tmp_path, attack):
    lines = {"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 4 4", "encoding": "raw",
             "space directions": "(1,0,0) (0,1,0) (0,0,1)", "space origin": "(0,0,0)", "endian": "little"}  # fmt: skip
    lines[field] = value
    text = "NRRD0004\n" + "".join(f"{name}: {content}\n" for name, content in lines.items()) + "\n"
    (tmp_path / "x.nrrd").write_bytes(text.encode() + bytes(128))
    with pytest.raises(InputError, match="damaged|refused|outside"):
        read_image(tmp_path / "x.nrrd")
    attack("ended the process", "one sentence")


@pytest.mark.parametrize("line", ["NDims = 99999999999", "NDims = 3\nElementDataFile = %s%s%n", "NDims = 3\n\0x = 1"])
def test_a_metaimage_header_that_overflows_a_library_is_refused(line, tmp_path, attack):
    text = f"ObjectType = Image\n{line}\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "x.mha").write_bytes(text.encode() + bytes(128))
    with pytest.raises(InputError, match="damaged|refused"):
        read_image(tmp_path / "x.mha")
    attack("ended the process", "one sentence")


@QUICK
@given(st.text(max_size=40))
def test_a_name_that_passes_stays_inside(name):
    try:
        inside = check_name(name, "x")
    except InputError:
        return
    root = Path("/some/root")
    assert root in (root / Path(*inside.parts)).parents and os.path.normpath(root / inside).startswith(
        str(root) + os.sep
    )


@QUICK
@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), st.binary(max_size=50)), max_size=6
    )
)
def test_archives_with_any_names_write_nothing_outside(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("archive")
    path = folder / "x.zip"
    try:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries:
                archive.writestr(name, content)
    except (ValueError, UserWarning):
        return
    try:
        with unpacked(path) as inside:
            files = [file for file in inside.rglob("*") if file.is_file()]
            assert len(files) <= len(entries)
    except MedFMError:
        pass
    assert list(folder.iterdir()) == [path]


@QUICK
@given(st.text(max_size=2500), st.text(max_size=2500))
def test_any_question_is_judged_or_refused(question, answer):
    from MedFMLib.fact_check import check_answer
    from MedFMLib.guard import Guard

    guard = GUARD.setdefault("guard", Guard())
    assert guard.question(question).verdict
    check_answer(question, answer, [])


GUARD: dict = {}
