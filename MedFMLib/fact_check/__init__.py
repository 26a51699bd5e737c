"""What a language model says, held against what was measured. Numbers and sides come from geometry, or they go.

quantities    numbers with units, sides and counts in a text, and what they would have to be
placeholders  {liver.volume} → the measured value
answering     answers to questions: short ones need the question
withholding   streams an answer up to its first number or side
checking      takes out what no measurement supports, and says what was taken out
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
