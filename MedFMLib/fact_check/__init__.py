"""Check a language model's statements against measurements.

Numbers and sides without a matching measurement are removed.

```
quantities    find numbers with units, sides and counts in a text
placeholders  replace placeholders such as {liver.volume} by the measured value
answering     check answers; short ones need the question for their meaning
withholding   stream an answer up to its first number or side
checking      remove what no measurement supports, and list what was removed
```
"""

from .answering import REGION, CheckedAnswer, at_stake, check_answer, claims
from .checking import CheckedText, RemovedClaim, check, structures_named
from .placeholders import fill, names, phrase
from .withholding import WithholdingStream

__all__ = [
    "REGION",
    "CheckedAnswer",
    "CheckedText",
    "RemovedClaim",
    "WithholdingStream",
    "at_stake",
    "check",
    "check_answer",
    "claims",
    "fill",
    "names",
    "phrase",
    "structures_named",
]  # fmt: skip
