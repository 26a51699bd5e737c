"""Read DICOM images. Knows headers and pixels; no models, and nothing of the objects that MedFM writes (`exports`).

```
headers    files of a folder, their headers, values with a sentence for what is wrong
planes     single images and frames, each with its own position, direction, spacing, scale and time
series     series of a folder; volumes in a series (stacks, stations, phases, echoes)
grid       one grid through the planes, proved plane by plane
pixels     stored values, decoded and scaled plane by plane
pictures   radiographs, ultrasound, colour: images without a place in the patient
reading    all of it: `read_dicom`
```
"""

from .planes import Plane
from .reading import find_planes, read_dicom, reason_for_study
from .series import Series, choose_series, find_series

__all__ = ["Plane", "Series", "choose_series", "find_planes", "find_series", "read_dicom", "reason_for_study"]
