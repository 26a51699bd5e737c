"""Manage one job at a time: from a volume node to a runner, and from its result into the scene. Knows no widgets.

Everything here runs on the GUI thread; the runner works elsewhere. Meanwhile, the volume may be
deleted, the scene closed, or the job cancelled. In each case nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable

from MedFMLib import scene as medfm_scene
from MedFMLib.errors import MedFMError
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.interfaces.jobs import Event, Job, Runner


class JobSession:
    """The job that the panel shows.

    Args:
        runner: where jobs run; may be set later with `use`.
        read_image: volume node → Image.
        write_response: (scene, volume node, response) → written nodes.
    """

    def __init__(
        self, runner: Runner | None = None, read_image=medfm_scene.read_image, write_response=medfm_scene.write_response
    ):
        self.runner, self._read_image, self._write_response = runner, read_image, write_response
        self._job: Job | None = None
        self.volume = None

    @property
    def running(self) -> bool:
        """Whether there is a job whose end has not been processed."""
        return self._job is not None

    @property
    def request(self) -> Request | None:
        """Request of the running job, or None."""
        return self._job.request if self._job is not None else None

    def use(self, runner: Runner) -> None:
        """Use another runner for further jobs; the former one is closed.

        Raises:
            MedFMError: while a job runs.
        """
        if self.running:
            raise MedFMError("A job is running; wait until it is finished, or cancel it first.")
        former, self.runner = self.runner, runner
        if former is not None and former is not runner:
            former.close()

    def start(self, volume, make_request: Callable[[Image], Request]) -> None:
        """Read the volume and submit a request.

        Args:
            volume: its node.
            make_request: called with the image.

        Raises:
            MedFMError: if the volume or the request is invalid; nothing was started.
        """
        request = make_request(self._read_image(volume))
        self._job, self.volume = self.runner.submit(request), volume

    def events(self) -> list[Event]:
        """Return the new events; never waits."""
        return self._job.events() if self._job is not None else []

    def cancel(self) -> None:
        """Ask the job to stop; its end is reported as an event."""
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """Stop the job and discard it at once, because its volume no longer exists."""
        self.cancel()
        self._forget()

    def write(self, scene, **options):
        """Write the finished job's result into the scene, atomically.

        Args:
            scene: the MRML scene.
            **options: of `scene.write_response`.

        Raises:
            MedFMError: if the volume was removed or something can't be written; the scene is unchanged.
        """
        job, volume = self._job, self.volume
        self._forget()
        return self._write_response(scene, volume, job.result(0), **options)

    def end(self) -> MedFMError | None:
        """Discard a job that ended without a result, and return its error."""
        error = self._job.error if self._job is not None else None
        self._forget()
        return error

    def close(self) -> None:
        """Stop everything."""
        self.abandon()
        if self.runner is not None:
            self.runner.close()

    def _forget(self) -> None:
        self._job, self.volume = None, None


def modality_of(volume) -> str:
    """Return the modality of a volume node, "" if it is not (yet) known."""
    try:
        return medfm_scene.read_image(volume).modality
    except MedFMError:
        return ""
