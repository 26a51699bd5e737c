"""Manage a library of healthy cases for comparison, which a clinic fills with its own.

Knows files and geometry; no model.

```
library      a folder with an index: add, list, remove, load
cleaning     remove what must not be stored: names, dates, burned-in text, faces
heads        decide whether an image is known not to show a head
outline      measure the body on every axial slice
texts        find dates, numbers and names in the texts of a case
matching     find the cases that suit an image
levels       match the anatomical level of two images by their segmentations
differences  compare measurements with those of the references
pictures     two slices side by side; a synthetic one is marked
section      a comparison as rows and pictures, for a report
```
"""

from .cleaning import Consent
from .library import HealthyLibrary, LibraryEntry, every
from .matching import fitting, references

__all__ = ["Consent", "HealthyLibrary", "LibraryEntry", "every", "fitting", "references"]
