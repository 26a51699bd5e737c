"""Combine the panel's additional parts: reliability assessment, and comparison with healthy cases."""

from __future__ import annotations

from dataclasses import replace

from MedFMPanel.healthy import HealthyControls
from MedFMPanel.reliability import ReliabilityControls


class PanelExtensions:
    """Both parts, as used by the panel's widget.

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

    def show(self, running: bool) -> None:
        """Enable the buttons that are possible now."""
        self._reliability.show(running)
        self._healthy.show(running)

    def close(self) -> None:
        """Stop polling."""
        self._healthy.close()
