"""Check a language model's statements against measurements.

Numbers and sides without a matching measurement are removed.

```
quantities    find numbers with units, sides and counts in a text
placeholders  replace placeholders such as {liver.volume} by the measured value
answering     check answers; short ones need the question for their meaning
withholding   stream an answer up to its first number or side
checking      remove what no measurement supports, and list what was removed
remaining     decide what is left of an answer after that
questions     recognise questions that geometry and the header can answer
```
"""

from .answering import REGION, CheckedAnswer, at_stake, check_answer, claims
from .checking import CheckedText, RemovedClaim, check, structures_named
from .placeholders import fill, names, phrase
from .questions import VolumeQuestion, read_question
from .remaining import REMOVED, is_reduced, or_removed, supported_part
from .withholding import WithholdingStream

__all__ = [
    "REGION",
    "REMOVED",
    "CheckedAnswer",
    "CheckedText",
    "RemovedClaim",
    "VolumeQuestion",
    "WithholdingStream",
    "at_stake",
    "check",
    "check_answer",
    "claims",
    "fill",
    "is_reduced",
    "names",
    "or_removed",
    "phrase",
    "read_question",
    "structures_named",
    "supported_part",
]  # fmt: skip
