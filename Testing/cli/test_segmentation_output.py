"""`-o` of `medfm segment`: a folder, or one file for other programs; nothing replaces another image's results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.segmentation_phantoms import GRID, blocks, label_map

from MedFMLib.cli import segmentation_output
from MedFMLib.cli.segmentation_output import SegmentationOutput
from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import InputError
from MedFMLib.files import output_name
from MedFMLib.files.segmentations import read_segmentation

ONE, TWO = blocks()


@pytest.fixture
def notes(monkeypatch):
    said = []
    monkeypatch.setattr(segmentation_output, "note", said.append)
    return said


def response(image="abc"):
    segmentation = Segmentation((Segment("liver", ONE), Segment("left kidney", TWO)), GRID)
    return Response((segmentation,), Provenance("segment", "m", image=image))


def written(output, image="scan.nii.gz", digest="abc", separate=False):
    return SegmentationOutput.of(output, separate).write(output_name(Path(image)), response(digest), separate)


@pytest.mark.parametrize("name", ["result.nii.gz", "result.NII", "result.nrrd", "result.mha", "new/result.nii.gz"])
def test_a_file_of_labels_is_written_with_its_tables(tmp_path, name):
    files = written(tmp_path / name)
    stem = "result"
    assert [f.name for f in files] == [
        Path(name).name, f"{stem}.labels.txt", f"{stem}.labels.json", f"{stem}.measurements.json"
    ]  # fmt: skip
    read = read_segmentation(files[0], GRID)
    assert [s.label for s in read.segments] == ["liver", "left kidney"]
    np.testing.assert_array_equal(read["liver"].mask * 1 + read["left kidney"].mask * 2, label_map())
    assert json.loads(files[-1].read_text())["provenance"]["image"] == "abc"


def test_a_seg_nrrd_is_written_under_its_own_name(tmp_path):
    files = written(tmp_path / "mine.seg.nrrd")
    assert [f.name for f in files] == ["mine.seg.nrrd", "mine.measurements.json"]
    assert [s.label for s in read_segmentation(files[0], GRID).segments] == ["liver", "left kidney"]


@pytest.mark.parametrize("name", ["out", "out.v2", "2024.01.31", "a.nii.gz/"])
def test_any_other_name_and_an_existing_folder_is_a_folder(tmp_path, name):
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    files = written(tmp_path / name)
    assert [f.name for f in files] == ["scan.seg.nrrd", "scan.measurements.json"]
    assert {f.parent for f in files} == {tmp_path / name}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("a.csv", r"ends in \.nii\.gz, \.nii, \.nrrd, \.mha or \.seg\.nrrd, or a folder"), ("a.PNG", "can't be written to 'a.PNG'"),
     ("a.dcm", "run `medfm export`"), (".nii.gz", "can't be written to")],
)  # fmt: skip
def test_a_file_that_can_hold_no_labels_is_refused_before_anything_is_made(tmp_path, name, sentence):
    with pytest.raises(InputError, match=sentence):
        SegmentationOutput.of(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_one_file_a_label_lies_in_a_folder_beside(tmp_path, notes):
    files = written(tmp_path / "out", separate=True)
    assert [f.relative_to(tmp_path / "out").as_posix() for f in files] == [
        "scan.seg.nrrd", "scan-segmentations/liver.nii.gz", "scan-segmentations/kidney_left.nii.gz", "scan.measurements.json"
    ]  # fmt: skip
    read = read_segmentation(tmp_path / "out" / "scan-segmentations", GRID)
    assert {s.label for s in read.segments} == {"liver", "left kidney"}
    (tmp_path / "out" / "scan-segmentations" / "spleen.nii.gz").write_bytes(b"of an earlier run")
    written(tmp_path / "out", separate=True)
    assert len(notes) == 1 and "files of another run (spleen.nii.gz)" in notes[0]
    with pytest.raises(InputError, match="needs a folder, not 'a.nii.gz'"):
        SegmentationOutput.of(tmp_path / "a.nii.gz", separate=True)


def test_two_images_of_one_name_have_two_results_and_one_image_has_one(tmp_path, notes):
    first = written(tmp_path / "out", "one/ct.nii.gz", "abc")
    again = written(tmp_path / "out", "one/ct.nii.gz", "abc")
    assert first == again and not notes
    second = written(tmp_path / "out", "two/ct.nii.gz", "def")
    assert [f.name for f in second] == ["ct-2.seg.nrrd", "ct-2.measurements.json"]
    assert len(notes) == 1 and "results of another image called 'ct'" in notes[0]
    assert len(list((tmp_path / "out").iterdir())) == 4
