"""A report's facts in plain words, for the patient to take home. Knows reports and measurements; asks no model.

glossary   plain names and explanations of structures and terms (Resources/patient, CC0)
wording    measurements → plain sentences
checking   may a plain text be handed out? Easy enough, nothing added, nothing changed, nothing left out
leaflet    the page: picture with names, sentences, questions that were asked, what to ask, what words mean
"""

from .checking import PatientTextCheck, check
from .glossary import Glossary, glossary
from .leaflet import Leaflet, make_leaflet
from .wording import plain_lines

__all__ = ["Glossary", "Leaflet", "PatientTextCheck", "check", "glossary", "make_leaflet", "plain_lines"]
