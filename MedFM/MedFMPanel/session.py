"""One job at a time: from a volume node to a runner, and from its result into the scene. Knows no widgets.

Everything here runs on the GUI thread; the runner works elsewhere. What can happen meanwhile: the volume is
deleted, the scene is closed, the person cancels. In each case nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable

from MedFMLib import scene as medfm_scene
from MedFMLib.errors import MedFMError
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.interfaces.jobs import Event, Job, Runner


class JobSession:
    """The job that the panel follows.

    Args:
        runner: where jobs run; may come later, by `use`.
        read_image: volume node → Image.
        write_response: (scene, volume node, response) → what was written.
    """

    def __init__(
        self, runner: Runner | None = None, read_image=medfm_scene.read_image, write_response=medfm_scene.write_response
    ):
        self.runner, self._read_image, self._write_response = runner, read_image, write_response
        self._job: Job | None = None
        self.volume = None

    @property
    def running(self) -> bool:
        """Is there a job whose end has not been seen?"""
        return self._job is not None

    @property
    def request(self) -> Request | None:
        """What the running job was asked, or None."""
        return self._job.request if self._job is not None else None

    def use(self, runner: Runner) -> None:
        """Run further jobs elsewhere; the former runner is closed.

        Raises:
            MedFMError: while a job runs.
        """
        if self.running:
            raise MedFMError("A job is running; wait for its end, or cancel it first.")
        former, self.runner = self.runner, runner
        if former is not None and former is not runner:
            former.close()

    def start(self, volume, make_request: Callable[[Image], Request]) -> None:
        """Read the volume and submit what is asked about it.

        Raises:
            MedFMError: if the volume or the request can't be used; nothing was started.
        """
        request = make_request(self._read_image(volume))
        self._job, self.volume = self.runner.submit(request), volume

    def events(self) -> list[Event]:
        """What is new; never waits."""
        return self._job.events() if self._job is not None else []

    def cancel(self) -> None:
        """Ask the job to stop; its end comes as an event."""
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """Stop the job and forget it at once: there is nothing left that its result could be written to."""
        self.cancel()
        self._forget()

    def write(self, scene, **options):
        """Take the finished job's result into the scene, all or nothing.

        Raises:
            MedFMError: if the volume has gone or something can't be written; the scene is as it was.
        """
        job, volume = self._job, self.volume
        self._forget()
        return self._write_response(scene, volume, job.result(0), **options)

    def end(self) -> None:
        """The job ended without a result."""
        self._forget()

    def close(self) -> None:
        """Stop everything."""
        self.abandon()
        if self.runner is not None:
            self.runner.close()

    def _forget(self) -> None:
        self._job, self.volume = None, None


def modality_of(volume) -> str:
    """Modality of a volume node, "" if it can't be told (yet)."""
    try:
        return medfm_scene.read_image(volume).modality
    except MedFMError:
        return ""
