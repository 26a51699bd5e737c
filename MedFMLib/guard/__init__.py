"""Patient mode's policy: what may be asked, and what may be shown. Deterministic, offline, without any language model.

    reading   a text as people write it → plain words, whatever its spelling
    rules     rules as data, one file a language (Resources/guard)
    judging   question or answer → verdict, with what the patient is told instead
    classifier  a model beside the rules, if a clinic wants one
    lock      is patient mode on at this computer, and the PIN to leave it
    log       every verdict, never a text

Not a certificate of safety: docs/guard.md says what was measured, and what it can miss.
"""

from .judging import Classifier, Guard, Tally, Verdict
from .lock import PatientLock
from .log import VerdictLog

__all__ = ["Classifier", "Guard", "PatientLock", "Tally", "Verdict", "VerdictLog"]
