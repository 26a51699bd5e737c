"""Folders of one file a label, nnU-Net's layout, and which files are labels and no images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.segmentation_phantoms import GRID, blocks, label_map, write_nifti_with_nibabel

from MedFMLib.errors import InputError
from MedFMLib.files.segmentations import is_label_file, labelled_images, read_segmentation
from MedFMLib.files.segmentations.label_folders import name_of_file
from MedFMLib.files.segmentations.label_names import NamedValues, names_from_json

ONE, TWO = blocks()


@pytest.fixture
def total(tmp_path):
    """A case as TotalSegmentator leaves it."""
    write_nifti_with_nibabel(tmp_path / "ct.nii.gz", label_map().astype(np.int16))
    for name, mask in {"liver": ONE, "kidney_left": TWO, "vertebrae_L1": ONE | TWO, "spleen": ONE & TWO}.items():
        write_nifti_with_nibabel(tmp_path / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8))
    return tmp_path


@pytest.fixture
def nnunet(tmp_path):
    """A data set of nnU-Net with two channels."""
    for channel in (0, 1):
        write_nifti_with_nibabel(tmp_path / "imagesTr" / f"case_000_{channel:04d}.nii.gz", label_map().astype(np.int16))
    write_nifti_with_nibabel(tmp_path / "imagesTr" / "case_001_0000.nii.gz", label_map().astype(np.int16))
    write_nifti_with_nibabel(tmp_path / "labelsTr" / "case_000.nii.gz", label_map())

    def write(labels):
        (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
        return tmp_path

    return write


def test_a_folder_of_one_file_a_label_is_read_with_the_names_of_its_files(total):
    notes = []
    for folder in (total / "segmentations", total):
        read = read_segmentation(folder, GRID, tell=notes.append)
        found = {s.label: s.mask for s in read.segments}
        assert list(found) == ["left kidney", "liver", "vertebrae L1"]
        for name, mask in {"left kidney": TWO, "liver": ONE, "vertebrae L1": ONE | TWO}.items():
            np.testing.assert_array_equal(found[name], mask)
        assert read["left kidney"].code.meaning == "Kidney" and read["left kidney"].side.meaning == "Left"
    assert len(notes) == 2 and "no voxels of 'spleen'" in notes[0]


def test_a_label_file_with_several_values_keeps_them_apart(tmp_path):
    write_nifti_with_nibabel(tmp_path / "lesions.nii.gz", label_map())
    assert [s.label for s in read_segmentation(tmp_path, GRID).segments] == ["lesions 1", "lesions 2"]


def test_notes_of_many_files_are_a_few_sentences(tmp_path):
    moved = GRID.affine.copy()
    moved[2, 3] += 0.2
    for number in range(12):
        write_nifti_with_nibabel(tmp_path / f"part_{number}.nii.gz", ONE.astype(np.uint8), moved)
    with pytest.raises(InputError, match="another grid"):
        read_segmentation(tmp_path, GRID)
    notes = []
    assert len(read_segmentation(tmp_path, GRID, resample=True, tell=notes.append).segments) == 12
    assert len(notes) == 6 and notes[-1] == "7 further notes are like these."


@pytest.mark.parametrize("content", [{}, {"readme.txt": b"x"}])
def test_a_folder_without_labels_gets_one_sentence(tmp_path, content):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match="has no segmentation; give a .seg.nrrd"):
        read_segmentation(tmp_path, GRID)


@pytest.mark.parametrize(("name", "label"), [
    ("kidney_left.nii.gz", "left kidney"), ("LIVER.nii", "liver"), ("rib_left_5.nii.gz", "rib left 5"),
    ("lung_upper_lobe_left.nii.gz", "lung upper lobe left"), ("aorta.nrrd", "aorta"),
])  # fmt: skip
def test_a_file_name_becomes_a_label(tmp_path, name, label):
    assert name_of_file(tmp_path / name) == label


@pytest.mark.parametrize("labels", [
    {"background": 0, "liver": 1, "spleen": 2}, {"0": "background", "1": "liver", "2": "spleen"},
    {"background": 0, "liver": [1], "spleen": 2, "ignore": 3},
])  # fmt: skip
def test_dataset_json_names_the_labels_in_both_versions(nnunet, labels):
    read = read_segmentation(nnunet(labels) / "labelsTr" / "case_000.nii.gz", GRID)
    assert [s.label for s in read.segments] == ["liver", "spleen"]
    np.testing.assert_array_equal(read["spleen"].mask, TWO)


def test_a_region_of_several_values_is_one_segment(nnunet):
    folder = nnunet({"background": 0, "whole tumour": [1, 2], "core": [2]})
    read = read_segmentation(folder / "labelsTr" / "case_000.nii.gz", GRID)
    assert [s.label for s in read.segments] == ["whole tumour", "core"]
    np.testing.assert_array_equal(read["whole tumour"].mask, ONE | TWO)
    np.testing.assert_array_equal(read["core"].mask, TWO)


@pytest.mark.parametrize("labels", ["text", {"liver": "one"}, {"liver": None}, [1, 2]])
def test_a_dataset_json_with_other_content_is_named(nnunet, labels):
    with pytest.raises(InputError, match=r"'dataset.json' must map names to label values"):
        read_segmentation(nnunet(labels) / "labelsTr" / "case_000.nii.gz", GRID)


def test_names_from_json_in_all_forms(tmp_path):
    (tmp_path / "labels.json").write_text('{"1": "liver", "2": "left kidney"}')
    assert names_from_json(tmp_path / "labels.json") == [NamedValues("liver", (1,)), NamedValues("left kidney", (2,))]


def test_images_are_paired_with_their_labels_without_the_channel(nnunet, total):
    folder = nnunet({"background": 0, "liver": 1})
    found = labelled_images(folder)
    assert [(p.name, p.image.name, p.labels and p.labels.name) for p in found] == [
        ("case_000", "case_000_0000.nii.gz", "case_000.nii.gz"), ("case_000", "case_000_0001.nii.gz", "case_000.nii.gz"),
        ("case_001_0000", "case_001_0000.nii.gz", None),
    ]  # fmt: skip


def test_totalsegmentators_folders_are_paired_by_case(tmp_path):
    for case in ("s0001", "s0002"):
        write_nifti_with_nibabel(tmp_path / case / "ct.nii.gz", label_map().astype(np.int16))
        write_nifti_with_nibabel(tmp_path / case / "segmentations" / "liver.nii.gz", ONE.astype(np.uint8))
    assert [(p.name, p.labels.name) for p in labelled_images(tmp_path)] == [
        ("s0001", "segmentations"), ("s0002", "segmentations")
    ]  # fmt: skip
    assert labelled_images(tmp_path / "s0001" / "segmentations") == []


def test_label_files_are_known_by_name_and_folder(nnunet, total):
    folder = nnunet({"background": 0, "liver": 1})
    labels = ["labelsTr/case_000.nii.gz", "segmentations/liver.nii.gz", "a.seg.nrrd", "A.SEG.NRRD", "a.seg.dcm", "a.seg.nii.gz",
              "scan-segmentations/liver.nii.gz"]  # fmt: skip
    images = [
        "ct.nii.gz",
        "imagesTr/case_000_0000.nii.gz",
        "labels/a.nii.gz",
        "seg.nrrd",
        "alone/segmentations/a.nii.gz",
    ]
    (folder / "alone" / "segmentations").mkdir(parents=True)
    assert [name for name in labels if not is_label_file(folder / name)] == []
    assert [name for name in images if is_label_file(folder / name)] == []
    (folder / "images").mkdir()
    assert is_label_file(folder / "labels" / "a.nii.gz")
