"""Install the AI packages into Slicer's own Python, this one, or a separate environment.

Standard library only; no torch, no Qt.

```
looking     facts about the machine and the calling program
planning    from facts to a plan: what would be installed, where, how large, and why there
separate    create a separate environment step by step; continue after a stop; undo
wheelhouse  a folder of wheels for machines without internet, with their hashes
```

Nothing is installed before the user has seen and confirmed the plan.
"""

from .looking import EnvironmentFacts, look
from .planning import InstallPlan, fits_slicer, plan
from .separate import apply, interpreter, undo

__all__ = ["EnvironmentFacts", "InstallPlan", "apply", "fits_slicer", "interpreter", "look", "plan", "undo"]
