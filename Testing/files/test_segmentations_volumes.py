"""Label maps and .seg.nrrd: values, names, layers, codes; compared with nibabel and with what was put in."""

from __future__ import annotations

import json
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.segmentation_phantoms import GRID, RAS, blocks, label_map, write_nifti_with_nibabel

from MedFMLib.core.findings import Code, Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.request import Provenance
from MedFMLib.errors import InputError
from MedFMLib.files import write_segmentation
from MedFMLib.files.segmentations import read_segmentation

ONE, TWO = blocks()


@pytest.fixture
def nifti(tmp_path):
    """Writes values as labels.nii.gz."""
    return lambda values, affine=RAS: write_nifti_with_nibabel(tmp_path / "labels.nii.gz", values, affine)


def masks(segmentation):
    return {s.label: s.mask for s in segmentation.segments}


def assert_blocks(segmentation, one="label 1", two="label 2"):
    found = masks(segmentation)
    assert list(found) == [one, two]
    np.testing.assert_array_equal(found[one], ONE)
    np.testing.assert_array_equal(found[two], TWO)


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64, np.float32, np.float64])
def test_labels_of_every_type_are_read(nifti, kind):
    path = nifti(label_map().astype(kind))
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), label_map())
    assert_blocks(read_segmentation(path, GRID))


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_labels_above_two_to_the_31_stay_apart(nifti, kind):
    path = nifti(label_map().astype(kind) * 3_000_000_000)
    assert_blocks(read_segmentation(path, GRID), "label 3000000000", "label 6000000000")


def test_labels_that_were_stored_scaled_are_rounded(tmp_path):
    image = nibabel.Nifti1Image(label_map().astype(np.float32), RAS)
    image.set_data_dtype(np.int16)  # nibabel scales to the whole range of the type
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    values = np.unique(nibabel.load(tmp_path / "scaled.nii.gz").get_fdata())
    assert not np.array_equal(values, np.rint(values)) and np.abs(values - [0, 1, 2]).max() < 1e-3
    assert_blocks(read_segmentation(tmp_path / "scaled.nii.gz", GRID))


def test_large_labels_that_were_stored_scaled_are_rounded(tmp_path):
    image = nibabel.Nifti1Image(label_map().astype(np.float64) * 1017, RAS)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    assert_blocks(read_segmentation(tmp_path / "scaled.nii.gz", GRID), "label 1017", "label 2034")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (label_map() * np.float32(0.9882), r"has the value 0\.9882, which is no label"),
        (label_map() * np.float32(6.1e-5), r"has the value 0\.000122, which is no label"),
        (ONE * np.float32(0.7), r"has the value 0\.7, which is no label.*--threshold 0\.5 \(in Python threshold=0\.5\)"),
        (-label_map().astype(np.int16), r"has the value -2, and labels are whole numbers from 1"),
        (-label_map().astype(np.float32), r"has the value -2"),
        (label_map() * 1e300, r"has the value 2e\+300, which is no label"),
        (np.zeros(GRID.shape, np.uint8), "has no label; segment something first"),
        (np.where(ONE, np.nan, 0).astype(np.float32), "400 voxels that are NaN or infinite"),
        (np.where(TWO, np.inf, 0).astype(np.float32), "200 voxels that are NaN or infinite"),
        (np.stack([label_map()] * 3, -1), "is 4D with several label maps; give one of them"),
    ],
)  # fmt: skip
def test_values_that_are_no_labels_get_one_sentence(nifti, values, sentence):
    path = nifti(np.ascontiguousarray(values))
    with pytest.raises(InputError, match=sentence) as error:
        read_segmentation(path, GRID)
    assert "\n" not in str(error.value) and "labels.nii.gz" in str(error.value)


def test_a_probability_map_is_cut_at_the_threshold_that_is_given(nifti):
    path = nifti((ONE * 0.7 + TWO * 0.3).astype(np.float32))
    (segment,) = read_segmentation(path, GRID, threshold=0.5).segments
    np.testing.assert_array_equal(segment.mask, ONE)
    (segment,) = read_segmentation(path, GRID, threshold=0.25).segments
    np.testing.assert_array_equal(segment.mask, ONE | TWO)
    for wrong in (0, 1.5, -1):
        with pytest.raises(InputError, match="threshold must be above 0 and at most 1"):
            read_segmentation(path, GRID, threshold=wrong)


def test_a_fourth_axis_of_one_is_dropped(nifti):
    assert_blocks(read_segmentation(nifti(label_map()[..., None]), GRID))


def test_colour_is_no_label_map(tmp_path):
    picture = sitk.GetImageFromArray(np.zeros((4, 8, 8, 3), np.uint8), isVector=True)
    for name in ("colour.nrrd", "colour.mha"):
        sitk.WriteImage(picture, str(tmp_path / name))
        with pytest.raises(InputError, match=name):
            read_segmentation(tmp_path / name, GRID)


def test_labels_in_another_axis_order_as_nibabel_writes_it_are_the_same_voxels(nifti, tmp_path):
    canonical = nibabel.as_closest_canonical(nibabel.load(nifti(label_map())))
    nibabel.save(canonical, tmp_path / "ras.nii.gz")
    assert not np.array_equal(canonical.affine, RAS)
    assert_blocks(read_segmentation(tmp_path / "ras.nii.gz", GRID))
    swapped = np.ascontiguousarray(label_map().transpose(2, 0, 1))
    matrix = RAS[:, [2, 0, 1, 3]]
    assert_blocks(read_segmentation(write_nifti_with_nibabel(tmp_path / "kij.nii.gz", swapped, matrix), GRID))


def test_labels_on_the_other_transform_of_the_image_are_refused_in_mm(tmp_path):
    turned = RAS.copy()
    turned[:3, 3] += (4, -6, 3)
    path = write_nifti_with_nibabel(tmp_path / "registered.nii.gz", label_map(), turned)
    with pytest.raises(InputError, match=r"by up to 2 mm;"):  # 3 of 5 mm along k; i and j fit
        read_segmentation(path, GRID)


def test_labels_of_the_images_size_beside_it_are_noted(tmp_path):
    moved = RAS.copy()
    moved[:3, 3] += (4, -6, 0)
    notes = []
    read = read_segmentation(
        write_nifti_with_nibabel(tmp_path / "a.nii.gz", label_map(), moved), GRID, tell=notes.append
    )
    np.testing.assert_array_equal(read["label 1"].mask, np.roll(ONE, (-2, 3), (0, 1)))
    assert notes == ["'a.nii.gz' has the image's size, but lies 7.21 mm beside it; it was placed by its position."]


# -- names -------------------------------------------------------------------------------------------------


def test_names_beside_the_file_are_taken(nifti, tmp_path):
    path = nifti(label_map())
    (tmp_path / "labels.labels.json").write_text(json.dumps({"background": 0, "liver": 1, "my lesion": 2}))
    read = read_segmentation(path, GRID)
    assert_blocks(read, "liver", "my lesion")
    assert read["liver"].code == Code("10200004", "SCT", "Liver") and read["my lesion"].code is None
    assert list(masks(read_segmentation(path, GRID, names={1: "spleen"}))) == ["spleen", "label 2"]


def test_names_in_the_nifti_header_are_taken(nifti, tmp_path):
    image = nibabel.load(nifti(label_map()))
    table = (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0"><LabelTable>'
        '<Label Key="1" Red="0.2" Green="0.4" Blue="1" Alpha="1"><![CDATA[liver]]></Label>'
        '<Label Key="2" Red="1" Green="0" Blue="0" Alpha="1"><![CDATA[spleen]]></Label>'
        "</LabelTable></VolumeInformation></CaretExtension>"
    )
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, table.encode()))
    nibabel.save(image, tmp_path / "total.nii")
    data = bytearray((tmp_path / "total.nii").read_bytes())
    data[356:360] = struct.pack("<i", 30)  # the code that TotalSegmentator writes, which nibabel takes for XML
    (tmp_path / "total.nii").write_bytes(data)
    read = read_segmentation(tmp_path / "total.nii", GRID)
    assert_blocks(read, "liver", "spleen")
    assert read["liver"].color == (0.2, 0.4, 1.0)


# -- .seg.nrrd ---------------------------------------------------------------------------------------------


@pytest.fixture
def seg_nrrd(tmp_path):
    """Writes a .seg.nrrd with any header, as 3D Slicer does."""

    def write(layers, segments, name="a.seg.nrrd", **header):
        planes = [sitk.GetImageFromArray(np.ascontiguousarray(layer.astype(np.uint8).T)) for layer in layers]
        picture = planes[0] if len(planes) == 1 else sitk.Compose(planes)
        picture.SetSpacing((2, 2, 5))
        picture.SetOrigin((-47, -39, 0))
        picture.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
        for key, value in header.items():
            picture.SetMetaData(key, value)
        for n, tags in enumerate(segments):
            for key, value in tags.items():
                picture.SetMetaData(f"Segment{n}_{key}", str(value))
        sitk.WriteImage(picture, str(tmp_path / name), True)
        return tmp_path / name

    return write


def tags(name, layer=0, value=1, **more):
    return {"ID": f"S{layer}{value}", "Name": name, "Layer": layer, "LabelValue": value, "Color": "1 0 0.5", **more}


def test_two_segments_of_one_name_stay_two(seg_nrrd):
    read = read_segmentation(seg_nrrd([label_map()], [tags("lesion"), tags("lesion", value=2)]), GRID)
    assert [s.label for s in read.segments] == ["lesion", "lesion"]
    np.testing.assert_array_equal(read.segments[0].mask, ONE)
    np.testing.assert_array_equal(read.segments[1].mask, TWO)
    assert read.segments[0].color == (1.0, 0.0, 0.5)


def test_overlapping_segments_lie_in_layers(seg_nrrd):
    both = ONE | TWO
    path = seg_nrrd([label_map(), both], [tags("one"), tags("two", value=2), tags("both", 1)])
    read = masks(read_segmentation(path, GRID))
    for name, mask in {"one": ONE, "two": TWO, "both": both}.items():
        np.testing.assert_array_equal(read[name], mask)


def test_without_layer_numbers_each_segment_has_its_own_layer_as_in_old_versions(seg_nrrd):
    old = [{"ID": "A", "Name": "one"}, {"ID": "B", "Name": "two"}]
    read = masks(read_segmentation(seg_nrrd([ONE, TWO], old), GRID))
    np.testing.assert_array_equal(read["one"], ONE)
    np.testing.assert_array_equal(read["two"], TWO)


@pytest.mark.parametrize(
    ("segments", "sentence"),
    [
        ([tags("one"), tags("two", 3)], r"has 1 layer of labels, but its segment 2 \('two'\) refers to layer 3"),
        ([tags("one"), tags("two", -1)], r"refers to layer -1"),
        ([tags("one", value="x")], r"has 'x' in Segment0_LabelValue, which is no whole number"),
        ([tags("one", value=7)], "has no label"),
    ],
)  # fmt: skip
def test_a_damaged_header_gets_one_sentence(seg_nrrd, segments, sentence):
    with pytest.raises(InputError, match=sentence):
        read_segmentation(seg_nrrd([label_map()], segments), GRID, tell=lambda note: None)


def test_segments_without_names_and_without_voxels(seg_nrrd):
    notes = []
    path = seg_nrrd(
        [label_map()], [{"LabelValue": 1, "Layer": 0}, tags("nothing", value=9), {"LabelValue": 2, "Layer": 0}]
    )
    read = read_segmentation(path, GRID, tell=notes.append)
    assert [s.label for s in read.segments] == ["segment 1", "segment 3"]
    assert notes == ["'a.seg.nrrd' has no voxels of 'nothing'; left out."]


TERMS = "Segmentation category and type - DICOM master list~{}~{}~{}~Anatomic codes - DICOM master list~^^~^^"
MASS = TERMS.format("SCT^49755003^Morphologically Altered Structure", "SCT^4147007^Mass", "^^")
LEFT = TERMS.format("SCT^123037004^Anatomical Structure", "SCT^64033007^Kidney", "SCT^7771000^Left")
TISSUE = TERMS.format("SCT^85756007^Tissue", "SCT^85756007^Tissue", "^^")


def test_codes_of_the_file_win_over_guesses_by_name(seg_nrrd):
    path = seg_nrrd(
        [label_map()],
        [tags("Target 1", Tags=f"Segmentation.Status:completed|TerminologyEntry:{MASS}|"),
         tags("my organ", value=2, Tags=f"Segmentation.TerminologyEntry:{LEFT}|")],
    )  # fmt: skip
    mass, kidney = read_segmentation(path, GRID).segments
    assert mass.code == Code("4147007", "SCT", "Mass") and mass.side is None
    assert mass.category == Code("49755003", "SCT", "Morphologically Altered Structure")
    assert (kidney.label, kidney.code.meaning, kidney.side.meaning) == ("my organ", "Kidney", "Left")


def test_the_code_that_slicer_gives_to_every_segment_says_nothing_about_a_known_name(seg_nrrd):
    path = seg_nrrd(
        [label_map()],
        [tags("liver", Tags=f"TerminologyEntry:{TISSUE}"), tags("Target", value=2, Tags=f"TerminologyEntry:{TISSUE}")],
    )
    liver, target = read_segmentation(path, GRID).segments
    assert liver.code.meaning == "Liver" and target.code.meaning == "Tissue"


def test_an_extent_of_slicer_is_placed_by_its_origin(tmp_path):
    segmentation = Segmentation((Segment("liver", ONE), Segment("spleen", TWO)), GRID)
    whole = sitk.ReadImage(str(write_segmentation(tmp_path / "whole.seg.nrrd", segmentation)))
    part = sitk.RegionOfInterest(whole, (34, 14, 6), (7, 9, 2))
    for key in whole.GetMetaDataKeys():
        part.SetMetaData(key, whole.GetMetaData(key))
    part.SetMetaData("Segmentation_ReferenceImageExtentOffset", "7 9 2")
    sitk.WriteImage(part, str(tmp_path / "part.seg.nrrd"), True)
    assert_blocks(read_segmentation(tmp_path / "part.seg.nrrd", GRID), "liver", "spleen")


def test_how_a_segment_was_made_is_known_from_the_file(tmp_path, seg_nrrd):
    segmentation = Segmentation((Segment("liver", ONE), Segment("spleen", TWO, origin="MANUAL")), GRID)
    made = {
        "model.seg.nrrd": (Provenance("segment", "m"), ["AUTOMATIC", "MANUAL"]),
        "points.seg.nrrd": (Provenance("outline", "m"), ["SEMIAUTOMATIC", "MANUAL"]),
        "saved-by-a-person.seg.nrrd": (None, ["SEMIAUTOMATIC", "MANUAL"]),
    }
    for name, (provenance, origins) in made.items():
        read = read_segmentation(write_segmentation(tmp_path / name, segmentation, provenance), GRID)
        assert [s.origin for s in read.segments] == origins, name
    other = seg_nrrd(
        [label_map()], [tags("drawn"), tags("stated", value=2, Tags="DicomEncoding.SegmentAlgorithmType:AUTOMATIC|")]
    )
    assert [s.origin for s in read_segmentation(other, GRID).segments] == ["", "AUTOMATIC"]


def test_every_field_of_a_written_segmentation_comes_back(tmp_path):
    segments = (
        Segment("Target 1", ONE, (0.1, 0.2, 0.3), Code("49755003", "SCT", "Morphologically Altered Structure"),
                Code("4147007", "SCT", "Mass"), Code("7771000", "SCT", "Left"), origin="MANUAL"),
        Segment("Leberläsion 肝", ONE | TWO, (1.0, 0.0, 0.0)),
    )  # fmt: skip
    geometry = Geometry(GRID.shape, RAS @ np.diag([1, 1, 1, 1.0]))
    path = write_segmentation(tmp_path / "a.seg.nrrd", Segmentation(segments, geometry))
    for made, read in zip(segments, read_segmentation(path, geometry).segments, strict=True):
        for name in ("label", "category", "code", "side"):
            assert getattr(read, name) == getattr(made, name) or made.code is None
        assert read.color == pytest.approx(made.color) and np.array_equal(read.mask, made.mask)


@pytest.mark.parametrize("name", ["broken.nii.gz", "broken.seg.nrrd", "notes.txt", "broken.dcm"])
def test_a_file_that_is_none_gets_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no segmentation" * 20)
    with pytest.raises(InputError, match=name) as error:
        read_segmentation(tmp_path / name, GRID)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="There is no file or folder"):
        read_segmentation(tmp_path / "missing.seg.nrrd", GRID)
