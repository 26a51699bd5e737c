"""Segmentations of other programs on a CT series of two blocks, 8 and 4 mL, and what MedFM writes for other programs."""

from __future__ import annotations

import csv
import json

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from support.dicom_readers import measurements_by_dcmqi, rebuilt_by_dcmqi, validator_errors
from support.enhanced_dicom import write_enhanced as write_enhanced_image
from support.field_phantoms import ORIGIN, body, save, slice_dataset
from support.phantoms import ct_phantom, oblique_geometry
from support.segmentation_phantoms import (
    RAS,
    blocks,
    ct_slices,
    label_map,
    write_nifti_with_nibabel,
    write_rtstruct,
    write_seg,
)

from MedFMLib.core.findings import Code, Segment, Segmentation
from MedFMLib.core.request import Provenance, Response
from MedFMLib.errors import InputError
from MedFMLib.exports import read_source, write_dicom
from MedFMLib.files import read_image
from MedFMLib.files.label_maps import write_labels
from MedFMLib.files.segmentations import read_segmentation
from MedFMLib.measure import as_table, measure_fully

RIGHT = [8.0, 4.0]


@pytest.fixture
def ct(tmp_path):
    """(folder, image, headers) of the CT."""
    headers = ct_slices(tmp_path / "ct")
    return tmp_path / "ct", read_image(tmp_path / "ct"), headers


def ml(segmentation: Segmentation) -> list[float]:
    """mL of each segment."""
    return [round(float(s.mask.sum()) * segmentation.geometry.voxel_volume / 1000, 3) for s in segmentation.segments]


def changed_grid(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(labels, affine) of the two blocks on another grid, by nibabel where it can."""
    labels, affine = label_map(), RAS
    if kind == "RAS order":
        image = nibabel.as_closest_canonical(nibabel.Nifti1Image(labels, affine))
        return np.asarray(image.dataobj), image.affine
    if kind == "axes permuted":
        order = [2, 0, 1]
        return labels.transpose(order), affine[:, [*order, 3]]
    if kind == "cropped":
        made = affine.copy()
        made[:3, 3] = (affine @ (4, 4, 1, 1))[:3]
        return labels[4:44, 4:36, 1:9], made
    if kind == "padded":
        made = affine.copy()
        made[:3, 3] = (affine @ (-3, -3, -3, 1))[:3]
        return np.pad(labels, 3), made
    made = affine.copy()
    made[:3, :2] /= 2
    made[:3, 3] = (affine @ (-0.25, -0.25, 0, 1))[:3]
    return np.repeat(np.repeat(labels, 2, 0), 2, 1), made


@pytest.mark.parametrize("kind", ["RAS order", "axes permuted", "cropped", "padded", "oversampled"])
def test_labels_on_another_grid_are_the_same_voxels(kind, ct, tmp_path, table):
    values, affine = changed_grid(kind)
    path = write_nifti_with_nibabel(tmp_path / "l.nii.gz", np.ascontiguousarray(values), affine)
    found = read_segmentation(path, ct[1].geometry)
    for segment, right in zip(found.segments, blocks(), strict=True):
        np.testing.assert_array_equal(segment.mask, right)
    table(RIGHT, "nibabel", ml(found))


@pytest.mark.parametrize("kind", ["SimpleITK", "nibabel", "array and affine"])
def test_label_maps_of_other_libraries(kind, ct, tmp_path, table):
    path = write_nifti_with_nibabel(tmp_path / "l.nii.gz", label_map())
    source = {
        "SimpleITK": sitk.ReadImage(str(path)),
        "nibabel": nibabel.load(path),
        "array and affine": (label_map(), RAS),
    }[kind]
    found = read_segmentation(source, ct[1].geometry)
    table(RIGHT, kind, ml(found))
    assert ml(found) == RIGHT


def test_labels_of_another_place_are_refused_with_the_distance(ct, tmp_path, table):
    affine = RAS.copy()
    affine[2, 3] += 2.0
    path = write_nifti_with_nibabel(tmp_path / "l.nii.gz", label_map(), affine)
    with pytest.raises(InputError, match=r"by up to 2 mm.*--resample"):
        read_segmentation(path, ct[1].geometry)
    notes = []
    found = read_segmentation(path, ct[1].geometry, resample=True, tell=notes.append)
    assert notes
    table("refused; with --resample near 8 and 4 mL", "nibabel", f"refused; {ml(found)}")


@pytest.mark.parametrize(("values", "right"), [
    (lambda v: v * np.float32(0.99999), RIGHT), (lambda v: v * np.float32(0.9882), "0.9882"),
    (lambda v: v.astype(np.int64) * 3_000_000_000, RIGHT), (lambda v: v.astype(np.float64) * 3e9, RIGHT),
    (lambda v: v[..., None], RIGHT), (lambda v: np.where(v, np.nan, 0.0), "NaN|infinite"), (lambda v: v * 0, "no label"),
], ids=["0.99999", "0.9882", "int64 above 2^31", "float64 above 2^31", "4D of one", "NaN", "empty"])  # fmt: skip
def test_values_of_label_maps(values, right, ct, tmp_path, table):
    path = write_nifti_with_nibabel(tmp_path / "l.nii.gz", values(label_map()))
    if isinstance(right, str):
        with pytest.raises(InputError, match=right) as caught:
            read_segmentation(path, ct[1].geometry)
        table("one sentence with the value", "nibabel", str(caught.value)[:60])
        return
    found = read_segmentation(path, ct[1].geometry)
    table(right, "nibabel", ml(found))
    assert ml(found) == right


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP", "halves"])
def test_dicom_segmentations_of_highdicom(kind, ct, tmp_path, table):
    one, two = (mask.transpose(2, 1, 0) for mask in blocks())
    masks = {
        "BINARY": np.stack([one, two], -1).astype(np.uint8),
        "FRACTIONAL": np.stack([one * 0.8, two * 0.7], -1).astype(np.float32),
        "LABELMAP": (one + 2 * two).astype(np.uint8),
    }
    right = RIGHT
    if kind == "halves":  # frames of a lower and an upper part look like one stack
        low, up = np.zeros_like(one), np.zeros_like(one)
        low[:5, 10:20, 8:16], up[5:, 12:22, 30:40] = True, True
        masks[kind], right = np.stack([low, up], -1).astype(np.uint8), [8.0, 10.0]
    options = {"max_fractional_value": 100} if kind == "FRACTIONAL" else {}
    path = write_seg(tmp_path / "x.seg.dcm", ct[2], masks[kind], "BINARY" if kind == "halves" else kind, **options)
    found = read_segmentation(path, ct[1].geometry)
    table(right, f"highdicom, {kind}", ml(found))
    assert ml(found) == right and [s.code.meaning for s in found.segments] == ["Liver", "Spleen"]


def test_a_structure_set_is_read(ct, tmp_path, table):
    pytest.importorskip("matplotlib")
    square = np.array([[-31, -19, 10], [-15, -19, 10], [-15, 1, 10], [-31, 1, 10]], float)  # borders of 8 × 10 voxels
    square[:, :2] -= 1.0
    found = read_segmentation(write_rtstruct(tmp_path / "rt.dcm", {"liver": [square]}), ct[1].geometry)
    right = 16 * 20 * 5 / 1000
    table(f"liver, {right} mL", "area of the polygon × 5 mm", f"{found.segments[0].label}, {ml(found)[0]} mL")
    assert ml(found) == [right]


def seg_nrrd(path, names, tags=("", ""), layers=(0, 0)):
    """A .seg.nrrd as Slicer writes it, of the two blocks."""
    picture = sitk.GetImageFromArray(label_map().transpose(2, 1, 0))
    picture.SetSpacing((2, 2, 5))
    picture.SetOrigin((-47, -39, 0))
    for n, (name, tag, layer) in enumerate(zip(names, tags, layers, strict=True)):
        values = {"ID": f"S{n}", "Name": name, "LabelValue": n + 1, "Layer": layer, "Color": "1 0 0", "Tags": tag}
        for key, value in values.items():
            picture.SetMetaData(f"Segment{n}_{key}", str(value))
    sitk.WriteImage(picture, str(path))
    return path


def exported(ct, segmentation, tmp_path):
    """Write SEG and SR; return their paths and the response."""
    response = Response((segmentation, *measure_fully(segmentation, ct[1])), Provenance("export", "a person"))
    files = write_dicom(tmp_path / "out", "x", response, read_source(ct[0]))
    return {path.name.split(".")[-2]: path for path in files}, response


SAME = {"equal": ("lesion", "lesion"), "equal in 64 letters": ("a " * 40 + "one", "a " * 40 + "two")}


@pytest.mark.parametrize("names", SAME.values(), ids=SAME.keys())
def test_two_segments_of_one_name_stay_two(names, ct, tmp_path, table):
    found = read_segmentation(seg_nrrd(tmp_path / "x.seg.nrrd", names), ct[1].geometry)
    paths, response = exported(ct, found, tmp_path)
    rebuilt = rebuilt_by_dcmqi(paths["seg"], tmp_path / "dcmqi")
    groups = measurements_by_dcmqi(paths["sr"], tmp_path / "sr")
    rows = as_table(response.measurements)[1]
    volumes = [round(rebuilt[n][1], 3) for n in sorted(rebuilt)]
    table(
        "2 segments, 2 SR groups, 2 rows",
        "dcmqi",
        f"{len(rebuilt)} segments, {len(groups)} SR groups, {len(rows)} rows",
    )
    assert volumes == RIGHT and len(groups) == len(rows) == 2
    assert [g["ReferencedSegment"] for g in groups] == [1, 2]


def test_a_missing_layer_is_one_sentence(ct, tmp_path, table):
    with pytest.raises(InputError, match="refers to layer 3"):
        read_segmentation(seg_nrrd(tmp_path / "x.seg.nrrd", ("one", "two"), layers=(0, 3)), ct[1].geometry)
    table("one sentence", "the header", "one sentence")


def test_a_persons_own_codes_are_exported(ct, tmp_path, table):
    def entry(category, kind):
        parts = "~^^~Anatomic codes - DICOM master list~^^~^^"
        return f"TerminologyEntry:Segmentation category and type - DICOM master list~SCT^{category}~SCT^{kind}{parts}|"

    tags = (
        entry("49755003^Morphologically Altered Structure", "4147007^Mass"),
        entry("123037004^Anatomical Structure", "78961009^Spleen"),
    )
    found = read_segmentation(seg_nrrd(tmp_path / "x.seg.nrrd", ("Target 1", "my spleen"), tags), ct[1].geometry)
    paths, _ = exported(ct, found, tmp_path)
    about = [rebuilt_by_dcmqi(paths["seg"], tmp_path / "dcmqi")[n][2] for n in (1, 2)]
    kinds = [a["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] for a in about]
    made = {a["SegmentAlgorithmType"] for a in about}
    table("Mass, Spleen; MANUAL", "dcmqi", f"{', '.join(kinds)}; {', '.join(made)}")
    assert kinds == ["Mass", "Spleen"] and made == {"MANUAL"}


def test_a_folder_of_one_file_a_label_and_nnunets_layout(ct, tmp_path, table):
    one, two = blocks()
    for name, mask in (("liver", one), ("spleen", two), ("kidney_left", one & two)):
        write_nifti_with_nibabel(tmp_path / "total" / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8))
    found = read_segmentation(tmp_path / "total" / "segmentations", ct[1].geometry, tell=lambda note: None)
    path = write_nifti_with_nibabel(tmp_path / "nn" / "labelsTr" / "case_0.nii.gz", label_map())
    (tmp_path / "nn" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    other = read_segmentation(path, ct[1].geometry)
    table(
        f"liver, spleen {RIGHT} twice",
        "nibabel",
        f"{', '.join(s.label for s in found.segments)} {ml(found)}, {ml(other)}",
    )
    for segmentation in (found, other):
        assert ml(segmentation) == RIGHT and [s.label for s in segmentation.segments] == ["liver", "spleen"]


def test_labels_for_other_tools(ct, tmp_path, table):
    one, two = blocks()
    made = Segmentation((Segment("liver", one), Segment("spleen", two)), ct[1].geometry)
    write_labels(tmp_path / "result.nii.gz", made)
    read = nibabel.load(tmp_path / "result.nii.gz")
    values = np.asarray(read.dataobj)
    counts = [int((values == n).sum()) for n in (1, 2)]
    np.testing.assert_allclose(read.affine, ct[1].geometry.affine, atol=1e-4)
    table("400 and 200 voxels at their place", "nibabel", f"{counts[0]} and {counts[1]} voxels at their place")
    assert counts == [400, 200]
    assert json.loads((tmp_path / "result.labels.json").read_text()) == {"background": 0, "liver": 1, "spleen": 2}


def test_a_slope_of_slices_with_the_gap_for_spacing_is_rebuilt_by_dcmqi(tmp_path, table):
    """GE MR: SpacingBetweenSlices is the gap (2 mm), slices lie 7 mm apart, positions are rounded to 0.1 mm."""
    angle = np.radians(7.7)
    down, normal = np.array([0, np.cos(angle), np.sin(angle)]), np.array([0, -np.sin(angle), np.cos(angle)])
    for k, plane in enumerate(np.clip(body(slices=10) + 1000, 0, None)):
        made = slice_dataset(
            plane, np.round(ORIGIN + 7.0 * k * normal, 1), number=k + 1, modality="MR", directions=(1, 0, 0, *np.round(down, 6)),
            slope=1.0, intercept=0.0, SpacingBetweenSlices=2.0,
        )  # fmt: skip
        save(made, tmp_path / "ge" / f"{k:02d}")
    image = read_image(tmp_path / "ge")
    mask = np.zeros(image.geometry.shape, bool)
    mask[8:20, 10:20, 2:7] = True
    paths, _ = exported((tmp_path / "ge", image), Segmentation((Segment("block", mask),), image.geometry), tmp_path)
    volume = rebuilt_by_dcmqi(paths["seg"], tmp_path / "dcmqi")[1][1]
    derived = [len(f.DerivationImageSequence) for f in pydicom.dcmread(paths["seg"]).PerFrameFunctionalGroupsSequence]
    table("16.8 mL, each frame derived", "dcmqi, highdicom", f"{volume:.1f} mL, {len(derived)} frames derived")
    assert volume == pytest.approx(16.8, abs=0.05) and set(derived) == {1}
    assert highdicom.seg.segread(paths["seg"]).number_of_segments == 1


@pytest.mark.parametrize("kind", ["enhanced", "tilted"])
def test_other_sources_are_rebuilt_by_dcmqi(kind, tmp_path, table):
    if kind == "enhanced":
        phantom = ct_phantom(oblique_geometry().crop((0, 0, 0), (40, 36, 12)))
        path = write_enhanced_image(phantom, tmp_path / "e.dcm", np.random.default_rng(0).permutation(12).tolist())
    else:
        path = tmp_path / "t"
        for k, plane in enumerate(body()):
            save(
                slice_dataset(plane, (ORIGIN[0], ORIGIN[1] + 0.4 * k, ORIGIN[2] + 5 * k), number=k + 1),
                path / f"{k}.dcm",
            )
    image = read_image(path)
    mask = np.zeros(image.geometry.shape, bool)
    mask[8:20, 10:20, 2:7] = True
    segmentation = Segmentation((Segment("block", mask),), image.geometry)
    if kind == "tilted":
        paths, _ = exported((path, image), segmentation, tmp_path)
        frames = pydicom.dcmread(paths["seg"]).PerFrameFunctionalGroupsSequence
        y = [float(f.PlanePositionSequence[0].ImagePositionPatient[1]) for f in frames]
        table("y of slices 2 to 6", "Image Position of the source", f"y = {min(y):g} … {max(y):g}")
        assert sorted(y) == pytest.approx([ORIGIN[1] + 0.4 * k for k in range(2, 7)])
        return
    paths, _ = exported((path, image), segmentation, tmp_path)
    ours, theirs = (
        mask.sum() * image.geometry.voxel_volume / 1000,
        rebuilt_by_dcmqi(paths["seg"], tmp_path / "dcmqi")[1][1],
    )
    table(f"{ours:.2f} mL", "dcmqi, enhanced CT", f"{theirs:.2f} mL")
    assert theirs == pytest.approx(ours, rel=1e-3)


def test_the_validator_finds_no_error_of_ours(ct, tmp_path, table):
    one, two = blocks()
    code, organ = Code("10200004", "SCT", "Liver"), Code("91723000", "SCT", "Anatomical Structure")
    segmentation = Segmentation(
        (Segment("Läsion 肝 Ł", one, category=organ, code=code), Segment("x", two)), ct[1].geometry
    )
    paths, _ = exported(ct, segmentation, tmp_path)
    counts = {name: len(validator_errors(path, ct[2])[0]) for name, path in paths.items()}
    table("0 errors", "dciodvfy", ", ".join(f"{name} {count}" for name, count in counts.items()))
    assert set(counts.values()) == {0}
    assert pydicom.dcmread(paths["seg"]).SegmentSequence[0].SegmentLabel == "Läsion 肝 Ł"


@pytest.mark.parametrize(("charset", "name"), [
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞"),
    ("GB18030", "Wang^小东"),
    ("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "Ångström^Łukasz"), ("NO SUCH SET", "Smith^John"),
])  # fmt: skip
def test_names_of_every_character_set_leave_as_utf8(charset, name, ct, tmp_path, table):
    for path in sorted(ct[0].iterdir()):
        header = pydicom.dcmread(path)
        header.SpecificCharacterSet = "ISO_IR 192" if charset == "NO SUCH SET" else charset
        header.PatientName = name
        header.save_as(path)
        if charset == "NO SUCH SET":
            path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"NO SUCH ST"))
    one, _ = blocks()
    paths, _ = exported(ct, Segmentation((Segment("x", one),), ct[1].geometry), tmp_path)
    read = [pydicom.dcmread(path) for path in paths.values()]
    table(name, str(charset), str(read[0].PatientName))
    assert all(str(r.PatientName) == name and r.SpecificCharacterSet == "ISO_IR 192" for r in read)


def test_anonymised_and_odd_headers_are_exported(ct, tmp_path, table):
    for path in sorted(ct[0].iterdir()):
        header = pydicom.dcmread(path)
        for tag in (
            "PatientName",
            "PatientID",
            "StudyDate",
            "StudyID",
            "AccessionNumber",
            "SeriesNumber",
            "FrameOfReferenceUID",
        ):
            delattr(header, tag)
        header.PatientBirthDate, header.PatientSex, header.StudyTime = "1950", "W", "12:00:00"
        header.save_as(path)
    one, _ = blocks()
    image = read_image(ct[0])
    paths, _ = exported((ct[0], image), Segmentation((Segment("x", one),), image.geometry), tmp_path)
    errors = [error for path in paths.values() for error in validator_errors(path, ct[2])[0]]
    table("SEG and SR, 0 errors", "dciodvfy", f"{' and '.join(sorted(n.upper() for n in paths))}, {len(errors)} errors")
    assert not errors


def test_no_cell_of_a_csv_is_a_formula(ct, tmp_path, table):
    from MedFMLib.files.tables import as_csv

    text = as_csv(("name", "value"), [("=1+1", -3.5), ("@x", 2), ("+y", 1), ("-z", 0)])
    cells = [row[0] for row in csv.reader(text.splitlines()[1:])]
    table("no = + - @ first", "csv module", " ".join(cells))
    assert all(cell[0] not in "=+-@" for cell in cells)
