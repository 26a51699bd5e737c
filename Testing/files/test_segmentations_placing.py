"""Labels are placed without loss on every grid that fits, and refused or resampled on others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.phantoms import affine, oblique_geometry, rotation
from support.segmentation_phantoms import GRID, RAS, blocks, label_map, write_nifti_with_nibabel

from MedFMLib.core.geometry import Geometry
from MedFMLib.errors import InputError
from MedFMLib.files.segmentations import fit_grids, place_labels, read_segmentation


def on_grid(placed, geometry, dtype=np.uint8):
    """The placed labels on the whole grid."""
    full = np.zeros(geometry.shape, dtype)
    full[tuple(slice(a, a + n) for a, n in zip(placed.start, placed.labels.shape, strict=True))] = placed.labels
    return full


@st.composite
def regridded(draw):
    """(image grid, its labels, the same labels on a permuted, flipped, cropped, padded and finer grid)."""
    shape = draw(st.tuples(*[st.integers(2, 7)] * 3))
    labels = draw(arrays(np.uint8, shape, elements=st.integers(0, 3), fill=st.just(0)))
    angles = draw(st.tuples(*[st.floats(-80, 80)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 6)] * 3))
    shear = np.eye(3)
    shear[0, 2], shear[1, 2] = draw(st.floats(-0.3, 0.3)), draw(st.floats(-0.3, 0.3))
    matrix = affine(rotation(*angles), spacing, draw(st.tuples(*[st.floats(-300, 300)] * 3)))
    matrix[:3, :3] = matrix[:3, :3] @ shear
    geometry = Geometry(shape, matrix)

    around = [draw(st.tuples(st.integers(-2, 3), st.integers(-2, 3))) for _ in range(3)]  # below 0 crops
    low = [-a if a < 0 and not np.take(labels, range(min(-a, n)), axis).any() and -a < n - 1 else 0
           for axis, ((a, _), n) in enumerate(zip(around, shape, strict=True))]  # fmt: skip
    own = labels[tuple(slice(a, None) for a in low)]
    pad = [(max(a, 0), max(b, 0)) for a, b in around]
    own = np.pad(own, pad)
    start = [a - p[0] for a, p in zip(low, pad, strict=True)]
    factors = draw(st.tuples(*[st.sampled_from([1, 1, 2, 3])] * 3))
    for axis, factor in enumerate(factors):
        own = np.repeat(own, factor, axis)
    to_image = np.diag([*(1 / np.array(factors)), 1.0])
    to_image[:3, 3] = np.array(start) - 0.5 + 0.5 / np.array(factors)
    axes = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    own = own.transpose(axes)
    for new, old in enumerate(axes):
        turn[old, new] = signs[new]
        if signs[new] < 0:
            turn[old, 3] = own.shape[new] - 1
    own = own[tuple(slice(None, None, s) for s in signs)]
    return geometry, labels, np.ascontiguousarray(own), Geometry(own.shape, geometry.affine @ to_image @ turn)


@settings(max_examples=300, deadline=None)
@given(regridded())
def test_labels_on_any_grid_that_fits_are_the_same_voxels(case):
    geometry, labels, own, grid = case
    placed = place_labels(own, grid, geometry, "the labels")
    assert placed.lossless
    np.testing.assert_array_equal(on_grid(placed, geometry), labels)


def test_the_misfit_of_a_grid_is_that_of_its_worst_corner():
    geometry = oblique_geometry()
    moved = geometry.transformed(affine(origin=(0, 0, 1.2)))
    fit = fit_grids(moved, geometry)
    assert fit.misfit_mm == pytest.approx(1.2, abs=1e-6) and not fit.aligned
    assert fit_grids(geometry, geometry).misfit < 1e-9


@pytest.mark.parametrize(("mm", "aligned"), [(0.03, True), (0.09, True), (0.11, False), (0.2, False)])
def test_a_shift_as_rounded_headers_make_it_is_accepted_and_a_larger_one_is_not(mm, aligned):
    assert fit_grids(GRID.transformed(affine(origin=(0, 0, mm))), GRID).aligned == aligned


def test_small_voxels_have_a_small_tolerance():
    small = Geometry((20, 20, 20), affine(spacing=(0.2, 0.2, 0.2)))
    assert fit_grids(small.transformed(affine(origin=(0.015, 0, 0))), small).aligned
    assert not fit_grids(small.transformed(affine(origin=(0.03, 0, 0))), small).aligned


def test_a_single_slice_is_placed_whatever_its_thickness_is_said_to_be():
    slice_ = GRID.slice(2, 4)
    thin = slice_.affine.copy()
    thin[:3, 2] /= 5
    placed = place_labels(label_map()[:, :, 4:5], Geometry(slice_.shape, thin), GRID, "a slice")
    assert placed.start == (0, 0, 4) and placed.lossless
    np.testing.assert_array_equal(placed.labels, label_map()[:, :, 4:5])


def test_finer_labels_with_several_values_in_one_voxel_are_refused_or_the_most_frequent_is_taken():
    fine = np.repeat(label_map(), 2, axis=0)
    fine[16, 10, 2] = 0  # half of the first voxel of block one
    fine[20, 11, 3] = 2
    matrix = RAS @ np.diag([0.5, 1, 1, 1])
    matrix[:3, 3] = (RAS @ (-0.25, 0, 0, 1))[:3]
    grid = Geometry(fine.shape, matrix)
    with pytest.raises(InputError, match=r"finer than the image \(2×1×1 voxels in one\), and 2 voxels .* --resample"):
        place_labels(fine, grid, GRID, "'x'")
    placed = place_labels(fine, grid, GRID, "'x'", resample=True)
    assert placed.mixed == 2
    expected = label_map()
    expected[8, 10, 2] = 0  # a tie is no label
    expected[10, 11, 3] = 1
    np.testing.assert_array_equal(on_grid(placed, GRID), expected)


def test_labels_outside_of_the_image_are_never_cut_off_without_being_asked(tmp_path):
    wide = np.pad(label_map(), ((6, 0), (0, 0), (0, 0)))
    wide[1:3, 5:7, 4] = 1
    matrix = RAS.copy()
    matrix[:3, 3] = (RAS @ (-6, 0, 0, 1))[:3]
    path = write_nifti_with_nibabel(tmp_path / "wide.nii.gz", wide, matrix)
    with pytest.raises(InputError, match=r"has 4 labelled voxels \(0.08 mL\) outside of the image.*--resample"):
        read_segmentation(path, GRID)
    notes = []
    read = read_segmentation(path, GRID, resample=True, tell=notes.append)
    np.testing.assert_array_equal(read["label 1"].mask, blocks()[0])
    assert len(notes) == 1 and "'label 1' from 404 voxels (8.08 mL) to 400 (8 mL)" in notes[0]


def test_labels_beside_the_image_are_refused_with_and_without_resampling(tmp_path):
    far = RAS.copy()
    far[0, 3] += 1000
    path = write_nifti_with_nibabel(tmp_path / "far.nii.gz", label_map(), far)
    with pytest.raises(InputError, match="600 labelled voxels .* outside of the image"):
        read_segmentation(path, GRID)
    with pytest.raises(InputError, match="no label within the image"):
        read_segmentation(path, GRID, resample=True, tell=lambda note: None)


def test_another_grid_is_refused_with_its_distance_and_resampled_as_simpleitk_does(tmp_path):
    import SimpleITK as sitk

    turned = affine(rotation(0, 0, 8), origin=(4, -6, 3)) @ RAS
    path = write_nifti_with_nibabel(tmp_path / "turned.nii.gz", label_map(), turned)
    with pytest.raises(
        InputError, match=r"lies on another grid .* by up to \d+\.\d+ mm; .* --resample \(in Python resample=True\)"
    ):
        read_segmentation(path, GRID)
    notes = []
    read = read_segmentation(path, GRID, resample=True, tell=notes.append)
    reference = sitk.ReadImage(str(write_nifti_with_nibabel(tmp_path / "image.nii.gz", label_map())))
    expected = sitk.GetArrayFromImage(
        sitk.Resample(sitk.ReadImage(str(path)), reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    ).T
    for value, label in ((1, "label 1"), (2, "label 2")):
        assert np.count_nonzero(read[label].mask != (expected == value)) <= 2  # ties of rounding
    assert "another grid" in notes[0] and "from 400 voxels (8 mL) to" in notes[1]


def test_a_shifted_grid_is_resampled_with_a_word_even_if_no_voxel_changes(tmp_path):
    moved = RAS.copy()
    moved[2, 3] += 0.2
    path = write_nifti_with_nibabel(tmp_path / "moved.nii.gz", label_map(), moved)
    with pytest.raises(InputError, match=r"by up to 0\.2 mm;"):
        read_segmentation(path, GRID)
    notes = []
    read = read_segmentation(path, GRID, resample=True, tell=notes.append)
    np.testing.assert_array_equal(read["label 2"].mask, blocks()[1])
    assert len(notes) == 1 and "another grid" in notes[0]


def test_labels_of_another_resolution_keep_their_volume_within_a_surface_layer(tmp_path):
    coarse = Geometry((16, 14, 17), affine(np.diag([-1.0, -1, 1]), (6, 6, 3), (47, 39, 0)))
    index = np.stack(np.meshgrid(*map(np.arange, coarse.shape), indexing="ij"), -1)
    ball = np.linalg.norm(coarse.to_world(index) - coarse.center, axis=-1) < 18
    path = write_nifti_with_nibabel(tmp_path / "coarse.nii.gz", ball.astype(np.uint8), coarse.affine)
    read = read_segmentation(path, GRID, resample=True, tell=lambda note: None)
    volume = read["label 1"].mask.sum() * GRID.voxel_volume
    assert volume == pytest.approx(ball.sum() * coarse.voxel_volume, rel=0.15)


def test_notes_become_python_warnings_if_nobody_receives_them(tmp_path):
    moved = RAS.copy()
    moved[2, 3] += 0.2
    path = write_nifti_with_nibabel(tmp_path / "moved.nii.gz", label_map(), moved)
    with pytest.warns(UserWarning, match="another grid"):
        read_segmentation(path, GRID, resample=True)
