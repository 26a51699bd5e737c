"""Results as other systems read them: DICOM objects, FHIR. Needs the extra `report` (highdicom); reads no pixels.

    source         headers of the series that was read, in the order of the volume's slices
    segmentation   DICOM Segmentation
    structured     DICOM SR, TID 1500 (measurements)
    key_objects    DICOM Key Object Selection
    encapsulated   a PDF in a DICOM object
    fhir           FHIR DiagnosticReport with Observations, as JSON
    writing        all of them for one response, each whole or not at all

Every DICOM object keeps the study's and the patient's identity, and names the instances that it rests on.
"""

from .source import Source, read_source
from .writing import write_dicom

__all__ = ["Source", "read_source", "write_dicom"]
