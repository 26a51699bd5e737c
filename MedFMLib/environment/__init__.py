"""Where the AI stack lives: Slicer's own Python, this one, or a separate environment. Standard library alone; no torch, no Qt.

    looking     facts of the machine and of the program that asks
    planning    facts → what would be installed, where, how large, and why there
    separate    makes a separate environment, step by step; goes on after a stop; is undone
    wheelhouse  a folder of wheels for machines without internet, with their hashes

Nothing is installed but by a person's step, after the plan was shown.
"""

from .looking import EnvironmentFacts, look
from .planning import InstallPlan, fits_slicer, plan
from .separate import apply, interpreter, undo

__all__ = ["EnvironmentFacts", "InstallPlan", "apply", "fits_slicer", "interpreter", "look", "plan", "undo"]
