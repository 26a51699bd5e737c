"""Files that take all memory, all time or the process with them: each costs its own row."""

from __future__ import annotations

import json
import os
import re
import resource
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from security import bad_files
from support.batch_in_test import COMPUTE, COMPUTES, ROOT, write_volume

from MedFMLib.batch import reading
from MedFMLib.batch.cases import SeriesChoice
from MedFMLib.batch.plan import BatchCase, CaseOptions, step_from
from MedFMLib.errors import InputError, MedFMError
from MedFMLib.execution import serialization
from MedFMLib.files import read_image
from MedFMLib.hardware import memory_of
from MedFMLib.reports.revising import read_editable_report

MOST_MEMORY = 4 << 30
STEPS = (step_from("segment"),)


def in_limits(code: str, *arguments, memory: int = MOST_MEMORY, seconds: int = 60) -> str:
    """What a process prints that may not take more memory than that; a violation ends it."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    # not `ru_maxrss`, which counts what this process had when it made the other
    peak = "int(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1]) // 1024"
    program = textwrap.dedent(code).replace("PEAK", peak)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, preexec_fn=limit, cwd=ROOT,
        timeout=seconds * 2, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


READ = """
    import sys
    from MedFMLib.errors import InputError
    from MedFMLib.files import read_image
    try:
        read_image(sys.argv[1])
        print("read")
    except InputError as error:
        print(error)
    print(PEAK)
"""

BOMBS = {
    "nested": (bad_files.nested_sequences, "x.dcm", "ended the whole batch", "damaged|nested"),
    "deflated": (bad_files.deflated_bomb, "x.dcm", "97 s and 6.3 GB", "inflates from .* to more than"),
    "frames": (bad_files.clip, "x.dcm", "allocated", "may be used here"),
    "codestream": (bad_files.jpeg2000_of_another_size, "x.dcm", "decoder allocated 7 GB", "60000×60000, and its header says"),
    "gzip": (lambda p: bad_files.nifti(p, (2400, 2400, 1000), repeat=11_000), "x.nii.gz", "11.5 GB", "may be used here"),
    "declared": (lambda p: bad_files.nifti(p, (30_000, 30_000, 30_000)), "x.nii", "allocated", "may be used here"),
    "short": (lambda p: bad_files.nifti(p, (512, 512, 700)), "x.nii", "allocated", "bytes can't hold"),
    "nrrd": (lambda p: bad_files.nrrd(p, "100000 100000 100000"), "x.nrrd", "allocated", "may be used here"),
    "png": (lambda p: bad_files.png(p, 60_000, 60_000), "x.png", "-", "at most"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_file_that_would_take_all_memory_is_one_sentence(kind, tmp_path, attack):
    make, name, before, sentence = BOMBS[kind]
    path = make(tmp_path / name)
    start = time.monotonic()
    said, peak = in_limits(READ, path).strip().splitlines()
    assert re.search(sentence, said), said
    assert int(peak) < 800 and time.monotonic() - start < 30
    attack(f"{path.stat().st_size / 1e6:.1f} MB: {before}", f"one sentence, peak {peak} MB")


def test_a_gzip_with_more_than_it_declares_is_read_to_its_declared_end(tmp_path, attack):
    path = bad_files.nifti(tmp_path / "x.nii.gz", (8, 8, 8), 16, 32, np.ones(512, np.float32).tobytes(), repeat=30_000)
    assert in_limits(READ, path, memory=2 << 30).startswith("read")
    attack("all 30 GB were looked at", "512 voxels are read")


def test_the_memory_that_counts_is_what_is_free(tmp_path, monkeypatch, attack):
    path = bad_files.good_volume(tmp_path / "x.nrrd", shape=(100, 100, 100))
    read_image(path)
    monkeypatch.setenv("MEDFM_MEMORY_LIMIT", "6 MB")
    with pytest.raises(InputError, match=r"reading them takes 5.0 MB of memory, and 4.2 MB may be used here"):
        read_image(path)
    attack("-", "limit follows free memory")


def test_a_report_file_that_inflates_is_refused_before_it_does(tmp_path, attack):
    path = tmp_path / "x.medfm-report"
    path.write_bytes(serialization.dumps({"a": np.zeros(1 << 26, np.float64)}))
    assert path.stat().st_size < 8e6
    code = """
        import os, sys
        from MedFMLib.errors import InputError
        from MedFMLib.reports.revising import read_editable_report
        from pathlib import Path
        os.environ["MEDFM_MEMORY_LIMIT"] = "500 MB"
        try:
            read_editable_report(Path(sys.argv[1]))
        except InputError as error:
            print(error)
        print(PEAK)
    """
    said, peak = in_limits(code, path, memory=2 << 30).strip().splitlines()
    assert "takes at least 0.5 GB of memory" in said and int(peak) < 400
    attack("1 MB inflated to 2.1 GB", f"one sentence, peak {peak} MB")


def test_a_report_with_many_large_masks_is_refused(tmp_path, monkeypatch, attack):
    from MedFMLib.core.findings import Segment

    mask = np.zeros((200, 200, 200), bool)
    mask[0, 0, 0] = True
    path = tmp_path / "x.medfm-report"
    path.write_bytes(serialization.dumps(tuple(Segment(f"s{n}", mask) for n in range(100))))
    monkeypatch.setenv("MEDFM_MEMORY_LIMIT", "200 MB")
    with pytest.raises(InputError, match="of memory"):
        read_editable_report(path)
    attack(f"{path.stat().st_size / 1e3:.0f} kB: 800 MB of masks", "refused")


# -- the process that reads ------------------------------------------------------------------------------------

BROKEN_READER = """
    import os, sys, time
    sys.path[:1] = [sys.argv[1]]
    from MedFMLib.batch import cases, reading_main
    read, header = cases.read, cases.read_header

    def by_name(path):
        if "crash" in path.name:
            os.abort()
        if "hang" in path.name:
            time.sleep(1000)
        if "grow" in path.name:
            kept = []
            while True:
                kept.append(bytearray(1 << 24))

    def broken_read(case):
        by_name(cases.Path(case.source))
        return read(case)

    def broken_header(path):
        by_name(path)
        return header(path)

    cases.read, cases.read_header = broken_read, broken_header
    reading_main.main()
"""


@pytest.fixture
def broken_reader(tmp_path, monkeypatch):
    """A process that crashes, hangs or grows where the name of a file says so."""
    script = tmp_path / "broken_reader.py"
    script.write_text(textwrap.dedent(BROKEN_READER))
    monkeypatch.setattr(reading, "SCRIPT", script)
    monkeypatch.setenv("MEDFM_MEMORY_LIMIT", "1.5 GB")


@pytest.mark.parametrize(("name", "sentence"), [("crash", "ended the process"), ("hang", "longer than 2 s"),
                                                ("grow", "of memory, the most that may be used here")])  # fmt: skip
def test_a_reader_that_dies_costs_its_case_only(name, sentence, broken_reader, tmp_path, attack):
    write_volume(tmp_path / "in" / f"{name}.nrrd")
    write_volume(tmp_path / "in" / "good.nrrd", 3)
    reader = reading.CaseReader()
    try:
        start = time.monotonic()
        with pytest.raises(MedFMError, match=sentence):
            reader.read(BatchCase("a", str(tmp_path / "in" / f"{name}.nrrd"), STEPS), 2.0)
        assert time.monotonic() - start < 30
        read = reader.read(BatchCase("b", str(tmp_path / "in" / "good.nrrd"), STEPS), 60.0)
        assert read.digest == read_image(tmp_path / "in" / "good.nrrd").digest() == read.image.digest()
        folder = reader.scratch()
    finally:
        reader.close()
    assert not folder.exists()
    attack("ended or held the batch", sentence)


@pytest.mark.parametrize("name", ["crash", "hang", "grow"])
def test_a_dicom_file_that_breaks_the_search_becomes_a_case(name, broken_reader, tmp_path, monkeypatch, attack):
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(reading, "HEADER_SECONDS", 2.0)
    for file in ("a.dcm", f"b_{name}.dcm", "c.dcm", f"d_{name}.dcm"):
        bad_files.dicom(tmp_path / "in" / file)
    found = reading.find_cases(tmp_path / "in", STEPS, CaseOptions(), SeriesChoice(), 60.0, lambda text: None)
    sources = sorted(str(Path(case.source, *case.files)) for case in found)
    assert [Path(source).name for source in sources] == ["a.dcm", f"b_{name}.dcm", "c.dcm", f"d_{name}.dcm"]
    attack("ended the batch before it began", "a row for each, the others run")


def test_the_search_gives_up_after_too_many_such_files(broken_reader, tmp_path, monkeypatch, attack):
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(reading, "MOST_CRASHES", 2)
    for number in range(4):
        bad_files.dicom(tmp_path / "in" / f"crash_{number}.dcm")
    with pytest.raises(reading.ReadingFailed, match="ended the process"):
        reading.find_cases(tmp_path / "in", STEPS, CaseOptions(), SeriesChoice(), 60.0, lambda text: None)
    attack("-", "an error after the limit")


# -- a whole batch -----------------------------------------------------------------------------------------------


def test_twelve_bad_files_beside_three_good_ones(tmp_path, monkeypatch, attack):
    folder = tmp_path / "in"
    folder.mkdir()
    bad = bad_files.twelve_bad_files(folder)
    for number in range(3):
        bad_files.good_volume(folder / f"good_{number}.nrrd", number, (160, 400, 400))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(COMPUTES), str(ROOT)]))
    monkeypatch.setenv("MEDFM_TEST_MARKS", str(tmp_path))
    idle, _, _, _ = run_batch(write_volume(tmp_path / "idle" / "a.nrrd").parent, tmp_path / "idle_out")
    peak, seconds, code, printed = run_batch(folder, tmp_path / "out")
    rows = printed["rows"]
    assert code == 1 and len(bad) == 12
    assert sorted(row["state"] for row in rows) == ["done"] * 3 + ["failed"] * 12
    for row in rows:
        if row["state"] == "failed":
            print(f"{row['case']:22} {row['seconds']:5.1f} s  {row['error']}")
            assert row["error"].strip() and "Traceback" not in row["error"] and row["error"].rstrip()[-1] in ".)"
            assert row["seconds"] < TIME_LIMIT + 5
    assert b"topsecret" not in b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert (peak - idle) / 2**20 <= 300
    attack(
        "ended before it began, or hung", f"3 results, 12 rows, {seconds:.0f} s, main process +{(peak - idle) >> 20} MB"
    )


TIME_LIMIT = 20


def run_batch(folder: Path, output: Path):
    """(Largest memory of the main process in bytes, seconds, exit code, what it printed)."""
    command = [sys.executable, "-m", "MedFMLib.cli", "batch", str(folder), "--task", "segment", "--output", str(output)]
    command += ["--json", "--compute", COMPUTE, "--time-limit", str(TIME_LIMIT), "--file-names"]
    start, peak = time.monotonic(), 0
    with (output.parent / f"{output.name}.json").open("w+") as stdout:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT)
        command_line = Path(f"/proc/{process.pid}/cmdline")
        while process.poll() is None:
            if b"MedFMLib.cli" in command_line.read_bytes():  # before that, it shares this process's memory
                peak = max(peak, memory_of(process.pid))
            time.sleep(0.02)
        stdout.seek(0)
        said = stdout.read()
    assert said, process.stderr.read()
    return peak, time.monotonic() - start, process.returncode, json.loads(said)


def test_a_tiff_with_very_many_pages_is_refused_in_a_second(tmp_path, attack):
    """Each page has one pixel and no more tags than it needs."""
    tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
            (278, 3, 1, 1), (279, 4, 1, 1)]  # fmt: skip
    size = 2 + 12 * len(tags) + 4
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    pages = [page + struct.pack("<I", 9 + 1 + size * (n + 1)) for n in range(100_000)]
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 10) + b"\x07\0" + b"".join(pages))
    start = time.monotonic()
    with pytest.raises(InputError, match="more than 5000 pages"):
        read_image(path)
    assert time.monotonic() - start < 10
    attack(
        f"{path.stat().st_size / 1e6:.0f} MB: hours, a list is searched for each page",
        f"{time.monotonic() - start:.1f} s",
    )


def test_a_picture_in_colour_is_decoded_without_four_channels(tmp_path, attack):
    from PIL import Image as Picture

    Picture.new("RGB", (8000, 6000), (1, 2, 3)).save(tmp_path / "x.png")
    said, peak = in_limits(READ, tmp_path / "x.png").strip().splitlines()
    assert said == "read" and int(peak) < 650
    attack("1 GB for 48 megapixels", f"peak {peak} MB")
