"""Send the progress of a job in a worker process to its parent, one frame per event."""

from __future__ import annotations

import threading

from ...errors import Cancelled
from ...interfaces.jobs import Event, ProgressBase
from ..messages import event_as_json
from . import frames


class WorkerProgress(ProgressBase):
    """A `Progress` that sends events to the parent process.

    Args:
        writer: writes frames to the parent.
        cancel: set when the parent cancels the job.
    """

    def __init__(self, writer: frames.FrameWriter, cancel: threading.Event):
        self._writer, self._cancel = writer, cancel

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`."""
        return self._cancel.is_set()

    def report(self, event: Event) -> None:
        """Send one event; raises `Cancelled` if the job was cancelled."""
        if self.cancelled():
            raise Cancelled()
        self._writer.write_json(frames.EVENT, event_as_json(event))
