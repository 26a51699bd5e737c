"""Say that a model was not made for an image, and let the user compute its results anyway: a second click.

Knows its widgets and requests; the decision is the model's (`MedFMLib.core.domain`). Never shown to a patient.
"""

from __future__ import annotations

from dataclasses import fields, replace

from MedFMLib.core.request import Request
from MedFMLib.errors import OutsideDomain
from MedFMLib.interfaces.domain import outside_of
from MedFMPanel.error_display import shown

WHAT_FOLLOWS = (
    "What it draws and says of it is likely to be wrong; it is marked wherever it is shown, and in every export."
)
DRAW, ASK = "Draw anyway", "Ask anyway"


class DomainNotice:
    """The part of the panel that is visible only after a job was refused because of its image.

    Args:
        ui: the panel's widgets by name.
        status: its status line.
        start: starts a job, with a function that changes its request.
        chosen: returns what the notice is about: the selected volume and model.
    """

    def __init__(self, ui, status, start, chosen):
        self._ui, self._status, self._start, self._chosen = ui, status, start, chosen
        self._asked: dict = {}  # of the last request, without its image, which may be large
        self._about = None
        ui.domainFrame.visible = False
        ui.anywayButton.connect("clicked(bool)", self.compute_anyway)

    def remember(self, request: Request) -> Request:
        """Keep the settings of a job that starts, and return its request."""
        self._asked = {f.name: getattr(request, f.name) for f in fields(request) if f.name != "image"}
        self._about = None
        return request

    def failed(self, error) -> None:
        """Show the notice if a job was refused because of its image.

        Args:
            error: of the job, or None.
        """
        if isinstance(error, OutsideDomain):
            self._open(outside_of(str(error)), DRAW)

    def take(self, response) -> None:
        """Show the notice if the answer says that the model was not made for the image."""
        refused = response.provenance.outside_domain
        if refused and self._asked.get("task") == "ask" and not self._asked["outside_domain"]:
            self._open(refused, ASK)

    @shown
    def compute_anyway(self) -> None:
        """Run the refused job again, and have its results computed and marked."""
        asked = {**self._asked, "outside_domain": True}
        self._start(lambda request: replace(request, **asked))

    def showError(self, text: str) -> None:
        """See `slots.shown`."""
        self._status.say(text, problem=True)

    def show(self, running: bool) -> None:
        """Hide the notice if it is about another volume or model, or a patient uses the panel."""
        valid = self._about is not None and self._about == self._chosen() and not self._status.quiet
        self._ui.domainFrame.visible = valid and not running

    def _open(self, sentence: str, button: str) -> None:
        self._about = self._chosen()
        self._ui.domainLabel.text = f"{sentence} {WHAT_FOLLOWS}"
        self._ui.anywayButton.text = button
