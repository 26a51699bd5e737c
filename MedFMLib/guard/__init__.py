"""Enforce the policy of patient mode: which questions may be asked and which answers shown. Small models and rules, offline.

```
intents     name the permitted intents, the withheld kinds and the emergencies
clauses     normalize a text in any script, and divide it into clauses
features    hashed n-grams, and pieces of words
encoder     encode texts with a few layers of a transformer, by numpy
intent_model  compute how likely each intent is (Resources/guard/intents.safetensors)
deciding    allow what is surely permitted; nothing else
reading     normalize a text, whatever its spelling
rules       load the rules, one file per language (Resources/guard)
judging     decide on a question or answer, and return the text that the patient is shown instead
classifier  an optional model in addition to the rules
lock        state of patient mode on this computer, and the PIN to leave it
log         log every verdict, never a text
```

It is no guarantee of safety: docs/guard.md lists what was measured, and what it can miss.
"""

from .judging import Classifier, Guard, Tally, Verdict
from .lock import PatientLock
from .log import VerdictLog

__all__ = ["Classifier", "Guard", "PatientLock", "Tally", "Verdict", "VerdictLog"]
