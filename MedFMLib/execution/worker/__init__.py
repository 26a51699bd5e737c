"""Run jobs in a separate process: the runner on the application's side, frames on the pipe, the process itself.

The application then neither loads torch nor waits for it, gets the memory back, and survives a crash of the process.
"""

from .runner import ProcessRunner

__all__ = ["ProcessRunner"]
