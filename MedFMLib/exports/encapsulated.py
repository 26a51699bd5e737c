"""Encapsulate a PDF in a DICOM object of its study. Source: PS3.3 A.45.1 Encapsulated PDF."""

from __future__ import annotations

from datetime import datetime

from .. import __version__
from .source import MANUFACTURER, MODEL, ROOT_SERIES, Source

FROM_SOURCE = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight",
    "IssuerOfPatientID", "OtherPatientIDs", "SpecificCharacterSet",
)  # fmt: skip
MUST_BE_THERE = FROM_SOURCE[:10]


def encapsulated_pdf(pdf: bytes, title: str, source: Source):
    """Return an Encapsulated PDF dataset with the study's identity.

    Args:
        pdf: the document.
        title: document title, for lists of documents.
        source: headers of the series that the report is about.
    """
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    for name in FROM_SOURCE:
        if name in source.first:
            setattr(made, name, getattr(source.first, name))
        elif name in MUST_BE_THERE:
            setattr(made, name, "")
    now = datetime.now()
    made.SOPClassUID, made.SOPInstanceUID = EncapsulatedPDFStorage, meta.MediaStorageSOPInstanceUID
    made.Modality, made.ConversionType = "DOC", "WSD"
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(), ROOT_SERIES + 4, 1
    made.SeriesDescription = "MedFM draft report"
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = MANUFACTURER, MODEL, __version__
    made.DeviceSerialNumber = "none"
    made.ContentDate, made.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = title
    made.ConceptNameCodeSequence = pydicom.Sequence([_report_code()])
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    made.SourceInstanceSequence = pydicom.Sequence([_reference(header) for header in source.headers])
    return made


def _report_code():
    import pydicom

    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "18748-4", "LN", "Diagnostic Imaging Report"
    return code


def _reference(header):
    import pydicom

    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item
