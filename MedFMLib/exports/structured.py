"""Write a DICOM SR by template TID 1500: measurements with codes, units, methods and references to their segments."""

from __future__ import annotations

from collections.abc import Sequence

from .. import __version__
from ..core.findings import Code, Measurement, Segmentation, SignOff
from ..core.request import Provenance
from ..errors import InputError
from .codes import CODES, UNITS
from .segmentation import STRUCTURE
from .source import MANUFACTURER, MODEL, Source, concept, equipment_of_document, highdicom

PROCEDURES = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
}
IMAGING = Code("363679005", "SCT", "Imaging")
BODY_SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}


def measurement_report(
    measurements: Sequence[Measurement],
    segmentation: Segmentation,
    segmentation_object,
    source: Source,
    provenance: Provenance,
    signed: SignOff | None = None,
):
    """Return a Comprehensive 3D SR dataset.

    Args:
        measurements: of the segments.
        segmentation: the segments.
        segmentation_object: the DICOM Segmentation of the same segments.
        source: headers of the series.
        provenance: of the measurements.
        signed: who verified the report with these measurements; None for a draft.

    Raises:
        InputError: if nothing was measured.
    """
    hd = highdicom()
    numbers = {str(item.SegmentLabel): int(item.SegmentNumber) for item in segmentation_object.SegmentSequence}
    groups = [
        _group(segment, [m for m in measurements if m.segment == segment.label], numbers[segment.label[:64]],
               segmentation_object, source, provenance)
        for segment in segmentation.segments
        if segment.label[:64] in numbers
    ]  # fmt: skip
    groups = [group for group in groups if group is not None]
    if not groups:
        raise InputError("Nothing was measured, so there is no measurement to export; segment something first.")
    observer = hd.sr.ObserverContext(
        observer_type=concept(Code("121007", "DCM", "Device")),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), manufacturer_name=MANUFACTURER, model_name=MODEL, name=f"MedFM {__version__}"
        ),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=concept(PROCEDURES.get(str(source.first.Modality), IMAGING)),
        imaging_measurements=groups,
        title=concept(Code("126000", "DCM", "Imaging Measurement Report")),
        referenced_images=list(source.headers),
    )
    return hd.sr.Comprehensive3DSR(
        evidence=[*source.headers, segmentation_object],
        content=report[0],
        is_complete=True,
        is_final=signed is not None,
        is_verified=signed is not None,
        verifying_observer_name=_person(signed.name) if signed else None,
        verifying_organization="not stated" if signed else None,
        **equipment_of_document(2, "MedFM measurements"),
    )


def _person(name: str) -> str:
    """Return a name in DICOM form: "Doe^Jane Q." for "Jane Q. Doe"."""
    *given, family = name.replace("^", " ").replace("=", " ").split()
    return f"{family}^{' '.join(given)}".rstrip("^")[:64]


def _group(segment, measurements, number: int, segmentation_object, source: Source, provenance: Provenance):
    hd = highdicom()
    algorithm = hd.sr.AlgorithmIdentification(
        name=f"MedFM {provenance.model}"[:64], version=f"{__version__} {provenance.revision[:12]}"[:64]
    )
    items = [
        hd.sr.Measurement(
            name=concept(CODES[m.name]),
            value=round(float(m.value), 6),
            unit=concept(UNITS[m.unit]),
            algorithm_id=algorithm,
        )
        for m in measurements
        if m.name in CODES and m.unit in UNITS
    ]
    if not items:
        return None
    side = segment.side or next((BODY_SIDES.get(str(m.value)) for m in measurements if m.name == "side"), None)
    code = segment.code or Code("85756007", "SCT", "Tissue")
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=segment.label[:64]),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation_object.SOPClassUID,
            sop_instance_uid=segmentation_object.SOPInstanceUID,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID),
        ),
        finding_type=concept(code),
        finding_category=concept(segment.category or STRUCTURE),
        finding_sites=[hd.sr.FindingSite(concept(code), laterality=concept(side) if side else None)],
        measurements=items,
    )
