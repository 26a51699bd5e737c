"""Training pictures are identical to the pictures of `View`, and their labels have the anatomy's position."""

import numpy as np
import pytest

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.view import PLANES, make_view, window_for
from MedFMLib.training.embedded import labels, sources, synthesis
from MedFMLib.training.embedded.cases import square_parts
from MedFMLib.training.embedded.samples import generator


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    ("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1)), ((1, 2, 0), (-1, -1, 1))]
)
def test_a_cut_without_randomness_is_the_picture_that_a_view_shows(torso, plane, order, signs):
    """The same anatomy stored in another axis order and direction, seen by `View`, compared with our own cut."""
    stored, affine = torso.image.transpose(order), np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = 3.0 * sign
        if sign < 0:
            stored = np.flip(stored, axis)
            affine[world, 3] = 3.0 * (stored.shape[axis] - 1)
    image = Image(np.ascontiguousarray(stored)[None], Geometry(stored.shape, affine), "CT")
    box = np.array([(0, n) for n in torso.parts.shape])
    world = PLANES.index(plane)
    n = torso.parts.shape[world]
    number = n // 2
    axis = image.geometry.index_axis(plane)
    stored_number = number if affine[world, axis] > 0 else n - 1 - number
    seen = make_view(image, plane, stored_number, window_for(image)).square(96)
    where = synthesis.cut(torso, box, plane, (number + 0.5) / n, 96)
    hu = np.where(where.inside, synthesis.linear(torso.image, where.points, -1024.0), -1024.0)
    ours = window_for(image).apply(hu)
    inner = ours.astype(int)[4:-4, 4:-4] - seen.astype(int)[4:-4, 4:-4]
    assert np.median(np.abs(inner)) == 0
    assert (np.abs(inner) > 60).mean() < 0.06  # only the edges differ, by interpolation


def test_an_axial_picture_has_the_liver_of_the_right_side_on_its_left(torso):
    where = synthesis.cut(torso, np.array([(0, n) for n in torso.parts.shape]), "axial", 0.5, 96)
    parts = synthesis.nearest(torso.parts, where.points)
    liver = np.nonzero(labels.structure_mask(parts, "liver"))
    spine = np.nonzero(labels.structure_mask(parts, "spine"))
    assert liver[1].mean() < 40
    assert spine[0].mean() > 60


def test_the_same_seed_paints_the_same_picture_and_another_does_not(torso):
    painter = synthesis.Painter([torso], 64)
    first, again, other = (painter.draw(generator(5, n)) for n in (3, 3, 4))
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.parts, again.parts)
    assert not np.array_equal(first.pixels, other.pixels)


def test_pictures_are_square_bytes_with_known_parts(torso):
    painter = synthesis.Painter([torso], 64)
    for number in range(12):
        picture = painter.draw(generator(1, number))
        assert (picture.pixels.shape, picture.pixels.dtype) == ((64, 64, 3), np.uint8)
        assert picture.parts.shape == (64, 64)
        assert picture.parts.max() < len(labels.PARTS)


def test_square_parts_agree_with_the_square_picture(torso):
    geometry = Geometry(torso.parts.shape, np.diag([3.0, 3.0, 3.0, 1.0]))
    image = Image(torso.image[None], geometry, "CT")
    view = make_view(image, "axial", 20, window_for(image))
    parts = square_parts(view, torso.parts, 96)
    bone = view.square(96)[..., 0] > 160
    assert (labels.structure_mask(parts, "spine") == bone).mean() > 0.98


def test_left_structures_of_the_label_maps_lie_on_the_left(data):
    for subject in sources.head_maps(data, held_out=True):
        x = [
            np.nonzero(labels.structure_mask(subject.parts, f"{s} cerebral hemisphere"))[0].mean()
            for s in ("left", "right")
        ]
        assert x[0] < x[1]  # RAS: x grows to the right


def test_held_out_maps_and_slices_never_reach_training(data):
    names = {s.name for s in sources.head_maps(data)}
    assert len(names) == 14
    assert not names & set(sources.HELD_OUT_MAPS)
    whole = {s.name: s for s in sources.torso_subjects(data, held_out=True)}
    for subject in sources.torso_subjects(data):
        cut_out = sum(stop - start for start, stop in sources.HELD_OUT_SLICES[subject.name])
        assert subject.parts.shape[2] == whole[subject.name].parts.shape[2] - cut_out
        start = sources.HELD_OUT_SLICES[subject.name][0][0]
        gone = whole[subject.name].image[:, :, start]
        assert not any(np.array_equal(gone, subject.image[:, :, k]) for k in range(subject.image.shape[2]))


def test_held_out_hippocampi_never_reach_training(data, open_data):
    open_data("msd_hippocampus")
    seen, kept = sources.hippocampus_files(data), sources.hippocampus_files(data, held_out=True)
    assert (len(seen), len(kept)) == (56, 24)
    assert not set(seen) & set(kept)
    assert {s.name for s in sources.hippocampus_subjects(data)} == {f.name.split(".")[0] for f in seen}


def test_a_crop_is_mirrored_with_its_labels_and_a_region_stays_inside_the_slice(torso):
    crop = sources.Subject(
        "crop", "crop", "MR", torso.values, (torso.values == 5).astype(np.uint8), np.ones(3), torso.image
    )
    painter = synthesis.Painter([crop], 48)
    for number in range(8):
        picture = painter.draw(generator(2, number))
        assert (picture.region, picture.parts.max() <= 1, picture.pixels.shape) == ("crop", True, (48, 48, 3))
    box = np.array([(0, n) for n in torso.parts.shape])
    whole = synthesis.cut(torso, box, "axial", 0.5, 64)
    for number in range(12):
        part = synthesis.cut(torso, box, "axial", 0.5, 64, generator(3, number), crops=1.0)
        assert part.mm < whole.mm  # a region fills the picture


def test_a_zoomed_cut_is_the_picture_that_the_second_look_takes(torso):
    """`models.masks.volume_masks` makes its pictures by itself; training must show the same."""
    from MedFMLib.models.masks import volume_masks

    image = Image(torso.image[None], Geometry(torso.image.shape, np.diag([3.0, 3.0, 3.0, 1.0])), "CT")
    box = np.array([(4, 56), (4, 46), (0, 40)])
    where = synthesis.cut(torso, box, "coronal", 0.5, 96, zoom=True)
    ours = window_for(image).apply(synthesis.linear(torso.image, where.points, -1024.0))
    seen = []

    def remember(pictures, rows, columns):
        import torch

        seen.extend(pictures)
        return torch.zeros(len(pictures), 2, 96, 96)[:, :, rows, columns]

    world = (box.T - [[0], [0]]) * 3.0 + np.array([[-1.5], [-1.5]])  # voxel faces
    volume_masks._look(
        image, window_for(image), remember, 96, world, 52 * 3 * 1.12, ("coronal",), 0.0, (), lambda _: None
    )
    theirs = seen[len(seen) // 2]
    shown = theirs.any(-1)  # the second look leaves out what lies beyond the box
    difference = np.abs(ours.astype(int) - theirs.astype(int)).max(-1)[shown]
    assert shown.mean() > 0.3
    assert (difference > 60).mean() < 0.08  # edges, by interpolation and half a slice


def test_unsided_white_matter_takes_the_nearest_side():
    values = np.zeros((9, 3, 3), np.uint16)
    values[:4], values[5:], values[4] = 2, 41, 255
    values[4, 0, 0] = 0
    parts = sources.freesurfer_parts(values)
    assert parts[4, 1, 1] in (
        labels.part_number("left cerebral white matter"),
        labels.part_number("right cerebral white matter"),
    )
    assert parts[0, 0, 0] == labels.part_number("left cerebral white matter")
    assert parts[4, 0, 0] == 0
