"""What an image can't tell is not stated: sides without a place in the patient, millimetres of pictures, intensity of colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import UNORIENTED, Geometry, picture_geometry
from MedFMLib.core.image import Image
from MedFMLib.core.measurements import by_segment, of_segment
from MedFMLib.core.request import Provenance
from MedFMLib.exports.fhir import diagnostic_report
from MedFMLib.fact_check import check as check_text
from MedFMLib.fact_check.placeholders import fill
from MedFMLib.healthy.differences import differences
from MedFMLib.interfaces import registry
from MedFMLib.measure import as_table, measure, measure_fully
from MedFMLib.patient.glossary import glossary
from MedFMLib.patient.wording import plain_lines
from MedFMLib.reports import words
from MedFMLib.reports.templates import choose_template

OF_THE_PATIENT = ("side", "position", "centroid", "extent")


def measured(image, label="left lung", start=4):
    mask = np.zeros(image.geometry.shape, bool)
    mask[start : start + 6, 5:10] = True
    return measure_fully(Segmentation((Segment(label, mask),), image.geometry), image)


def unoriented():
    geometry = replace(Geometry((30, 24, 6), affine(spacing=(1.0, 2.0, 3.0))), space=UNORIENTED)
    return Image(np.random.default_rng(0).random((1, *geometry.shape)), geometry, "MR")


def picture(spacing=None, channels=1):
    geometry = picture_geometry(30, 24, 2, spacing)
    values = np.random.default_rng(0).integers(0, 255, (channels, *geometry.shape)).astype(np.uint8)
    return Image(values, geometry, "CR" if channels == 1 else "OT")


def names(measurements):
    return {m.name for m in measurements}


def test_a_volume_without_orientation_has_sizes_and_no_side():
    found = measured(unoriented())
    assert not [name for name in names(found) if name.startswith(OF_THE_PATIENT)]
    values = {m.name: m for m in found}
    assert values["volume"].value == pytest.approx(6 * 5 * 6 * 6 / 1000)
    assert {"longest diameter", "long axis", "surface", "mean intensity", "cut off"} <= set(values)
    assert not any(word in m.method for m in found for word in ("axial", "coronal", "sagittal", "patient"))


def test_a_picture_without_a_pixel_size_has_an_area_in_pixels_and_no_millimetre():
    found = measured(picture())
    assert names(found) == {"area", "mean intensity", "intensity SD", "minimum", "10th percentile", "median intensity",
                            "90th percentile", "maximum"}  # fmt: skip
    area = found[0]
    assert (area.name, area.value, area.unit) == ("area", 60.0, "{pixels}")
    assert not any("mm" in m.unit or m.unit == "mL" for m in found)


def test_a_picture_with_a_pixel_size_has_lengths_in_plane_and_no_volume():
    found = {m.name: m for m in measured(picture((0.5, 0.25)))}
    assert (found["area"].value, found["area"].unit) == (60 * 0.5 * 0.25, "mm2")
    assert found["long axis"].value == pytest.approx(np.hypot(1.5, 2.5), abs=0.5)
    assert not {"volume", "longest diameter", "surface", "cut off"} & set(found)
    assert "picture" in found["long axis"].method


def test_colours_have_no_intensity():
    assert names(measured(picture(channels=3))) == {"area"}
    geometry = Geometry((30, 24, 6), affine(spacing=(1.0, 2.0, 3.0)))
    colour = Image(np.zeros((3, *geometry.shape), np.uint8), geometry, "OT")
    found = names(measured(colour))
    assert {"volume", "extent left-right", "centroid R"} <= found
    assert not {"side", "position", "mean intensity"} & found  # without intensities there is no midline


@pytest.mark.parametrize(("units", "expected"), [("Gy", "Gy"), ("Bq/mL", "Bq/mL"), ("", "")])
def test_intensities_have_the_unit_of_the_image(units, expected):
    image = replace(unoriented(), modality="PT", facts={"units": units} if units else {})
    assert {m.unit for m in measured(image) if "intensity" in m.name} == {expected}
    assert {m.unit for m in measured(ct_phantom(), "liver") if "intensity" in m.name} == {"[hnsf'U]"}


@pytest.mark.parametrize("image", [unoriented(), picture(), picture((0.5, 0.25)), picture(channels=3)])
def test_sentences_tables_and_checks_take_what_there_is(image):
    found = measured(image)
    card, template = registry.card("medfm-tiny"), choose_template("", "MR", [])
    section = words.findings(found, [], "", card, template, {})
    text = section.paragraphs[0]
    assert text.startswith("Left lung: ")
    assert not any(word in text for word in ("lies on", "midline", "front–back", "nan"))
    assert (
        ("mL" in text) == image.geometry.metric and ("pixels" in text) == (not image.geometry.metric)
    ) or "mm²" in text
    titles, rows = as_table(found)
    assert len(rows) == 1 and len(rows[0]) == len(titles)
    assert "area (pixels)" in titles or "area (mm2)" in titles or "volume (mL)" in titles
    assert plain_lines(found, (), glossary())[0].startswith("Your ")
    assert check_text("The lesion is 12 cm long.", found).removed
    assert fill("{left lung.side}", found)[1] == ("{left lung.side}",)
    assert differences(found, (), image.modality) == []
    report = type("R", (), {"sections": (), "title": "t", "text": "t"})
    assert diagnostic_report(report, found, None, Provenance("report", "m"))["contained"]


def test_measurements_of_two_segments_of_one_name_stay_apart():
    image = ct_phantom()
    masks = [np.zeros(image.geometry.shape, bool) for _ in range(3)]
    masks[0][2:4, 2:4, 2:4] = masks[2][5:9, 5:9, 5:9] = True
    segmentation = Segmentation(tuple(Segment("x", mask) for mask in masks), image.geometry)
    for found in (measure(segmentation, image), measure_fully(segmentation, image)):
        volumes = {key: values["volume"].value for key, values in by_segment(found).items()}
        unit = image.geometry.voxel_volume / 1000
        assert volumes == {(1, "x"): pytest.approx(8 * unit), (3, "x"): pytest.approx(64 * unit)}
        assert [m.value for m in of_segment(found, 3, ["x", "x", "x"]) if m.name == "volume"] == [
            pytest.approx(64 * unit)
        ]


def test_measurements_of_older_versions_are_found_by_an_unambiguous_name():
    old = [replace(m, number=0) for m in measured(ct_phantom())]
    assert of_segment(old, 1, ["left lung", "liver"]) == old
    assert of_segment(old, 2, ["left lung", "left lung"]) == []
