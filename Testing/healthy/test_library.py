"""The library of healthy cases: what is accepted, refused and found again, and the state after an interruption."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom, rotation, torso

from MedFMLib.core.findings import Measurement, Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Reference
from MedFMLib.errors import InputError, OutputError
from MedFMLib.healthy import Consent, HealthyLibrary, fitting, levels, references
from MedFMLib.healthy.cleaning import with_text
from MedFMLib.healthy.differences import differences, sentence
from MedFMLib.healthy.library import LibraryEntry
from MedFMLib.healthy.matching import sequence_of


def head(with_brain=True):
    """A ball of brain (800) in a ball of skin (1000), with a bright nose in front."""
    geometry = Geometry((80, 96, 80), affine(spacing=(2, 2, 2), origin=(-79, -95, -79)))
    p = geometry.to_world(np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1))
    radius = np.linalg.norm(p, axis=-1)
    values = np.where(radius < 70, 1000, 0).astype(np.int16)
    values[radius < 55] = 800
    values[np.linalg.norm(p - (0, 74, 0), axis=-1) < 10] = 1500
    brain = Segment("brain" if with_brain else "tumor", radius < 55 if with_brain else radius < 9)
    return Image(values[None], geometry, "MR", "Doe^John", {"BodyPartExamined": "HEAD"}), Segmentation(
        (brain,), geometry
    )


@pytest.fixture
def library(tmp_path):
    return HealthyLibrary(tmp_path / "healthy")


# -- in and out ------------------------------------------------------------------------------------------


def test_a_case_comes_back_on_its_grid_with_its_segments_and_measurements(library):
    oblique = Geometry((60, 50, 30), affine(rotation(8, -5, 12), (4.5, 5.0, 4.0), (-120, -100, -60)), "1.2.840.1")
    image, segmentation = torso(oblique)
    image = Image(
        image.voxels, oblique, "CT", "Doe^Jane 1970", {"PatientName": "Doe", "KVP": "120", "StudyDate": "20200101"}
    )
    entry = library.add(image, segmentation, "Adult torso", about="our clinic", licence="internal")
    assert library.entries() == [entry]
    found = library.load(entry)
    np.testing.assert_array_equal(found.image.voxels, image.voxels)
    assert found.image.geometry.shape == oblique.shape
    np.testing.assert_allclose(found.image.geometry.affine, oblique.affine, atol=1e-4)
    for segment in segmentation.segments:
        np.testing.assert_array_equal(found.segmentation[segment.label].mask, segment.mask)
    assert ("liver", "volume") in {(m.segment, m.name) for m in entry.measurements}
    everything = "".join(path.read_bytes().decode("latin-1") for path in library.folder.rglob("*") if path.is_file())
    for secret in ("Doe", "1970", "20200101", "1.2.840"):
        assert secret not in everything


def test_a_second_case_of_the_same_title_has_a_name_of_its_own_and_a_removed_one_is_gone(library):
    image, segmentation = torso()
    first, second = (library.add(image, segmentation, "Adult torso") for _ in range(2))
    assert (first.id, second.id) == ("adult-torso", "adult-torso-2")
    library.remove("adult-torso")
    assert [entry.id for entry in library.entries()] == ["adult-torso-2"]
    assert not (library.folder / "cases" / "adult-torso").exists()
    with pytest.raises(InputError, match="no healthy case 'adult-torso'"):
        library.remove("adult-torso")


@pytest.mark.parametrize("title", ["", "  ", "Doe 1970", "scan of 20200101"])
def test_a_title_that_may_name_somebody_is_refused(library, title):
    with pytest.raises(InputError, match="without names or dates"):
        library.add(*torso(), title)


def test_an_adding_that_fails_leaves_neither_an_entry_nor_files(library, monkeypatch):
    image, segmentation = torso()
    library.add(image, segmentation, "first")

    def full(*_, **__):
        raise OutputError("the disk is full; free some space.")

    for writer in ("write_volume", "write_segmentation"):
        monkeypatch.setattr(f"MedFMLib.files.writing.{writer}", full)
        with pytest.raises(OutputError, match="disk is full"):
            library.add(image, segmentation, "second")
        monkeypatch.undo()
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr("MedFMLib.healthy.library.write", full)
    with pytest.raises(OutputError):
        library.add(image, segmentation, "second")
    assert [entry.id for entry in library.entries()] == ["first"]
    assert sorted(p.name for p in library.folder.glob("cases/*")) == ["first"]


def test_what_an_interruption_left_is_not_read_and_not_written_over(library):
    left = library.folder / "cases" / "adult-torso"
    left.mkdir(parents=True)
    assert library.entries() == []
    assert library.add(*torso(), "Adult torso").id == "adult-torso-2"


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(format=9),
        lambda c: c["cases"][0].update(id="../../etc"),
        lambda c: c["cases"][0].update(modality="XX"),
        lambda c: c["cases"][0].pop("labels"),
        lambda c: c["cases"][0].update(more=1),
        lambda c: c["cases"][0].update(generated="no"),
        lambda c: c["cases"].append(c["cases"][0]),
    ],
)
def test_a_damaged_index_is_one_sentence(library, change):
    library.add(*torso(), "first")
    path = library.folder / "index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"restore its index\.json"):
        library.entries()


# -- what stays out --------------------------------------------------------------------------------------


def test_a_head_loses_its_face_unless_a_person_says_yes(library):
    image, segmentation = head()
    entry = library.add(image, segmentation, "adult head")
    kept = library.load(entry).image.scalars
    assert (kept == 1500).sum() == 0 and (kept == 800).sum() == (image.scalars == 800).sum()
    assert any("outside the brain was removed" in done for done in entry.done)
    with_face = library.add(image, segmentation, "adult head", consent=Consent(face=True))
    assert (library.load(with_face).image.scalars == 1500).any()
    assert any("consented to storing the face" in done for done in with_face.done)


def test_a_head_without_its_brain_is_refused_and_a_stripped_one_stays_as_it_is(library):
    with pytest.raises(InputError, match="segment “brain” first"):
        library.add(*head(with_brain=False), "adult head")
    image, segmentation = head()
    stripped = image.with_voxels(np.where(image.voxels == 800, 800, 0).astype(np.int16))
    entry = library.add(stripped, segmentation, "adult head")
    np.testing.assert_array_equal(library.load(entry).image.voxels, stripped.voxels)
    assert "the image was already limited to the brain" in entry.done


def test_burned_in_text_stops_a_case_until_a_person_looked(library):
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    geometry = Geometry((256, 256, 4), affine(np.diag([-1.0, -1.0, 1.0]), (1, 1, 8)))
    canvas = Picture.new("L", (256, 256))
    ImageDraw.Draw(canvas).ellipse((60, 60, 196, 196), fill=120)
    plain = np.repeat(np.asarray(canvas).T[..., None], 4, axis=2).astype(np.int16)
    ImageDraw.Draw(canvas).text((8, 6), "DOE JOHN 12.03.1970", fill=255, font=ImageFont.load_default(size=16))
    values = plain.copy()
    values[..., 2] = np.asarray(canvas).T
    mask = np.zeros(geometry.shape, bool)
    mask[100:150, 100:150] = True
    segmentation = Segmentation((Segment("liver", mask),), geometry)
    image = Image(values[None], geometry, "MR", facts={"window": "0 255"})
    assert with_text(image) == [2] and with_text(image.with_voxels(plain[None])) == []
    with pytest.raises(InputError, match=r"1 slices may have burned-in text \(axial 2\)"):
        library.add(image, segmentation, "torso")
    with pytest.raises(InputError, match="not certain that the image shows no face"):
        library.add(image, segmentation, "torso", consent=Consent(text=True))
    entry = library.add(image, segmentation, "torso", consent=Consent(text=True, face=True))
    assert "burned-in text was excluded by a visual check" in entry.done


def test_nothing_segmented_or_another_grid_is_refused(library):
    image, segmentation = torso()
    with pytest.raises(InputError, match="Nothing is segmented"):
        library.add(
            image, Segmentation((Segment("liver", np.zeros(image.geometry.shape, bool)),), image.geometry), "torso"
        )
    with pytest.raises(InputError, match="another grid"):
        library.add(ct_phantom(Geometry((40, 40, 20), affine(spacing=(8, 8, 8)))), segmentation, "torso")


# -- matching --------------------------------------------------------------------------------------------


def entry(name, **facts):
    made = {"modality": "MR", "plane": "axial", "labels": ("brain",), "sequence": "T1"} | facts
    return LibraryEntry(name, name, made.pop("modality"), made.pop("plane"), made.pop("labels"), (), **made)


def test_the_case_with_the_sequence_structures_and_plane_comes_first():
    cases = [
        (None, entry("generated", generated=True)),
        (None, entry("t2", sequence="T2")),
        (None, entry("average", average=True)),
        (None, entry("coronal", plane="coronal")),
        (None, entry("fits")),
        (None, entry("ct", modality="CT")),
        (None, entry("liver", labels=("liver",))),
    ]
    names = [e.id for _, e in fitting(cases, "MR", ("brain",), "axial", "T1")]
    assert names == ["fits", "coronal", "average", "generated", "t2"]
    assert [e.id for _, e in fitting(cases, "MR", ("liver",), "axial")] == ["liver"]
    assert fitting(cases, "US") == []


@pytest.mark.parametrize(
    ("name", "sequence"),
    [("sub-01_T1w", "T1"), ("ax T2 FLAIR", "FLAIR"), ("t2_tse", "T2"), ("head", ""), ("T10 level", "")],
)
def test_a_sequence_is_read_from_a_name(name, sequence):
    assert sequence_of(name) == sequence


def test_what_fits_is_loaded_once_and_the_rest_only_counted(library):
    for title in ("one", "two", "three"):
        library.add(*torso(), title)
    library.add(*torso(), "computed", generated=True)
    cases = [(library, e) for e in library.entries()]
    shown, *others = references(ct_phantom(), ("liver",), cases=cases)
    assert shown.id == "one" and shown.image is not None
    assert [(o.id, o.image) for o in others] == [("two", None), ("three", None)]
    assert references(ct_phantom(), name="two", cases=cases)[0].id == "two"
    with pytest.raises(InputError, match="no healthy case 'four'"):
        references(ct_phantom(), name="four", cases=cases)
    with pytest.raises(InputError, match="no healthy CT case with heart"):
        references(ct_phantom(), ("heart",), cases=cases)


# -- levels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("crop", [(0, 36), (9, 36), (0, 26)])
def test_the_level_is_found_when_shifted_scaled_flipped_and_partly_covered(flip, crop):
    image, mine = torso()
    spacing = np.array((3.6, 3.6, 4.2))  # a smaller person
    directions = np.diag([-1.0, -1.0, float(flip)])
    geometry = Geometry((96, 80, 36), affine(directions, spacing, (171.0, 142.0, 300.0)))
    masks = {s.label: s.mask[..., ::flip] for s in mine.segments}
    whole = Segmentation(tuple(Segment(name, mask) for name, mask in masks.items()), geometry)
    start, stop = (0, 0, crop[0]), (96, 80, crop[1])
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    part = Segmentation(tuple(Segment(s.label, s.mask[box]) for s in mine.segments), mine.geometry.crop(start, stop))
    level = levels.find(part, whole, "axial")
    assert level.landmarks >= 4
    for number in range(crop[0], crop[1], 3):
        place = levels.place_of(image.geometry, "axial", number)
        found = levels.number_at(geometry, "axial", level(place))
        assert abs(found - (number if flip > 0 else 35 - number)) <= 1


def test_one_structure_that_was_outlined_badly_moves_the_level_little():
    image, mine = torso()
    p = image.geometry.to_world(np.stack(np.meshgrid(*map(np.arange, image.geometry.shape), indexing="ij"), -1))
    other = [*mine.segments, Segment("spleen", np.abs(p[..., 2] - 40) < 8)]
    bad = [*mine.segments, Segment("spleen", np.abs(p[..., 2] + 40) < 8)]
    grid = image.geometry
    level = levels.find(Segmentation(tuple(bad), grid), Segmentation(tuple(other), grid), "axial")
    assert abs(level(0.0)) < 5 and level.slope == pytest.approx(1, abs=0.1)


def test_without_a_structure_in_common_the_relative_position_is_used_and_noted():
    image, mine = torso()
    other = Geometry((50, 50, 48), affine(np.diag([-1.0, -1.0, 1.0]), (5, 5, 2.5), (0, 0, 400)))
    none = Segmentation((Segment("heart", np.ones((50, 50, 48), bool)),), other)
    level = levels.find(mine, none, "axial")
    assert level.landmarks == 0
    middle = levels.place_of(image.geometry, "axial", 18)
    assert abs(levels.number_at(other, "axial", level(middle)) - 24.5) <= 2


# -- differences -----------------------------------------------------------------------------------------


def sized(*volumes, generated=False):
    return [Reference(str(n), "r", generated=generated, measurements=(Measurement("liver", "volume", v, "mL"),))
            for n, v in enumerate(volumes)]  # fmt: skip


def test_a_spread_is_reported_from_three_references_on_and_not_before():
    mine = [Measurement("liver", "volume", 1800.0, "mL")]
    (one,) = differences(mine, sized(1500.0), "CT")
    assert (one.n, one.mean, one.sd, one.z, one.percentile) == (1, 1500, None, None, None)
    assert sentence(one) == "liver volume: 1800 mL; the one reference has 1500 mL (+20 %)."
    (two,) = differences(mine, sized(1400.0, 1600.0), "CT")
    assert two.sd == pytest.approx(141.4, abs=0.1) and two.z is None
    assert "2 references" in sentence(two) and "too few for a spread" in sentence(two)
    (four,) = differences(mine, sized(1400.0, 1600.0, 1500.0, 1900.0), "CT")
    assert four.z == pytest.approx((1800 - 1600) / np.std([1400, 1600, 1500, 1900], ddof=1))
    assert four.percentile == 75
    assert "3 of 4 are smaller, z = +0.9" in sentence(four)


def test_computed_references_and_structures_that_are_cut_off_give_no_numbers():
    mine = [Measurement("liver", "volume", 1800.0, "mL")]
    assert differences(mine, sized(1500.0, generated=True), "CT") == []
    assert differences([*mine, Measurement("liver", "cut off", "at the image's edge")], sized(1500.0), "CT") == []
    shade = [Measurement("liver", "mean intensity", 300.0, "")]
    other = [Reference("r", "r", measurements=(Measurement("liver", "mean intensity", 90.0, ""),))]
    assert differences(shade, other, "MR") == [] and len(differences(shade, other, "CT")) == 1


def test_equal_references_have_no_z():
    (found,) = differences([Measurement("liver", "volume", 9.0, "mL")], sized(5.0, 5.0, 5.0), "CT")
    assert (found.sd, found.z, found.percentile) == (0, None, 100)


def test_a_png_of_the_case_is_readable():
    from PIL import Image as Picture

    from MedFMLib.healthy.pictures import side_by_side

    image, segmentation = torso()
    made = side_by_side(image, 12, segmentation.segments, image, 12, segmentation.segments, "axial", False, False)
    assert Picture.open(io.BytesIO(made)).width > 700
