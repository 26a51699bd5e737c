"""Comparison: the same structures at the same level in a reference, and generated pictures are always marked as such."""

from __future__ import annotations

import io

import numpy as np
import pytest
from support.phantoms import TALL, torso
from support.scripted_model import ScriptedModel, engine

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import PLANES, Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.errors import InputError
from MedFMLib.execution import serialization
from MedFMLib.healthy import Consent, HealthyLibrary, references
from MedFMLib.healthy.library import shipped
from MedFMLib.healthy.pictures import MARK, marked
from MedFMLib.healthy.section import COLUMNS, section

YELLOW = (255, 220, 0)


@pytest.fixture
def library(tmp_path):
    return HealthyLibrary(tmp_path / "healthy")


def person(shift=3):
    """Somebody whose organs lie `shift` slices higher in the image."""
    image, segmentation = torso()
    moved = TALL.affine.copy()
    moved[2, 3] += 50
    grid = Geometry(TALL.shape, moved)
    values = np.full_like(image.voxels, -1000)
    values[..., shift:] = image.voxels[..., :-shift]
    masks = {}
    for segment in segmentation.segments:
        mask = np.zeros(grid.shape, bool)
        mask[..., shift:] = segment.mask[..., :-shift]
        masks[segment.label] = mask
    return Image(values, grid, "CT", "patient"), masks


def compare(library, monkeypatch, **changes):
    image, masks = person()
    cases = [(library, entry) for entry in library.entries()]
    request = Request("compare", image, references=references(image, cases=cases), **changes)
    response = engine(ScriptedModel(masks, image.geometry), monkeypatch).run(
        serialization.loads(serialization.dumps(request))
    )
    return serialization.loads(serialization.dumps(response))


def picture(png):
    from PIL import Image as Picture

    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB"))


def is_marked(png) -> bool:
    """Does the right half have two yellow bars with black letters?"""
    pixels = picture(png)
    right = pixels[:, pixels.shape[1] // 2 :]
    rows = np.flatnonzero((right == YELLOW).all(-1).sum(axis=1) > right.shape[1] * 0.3)
    return len(rows) > 0 and rows.max() - rows.min() > right.shape[0] * 0.5


def test_a_person_is_shown_next_to_a_reference_at_the_same_level_with_sizes(library, monkeypatch):
    for title in ("one", "two", "three"):
        library.add(*torso(), title)
    response = compare(library, monkeypatch)
    comparison = response.comparison
    assert (comparison.reference, comparison.generated) == ("one", False)
    assert comparison.landmarks >= 4 and 1 <= len(comparison.pairs) <= 3
    for pair in comparison.pairs:
        assert abs(pair.slice.number - 3 - pair.reference.number) <= 1
        assert not is_marked(pair.png)
    (liver,) = [d for d in comparison.differences if (d.segment, d.name) == ("liver", "volume")]
    assert liver.n == 3 and liver.value == pytest.approx(liver.mean, rel=0.01)
    assert isinstance(response.segmentation, Segmentation) and response.measurements
    found = section(comparison)
    assert found.columns == COLUMNS and len(found.rows) == len(comparison.differences)
    assert len(found.pictures) == len(comparison.pairs) and "landmarks" in found.paragraphs[0]


def test_a_generated_image_is_marked_in_every_picture_and_gives_no_sizes(library, monkeypatch):
    library.add(*torso(), "computed", generated=True)
    comparison = compare(library, monkeypatch).comparison
    assert comparison.generated and comparison.differences == ()
    assert comparison.pairs and all(is_marked(pair.png) for pair in comparison.pairs)
    assert any("nobody was scanned" in note for note in comparison.notes)
    assert "nobody was scanned" in section(comparison).paragraphs[0]


def test_a_generated_volume_bears_the_mark_in_the_slices_of_every_plane(library, monkeypatch):
    image, segmentation = torso()
    entry = library.add(image, segmentation, "computed", generated=True)
    shown = compare(library, monkeypatch).comparison.image
    plain = library.load(entry).image
    high = plain.scalars.max()
    for plane in PLANES:
        axis = plain.geometry.index_axis(plane)
        count = plain.geometry.shape[axis]
        for number in range(count // 4, 3 * count // 4):  # nearer to the edge, some lie within another plane's bar
            before, after = (np.take(volume.scalars, number, axis=axis) for volume in (plain, shown))
            assert ((before != after) & (after == high)).sum() > 15, (plane, number)  # letters
    assert (plain.scalars == shown.scalars).mean() > 0.5  # what it shows can still be seen
    library.remove(entry.id)
    library.add(image, segmentation, "a person")
    np.testing.assert_array_equal(compare(library, monkeypatch).comparison.image.voxels, image.voxels)


def test_the_mark_is_legible_on_black_and_on_white():
    from PIL import Image as Picture

    for background in (0, 255):
        made = np.asarray(marked(Picture.new("RGB", (480, 480), (background,) * 3)))
        assert (made == YELLOW).all(-1).sum() > 4000 and MARK.startswith("GENERATED")
        assert ((made == (0, 0, 0)).all(-1) & (np.roll(made, 3, 1) == YELLOW).all(-1)).sum() > 50


def test_an_average_gives_no_sizes_and_a_single_person_no_spread_and_both_say_so(library, monkeypatch):
    entry = library.add(*torso(), "mean", average=True)
    response = compare(library, monkeypatch)
    assert response.comparison.differences == ()
    assert any("average of many people" in note for note in response.provenance.notes)
    library.add(*torso(), "one person")
    response = compare(library, monkeypatch)
    assert response.comparison.reference == "one-person"  # a person comes before an average
    assert all(d.n == 1 and d.z is None for d in response.comparison.differences) and response.comparison.differences
    assert any("1 reference: too few" in note for note in response.provenance.notes)
    library.remove(entry.id)


def test_a_patient_sees_the_pictures_and_no_sizes(library, monkeypatch):
    for title in ("one", "two", "three"):
        library.add(*torso(), title)
    comparison = compare(library, monkeypatch, audience="patient").comparison
    assert comparison.pairs and comparison.differences == ()


def test_nothing_to_compare_with_is_refused(library, monkeypatch):
    image, masks = person()
    made = engine(ScriptedModel(masks, image.geometry), monkeypatch)
    with pytest.raises(InputError, match="no healthy case to compare with"):
        made.run(Request("compare", image))
    library.add(*torso(), "one")
    found = references(image, cases=[(library, library.entries()[0])])
    with pytest.raises(InputError, match="can segment nothing that “one” has"):
        engine(ScriptedModel(masks, image.geometry), monkeypatch, labels={"CT": ("heart",)}).run(
            Request("compare", image, references=found)
        )


# -- what ships, and what a clinic has -------------------------------------------------------------------


def test_two_open_cases_ship_whole_and_the_computed_one_says_so():
    library = shipped()
    entries = library.entries()
    assert {(e.modality, e.generated) for e in entries} == {("MR", False), ("CT", True)}
    for entry in entries:
        found = library.load(entry)
        assert found.image.geometry.shape == entry.shape
        assert {s.label for s in found.segmentation.segments} == set(entry.labels)
        assert entry.about and entry.licence
    head = next(e for e in entries if e.average)
    assert "McGill" in head.licence and "above copyright notice" in head.licence
    assert any("nothing but the brain" in done for done in head.done)


def test_a_phantom_finds_the_shipped_torso(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    image, masks = person()
    found = references(image, ("liver", "left lung"))
    assert found[0].generated
    response = engine(ScriptedModel(masks, image.geometry), monkeypatch).run(
        Request("compare", image, references=found)
    )
    assert response.comparison.pairs and is_marked(response.comparison.pairs[0].png)


@pytest.mark.slow
def test_a_clinic_adds_the_open_templates_and_no_face_comes_in_without_a_yes(library, open_data):
    from MedFMLib.engine import Engine
    from MedFMLib.files import read_image

    image = read_image(open_data("healthy_reference", "mni152_2009_t1.nii.gz"), modality="MR")
    brain = Engine().run(Request("segment", image, labels=("brain",), adapter="automatic")).segmentation
    entry = library.add(image, brain, "average head", sequence="T1", average=True)
    assert "the image was already limited to the brain" in entry.done  # the template is skull-stripped
    assert library.load(entry).image.geometry.matches(Geometry(image.geometry.shape, image.geometry.affine))
    image = read_image(open_data("healthy_reference", "ct_head_template.nii.gz"), modality="CT")
    skull = Segmentation((Segment("skull", image.scalars > np.percentile(image.scalars, 97)),), image.geometry)
    with pytest.raises(InputError, match="shows a head, and its brain is not segmented"):
        library.add(image, skull, "average head CT", average=True)
    entry = library.add(image, skull, "average head CT", average=True, consent=Consent(face=True))
    assert "the user consented to storing the face" in entry.done
    assert [e.id for e in library.entries()] == ["average-head", "average-head-ct"]


def test_both_slices_have_one_scale_unless_one_would_be_tiny():
    from MedFMLib.healthy.pictures import one_scale

    def image(mm):
        return Image(np.zeros((1, 50, 40, 4), np.int16), Geometry((50, 40, 4), np.diag([mm, mm, 1, 1.0])))

    assert one_scale(image(2), image(2), "axial") == (448, 448)
    assert one_scale(image(2), image(3), "axial") == (299, 448)
    assert one_scale(image(1), image(3), "axial") == (448, 448)
