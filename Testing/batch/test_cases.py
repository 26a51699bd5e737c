"""Folders, DICOM studies, CSVs and scenes become cases with safe ids."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pydicom.uid import generate_uid
from support.batch_in_test import write_volume
from support.dicom_writer import write_series
from support.phantoms import ct_phantom

from MedFMLib.batch import cases
from MedFMLib.batch.cases import SeriesChoice
from MedFMLib.batch.plan import CaseIds, CaseOptions, TaskStep, case_as_json, case_from_json, step_from
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.errors import InputError

SEGMENT = (TaskStep("segment"),)


def find(path, steps=SEGMENT, options=CaseOptions(), said=None, **pick):
    return cases.find(path, steps, options, SeriesChoice(**pick), (said if said is not None else []).append)


@pytest.fixture
def small():
    """A CT phantom of few voxels, in three slices."""
    whole = ct_phantom()
    return Image(whole.voxels[:, ::8, ::8, :3], Geometry((12, 10, 3), whole.geometry.affine), "CT")


def test_a_task_is_written_as_people_do():
    assert step_from("segment") == TaskStep("segment")
    assert step_from("ask: Is there a nodule: yes or no?") == TaskStep("ask", "Is there a nodule: yes or no?")
    assert TaskStep("ask", "a").key != TaskStep("ask", "b").key
    for text, reason in (
        ("ask", "needs a question"),
        ("segment:liver", "takes no question"),
        ("a b", "is not a task"),
        ("", "not a task"),
    ):
        with pytest.raises(InputError, match=reason):
            step_from(text)


def test_ids_are_file_names_anywhere_and_none_is_twice():
    names = CaseIds()
    given = [names.give(*pair) for pair in [
        ("scan", "a"), ("scan", "b/scan"), ("SCAN", "c"), ("a/../b", "d"), ("CON", "e"), ("..", "f"), ("ünï code", "g"),
        ("index.html", "h"), ("x" * 300, "i"), ("-rf", "j"),
    ]]  # fmt: skip
    assert len({name.casefold() for name in given}) == len(given)
    for name in given:
        assert re.fullmatch(r"\w[\w.+-]*", name) and len(name) < 90 and name.casefold() not in ("con", "index.html")


@pytest.mark.parametrize("name", ["1.2.840.113619.2.55", "IM-0001-0042", "MR000017", "20240131"])
def test_an_identifier_never_becomes_an_id(name):
    assert re.fullmatch(r"case-[0-9a-f]{10}", CaseIds().give(name, "path"))
    assert CaseIds().give("ct_01", "path") == "ct_01"


def test_a_case_comes_back_from_the_manifest_as_it_was():
    case = cases.BatchCase(
        "a",
        "/x",
        (TaskStep("segment"), TaskStep("ask", "ö?")),
        CaseOptions(labels=("liver", "spleen"), refine=True),
        ("b/c",),
    )
    assert case_from_json(case_as_json(case)) == case


def test_a_folder_gives_its_volumes_and_no_segmentations(tmp_path):
    for name in ("b.nii.gz", "a.nrrd", "deep/a.mha", "a.seg.nrrd", ".hidden/c.nrrd"):
        write_volume(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a volume")
    (tmp_path / "README").write_text("not DICOM")
    said = []
    found = find(tmp_path, said=said)
    assert [case.id for case in found][:2] == ["a", "b"]
    assert re.fullmatch(r"a-[0-9a-f]{10}", found[2].id)
    assert said == ["1 segmentation was skipped (.seg.nrrd, .seg.dcm, and label maps in folders such as labelsTr)."]
    assert cases.read(found[1]).geometry.shape == (10, 8, 6)


def test_an_empty_folder_and_a_missing_one_are_reported(tmp_path):
    with pytest.raises(InputError, match="has no volume"):
        find(tmp_path)
    with pytest.raises(InputError, match="There is no file or folder"):
        find(tmp_path / "none")
    with pytest.raises(InputError, match="No task is given"):
        find(tmp_path, steps=())


# -- DICOM -----------------------------------------------------------------------------------------------------


@pytest.fixture
def studies(small, tmp_path):
    """Two studies in one folder, all files mixed; the first has a second, shorter series."""
    mixed = tmp_path / "SMITH^JOHN" / "4711"
    mixed.mkdir(parents=True)
    first, second = generate_uid(), generate_uid()
    short = Image(small.voxels[..., :2], Geometry((12, 10, 2), small.geometry.affine), "CT")
    for n, (image, study, words) in enumerate(
        [
            (small, first, "Axial thin"),
            (short, first, "Scout view"),
            (small.with_voxels(small.voxels + 100), second, "axial"),
        ]
    ):
        for path in write_series(image, tmp_path / str(n), StudyInstanceUID=study, SeriesDescription=words):
            path.rename(mixed / f"{n}{path.name}")
    return tmp_path / "SMITH^JOHN"


def test_dicom_is_grouped_by_its_tags_and_the_largest_series_taken(studies, small):
    found = find(studies)
    assert len(found) == 2 and all(len(case.files) == 3 for case in found)
    sums = sorted(int(cases.read(case).voxels.sum()) for case in found)
    assert sums == sorted([int(small.voxels.sum()), int((small.voxels + 100).sum())])


def test_series_are_chosen_by_words_uid_or_modality(studies):
    assert len(find(studies, series="all")) == 3
    (scout,) = find(studies, series="scout")
    assert len(scout.files) == 2
    assert len(find(studies, series="AXIAL")) == 2
    with pytest.raises(InputError, match="has no volume"):
        find(studies, modality="MR")


def test_nothing_of_a_patient_is_in_ids_names_or_errors(studies):
    found = find(studies, series="all")
    for case in found:
        assert re.fullmatch(r"case-[0-9a-f]{10}", case.id)
        assert case.request(case.steps[0], cases.read(case)).image.name == case.id
    assert [case.id for case in find(studies, series="all")] == [case.id for case in found]  # the same another day
    for name in found[0].files[1:2]:
        path = studies / "4711" / name if (studies / "4711" / name).exists() else studies / name
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="truncated") as error:
        cases.read(found[0])
    assert "SMITH" not in str(error.value) and "4711" not in str(error.value)


def test_a_damaged_dicom_file_is_reported_and_the_rest_is_done(studies):
    said = []
    (studies / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM\x02\x00\x00\x00UL\x04")
    assert len(find(studies, said=said)) == 2
    assert not said or "damaged" in said[0]


# -- CSV -------------------------------------------------------------------------------------------------------


def csv_file(folder, text):
    path = folder / "cases.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_gives_cases_with_their_own_settings(tmp_path):
    write_volume(tmp_path / "in" / "a.nrrd")
    path = csv_file(
        tmp_path,
        "case,image,task,question,modality,labels,refine,max_tokens\n"
        "one,in/a.nrrd,segment,,mr,liver;left kidney,yes,\n"
        'two,in/a.nrrd,ask,"What, if anything, is seen?",,,,12\n'
        "two,in/a.nrrd,,Is it CT?,,,,12\n"
        ",in/a.nrrd,,,,,,\n",
    )
    one, two, three = find(path)
    assert (one.id, one.options.labels, one.options.refine, one.modality) == (
        "one",
        ("liver", "left kidney"),
        True,
        "MR",
    )
    assert (
        two.steps == (TaskStep("ask", "What, if anything, is seen?"), TaskStep("ask", "Is it CT?"))
        and two.options.max_tokens == 12
    )
    assert (three.id, three.steps) == ("a", SEGMENT)
    assert cases.read(one).modality == "MR"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case,image,colour\n", "has the column 'colour', which is unknown"),
        ("case,path\n", "has the column 'path'"),
        ("case\n", "no column 'image'"),
        ("image\n", "has no row"),
        ("image,case\n,x\n", "Line 2 of 'cases.csv': there is no image"),
        ("image,frame\na.nrrd,one\n", "Line 2 of 'cases.csv': invalid literal"),
        ("image,modality\na.nrrd,XX\n", "Line 2 of 'cases.csv': Unknown modality 'XX'"),
        ("image,refine\na.nrrd,perhaps\n", "neither yes nor no"),
        ("image,task\na.nrrd,ask\n", "needs a question"),
        ("image\na.nrrd,b,c\n", "more cells than columns"),
        ("case,image,labels\na,x.nrrd,liver\na,x.nrrd,spleen\n", "Line 3 .* has other settings"),
        ('image\n"a.nrrd\n', "is no CSV"),
    ],
)  # fmt: skip
def test_a_csv_that_is_not_understood_is_refused_with_its_line(text, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        find(csv_file(tmp_path, text))


def test_a_csv_from_a_spreadsheet_elsewhere_is_read(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_bytes('﻿image;question;labels\r\na.nrrd;"Größe?";\r\n'.encode())
    (case,) = find(path)
    assert case.steps == (TaskStep("ask", "Größe?"),)
    path.write_bytes(b"image\nGr\xf6\xdfe.nrrd\n")
    with pytest.raises(InputError, match="CSV UTF-8"):
        find(path)


# -- scenes ----------------------------------------------------------------------------------------------------


def test_volumes_of_a_scene_are_cases(tmp_path, small):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from MedFMLib.batch import scenes
    from MedFMLib.scene.session import SceneSession

    session, said = SceneSession(), []
    for name in ("CT chest", "CT chest"):
        session.add_volume(Image(small.voxels, small.geometry, "CT", name))
    named = session.add_volume(Image(small.voxels, small.geometry, "CT", "Smith John"))
    named.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    path = session.save(tmp_path / "scene.mrb")
    found, images = scenes.from_file(path, SEGMENT, CaseOptions(), SeriesChoice(), said.append)
    assert [case.id[:8] for case in found] == ["CT_chest", "CT_chest", "case-" + found[2].id[5:8]] and not said
    assert len({case.id for case in found}) == 3
    for case in found:
        np.testing.assert_array_equal(images[case.id].voxels, small.voxels)
        assert images[case.id].modality == "CT"
    with pytest.raises(InputError, match="can't be read"):
        scenes.from_file(tmp_path / "none.mrb", SEGMENT, CaseOptions(), SeriesChoice())


def test_the_console_runs_the_scene_at_hand(tmp_path, small):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    import MedFMLib as medfm
    from MedFMLib.scene.session import SceneSession

    session = SceneSession()
    session.add_volume(Image(small.voxels, small.geometry, "CT", "chest"))
    asked = {"tasks": "ask:Which modality is this?", "modality": "CT"}
    assert medfm.batch_scene(session.scene, tmp_path / "out", **asked)["done"] == 1
    assert list((tmp_path / "out" / "chest").glob("chest.ask-*.json"))
    assert medfm.batch_scene(session.scene, tmp_path / "out", **asked)["done"] == 1
    with pytest.raises(InputError, match="Other tasks"):
        medfm.batch_scene(session.scene, tmp_path / "out", "segment", modality="CT")
    with pytest.raises(InputError, match="no image volume"):
        medfm.batch_scene([], tmp_path / "out")


def test_a_folder_of_pictures_has_one_case_each_and_the_views_of_a_study_are_one(tmp_path):
    from PIL import Image as Picture
    from support.field_phantoms import dataset, pixels, save

    random = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Picture.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / name)
    found = cases.find(tmp_path, (step_from("ask:What?"),), CaseOptions(), cases.SeriesChoice())
    assert [case.id for case in found] == ["a", "b"]
    assert cases.read(found[0]).is_picture
    for view in ("PA", "LL"):
        made = pixels(dataset("1.2.840.10008.5.1.4.1.1.1.1", "DX", view), random.integers(0, 4095, (30, 40), np.uint16))
        save(made, tmp_path / "study" / f"{view}.dcm")
    told = []
    found = cases.find(
        tmp_path, (step_from("ask:What?"),), CaseOptions(), cases.SeriesChoice(modality="CR"), told.append
    )
    assert len(found) == 1 and cases.read(found[0]).geometry.shape == (40, 30, 2)
    assert "2 picture files were skipped" in told[-1]


# -- labels are no cases ---------------------------------------------------------------------------------------


def test_label_folders_of_nnu_net_and_totalsegmentator_are_no_cases(tmp_path):
    names = ["nnunet/imagesTr/case_000_0000.nii.gz", "nnunet/labelsTr/case_000.nii.gz", "nnunet/labelsTs/case_001.nii.gz",
             "total/ct.nii.gz", "total/segmentations/liver.nii.gz", "total/segmentations/spleen.nii.gz",
             "plain/images/a.nrrd", "plain/labels/a.nrrd", "out/ct-segmentations/liver.nii.gz"]  # fmt: skip
    for name in names:
        write_volume(tmp_path / name)
    said = []
    found = find(tmp_path, said=said)
    assert sorted(case.source.removeprefix(f"{tmp_path}/") for case in found) == [names[0], names[6], names[3]]
    assert len(said) == 1 and said[0].startswith("6 segmentations were skipped")


def test_a_dicom_seg_is_no_case(tmp_path):
    pytest.importorskip("highdicom")
    from support.segmentation_phantoms import blocks, ct_slices, write_seg

    sources = ct_slices(tmp_path / "study" / "ct")
    write_seg(tmp_path / "study" / "IM9999", sources, blocks()[0].T.astype(np.uint8))
    said = []
    (case,) = find(tmp_path, said=said, series="all")
    assert len(case.files) == 10 and said == ["1 DICOM segmentation was skipped."]
