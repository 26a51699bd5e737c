"""Write a report's facts in plain words for the patient to take home. Uses reports and measurements; no model.

```
glossary   plain names and explanations of structures and terms (Resources/patient, CC0)
wording    measurements as plain sentences
checking   check that a plain text is easy to read, with nothing added, changed or omitted
leaflet    the page: picture with names, sentences, questions with answers, questions for the doctor, explanations
```
"""

from .checking import PatientTextCheck, check
from .glossary import Glossary, glossary
from .leaflet import Leaflet, make_leaflet
from .wording import plain_lines

__all__ = ["Glossary", "Leaflet", "PatientTextCheck", "check", "glossary", "make_leaflet", "plain_lines"]
