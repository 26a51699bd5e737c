"""What stands beside segmenting, asking and reporting: looking into answers, and comparing with healthy. Knows its two parts."""

from __future__ import annotations

from dataclasses import replace

from MedFMPanel.healthy import HealthyControls
from MedFMPanel.reliability import ReliabilityControls


class PanelExtensions:
    """Both parts, as the panel's widget sees them.

    Args:
        widget: the panel, with `ui`, `status`, `results`, `models`, `parameters` and `start`.
    """

    def __init__(self, widget):
        self._widget, self._measured = widget, (None, ())
        self._trust = ReliabilityControls(widget.ui, widget.status, widget.start, widget.results.conversation)
        self._healthy = HealthyControls(
            widget.ui, widget.status, widget.start, lambda: widget.parameters.volume,
            lambda image: widget.models.labels(widget.parameters.model, image.modality),
        )  # fmt: skip

    def begin(self) -> None:
        """Start what the panel's button says; a report that compares needs its healthy case first.

        Raises:
            MedFMError: in one sentence with the next step.
        """
        chosen = self._widget.parameters
        if chosen.task == "report" and chosen.with_healthy:
            self._healthy.report()
        else:
            self._widget.start()

    def apply(self, request):
        """A request as these parts want it: an answer is held against what was measured of the same volume."""
        volume, measurements = self._measured
        if request.task == "ask" and volume is self._widget.parameters.volume:
            request = replace(request, measurements=measurements)
        return self._trust.apply(request)

    def take(self, volume, written) -> None:
        """A job about a volume node has ended."""
        if written.response.measurements:
            self._measured = (volume, tuple(written.response.measurements))
        self._trust.take(written)
        self._healthy.take(volume, written)

    def show(self, running: bool) -> None:
        """What can be pressed now."""
        self._trust.show(running)
        self._healthy.show(running)

    def close(self) -> None:
        """Stop looking."""
        self._healthy.close()
