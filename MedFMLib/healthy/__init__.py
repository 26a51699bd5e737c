"""A library of healthy cases to compare with, which a clinic fills with its own. Knows files and geometry; no model.

library      a folder with an index: add, list, remove, load
cleaning     what must not go in: names, dates, burned-in text, faces
matching     which cases fit an image
levels       the same anatomical level in two images, from their segmentations
differences  measurements beside those of the references
pictures     two slices side by side; a generated one is marked
section      a comparison as rows and pictures, for a report
"""

from .cleaning import Consent
from .library import HealthyLibrary, LibraryEntry, every
from .matching import fitting, references

__all__ = ["Consent", "HealthyLibrary", "LibraryEntry", "every", "fitting", "references"]
