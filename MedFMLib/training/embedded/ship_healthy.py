"""Make the open healthy cases that ship with MedFM: an average head, and a synthetic torso.

    python -m MedFMLib.training.embedded.ship_healthy --scan FILE --output Resources/healthy

The head is the ICBM 2009a average T1 of 152 adults, skull-stripped, as the package nilearn ships it, segmented by the
embedded
model and not checked by a person. The torso is computed from ellipsoids of about the right size and position; nobody
was scanned,
it is marked as generated, and its sizes are never compared. See docs/decisions/0010.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from ...core.findings import Segment, Segmentation
from ...core.geometry import Geometry
from ...core.image import Image
from ...core.request import DEFAULT_MODEL, Request
from ...core.terminology import structure
from ...engine import Engine
from ...files import read_image
from ...healthy import Consent, HealthyLibrary

MNI_NOTICE = (
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University. "
    "Permission to use, copy, modify, and distribute this software and its documentation for any purpose and without fee is "
    "hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill University make no "
    "representations about the suitability of this software for any purpose. It is provided “as is” without express or implied "
    "warranty. The authors are not responsible for any data loss, equipment damage, property loss, or injury to subjects or "
    "patients resulting from the use or misuse of this software package."
)
MARGIN = 6
"""Margin around the brain in voxels."""

ELLIPSOIDS = {
    "liver": ((52, 8, -40), (72, 58, 52), 60),
    "spleen": ((-82, -38, -38), (24, 34, 46), 52),
    "stomach": ((-52, 38, -42), (34, 26, 40), 35),
    "right kidney": ((52, -58, -92), (25, 23, 52), 35),
    "left kidney": ((-52, -58, -84), (25, 23, 53), 35),
    "aorta": ((-10, -46, -40), (11, 11, 150), 45),
    "spine": ((0, -74, -20), (21, 20, 400), 230),
    "right lung": ((70, -2, 88), (58, 78, 110), -860),
    "left lung": ((-70, -2, 88), (56, 78, 110), -860),
}
"""Name → centre (RAS mm), half axes (mm), HU; earlier ones cover later ones."""


def torso() -> tuple[Image, Segmentation]:
    """Return a CT of ellipsoids in an elliptic body, 3 mm, with the same noise each time."""
    shape, spacing = (128, 90, 104), 3.0
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = [spacing * (shape[0] - 1) / 2, spacing * (shape[1] - 1) / 2, -spacing * (shape[2] - 1) / 2]
    geometry = Geometry(shape, affine)
    p = geometry.to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    values = np.full(shape, -1000.0)
    body = (p[..., 0] / 172) ** 2 + (p[..., 1] / 118) ** 2
    values[body < 1] = -100  # fat
    values[(p[..., 0] / 150) ** 2 + (p[..., 1] / 100) ** 2 < 1] = 45
    taken = np.zeros(shape, bool)
    segments = []
    for name, (middle, axes, density) in ELLIPSOIDS.items():
        inside = (((p - middle) / axes) ** 2).sum(axis=-1) < 1
        inside &= ~taken & (body < 0.9)
        values[inside], taken = density, taken | inside
        known = structure(name)
        segments.append(Segment(known.label, inside, known.color, known.category, known.code, known.side))
    noise = np.random.default_rng(20_261).normal(0, 8, shape)
    voxels = np.rint(np.where(values > -1000, values + noise, values)).astype(np.int16)
    return Image(voxels[None], geometry, "CT", "torso"), Segmentation(tuple(segments), geometry)


def average_head(scan: Path) -> tuple[Image, Segmentation]:
    """Return the average T1 cropped to the brain, and the embedded model's segmentation of it."""
    image = read_image(scan, modality="MR")
    inside = np.argwhere(image.scalars > image.scalars.max() * 0.05)
    start = np.maximum(inside.min(axis=0) - MARGIN, 0)
    stop = np.minimum(inside.max(axis=0) + 1 + MARGIN, image.geometry.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    scaled = image.scalars[box].astype(np.float32)
    voxels = np.rint(scaled / scaled.max() * 255).astype(np.uint8)
    image = Image(voxels[None], image.geometry.crop(start, stop), "MR", "average head T1")
    engine = Engine()
    found = engine.run(Request("segment", image, adapter="automatic", model=DEFAULT_MODEL)).segmentation
    brain = engine.run(Request("segment", image, labels=("brain",), adapter="automatic")).segmentation
    heads = tuple(s for s in (*brain.segments, *found.segments) if s.boxed.inside.any())
    return image, Segmentation(heads, image.geometry)


def main() -> None:
    """Make both cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    shutil.rmtree(options.output / "cases", ignore_errors=True)
    (options.output / "index.json").unlink(missing_ok=True)
    library = HealthyLibrary(options.output)
    library.add(
        *average_head(options.scan), "Average healthy brain, T1", sequence="T1", average=True,
        about="ICBM 2009a nonlinear symmetric average T1 of 152 adults, skull-stripped, from the package nilearn; outlined by "
        "MedFM-tiny, not checked by a person.",
        licence=MNI_NOTICE, consent=Consent(text=True),
    )  # fmt: skip
    library.add(
        *torso(),
        "Computed torso",
        generated=True,
        about="Computed by MedFM from ellipsoids; nobody was scanned.",
        licence="CC0",
        consent=Consent(text=True),
    )
    for entry in library.entries():
        print(entry.id, entry.shape, ", ".join(entry.labels))


if __name__ == "__main__":
    main()
