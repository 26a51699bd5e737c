"""Export results for other systems: DICOM objects and FHIR. Needs the extra `report` (highdicom); reads no pixels.

```
identity       patient and study of a header, decoded and as DICOM allows them
source         instance, frame and place of every slice of the series that was read
segmentation   DICOM Segmentation
structured     DICOM SR, TID 1500 (measurements)
structure_set  RT Structure Set (outlines); needs the extra `rt`
key_objects    DICOM Key Object Selection
encapsulated   a PDF in a DICOM object
fhir           FHIR DiagnosticReport with Observations, as JSON
writing        all of them for one response, each written atomically; `check` tells beforehand whether they can be
```

Every DICOM object has the study's and the patient's identity, and references its source instances.
"""

from .source import Source, read_source
from .writing import check, write_dicom

__all__ = ["Source", "check", "read_source", "write_dicom"]
