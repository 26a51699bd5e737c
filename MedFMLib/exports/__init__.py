"""Export results for other systems: DICOM objects and FHIR. Needs the extra `report` (highdicom); reads no pixels.

```
source         headers of the series that was read, in the order of the volume's slices
segmentation   DICOM Segmentation
structured     DICOM SR, TID 1500 (measurements)
key_objects    DICOM Key Object Selection
encapsulated   a PDF in a DICOM object
fhir           FHIR DiagnosticReport with Observations, as JSON
writing        all of them for one response, each written atomically
```

Every DICOM object has the study's and the patient's identity, and references its source instances.
"""

from .source import Source, read_source
from .writing import write_dicom

__all__ = ["Source", "read_source", "write_dicom"]
