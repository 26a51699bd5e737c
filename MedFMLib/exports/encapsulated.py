"""Encapsulate a PDF in a DICOM object of its study. Source: PS3.3 A.45.1 Encapsulated PDF."""

from __future__ import annotations

from .identity import held
from .source import Source, new_object, reference


def encapsulated_pdf(pdf: bytes, title: str, source: Source):
    """Return an Encapsulated PDF dataset with the study's identity.

    Args:
        pdf: the document.
        title: document title, for lists of documents.
        source: the series that the report is about.
    """
    import pydicom
    from pydicom.uid import EncapsulatedPDFStorage

    made = new_object(source, EncapsulatedPDFStorage, "DOC", 4, "MedFM draft report")
    made.ConversionType = "WSD"
    made.ContentDate, made.ContentTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"
    made.DocumentTitle = held("ST", title)
    made.ConceptNameCodeSequence = pydicom.Sequence([_report_code()])
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    made.SourceInstanceSequence = pydicom.Sequence([reference(header) for header in source.headers])
    return made


def _report_code():
    import pydicom

    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "18748-4", "LN", "Diagnostic Imaging Report"
    return code
