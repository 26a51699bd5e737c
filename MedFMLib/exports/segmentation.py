"""Write a DICOM Segmentation: segments with codes and colours on the source's grid. Source: PS3.3 A.51, with highdicom."""

from __future__ import annotations

import numpy as np

from .. import __version__
from ..core.findings import Code, Segment, Segmentation
from ..core.geometry import lps_from_ras
from ..core.request import Provenance
from .source import Source, concept, equipment, highdicom

TISSUE = Code("85756007", "SCT", "Tissue")
STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")


def segmentation_object(segmentation: Segmentation, source: Source, provenance: Provenance):
    """Return a Segmentation dataset.

    Args:
        segmentation: on the grid of the source.
        source: headers of the series.
        provenance: of the segmentation.

    Raises:
        InputError: if it lies on another grid than the source, or has no voxel at all.
    """
    hd = highdicom()
    source.check_grid(segmentation.geometry)
    segments = [s for s in segmentation.segments if s.mask.any()]
    if not segments:
        from ..errors import InputError

        raise InputError("There is no segment with a voxel, so there is nothing to export; segment something first.")
    geometry, affine = segmentation.geometry, lps_from_ras(segmentation.geometry.affine)
    shape = (geometry.shape[2], geometry.shape[1], geometry.shape[0], len(segments))
    pixels = np.zeros(shape, np.uint8)  # frames, rows, columns, segments
    for number, segment in enumerate(segments):
        pixels[..., number] = segment.mask.transpose(2, 1, 0)
    directions = geometry_directions(affine)
    return hd.seg.Segmentation(
        source_images=list(source.headers),
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=[describe(s, n, provenance) for n, s in enumerate(segments, 1)],
        plane_positions=[
            hd.PlanePositionSequence("PATIENT", [float(v) for v in affine @ (0, 0, k, 1)][:3]) for k in range(shape[0])
        ],
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", directions),
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=(float(geometry.spacing[1]), float(geometry.spacing[0])),
            slice_thickness=float(geometry.spacing[2]),
            spacing_between_slices=float(geometry.spacing[2]),
        ),
        content_label="MEDFM",
        content_description="Segmentation by MedFM, not verified",
        **equipment(1, "MedFM segmentation"),
    )


def geometry_directions(affine: np.ndarray) -> list[float]:
    """Return the direction cosines of rows and columns, LPS, of an affine index (i, j, k) → LPS."""
    unit = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    return [float(v) for v in (*unit[:, 0], *unit[:, 1])]


def describe(segment: Segment, number: int, provenance: Provenance):
    """Return the description of a segment: its codes and the algorithm.

    Args:
        segment: the segment.
        number: segment number, from 1.
        provenance: of the segmentation.
    """
    hd = highdicom()
    code = segment.code or Code("85756007", "SCT", "Tissue")
    made = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label[:64],
        segmented_property_category=concept(segment.category or STRUCTURE),
        segmented_property_type=concept(code),
        algorithm_type="SEMIAUTOMATIC" if provenance.task == "outline" else "AUTOMATIC",
        algorithm_identification=algorithm(provenance),
        tracking_uid=hd.UID(),
        tracking_id=segment.label[:64],
        display_color=hd.color.CIELabColor.from_rgb(*(round(255 * c) for c in segment.color)),
    )
    if segment.side is not None:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept(segment.side)]
    return made


def algorithm(provenance: Provenance):
    """Return the identification of model, weights and adapter."""
    hd = highdicom()
    name = f"MedFM {provenance.model}"[:64]
    version = f"{__version__} {provenance.revision[:12]} {provenance.precision} {provenance.adapter}".strip()[:64]
    return hd.AlgorithmIdentificationSequence(
        name=name,
        family=concept(Code("123110", "DCM", "Artificial Intelligence")),
        version=version,
        source="MedFM",
        parameters={"adapter": provenance.adapter or "none", "weights": provenance.revision[:40] or "unknown"},
    )
