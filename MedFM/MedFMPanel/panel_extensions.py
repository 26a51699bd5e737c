"""Combine the panel's additional parts: reliability assessment, healthy cases, and images outside of a model's domain."""

from __future__ import annotations

from dataclasses import replace

from MedFMPanel.domain_notice import DomainNotice
from MedFMPanel.healthy import HealthyControls
from MedFMPanel.reliability import ReliabilityControls


class PanelExtensions:
    """The parts, as used by the panel's widget.

    Args:
        widget: the panel, with `ui`, `status`, `results`, `models`, `parameters` and `start`.
    """

    def __init__(self, widget):
        self._widget, self._measured = widget, (None, ())
        self._reliability = ReliabilityControls(widget.ui, widget.status, widget.start, widget.results.conversation)
        self._healthy = HealthyControls(
            widget.ui, widget.status, widget.start, lambda: widget.parameters.volume,
            lambda image: widget.models.labels(widget.parameters.model, image.modality),
        )  # fmt: skip
        self._domain = DomainNotice(widget.ui, widget.status, widget.start, self._chosen)

    def _chosen(self) -> tuple[str, str]:
        """Return the id of the selected volume node, "" if none is, and of the model."""
        volume = self._widget.parameters.volume
        return (volume.GetID() if volume is not None else ""), self._widget.parameters.model

    def begin(self) -> None:
        """Start the job of the panel's button; a report with a comparison needs its healthy case first.

        Raises:
            MedFMError: with the cause and the next step.
        """
        chosen = self._widget.parameters
        if chosen.task == "report" and chosen.with_healthy:
            self._healthy.report()
        else:
            self._widget.start()

    def apply(self, request):
        """Add these parts' options to a request: an answer is checked against measurements of the same volume."""
        volume, measurements = self._measured
        if request.task == "ask" and volume is self._widget.parameters.volume:
            request = replace(request, measurements=measurements)
        return self._reliability.apply(request)

    def prepare(self, request, change):
        """Return the request of a job that is to start.

        Args:
            request: of the panel's settings.
            change: changes it for the button that was pressed.
        """
        return self._domain.remember(change(self.apply(request)))

    def failed(self, error) -> None:
        """Process the end of a job without a result.

        Args:
            error: its error; None if it was cancelled.
        """
        self._domain.failed(error)

    def take(self, volume, written) -> None:
        """Process the end of a job.

        Args:
            volume: node of the job.
            written: the nodes of its response.
        """
        if written.response.measurements:
            self._measured = (volume, tuple(written.response.measurements))
        self._reliability.take(written)
        self._healthy.take(volume, written)
        self._domain.take(written.response)

    def show(self, running: bool) -> None:
        """Enable the buttons that are possible now."""
        self._reliability.show(running)
        self._healthy.show(running)
        self._domain.show(running)

    def close(self) -> None:
        """Stop polling."""
        self._healthy.close()
