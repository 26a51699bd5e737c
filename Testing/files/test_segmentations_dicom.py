"""DICOM SEG of highdicom, dcmqi and others: frames by their own places; compared with pydicom arithmetic and highdicom."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.phantoms import affine, rotation
from support.segmentation_phantoms import GRID, LPS, RAS, blocks, ct_slices, label_map, uid, write_seg

from MedFMLib.core.findings import Code
from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.files.segmentations import read_segmentation

hd = pytest.importorskip("highdicom")
ONE, TWO = blocks()
STACKED = np.stack([ONE.T, TWO.T], -1).astype(np.uint8)


@pytest.fixture
def study(tmp_path):
    """(data sets of a CT series, its image as MedFM reads it)."""
    sources = ct_slices(tmp_path / "ct")
    return sources, read_image(tmp_path / "ct")


def by_arithmetic(path: Path, geometry: Geometry, threshold: float = 0.5) -> dict[int, np.ndarray]:
    """Segment number → mask, from pydicom's pixels and the position of each frame alone (orthogonal, no rotation)."""
    data = pydicom.dcmread(path)
    pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    found = {}
    for frame, groups in zip(pixels, data.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float) * (-1, -1, 1)
        i, j, k = np.rint(geometry.to_index(position)).astype(int)
        assert (i, j) == (0, 0)
        if data.SegmentationType == "LABELMAP":
            for number in set(np.unique(frame).tolist()) - {0}:
                found.setdefault(number, np.zeros(geometry.shape, bool))[:, :, k] |= (frame == number).T
            continue
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        most = data.MaximumFractionalValue if data.SegmentationType == "FRACTIONAL" else 1
        found.setdefault(number, np.zeros(geometry.shape, bool))[:, :, k] |= (frame / most >= threshold).T
    return {number: mask for number, mask in found.items() if mask.any()}


def assert_equal(read, expected: dict[int, np.ndarray]):
    assert len(read.segments) == len(expected) > 0
    for segment, mask in zip(read.segments, [expected[n] for n in sorted(expected)], strict=True):
        np.testing.assert_array_equal(segment.mask, mask)


@pytest.mark.parametrize("empty", [True, False])
def test_a_binary_seg_with_and_without_its_empty_frames(study, tmp_path, empty):
    sources, image = study
    path = write_seg(tmp_path / "a.seg.dcm", sources, STACKED, omit_empty_frames=empty)
    read = read_segmentation(path, image.geometry)
    assert_equal(read, by_arithmetic(path, image.geometry))
    assert_equal(read, {1: ONE, 2: TWO})
    liver, spleen = read.segments
    assert (liver.label, liver.code, liver.origin) == ("Liver", Code("10200004", "SCT", "Liver"), "MANUAL")
    assert liver.category == Code("123037004", "SCT", "Anatomical Structure") and spleen.label == "Spleen"
    assert liver.color == pytest.approx((1, 0, 0), abs=0.01) and spleen.color == pytest.approx(
        (1, 128 / 255, 0), abs=0.01
    )


def test_overlapping_segments_stay_whole(study, tmp_path):
    sources, image = study
    both = np.stack([ONE.T, (ONE | TWO).T], -1).astype(np.uint8)
    read = read_segmentation(write_seg(tmp_path / "a.seg.dcm", sources, both), image.geometry)
    assert_equal(read, {1: ONE, 2: ONE | TWO})


@pytest.mark.parametrize(("threshold", "count"), [(None, 1), (0.25, 2), (0.9, 0)])
def test_a_fractional_seg_is_cut_at_the_threshold(study, tmp_path, threshold, count):
    sources, image = study
    shares = np.stack([ONE.T * 0.8, TWO.T * 0.3], -1).astype(np.float32)
    path = write_seg(tmp_path / "a.seg.dcm", sources, shares, "FRACTIONAL", max_fractional_value=100)
    notes = []
    if not count:
        with pytest.raises(InputError, match="has no label"):
            read_segmentation(path, image.geometry, threshold=threshold, tell=notes.append)
        return
    read = read_segmentation(path, image.geometry, threshold=threshold, tell=notes.append)
    assert len(read.segments) == count
    assert_equal(read, by_arithmetic(path, image.geometry, threshold or 0.5))
    assert f"voxels of at least {threshold or 0.5:g} belong" in notes[0]


@pytest.mark.parametrize("empty", [True, False])
def test_a_label_map_seg_has_no_background_segment(study, tmp_path, empty):
    sources, image = study
    path = write_seg(tmp_path / "a.seg.dcm", sources, label_map().T, "LABELMAP", omit_empty_frames=empty)
    read = read_segmentation(path, image.geometry)
    assert [s.label for s in read.segments] == ["Liver", "Spleen"]
    assert_equal(read, by_arithmetic(path, image.geometry))
    assert_equal(read, {1: ONE, 2: TWO})


def test_frames_of_two_halves_do_not_become_one_stack(study, tmp_path):
    sources, image = study
    low, up = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    low[8:16, 10:20, :5], up[30:40, 12:22, 5:] = True, True
    path = write_seg(tmp_path / "halves.dcm", sources, np.stack([low.T, up.T], -1).astype(np.uint8))
    assert pydicom.dcmread(path).NumberOfFrames == GRID.shape[2]
    read = read_segmentation(path, image.geometry)
    assert_equal(read, {1: low, 2: up})
    assert read["Liver"].mask.sum() * image.geometry.voxel_volume / 1000 == pytest.approx(8)


def test_frames_in_any_order_lie_at_their_own_positions(study, tmp_path):
    sources, image = study
    path = write_seg(tmp_path / "a.dcm", sources, STACKED)
    data = pydicom.dcmread(path)
    order = np.random.default_rng(1).permutation(data.NumberOfFrames)
    pixels = data.pixel_array[order]
    data.PerFrameFunctionalGroupsSequence = [data.PerFrameFunctionalGroupsSequence[n] for n in order]
    data.PixelData = np.packbits(pixels.ravel().astype(bool), bitorder="little").tobytes()
    data.save_as(tmp_path / "shuffled.dcm")
    assert_equal(read_segmentation(tmp_path / "shuffled.dcm", image.geometry), {1: ONE, 2: TWO})


def test_an_oblique_study_and_an_image_in_another_axis_order(tmp_path):
    turned = lps_from_ras(affine(rotation(12, -7, 25)) @ RAS)
    sources = ct_slices(tmp_path / "ct", lps=turned)
    path = write_seg(tmp_path / "a.dcm", sources, STACKED)
    image = read_image(tmp_path / "ct")
    assert_equal(read_segmentation(path, image.geometry), {1: ONE, 2: TWO})
    # the same image as a NIfTI whose first axis runs across the slices, flipped
    matrix = image.geometry.affine[:, [2, 0, 1, 3]].copy()
    shape = (10, 48, 40)
    matrix[:3, 3] = image.geometry.to_world((0, 0, 9))
    matrix[:3, 0] *= -1
    read = read_segmentation(path, Geometry(shape, matrix))
    assert_equal(read, {1: ONE.transpose(2, 0, 1)[::-1], 2: TWO.transpose(2, 0, 1)[::-1]})


def test_uneven_positions_are_those_of_the_image_or_refused(tmp_path):
    sources = ct_slices(tmp_path / "ct")
    path = write_seg(tmp_path / "a.dcm", sources, STACKED)
    data = pydicom.dcmread(path)
    moved = data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = moved.ImagePositionPatient
    moved.ImagePositionPatient = [x, y, z + 0.08]  # as rounded
    data.save_as(tmp_path / "rounded.dcm")
    notes = []
    image = read_image(tmp_path / "ct")
    assert_equal(read_segmentation(tmp_path / "rounded.dcm", image.geometry, tell=notes.append), {1: ONE, 2: TWO})
    moved.ImagePositionPatient = [x, y, z + 2]
    data.save_as(tmp_path / "uneven.dcm")
    with pytest.raises(InputError, match=r"frames at uneven places \('uneven.dcm' frame '\d' is \d"):
        read_segmentation(tmp_path / "uneven.dcm", image.geometry)


def test_a_seg_of_finer_slices_is_placed_as_blocks_and_of_others_refused_or_resampled(tmp_path):
    fine = LPS @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] = (LPS @ (-0.25, -0.25, -0.25, 1))[:3]
    masks = [np.repeat(np.repeat(np.repeat(m, 2, 0), 2, 1), 2, 2) for m in (ONE, TWO)]
    sources = ct_slices(tmp_path / "fine", np.zeros(masks[0].shape), fine)
    path = write_seg(tmp_path / "fine.dcm", sources, np.stack([m.T for m in masks], -1).astype(np.uint8))
    assert_equal(read_segmentation(path, GRID), {1: ONE, 2: TWO})

    other = LPS @ np.diag([1, 1, 0.7, 1])
    sources = ct_slices(tmp_path / "other", np.zeros(GRID.shape), other)
    path = write_seg(tmp_path / "other.dcm", sources, STACKED)
    with pytest.raises(InputError, match=r"'other.dcm' lies on another grid than the image, .* mm; .*--resample"):
        read_segmentation(path, GRID)
    notes = []
    read = read_segmentation(path, GRID, resample=True, tell=notes.append)
    before = ONE.sum() * GRID.voxel_volume * 0.7
    assert read["Liver"].mask.sum() * GRID.voxel_volume == pytest.approx(before, rel=0.3)
    assert "nearest label" in notes[0] and "'Liver' from 400 voxels (5.6 mL)" in notes[1]


def test_frames_outside_of_the_image_are_counted_together(study, tmp_path):
    sources, image = study
    path = write_seg(tmp_path / "a.dcm", sources, STACKED)
    upper = image.geometry.crop((0, 0, 4), (48, 40, 10))
    with pytest.raises(InputError, match=r"has 260 labelled voxels \(5.2 mL\) outside of the image"):
        read_segmentation(path, upper)
    read = read_segmentation(path, upper, resample=True, tell=lambda note: None)
    assert_equal(read, {1: ONE[:, :, 4:], 2: TWO[:, :, 4:]})


def test_another_frame_of_reference_is_noted(study, tmp_path):
    sources, image = study
    path = write_seg(tmp_path / "a.dcm", sources, STACKED)
    notes = []
    read_segmentation(path, Geometry(GRID.shape, RAS, "1.2.3"), tell=notes.append)
    assert len(notes) == 1 and "another frame of reference" in notes[0]
    assert image.geometry.frame_of_reference == uid("frame")


def test_a_folder_with_one_seg_is_that_seg(study, tmp_path):
    sources, image = study
    (tmp_path / "objects").mkdir()
    write_seg(tmp_path / "objects" / "IM0001", sources, STACKED)
    assert_equal(read_segmentation(tmp_path / "objects", image.geometry), {1: ONE, 2: TWO})
    write_seg(tmp_path / "objects" / "IM0002", sources, STACKED)
    with pytest.raises(InputError, match="2 DICOM segmentations .*give one of them"):
        read_segmentation(tmp_path / "objects", image.geometry)


def test_a_ct_slice_is_no_segmentation(study, tmp_path):
    _, image = study
    with pytest.raises(InputError, match=r"is a DICOM object of another kind \(CT\)"):
        read_segmentation(tmp_path / "ct" / "00.dcm", image.geometry)


def test_dcmqis_seg_is_read_as_dcmqi_was_given_it(study, tmp_path):
    pytest.importorskip("dcmqi")
    import SimpleITK as sitk

    _, image = study
    picture = sitk.GetImageFromArray(np.ascontiguousarray(label_map().T))
    picture.SetSpacing((2, 2, 5))
    picture.SetOrigin((-47, -39, 0))
    sitk.WriteImage(picture, str(tmp_path / "labels.nrrd"))
    code = lambda value, meaning: {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}  # noqa: E731
    described = [
        {"labelID": n, "SegmentDescription": name, "SegmentLabel": name, "SegmentAlgorithmType": "SEMIAUTOMATIC",
         "SegmentAlgorithmName": "x", "SegmentedPropertyCategoryCodeSequence": code("123037004", "Anatomical Structure"),
         "SegmentedPropertyTypeCodeSequence": code("64033007", "Kidney"), "recommendedDisplayRGBValue": [0, 128, 255],
         "SegmentedPropertyTypeModifierCodeSequence": code("7771000", "Left")}
        for n, name in ((1, "left kidney"), (2, "second"))
    ]  # fmt: skip
    meta = {"ContentCreatorName": "x", "ClinicalTrialSeriesID": "1", "ClinicalTrialTimePointID": "1", "SeriesDescription": "x",
            "SeriesNumber": "5", "InstanceNumber": "1", "BodyPartExamined": "CHEST",
            "segmentAttributes": [described]}  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    tool = Path(sys.executable).parent / "itkimage2segimage"
    done = subprocess.run(
        [tool, "--inputImageList", tmp_path / "labels.nrrd", "--inputDICOMDirectory", tmp_path / "ct", "--inputMetadata",
         tmp_path / "meta.json", "--outputDICOM", tmp_path / "dcmqi.dcm", "--skip"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    read = read_segmentation(tmp_path / "dcmqi.dcm", image.geometry)
    assert_equal(read, {1: ONE, 2: TWO})
    kidney = read.segments[0]
    assert (kidney.label, kidney.code.meaning, kidney.side.meaning) == ("left kidney", "Kidney", "Left")
    assert kidney.origin == "SEMIAUTOMATIC" and kidney.color == pytest.approx((0, 128 / 255, 1), abs=0.02)


@pytest.mark.parametrize("name", ["liver", "partial_overlaps"])
def test_published_segs_are_read_as_highdicom_rebuilds_them(open_data, name):
    folder = open_data("dicom_seg")
    image = read_image(folder / "ct")
    read = read_segmentation(folder / f"{name}.dcm", image.geometry, tell=lambda note: None)
    whole = hd.seg.segread(folder / f"{name}.dcm")
    assert_equal(read, by_arithmetic(folder / f"{name}.dcm", image.geometry))
    for number, segment in zip(whole.segment_numbers, read.segments, strict=True):
        volume = whole.get_volume(segment_numbers=[number], combine_segments=False)
        assert int(volume.array.sum()) == int(segment.mask.sum()) > 0
        assert whole.get_segment_description(number).segment_label == segment.label
