"""`--pseudonym` of the commands for one image: no result names the file that it came from."""

from __future__ import annotations

import csv

import pytest
from support.batch_in_test import write_volume

NAMES = (b"Doe", b"Jane")


@pytest.fixture
def named(tmp_path):
    """A volume whose path has a patient's name."""
    return write_volume(tmp_path / "Doe, Jane" / "Doe_Jane_1970.nii.gz", 1, (16, 24, 20))


@pytest.mark.parametrize("command", [("segment", "-l", "liver"), ("ask", "What is shown?"), ("report", "-l", "liver")])
def test_no_result_names_the_file_and_the_key_file_does(command, named, medfm, tiny_folder, tmp_path):
    name, *more = command
    options = ("--output", tmp_path / "out", "--pseudonym", "--model", tiny_folder, "--modality", "CT")
    done = medfm(name, named, *more, *options)
    assert done.returncode == 0, done.stderr
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written and all(path.name.startswith("case-0001") for path in written)
    content = b"".join(path.read_bytes() for path in written)
    assert len(content) > 300 and not [part for part in NAMES if part in content]
    with (tmp_path / "out.key.csv").open() as stream:
        assert [(row["case"], row["source"]) for row in csv.DictReader(stream)] == [("case-0001", str(named))]


def test_the_same_file_keeps_its_number_and_another_gets_the_next(named, medfm, tiny_folder, tmp_path):
    other = write_volume(tmp_path / "b.nii.gz", 2, (16, 24, 20))
    for path in (named, other, named):
        options = ("-l", "liver", "--pseudonym", "--model", tiny_folder, "--modality", "CT")
        done = medfm("segment", path, "-o", tmp_path / "out", *options)
        assert done.returncode == 0, done.stderr
    assert sorted({path.name.partition(".")[0] for path in (tmp_path / "out").iterdir()}) == ["case-0001", "case-0002"]
