"""For every acquisition geometry, a report's slices, outlines and letters show a structure at its position."""

import io

import numpy as np
import pytest
from PIL import Image as Picture
from support.phantoms import affine, rotation

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import PLANES, Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.view import EDGE_LETTERS
from MedFMLib.reports.stack import make_stack
from MedFMLib.reports.words import best_slices

TOWARDS = np.array((18.0, 14.0, 12.0))
"""mm to the right, front and head of the patient's middle where the bright ball lies."""

MM = dict(zip("RAS", TOWARDS, strict=True)) | dict(zip("LPI", -TOWARDS, strict=True))
GRIDS = {
    "sagittal": np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]),
    "flipped": np.diag([1.0, -1, -1]),
    "oblique": rotation(20, -15, 25) @ np.diag([-1.0, 1, 1]),
    "coronal": np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}


def ball(directions):
    """(image, segmentation, its middle) of a dark head with a bright ball off its middle."""
    geometry = Geometry((80, 70, 30), affine(directions, (1.5, 1.7, 4.0), (10, -20, 30)))
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    away = geometry.to_world(index) - geometry.center
    mask = np.linalg.norm(away - TOWARDS, axis=-1) < 9
    values = np.where(np.linalg.norm(away, axis=-1) < 50, 100, 0).astype(np.int16)
    values[mask] = 1000
    return (
        Image(values[None], geometry, "MR"),
        Segmentation((Segment("liver", mask),), geometry),
        geometry.center + TOWARDS,
    )


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("grid", GRIDS)
def test_a_structure_is_shown_where_it_is(grid, plane):
    image, segmentation, middle = ball(GRIDS[grid])
    best = best_slices(segmentation, plane)["liver"]
    assert np.linalg.norm(np.array(best.center) - middle) < 4.0
    shown = {s.slice.number: s for s in make_stack(image, segmentation, plane, [best.number])}[best.number]
    labels = np.asarray(Picture.open(io.BytesIO(shown.labels_png))) == 1
    bright = np.asarray(Picture.open(io.BytesIO(shown.jpeg)).convert("L")) > 200
    row, column = np.argwhere(labels).mean(axis=0)
    assert np.allclose((row, column), np.argwhere(bright).mean(axis=0), atol=1.0)
    top, _, left, _ = EDGE_LETTERS[plane]
    assert (row < labels.shape[0] / 2) == (MM[top] > 0) and (column < labels.shape[1] / 2) == (MM[left] > 0)
