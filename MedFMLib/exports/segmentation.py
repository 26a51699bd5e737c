"""Write a DICOM Segmentation: segments with codes and colours on the source's grid. Source: PS3.3 A.51, with highdicom.

Every frame has the plane position of the slice that it derives from, as that slice's own header states it, and names
the instance and frame. Spacing Between Slices is the distance of the positions along the normal: some scanners write
the gap between slices there, and readers that rebuild a volume from it would fold the slices into each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import __version__
from ..core.findings import Code, Segment, Segmentation
from ..core.request import Provenance
from ..errors import InputError
from .identity import LONGEST, held
from .source import Source, SourceSlice, concept, equipment, highdicom, identify, reference

TISSUE = Code("85756007", "SCT", "Tissue")
STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
DERIVATION = Code("113076", "DCM", "Segmentation")
PURPOSE = Code("121322", "DCM", "Source image for image processing operation")
UNKNOWN_FAMILY = Code("261665006", "SCT", "Unknown")
STAND_IN = "1.2.840.10008.5.1.4.1.1.2"
"""SOP class (CT Image Storage) under which highdicom sees frames as single images."""

MANUAL, SEMIAUTOMATIC, AUTOMATIC = ORIGINS = ("MANUAL", "SEMIAUTOMATIC", "AUTOMATIC")
DESCRIPTION = "Segmentation by MedFM, not verified"
OUTSIDE = "MedFM, not verified, image outside of the model's domain"
"""Content descriptions, at most 64 characters; the second if the model was not made for the image."""

EXPORT = "export"
"""Task in the provenance of segments that come from a file."""


def segmentation_object(segmentation: Segmentation, source: Source, provenance: Provenance):
    """Return a Segmentation dataset.

    Args:
        segmentation: on the grid of the source.
        source: the series.
        provenance: of the segmentation.

    Raises:
        InputError: if it lies on another grid than the source, or has no voxel at all.
    """
    hd = highdicom()
    source.check_grid(segmentation.geometry)
    check_in_patient(source)
    numbers = segment_numbers(segmentation)
    if not numbers:
        raise InputError("There is no segment with a voxel, so there is nothing to export; segment something first.")
    chosen = [(numbers[place], s) for place, s in enumerate(segmentation.segments, 1) if place in numbers]
    first = source.first
    made = hd.seg.Segmentation(
        source_images=[_stand_in(s) for s in source.slices],
        pixel_array=_pixels([segment for _, segment in chosen], segmentation.geometry.shape),
        segmentation_type="BINARY",
        segment_descriptions=[describe(s, n, provenance) for n, s in chosen],
        plane_positions=[
            hd.PlanePositionSequence("PATIENT", [float(v) for v in s.header.ImagePositionPatient])
            for s in source.slices
        ],
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", [float(v) for v in first.ImageOrientationPatient]),
        pixel_measures=hd.PixelMeasuresSequence(
            pixel_spacing=[float(v) for v in first.PixelSpacing],
            slice_thickness=float(first.SliceThickness),
            spacing_between_slices=source.spacing,
        ),
        content_label="MEDFM",
        content_description=OUTSIDE if provenance.outside_domain else DESCRIPTION,
        content_creator_name="MedFM^",
        **equipment(1, "MedFM segmentation"),
    )
    _name_sources(made, source)
    return identify(made, source)


def _pixels(segments: Sequence[Segment], shape: tuple[int, int, int]) -> np.ndarray:
    """Return (K, J, I) segment numbers, or (K, J, I, N) of 0 and 1, which takes N times the memory, if segments overlap."""
    labels = np.zeros(shape[::-1], np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, 1):
        place, inside = segment.boxed.box[::-1], segment.boxed.inside.transpose(2, 1, 0)
        if (labels[place][inside] > 0).any():
            break
        labels[place][inside] = number
    else:
        return labels
    layers = np.zeros((*shape[::-1], len(segments)), np.uint8)
    for number, segment in enumerate(segments):
        layers[(*segment.boxed.box[::-1], number)] = segment.boxed.inside.transpose(2, 1, 0)
    return layers


def check_in_patient(source: Source) -> None:
    """Check that a series has a place in the patient, which segmentations and structure sets need.

    Raises:
        InputError: if it has none.
    """
    if not source.in_patient:
        raise InputError(
            "The series has no position in the patient, which DICOM segmentations and structure sets need; write the segments "
            "as a picture or NIfTI file instead."
        )


def segment_numbers(segmentation: Segmentation) -> dict[int, int]:
    """Return the place of each segment with a voxel, from 1 → its number in the DICOM object, from 1 without gaps."""
    places = [place for place, s in enumerate(segmentation.segments, 1) if s.boxed.inside.any()]
    return {place: number for number, place in enumerate(places, 1)}


def label_of(segment: Segment, number: int) -> str:
    """Return a segment's name as DICOM can hold it: at most 64 characters, never empty.

    A longer one keeps its beginning and its end, in which long names usually differ.

    Args:
        segment: the segment.
        number: its segment number, for a segment without a name.
    """
    text = segment.label.strip()
    if len(text) > LONGEST["LO"]:
        text = f"{text[:39].rstrip()} … {text[-22:].lstrip()}"
    return held("LO", text) or f"segment {number}"


def _stand_in(slice_: SourceSlice):
    """Return a slice's header as highdicom takes it for a single image, whichever object it came from."""
    import pydicom

    made = pydicom.Dataset()
    made.update({element.tag: element for element in slice_.header})
    del made.SOPClassUID, made.SOPInstanceUID  # the elements are shared, so they are replaced instead of changed
    made.SOPClassUID = STAND_IN
    made.SOPInstanceUID = pydicom.uid.generate_uid() if slice_.frame else slice_.instance
    return made


def _name_sources(made, source: Source) -> None:
    """Name the source's instances, and in each frame the instance and frame that it derives from."""
    import pydicom

    made.SourceImageSequence = pydicom.Sequence([reference(header) for header in source.headers])
    series = pydicom.Dataset()
    series.SeriesInstanceUID = source.first.SeriesInstanceUID
    series.ReferencedInstanceSequence = pydicom.Sequence([reference(header) for header in source.headers])
    made.ReferencedSeriesSequence = pydicom.Sequence([series])
    places = np.array([[float(v) for v in s.header.ImagePositionPatient] for s in source.slices])
    for groups in made.PerFrameFunctionalGroupsSequence:
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        slice_ = source.slices[int(np.linalg.norm(places - position, axis=1).argmin())]
        groups.DerivationImageSequence = pydicom.Sequence([_derivation(slice_)])


def _derivation(slice_: SourceSlice):
    import pydicom

    image = reference(slice_)
    image.PurposeOfReferenceCodeSequence = pydicom.Sequence([concept(PURPOSE)])
    image.SpatialLocationsPreserved = "YES"
    made = pydicom.Dataset()
    made.DerivationCodeSequence = pydicom.Sequence([concept(DERIVATION)])
    made.SourceImageSequence = pydicom.Sequence([image])
    return made


def origin_of(segment: Segment, provenance: Provenance) -> str:
    """Return how a segment was made: "MANUAL", "SEMIAUTOMATIC" or "AUTOMATIC".

    A segment of a file of another program is a person's unless the file says otherwise; outlines follow a person's
    points and boxes; everything else is a model's.

    Args:
        segment: the segment.
        provenance: of the segmentation.
    """
    if segment.origin in ORIGINS:
        return segment.origin
    return {EXPORT: MANUAL, "outline": SEMIAUTOMATIC}.get(provenance.task, AUTOMATIC)


def describe(segment: Segment, number: int, provenance: Provenance):
    """Return the description of a segment: its codes and the algorithm.

    Args:
        segment: the segment.
        number: segment number, from 1.
        provenance: of the segmentation.
    """
    hd = highdicom()
    origin = origin_of(segment, provenance)
    label = label_of(segment, number)
    made = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=concept(segment.category or STRUCTURE),
        segmented_property_type=concept(segment.code or TISSUE),
        algorithm_type=origin,
        algorithm_identification=None if origin == MANUAL else algorithm(provenance),
        tracking_uid=hd.UID(),
        tracking_id=label,
        display_color=hd.color.CIELabColor.from_rgb(*(min(255, max(0, round(255 * c))) for c in segment.color)),
    )
    if label != segment.label and (whole := held("ST", segment.label)):
        made.SegmentDescription = whole
    if segment.side is not None:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [concept(segment.side)]
    return made


def algorithm(provenance: Provenance):
    """Return the identification of model, weights and adapter; that it is unknown, of a file that names none."""
    hd = highdicom()
    if not provenance.model:
        return hd.AlgorithmIdentificationSequence(
            name="not stated in the file", family=concept(UNKNOWN_FAMILY), version="unknown"
        )
    version = f"{__version__} {provenance.revision[:12]} {provenance.precision} {provenance.adapter}"
    return hd.AlgorithmIdentificationSequence(
        name=held("LO", f"MedFM {provenance.model}"),
        family=concept(Code("123110", "DCM", "Artificial Intelligence")),
        version=held("LO", version),
        source="MedFM",
        parameters={"adapter": provenance.adapter or "none", "weights": provenance.revision[:40] or "unknown"},
    )


def tracking_uids(segmentation_object) -> dict[int, str]:
    """Return the number of each segment of a Segmentation dataset → its tracking UID, which its measurements share."""
    items: Sequence = segmentation_object.SegmentSequence
    return {int(item.SegmentNumber): str(item.TrackingUID) for item in items}
