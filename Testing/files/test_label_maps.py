"""Label maps for other programs: voxels as nibabel and SimpleITK read them, tables as ITK-SNAP and nnU-Net read them."""

from __future__ import annotations

import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.segmentation_phantoms import GRID, blocks, label_map

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.errors import InputError, OutputError
from MedFMLib.files.label_maps import LABEL_SUFFIXES, unique_names, write_label_files, write_labels
from MedFMLib.files.segmentations import read_segmentation
from MedFMLib.files.sitk import geometry_of

ONE, TWO = blocks()


@pytest.fixture
def segmentation():
    return Segmentation((Segment("liver", ONE, (1.0, 0.5, 0.0)), Segment("left kidney", TWO, (0.0, 0.0, 1.0))), GRID)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_other_programs_read_the_voxels_and_their_place(segmentation, tmp_path, suffix):
    path, table, names = write_labels(tmp_path / f"result{suffix}", segmentation)
    picture = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(picture).T, label_map())
    assert np.abs(geometry_of(picture).corners() - GRID.corners()).max() < 1e-3
    if suffix.startswith(".nii"):
        image = nibabel.load(path)
        np.testing.assert_array_equal(np.asarray(image.dataobj), label_map())
        np.testing.assert_allclose(image.affine, GRID.affine, atol=1e-4)
        assert image.get_data_dtype() == np.uint8 and image.header.get_xyzt_units()[0] == "mm"
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    assert (table.name, names.name) == ("result.labels.txt", "result.labels.json")
    read = read_segmentation(path, GRID)
    assert [s.label for s in read.segments] == ["liver", "left kidney"]
    for made, found in zip(segmentation.segments, read.segments, strict=True):
        np.testing.assert_array_equal(made.mask, found.mask)


def test_the_tables_are_those_of_itk_snap_and_nnu_net(segmentation, tmp_path):
    _, table, names = write_labels(tmp_path / "result.nii.gz", segmentation)
    lines = [line for line in table.read_text().splitlines() if not line.startswith("#")]
    row = re.compile(
        r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"'
    )  # as ITK-SNAP scans it
    assert [row.fullmatch(line).groups() for line in lines] == [
        ("0", "0", "0", "0", "0", "0", "0", "Clear Label"), ("1", "255", "128", "0", "1", "1", "1", "liver"),
        ("2", "0", "0", "255", "1", "1", "1", "left kidney"),
    ]  # fmt: skip
    assert json.loads(names.read_text()) == {"background": 0, "liver": 1, "left kidney": 2}


def test_names_are_each_once_and_quotes_do_not_break_the_table(tmp_path):
    labels = ["lesion", "Lesion", "lesion 2", 'a "b"\nc', "background", ""]
    segmentation = Segmentation(tuple(Segment(label, ONE) for label in labels), GRID)
    expected = ["lesion", "Lesion 2", "lesion 2 2", 'a "b" c', "background 2", "segment"]
    assert unique_names(segmentation) == expected
    _, table, names = write_labels(tmp_path / "r.mha", segmentation, tell=lambda note: None)
    assert list(json.loads(names.read_text())) == ["background", *expected]
    assert "\"a 'b' c\"" in table.read_text()


def test_the_later_of_overlapping_segments_wins_with_a_sentence(tmp_path):
    notes = []
    both = Segmentation((Segment("body", ONE | TWO), Segment("lesion", ONE)), GRID)
    path, *_ = write_labels(tmp_path / "r.nii.gz", both, notes.append)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), ONE * 2 + TWO * 1)
    assert len(notes) == 1 and "400 voxels of several segments got the later one (lesion)" in notes[0]


def test_more_than_255_segments_need_sixteen_bits(tmp_path):
    masks = np.eye(300, dtype=bool).reshape(300, 10, 10, 3)
    grid = Geometry((10, 10, 3), GRID.affine)
    segmentation = Segmentation(tuple(Segment(f"part {n}", mask) for n, mask in enumerate(masks)), grid)
    path, *_ = write_labels(tmp_path / "r.nii", segmentation)
    values = np.asarray(nibabel.load(path).dataobj)
    assert values.dtype == np.uint16 and values.max() == 300
    assert len(read_segmentation(path, grid).segments) == 300


@pytest.mark.parametrize("name", ["result.csv", "result.dcm", "result", ".nii.gz"])
def test_a_name_that_can_hold_no_labels_gets_one_sentence(segmentation, tmp_path, name):
    with pytest.raises(InputError, match="Labels can't be written to"):
        write_labels(tmp_path / name, segmentation)


def test_one_file_a_label_is_named_as_totalsegmentator_names_it(tmp_path):
    labels = ["left kidney", "liver", "Liver", "../../etc/passwd", "Leberläsion 肝", "a|b:c?"]
    segmentation = Segmentation(tuple(Segment(label, ONE if n % 2 else TWO) for n, label in enumerate(labels)), GRID)
    files = write_label_files(tmp_path / "out", segmentation)
    assert [f.name for f in files] == [
        "kidney_left.nii.gz", "liver.nii.gz", "Liver_2.nii.gz", "etc_passwd.nii.gz", "Leberläsion_肝.nii.gz", "a_b_c.nii.gz"
    ]  # fmt: skip
    assert {f.parent for f in files} == {tmp_path / "out"} and len(list((tmp_path / "out").iterdir())) == 6
    for n, file in enumerate(files):
        np.testing.assert_array_equal(np.asarray(nibabel.load(file).dataobj), ONE if n % 2 else TWO)
    read = read_segmentation(tmp_path / "out", GRID)
    assert "left kidney" in [s.label for s in read.segments] and len(read.segments) == 6
    with pytest.raises(OutputError, match="no segment to write"):
        write_label_files(tmp_path / "none", Segmentation((), GRID))
