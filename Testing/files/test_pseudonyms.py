"""Case numbers instead of file names, and the file that says which is which."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from MedFMLib.errors import InputError
from MedFMLib.files.pseudonyms import KeyFile, default_key_file, without_names

ONE, OTHER = ("/data/Doe, Jane/a.nii.gz", ""), ("/data/Doe, Jane", '{"files": ["1", "2"]}')


def test_a_source_keeps_its_number_and_new_ones_get_the_next(tmp_path):
    key = KeyFile(tmp_path / "results.key.csv")
    assert key.read() == {}
    assert key.numbers([ONE, OTHER]) == ["case-0001", "case-0002"]
    again = KeyFile(key.path)
    assert again.numbers([OTHER, ("new", ""), ONE]) == ["case-0002", "case-0003", "case-0001"]
    assert again.read() == {"case-0001": ONE, "case-0002": OTHER, "case-0003": ("new", "")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_only_its_owner_may_read_the_key_file(tmp_path):
    key = KeyFile(tmp_path / "k.csv")
    key.numbers([ONE])
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600


def test_the_key_file_lies_beside_the_results_and_not_in_them(tmp_path):
    assert default_key_file(tmp_path / "results") == tmp_path / "results.key.csv"


@pytest.mark.parametrize("content", ["case,source\n", "a,b,c\n1,2,3\n", "case,source,content\nDoe,x,\n",
                                     "case,source,content\ncase-0001,x,\ncase-0001,y,\n", "\xff"])  # fmt: skip
def test_another_file_is_not_overwritten(content, tmp_path):
    path = tmp_path / "k.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="--key-file"):
        KeyFile(path).numbers([ONE])
    assert path.read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("'DOE_JANE.nii.gz' can't be read", "'case-0001' can't be read"),
        ("There is no file '/data/Doe, Jane/DOE_JANE.nii.gz'.", "There is no file 'case-0001'."),
        ("The folder 'Doe, Jane' has nothing", "The folder 'case-0001' has nothing"),
        ("“DOE_JANE” is constant; the data are damaged", "“case-0001” is constant; the data are damaged"),
    ],
)
def test_sentences_lose_the_names_of_files_and_folders(said, clean):
    assert without_names(said, "case-0001", [Path("/data/Doe, Jane/DOE_JANE.nii.gz")]) == clean
