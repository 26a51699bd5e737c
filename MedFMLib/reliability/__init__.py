"""Assess how reliable an answer is: values and arithmetic; no model and no task.

meaning      whether two answers have the same meaning
agreement    how many of several answers agree
calibration  from agreement to the probability of being right, fitted on data; threshold below which an answer is
withheld
blind        pictures without the image, and whether an answer is the same without it
cost         the computing time of all this, stated in advance
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
