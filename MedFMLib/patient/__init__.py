"""Show a patient their own pictures in plain words: patient mode, and the page to take home. No model's words are shown.

```
glossary   plain names, explanations and all approved texts, one file per language (Resources/patient, CC0)
parts      render approved texts with typed slots: the one door to the patient's screen
replies    choose the parts that answer an intent, or refuse a question
settings   the clinic's choices: language, time-out, approved texts, and what a model may do
serving    run a patient's request under the guard
touching   tell which structure is at a position
visit      what a patient asked and collected, for the page
wording    measurements as plain sentences
checking   check that a plain text is easy to read, with nothing added, changed or omitted
pictures   slices with the names of structures beside them
leaflet    the page: picture with names, sentences, questions with answers, questions for the doctor, explanations
```
"""

from .checking import PatientTextCheck, check
from .glossary import Glossary, glossary
from .leaflet import Leaflet, make_leaflet
from .parts import is_valid, render
from .settings import PatientSettings, languages, read_settings, write_settings
from .touching import structure_at
from .visit import Visit, read_visit
from .wording import plain_lines

__all__ = ["Glossary", "Leaflet", "PatientSettings", "PatientTextCheck", "Visit", "check", "glossary", "is_valid", "languages",
           "make_leaflet", "plain_lines", "read_settings", "read_visit", "render", "structure_at", "write_settings"]  # fmt: skip
