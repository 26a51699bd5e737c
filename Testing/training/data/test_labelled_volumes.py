"""Labelled volumes of nnU-Net, TotalSegmentator and plain folders become the same data set."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.segmentation_phantoms import GRID, RAS, blocks, label_map, write_nifti_with_nibabel

from MedFMLib.training.data import reading
from MedFMLib.training.data.reading import ReaderChoices

nibabel = pytest.importorskip("nibabel")
ONE, TWO = blocks()
CT = (-1000 + 1100 * ONE + 1200 * TWO).astype(np.int16)


def read(folder, **choices):
    return reading.read(folder, ReaderChoices(modality="CT", slices=3, **choices))


def answers(found):
    """What was asked and answered, whatever the files are called."""
    keys = {picture.key: picture.key.partition("#")[2] for picture in found.pictures}
    return sorted((keys[pair.picture], pair.question, pair.answer) for pair in found.pairs)


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "plain"
    write_nifti_with_nibabel(folder / "images" / "a.nii.gz", CT)
    write_nifti_with_nibabel(folder / "labels" / "a.nii.gz", label_map())
    (folder / "labels.json").write_text('{"1": "liver", "2": "spleen"}')
    return read(folder)


def test_nnu_nets_layout_gives_the_same_questions(plain, tmp_path):
    folder = tmp_path / "nnunet"
    write_nifti_with_nibabel(folder / "imagesTr" / "case_000_0000.nii.gz", CT)
    write_nifti_with_nibabel(folder / "imagesTr" / "case_000_0001.nii.gz", CT + 5)
    flipped = RAS.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 3] = (RAS @ (47, 0, 0, 1))[:3]
    write_nifti_with_nibabel(folder / "labelsTr" / "case_000.nii.gz", label_map()[::-1].copy(), flipped)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    found = read(folder)
    assert not found.problems and len(plain.pairs) > 10
    assert sorted(answers(plain) * 2) == answers(found)
    assert {picture.patient for picture in found.pictures} == {"case_000"}  # both channels are one patient's
    assert len({picture.key for picture in found.pictures}) == len(found.pictures) == 2 * len(plain.pictures)


def test_totalsegmentators_layout_gives_the_same_questions(plain, tmp_path):
    for name, mask in {"liver": ONE, "spleen": TWO, "kidney_left": ONE & TWO}.items():
        write_nifti_with_nibabel(tmp_path / "total" / "s1" / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8))
    write_nifti_with_nibabel(tmp_path / "total" / "s1" / "ct.nii.gz", CT)
    assert answers(read(tmp_path / "total")) == answers(plain)


def test_names_of_the_command_win_over_those_of_files(tmp_path):
    folder = tmp_path / "msd"
    write_nifti_with_nibabel(folder / "imagesTr" / "a.nii.gz", CT)
    write_nifti_with_nibabel(folder / "labelsTr" / "a.nii.gz", label_map())
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}))
    assert any("Anterior" in pair.question for pair in read(folder).pairs)
    found = read(folder, labels={1: "anterior hippocampus", 2: "posterior hippocampus"})
    assert not found.problems and any("anterior hippocampus" in pair.question for pair in found.pairs)
    assert not any("Anterior" in pair.question for pair in found.pairs)
    (problem,) = read(folder, labels={1: "anterior hippocampus"}).problems
    assert "Label 2" in str(problem) and "--label 2=NAME" in str(problem)


def test_a_structure_that_a_volume_lacks_is_asked_about_and_keeps_the_names_apart(tmp_path):
    folder = tmp_path / "one"
    write_nifti_with_nibabel(folder / "imagesTr" / "a.nii.gz", CT)
    write_nifti_with_nibabel(folder / "labelsTr" / "a.nii.gz", (TWO * 2).astype(np.uint8))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    found = read(folder)
    liver = {pair.answer for pair in found.pairs if pair.question == "is the liver visible?"}
    assert liver == {"no"} and "yes" in {p.answer for p in found.pairs if p.question == "is the spleen visible?"}


def test_labels_on_another_grid_are_a_problem_or_resampled_with_a_note(tmp_path):
    folder, notes = tmp_path / "moved", []
    moved = RAS.copy()
    moved[2, 3] += 0.2
    write_nifti_with_nibabel(folder / "images" / "a.nii.gz", CT)
    write_nifti_with_nibabel(folder / "labels" / "a.nii.gz", label_map(), moved)
    (folder / "labels.json").write_text('{"1": "liver", "2": "spleen"}')
    (problem,) = read(folder).problems
    assert "another grid" in str(problem) and "--resample" in str(problem)
    found = read(folder, resample=True, tell=notes.append)
    assert not found.problems and found.pairs and "another grid" in notes[0]
    assert GRID.shape == CT.shape


def test_nnu_nets_dataset_json_is_not_taken_for_a_built_data_set(tmp_path):
    typer = pytest.importorskip("typer.testing")
    from MedFMLib.cli.data import app

    for number in range(3):
        scan = np.random.default_rng(number).integers(-1000, 300, CT.shape).astype(np.int16)
        write_nifti_with_nibabel(tmp_path / "imagesTr" / f"case_{number}_0000.nii.gz", scan)
        write_nifti_with_nibabel(tmp_path / "labelsTr" / f"case_{number}.nii.gz", np.roll(label_map(), number, 1))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    done = typer.CliRunner().invoke(app, ["check", str(tmp_path), "--modality", "CT", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["patients"] == 3
