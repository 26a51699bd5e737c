"""A batch of patients' files whose results name none of them."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from support.batch_in_test import write_volume
from support.dicom_writer import write_series

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image

TASKS = ("--task", "segment")
NAMES = (b"SMITH", b"JOHN", b"4711", b"Doe", b"Jane")


def series(folder, seed):
    """A small CT series in a folder that has a patient's name."""
    voxels = np.random.default_rng(seed).integers(0, 100, (1, 12, 10, 9)).astype(np.int16)
    return write_series(
        Image(voxels, Geometry((12, 10, 9), np.diag([1.0, 1, 2, 1])), "CT"), folder, PatientName="SMITH^JOHN"
    )


@pytest.fixture
def patients(tmp_path):
    """Two DICOM series, one of them truncated, and two files, one of them damaged; every path has a name."""
    folder = tmp_path / "in"
    series(folder / "SMITH^JOHN 4711", 1)
    damaged = series(folder / "SMITH^ANN 4711 JOHN", 2)[0]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    write_volume(folder / "Doe, Jane" / "Doe_Jane_1970.nrrd", 3)
    (folder / "Doe, Jane" / "Doe_Jane_broken.nrrd").write_bytes(b"NRRD0004\nbroken")
    return folder


def written(folder):
    """Everything in a folder: names and content."""
    return b"\n".join(
        str(path.relative_to(folder)).encode() + b"\n" + path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_with_pseudonyms_no_name_is_written_but_in_the_key_file(patients, batch, tmp_path):
    code, found, error = batch(patients, *TASKS, "--output", tmp_path / "out", "--pseudonym")
    assert code == 1, error
    assert [row["case"] for row in found["rows"]] == [f"case-000{n}" for n in range(1, 5)]
    assert sorted(row["state"] for row in found["rows"]) == ["done", "done", "failed", "failed"]
    content = written(tmp_path / "out")
    assert len(content) > 10_000 and not [name for name in NAMES if name in content]
    with (tmp_path / "out.key.csv").open() as stream:
        rows = {row["case"]: row["source"] for row in csv.DictReader(stream)}
    assert len(rows) == 4 and sum("Doe_Jane_1970.nrrd" in source for source in rows.values()) == 1
    assert sum("SMITH" in source for source in rows.values()) == 2


def test_dicom_has_pseudonyms_by_default_and_other_files_keep_their_names(patients, batch, tmp_path):
    _, found, _ = batch(patients, *TASKS, "--output", tmp_path / "out")
    assert [row["case"] for row in found["rows"]] == ["Doe_Jane_1970", "Doe_Jane_broken", "case-0001", "case-0002"]
    content = written(tmp_path / "out")
    assert b"SMITH" not in content and b"4711" not in content and b"Doe_Jane_1970" in content


def test_a_batch_with_pseudonyms_is_continued_with_its_key_file(patients, batch, tmp_path):
    arguments = ("--output", tmp_path / "out", "--pseudonym")
    batch(patients, *TASKS, *arguments)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json")}
    shutil.copy(patients / "Doe, Jane" / "Doe_Jane_1970.nrrd", patients / "Doe, Jane" / "Doe_Jane_broken.nrrd")
    series(patients / "A new one", 5)
    _, found, _ = batch(*arguments, "--resume")
    assert [row["state"] for row in found["rows"]].count("done") == 3
    _, found, _ = batch(patients, *TASKS, *arguments)
    assert [row["state"] for row in found["rows"]].count("done") == 4 and len(found["rows"]) == 5
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    (tmp_path / "out.key.csv").rename(tmp_path / "moved.csv")
    code, _, error = batch(*arguments, "--resume")
    assert code and "give it with --key-file" in error
    code, found, _ = batch(*arguments, "--resume", "--key-file", tmp_path / "moved.csv")
    assert len(found["rows"]) == 5


def test_file_names_are_kept_where_that_is_asked_for(patients, batch, tmp_path):
    _, found, _ = batch(patients, *TASKS, "--output", tmp_path / "out", "--file-names")
    assert not (tmp_path / "out.key.csv").exists()
    assert "Doe_Jane_1970" in [row["case"] for row in found["rows"]]
