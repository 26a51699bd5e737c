"""How far an answer can be relied on: values and arithmetic, no model and no task.

meaning      do two answers say the same?
agreement    how many of several answers do
calibration  from agreement to the chance of being right, fitted on data; the threshold below which an answer is withheld
blind        pictures without the image, and whether an answer stands without it
cost         what all of it takes, said before
diagram      a reliability plot
"""

from .agreement import Agreement, agree
from .blind import STANDS, controls, stands
from .calibration import Calibration, expected_error, fit, known
from .cost import times, words
from .meaning import is_refusal, same

__all__ = [
    "STANDS", "Agreement", "Calibration", "agree", "controls", "expected_error", "fit", "is_refusal", "known", "same", "stands",
    "times", "words",
]  # fmt: skip
