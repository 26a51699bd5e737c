"""Write an RT Structure Set: the outline of every segment in every slice, as treatment planning reads it.

Source: PS3.3 A.19, C.8.8.5, C.8.8.6, C.8.8.8. An outline follows the middle between the centres of voxels inside and
outside (marching squares, by contourpy), so filling it by voxel centres gives the same voxels. A hole is joined to its
outline by a channel without width, as CLOSED_PLANAR asks for. contourpy is the contour generator of matplotlib alone: a
megabyte, compiled for every platform, with numpy as its only requirement, and the only one that says which hole
belongs to which outline.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ..core.findings import Segmentation
from ..core.request import Provenance
from ..errors import InputError, ModelError
from .identity import held
from .segmentation import TISSUE, check_in_patient, label_of, origin_of, segment_numbers
from .source import Source, concept, new_object, reference

STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY = "1.2.840.10008.3.1.2.3.1"
"""SOP class by which structure sets reference a study."""

DECIMALS = 5
"""Of a coordinate in mm."""


def check_contours() -> None:
    """Check that outlines can be computed.

    Raises:
        ModelError: if contourpy is missing.
    """
    try:
        import contourpy  # noqa: F401
    except ImportError:
        raise ModelError(
            "Structure sets need the package contourpy; install it with `pip install medfm[rt]`."
        ) from None


def structure_set(segmentation: Segmentation, source: Source, provenance: Provenance):
    """Return an RT Structure Set dataset.

    Args:
        segmentation: on the grid of the source.
        source: the series.
        provenance: of the segmentation.

    Raises:
        InputError: if it lies on another grid than the source, or has no voxel at all.
        ModelError: if contourpy is missing.
    """
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    check_contours()
    source.check_grid(segmentation.geometry)
    check_in_patient(source)
    numbers = segment_numbers(segmentation)
    if not numbers:
        raise InputError("There is no segment with a voxel, so there is nothing to export; segment something first.")
    made = new_object(source, STORAGE, "RTSTRUCT", 5, "MedFM structure set")
    made.file_meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian  # an explicit DS can't hold more than 64 kB of coordinates
    )
    made.OperatorsName = ""
    made.StructureSetLabel, made.StructureSetName = "MedFM", "Structure set by MedFM, not verified"
    made.StructureSetDate, made.StructureSetTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.ApprovalStatus = "UNAPPROVED"
    made.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    made.PositionReferenceIndicator = source.first.get("PositionReferenceIndicator") or ""
    made.ReferencedFrameOfReferenceSequence = pydicom.Sequence([_frame_of_reference(source)])
    regions, contours, observations = [], [], []
    for place, number in numbers.items():
        segment = segmentation.segments[place - 1]
        region, outline, observation = (pydicom.Dataset() for _ in range(3))
        region.ROINumber, region.ReferencedFrameOfReferenceUID = number, source.first.FrameOfReferenceUID
        region.ROIName = label_of(segment, number)
        if region.ROIName != segment.label and (whole := held("ST", segment.label)):
            region.ROIDescription = whole
        region.ROIGenerationAlgorithm = origin_of(segment, provenance)
        outline.ROIDisplayColor = [min(255, max(0, round(255 * c))) for c in segment.color]
        outline.ReferencedROINumber = number
        outline.ContourSequence = pydicom.Sequence(list(_contours(segment, source)))
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = observation.ROIInterpreter = ""
        observation.RTROIIdentificationCodeSequence = pydicom.Sequence([concept(segment.code or TISSUE)])
        regions.append(region)
        contours.append(outline)
        observations.append(observation)
    made.StructureSetROISequence = pydicom.Sequence(regions)
    made.ROIContourSequence = pydicom.Sequence(contours)
    made.RTROIObservationsSequence = pydicom.Sequence(observations)
    return made


def _frame_of_reference(source: Source):
    import pydicom

    series, study, frame = (pydicom.Dataset() for _ in range(3))
    series.SeriesInstanceUID = source.first.SeriesInstanceUID
    series.ContourImageSequence = pydicom.Sequence([reference(header) for header in source.headers])
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY, source.first.StudyInstanceUID
    study.RTReferencedSeriesSequence = pydicom.Sequence([series])
    frame.FrameOfReferenceUID = source.first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = pydicom.Sequence([study])
    return frame


def _contours(segment, source: Source) -> Iterator:
    """Yield an item for each outline of a segment, slice by slice."""
    import pydicom

    (left, top, first), inside = segment.boxed.start, segment.boxed.inside
    directions = np.array(source.first.ImageOrientationPatient, float).reshape(2, 3)
    down, across = (float(v) for v in source.first.PixelSpacing)
    for k in range(inside.shape[2]):
        slice_ = source.slices[first + k]
        for outline in outlines(inside[:, :, k]):
            i, j = (outline + np.array([left, top])).T
            points = slice_.position + np.outer(i * across, directions[0]) + np.outer(j * down, directions[1])
            item = pydicom.Dataset()
            item.ContourImageSequence = pydicom.Sequence([reference(slice_)])
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [
                f"{v + 0.0:.{DECIMALS}f}".rstrip("0").rstrip(".") for v in np.round(points, DECIMALS).ravel()
            ]
            yield item


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outlines of a 2D mask, each (n, 2) in (i, j), not closed, with its holes joined to it.

    Args:
        mask: (I, J) bool.
    """
    from contourpy import FillType, contour_generator

    if not mask.any():
        return []
    padded = np.pad(mask, 1).astype(np.float64)
    polygons, offsets = contour_generator(z=padded.T, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    found = []
    for points, starts in zip(polygons, offsets, strict=True):
        rings = [_without_straight(points[a : b - 1] - 1.0) for a, b in pairwise(starts)]
        found.append(_joined(rings[0], rings[1:]))
    return found


def _without_straight(ring: np.ndarray) -> np.ndarray:
    """Leave out vertices on the straight line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9
    return ring[turns]


def _joined(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Join holes to their outline by a short channel that is passed in both directions, so it encloses nothing."""

    def nearest(point: np.ndarray, ring: np.ndarray) -> int:
        return int(((ring - point) ** 2).sum(axis=1).argmin())

    insertions: dict[int, list[np.ndarray]] = {}
    for hole in holes:
        there = nearest(outer[nearest(hole[0], outer)], hole)
        here = nearest(hole[there], outer)
        turned = np.roll(hole, -there, axis=0)
        insertions.setdefault(here, []).extend([turned, turned[:1], outer[here : here + 1]])
    pieces, done = [], 0
    for here in sorted(insertions):
        pieces += [outer[done : here + 1], *insertions[here]]
        done = here + 1
    return np.concatenate([*pieces, outer[done:]])
