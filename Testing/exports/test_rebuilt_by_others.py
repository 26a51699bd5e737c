"""DICOM objects as other programs read them: the same voxels, names, codes, values and sources. `pytest -s` prints volumes."""

from __future__ import annotations

from types import SimpleNamespace

import highdicom
import numpy as np
import pydicom
import pytest
from support.dicom_readers import masks_of_structure_set, measurements_by_dcmqi, rebuilt_by_dcmqi, validator_errors
from support.dicom_writer import write_series
from support.enhanced_dicom import write_enhanced
from support.phantoms import affine, ct_phantom, rotation

from MedFMLib.core.findings import Code, Segment, Segmentation
from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.core.image import Image
from MedFMLib.core.request import Provenance, Response
from MedFMLib.exports import check, read_source, write_dicom
from MedFMLib.files import read_image
from MedFMLib.measure import measure_fully

OBLIQUE = Geometry((40, 36, 12), affine(rotation(8, -11, 14), (5.0, 5.0, 9.0), (50, -40, 30)))
REAL = {
    "dicom_mr_brain": ("dicom_mr_brain",),
    "dicom_seg/ct": ("dicom_seg", "ct"),
    "dicom_ct_chest": ("dicom_ct_chest",),
}
LIVER = Code("10200004", "SCT", "Liver")
ORGAN = Code("91723000", "SCT", "Anatomical Structure")
STUDY = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.77", "StudyDate": "20260102", "StudyTime": "101500"}


def ge_series(folder):
    """An oblique MR as GE writes it: slices of 5 mm, 7 mm apart, "spacing between slices" 2 (the gap), positions to 0.1 mm."""
    turn = np.radians(7.7)
    down, normal = np.array([0, np.cos(turn), np.sin(turn)]), np.array([0, -np.sin(turn), np.cos(turn)])
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = (2, 0, 0), 2 * down, 7 * normal, (-47, -39, -30)
    geometry = Geometry((48, 40, 10), lps_from_ras(matrix))
    values = np.random.default_rng(1).integers(0, 900, geometry.shape)
    paths = write_series(Image(values[None].astype(np.int16), geometry, "MR"), folder, SliceThickness=5.0,
                         SpacingBetweenSlices=2.0, Manufacturer="GE MEDICAL SYSTEMS", **STUDY)  # fmt: skip
    for path in paths:
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = [round(float(v), 1) for v in data.ImagePositionPatient]
        data.save_as(path)
    return folder


def parts(image) -> Segmentation:
    """A block with a hole on one side and the bright voxels of the other side, with codes."""
    shape = np.array(image.geometry.shape)
    block = np.zeros(image.geometry.shape, bool)
    low, high = shape // 5, np.maximum(shape // 2, shape // 5 + 1)
    block[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    block[low[0] + 2 : high[0] - 2, low[1] + 2 : high[1] - 2] &= np.arange(shape[2]) % 2 == 0
    bright = image.scalars > np.percentile(image.scalars, 90)
    bright[: shape[0] // 2 + 1] = False
    segments = (Segment("Läsion 肝 Ł", block, (0.9, 0.2, 0.1), ORGAN, LIVER),
                Segment("nothing", np.zeros_like(block)), Segment("bright", bright, (0.1, 0.8, 0.3)))  # fmt: skip
    return Segmentation(segments, image.geometry)


SLOW = ("dicom_ct_chest", "dicom_seg/ct")
QUICK = ("GE gap", "enhanced", "oblique", *(name for name in REAL if name not in SLOW))
PARAMS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module", params=PARAMS)
def exported(request, open_data, tmp_path_factory):
    """Objects of one series, with what they were made of."""
    pytest.importorskip("contourpy", reason="contourpy is not installed")
    folder = tmp_path_factory.mktemp("exported")
    if request.param == "GE gap":
        path = ge_series(folder / "series")
    elif request.param == "enhanced":
        order = np.random.default_rng(0).permutation(12).tolist()
        path = write_enhanced(ct_phantom(OBLIQUE), folder / "series.dcm", order, **STUDY)
    elif request.param == "oblique":
        write_series(ct_phantom(OBLIQUE), folder / "series", **STUDY)
        path = folder / "series"
    else:
        path = open_data(*REAL[request.param])
    image, source = read_image(path), read_source(path)
    check(source, folder / "out", image.geometry, rtstruct=True)
    segmentation = parts(image)
    response = Response((segmentation, *measure_fully(segmentation, image)), Provenance("segment", "medfm-tiny"))
    files = write_dicom(folder / "out", "case", response, source, rtstruct=True)
    return SimpleNamespace(
        name=request.param, image=image, source=source, segments=segmentation.segments, response=response, folder=folder,
        paths={file.suffixes[-2][1:]: file for file in files}, places={1: 1, 2: 3},
    )  # fmt: skip


def test_dcmqi_rebuilds_the_same_voxels_names_and_codes(exported, capsys):
    geometry = exported.image.geometry
    found = rebuilt_by_dcmqi(exported.paths["seg"], exported.folder / "dcmqi")
    assert sorted(found) == [1, 2]
    for number, place in exported.places.items():
        segment = exported.segments[place - 1]
        points, volume, about = found[number]
        index = geometry.to_index(points)
        assert (np.abs(index - np.rint(index)) * geometry.spacing).max() < 0.11  # positions rounded to 0.1 mm
        assert set(map(tuple, np.rint(index).astype(int))) == set(map(tuple, np.argwhere(segment.mask)))
        ours = segment.mask.sum() * geometry.voxel_volume / 1000
        assert abs(volume - ours) <= geometry.voxel_volume * max(geometry.shape) / 1000
        with capsys.disabled():
            print(f"\n{exported.name:15s} segment {number}: ours {ours:9.3f} mL, dcmqi {volume:9.3f} mL", end="")
        assert about["SegmentLabel"] == segment.label
        kind = about["SegmentedPropertyTypeCodeSequence"]
        expected = ("10200004", "Liver") if place == 1 else ("85756007", "Tissue")
        assert (kind["CodeValue"], kind["CodeMeaning"]) == expected
        assert about["SegmentAlgorithmType"] == "AUTOMATIC"


def test_highdicom_finds_each_frame_by_its_source_instance_and_frame(exported):
    seg = highdicom.seg.segread(exported.paths["seg"])
    slices = exported.source.slices
    if slices[0].frame:
        got = seg.get_pixels_by_source_frame(
            slices[0].instance, [s.frame for s in slices], assert_missing_frames_are_empty=True
        )
    else:
        got = seg.get_pixels_by_source_instance([s.instance for s in slices], assert_missing_frames_are_empty=True)
    for number, place in exported.places.items():
        assert np.array_equal(got[..., number - 1].transpose(2, 1, 0) > 0, exported.segments[place - 1].mask)


def test_every_frame_has_the_position_that_its_source_states(exported):
    data = pydicom.dcmread(exported.paths["seg"])
    stated = {(s.instance, s.frame): np.array(s.position) for s in exported.source.slices}
    assert data.PerFrameFunctionalGroupsSequence
    for groups in data.PerFrameFunctionalGroupsSequence:
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        source = stated[str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber", 0))]
        assert np.abs(np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float) - source).max() < 1e-9
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    normal = np.cross(*np.array(exported.source.first.ImageOrientationPatient, float).reshape(2, 3))
    depths = np.array([s.position for s in exported.source.slices]) @ normal
    assert float(measures.SpacingBetweenSlices) == pytest.approx(np.diff(depths).mean(), abs=1e-6)


def test_dcmqi_reads_the_measurements_of_each_segment(exported):
    groups = measurements_by_dcmqi(exported.paths["sr"], exported.folder / "sr")
    uid = str(pydicom.dcmread(exported.paths["seg"], stop_before_pixels=True).SOPInstanceUID)
    assert [(g["ReferencedSegment"], g["TrackingIdentifier"]) for g in groups] == [(1, "Läsion 肝 Ł"), (2, "bright")]
    assert {g["segmentationSOPInstanceUID"] for g in groups} == {uid}
    for group in groups:
        place = exported.places[group["ReferencedSegment"]]
        ours = {m.name: m for m in exported.response.measurements if m.number == place}
        theirs = {item["quantity"]["CodeValue"]: item for item in group["measurementItems"]}
        for name, code in (("volume", "118565006"), ("mean intensity", "Q4LE"), ("maximum", "84IY")):
            assert float(theirs[code]["value"]) == pytest.approx(ours[name].value, rel=1e-5)
        assert theirs["118565006"]["units"]["CodeValue"] == "mL"


def test_the_validator_finds_no_error_but_the_studys_own(exported, capsys):
    assert set(exported.paths) == {"seg", "sr", "rtstruct"}
    for kind, path in exported.paths.items():
        ours, inherited = validator_errors(path, exported.source.headers)
        assert not ours, (kind, ours[:5])
        if inherited:
            with capsys.disabled():
                print(
                    f"\n{exported.name} {kind}: {len(inherited)} errors of the study's own, e.g. {inherited[0]}", end=""
                )
            assert exported.name == "dicom_mr_brain"  # its UIDs begin with 0.0


def test_filling_the_contours_gives_the_same_voxels(exported):
    data = pydicom.dcmread(exported.paths["rtstruct"])
    masks = masks_of_structure_set(data, exported.image.geometry)
    for number, place in exported.places.items():
        assert np.array_equal(masks[number], exported.segments[place - 1].mask)
    names = {int(r.ROINumber): (r.ROIName, r.ROIGenerationAlgorithm) for r in data.StructureSetROISequence}
    assert names == {1: ("Läsion 肝 Ł", "AUTOMATIC"), 2: ("bright", "AUTOMATIC")}
    assert list(data.ROIContourSequence[0].ROIDisplayColor) == [230, 51, 26]
    frame = data.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == exported.source.first.FrameOfReferenceUID
    instances = {str(h.SOPInstanceUID) for h in exported.source.headers}
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence} == instances
    stated = {(s.instance, s.frame): s.position for s in exported.source.slices}
    normal = np.cross(*np.array(exported.source.first.ImageOrientationPatient, float).reshape(2, 3))
    for roi in data.ROIContourSequence:
        for contour in roi.ContourSequence:
            image = contour.ContourImageSequence[0]
            place = stated[str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber", 0))]
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert np.abs((points - place) @ normal).max() < 1e-4  # in the plane of the slice that it names


def test_medfm_reads_its_own_structure_set_back(exported):
    from MedFMLib.files.segmentations import read_segmentation

    read = read_segmentation(exported.paths["rtstruct"], exported.image.geometry)
    assert [s.label for s in read.segments] == ["Läsion 肝 Ł", "bright"]
    for segment, place in zip(read.segments, exported.places.values(), strict=True):
        assert np.array_equal(segment.mask, exported.segments[place - 1].mask)


def test_outlines_of_random_masks_fill_to_the_same_pixels():
    """Single pixels, rings in rings, diagonals, everything and nothing; `matplotlib` agrees where it is installed."""
    from support.dicom_readers import filled

    pytest.importorskip("contourpy", reason="contourpy is not installed")
    from MedFMLib.exports.structure_set import outlines

    random = np.random.default_rng(0)
    count = 0
    for _ in range(60):
        mask = random.random(random.integers(1, 40, 2)) < random.choice([0.0, 0.05, 0.5, 0.7, 0.95, 1.0])
        found = np.zeros(mask.shape, bool)
        for outline in outlines(mask):
            found ^= filled(outline, mask.shape)
            count += 1
        assert np.array_equal(found, mask)
    assert count > 500
    i, j = np.indices((40, 40))
    rings = (np.maximum(abs(i - 20), abs(j - 20)) // 3 % 2).astype(bool)
    found = np.zeros(rings.shape, bool)
    for outline in outlines(rings):
        found ^= filled(outline, rings.shape)
    assert np.array_equal(found, rings)
