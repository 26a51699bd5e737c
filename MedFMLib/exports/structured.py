"""Write a DICOM SR by template TID 1500: measurements with codes, units, methods and references to their segments."""

from __future__ import annotations

from collections.abc import Sequence

from .. import __version__
from ..core.findings import Code, Measurement, Segmentation, SignOff
from ..core.measurements import of_segment
from ..errors import InputError
from .codes import CODES, notes_on, unit_of
from .identity import held
from .segmentation import STRUCTURE, TISSUE, label_of, segment_numbers, tracking_uids
from .source import MANUFACTURER, MODEL, Source, concept, equipment_of_document, highdicom, identify

PROCEDURES = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "PT": Code("82918005", "SCT", "Positron emission tomography"),
}
COMMENT = Code("121106", "DCM", "Comment")
IMAGING = Code("363679005", "SCT", "Imaging")
BODY_SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}


def measurement_report(
    measurements: Sequence[Measurement],
    segmentation: Segmentation,
    segmentation_object,
    source: Source,
    signed: SignOff | None = None,
):
    """Return a Comprehensive 3D SR dataset.

    Args:
        measurements: of the segments.
        segmentation: the segments.
        segmentation_object: the DICOM Segmentation of the same segments.
        source: the series.
        signed: who verified the report with these measurements; None for a draft.

    Raises:
        InputError: if nothing was measured.
    """
    hd = highdicom()
    uids = tracking_uids(segmentation_object)
    labels = [segment.label for segment in segmentation.segments]
    groups = [
        _group(segmentation.segments[place - 1], of_segment(measurements, place, labels), number, uids[number],
               segmentation_object, source)
        for place, number in segment_numbers(segmentation).items()
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
        referenced_images=[_library_entry(source, header) for header in source.headers],
    )
    made = hd.sr.Comprehensive3DSR(
        evidence=[*source.headers, segmentation_object],
        content=report[0],
        is_complete=True,
        is_final=signed is not None,
        is_verified=signed is not None,
        verifying_observer_name=_person(signed.name) if signed else None,
        verifying_organization="not stated" if signed else None,
        **equipment_of_document(2, "MedFM measurements"),
    )
    return identify(made, source)


def _library_entry(source: Source, header):
    """Return an instance's header for the image library; without the place of its first frame if it has several."""
    import pydicom

    if not any(s.frame for s in source.slices) and source.in_patient:
        return header
    made = pydicom.Dataset()
    made.update({element.tag: element for element in header})
    del made.Modality  # the library would describe one place and orientation for all frames
    made.Modality = "OT"
    return made


def _person(name: str) -> str:
    """Return a name in DICOM form: "Doe^Jane Q." for "Jane Q. Doe"."""
    *given, family = name.replace("^", " ").replace("=", " ").split()
    return held("PN", f"{family}^{' '.join(given)}".rstrip("^"))


def _group(segment, measurements, number: int, uid: str, segmentation_object, source: Source):
    hd = highdicom()
    algorithm = hd.sr.AlgorithmIdentification(name="MedFM geometry", version=held("LO", __version__))
    items = [
        hd.sr.Measurement(
            name=concept(CODES[m.name]),
            value=round(float(m.value), 6),
            unit=concept(unit_of(m.unit)),
            algorithm_id=algorithm,
        )
        for m in measurements
        if m.name in CODES and not isinstance(m.value, str)
    ]
    if not items:
        return None
    side = segment.side or next((BODY_SIDES.get(str(m.value)) for m in measurements if m.name == "side"), None)
    code = segment.code or TISSUE
    made = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=uid, identifier=label_of(segment, number)),
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
    for text in dict.fromkeys(note for m in measurements for note in notes_on(m)):
        comment = hd.sr.TextContentItem(concept(COMMENT), held("UT", text), hd.sr.RelationshipTypeValues.CONTAINS)
        made[0].ContentSequence.append(comment)
    return made
