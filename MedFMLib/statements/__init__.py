"""What a language model says, held against what was measured. Numbers and sides come from geometry, or they go.

quantities    numbers with units, sides and counts in a text, and what they would have to be
placeholders  {liver.volume} → the measured value
checking      takes out what no measurement supports, and says what was taken out
"""

from .checking import Checked, Removed, check
from .placeholders import fill, names, phrase

__all__ = ["Checked", "Removed", "check", "fill", "names", "phrase"]
