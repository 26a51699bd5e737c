"""Jobs in a process of their own: the runner on the application's side, frames on the pipe, the process itself.

The application then neither loads torch nor waits for it, gets its memory back, and outlives a crash.
"""

from .runner import ProcessRunner

__all__ = ["ProcessRunner"]
