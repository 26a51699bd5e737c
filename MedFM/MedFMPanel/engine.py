"""Select where jobs run, and show the engine's state. Queries run on a thread; the GUI never waits."""

from __future__ import annotations

import qt
import slicer
from MedFMLib import environment
from MedFMLib.engine import local_runner
from MedFMLib.execution import backends
from MedFMLib.errors import MedFMError
from MedFMLib.execution.backends import Backend
from MedFMLib.model_store import listing
from MedFMPanel.background_task import BackgroundTask

TITLES = {
    "process": "This computer, a separate process",
    "server": "This computer, a separate server",
    "here": "This computer, inside Slicer",
    "remote": "A remote MedFM server",
}
LOOK_MS = 2000
"""Interval of querying the engine while its part of the panel is open, in ms."""


class EngineControls:
    """The part of the panel about where jobs run.

    Args:
        ui: the panel's widgets by name.
        status: its status line.
        use: called with a new runner.
        current: returns the runner in use.
        interpreter: returns the Python for computation, "" for Slicer's own; by default that of the separate
            environment, if there is one.
    """

    def __init__(self, ui, status, use, current, interpreter=lambda: environment.interpreter()):
        self._ui, self._status, self._use, self._current, self._interpreter = ui, status, use, current, interpreter
        self._place = backends.load()
        self._task: BackgroundTask | None = None
        self._then = lambda state: None
        for kind, title in TITLES.items():
            ui.placeSelector.addItem(title, kind)
        ui.placeSelector.setCurrentIndex(ui.placeSelector.findData(self._place.kind))
        ui.serverEdit.text, ui.authorityEdit.text = self._place.url, self._place.certificates
        ui.placeSelector.connect("currentIndexChanged(int)", self._chosen)
        ui.testButton.connect("clicked(bool)", self._test)
        ui.stopButton.connect("clicked(bool)", self._stop)
        ui.copyLogButton.connect("clicked(bool)", self._copy_log)
        ui.placeButton.connect("contentsCollapsed(bool)", self._opened)
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._look)
        self._waiting = qt.QTimer()
        self._waiting.setInterval(50)
        self._waiting.connect("timeout()", self._answered)
        self._show_fields()

    def make_runner(self):
        """Return a runner for the stored backend; if that is unusable, one in a separate process, with a message."""
        try:
            return backends.make_runner(self._place, self._interpreter(), local_runner)
        except MedFMError as error:
            self._status.say(f"{error} Until this is resolved, jobs run on this computer.", problem=True)
            return backends.make_runner(Backend(), self._interpreter(), local_runner)

    def close(self) -> None:
        """Stop querying."""
        self._timer.stop()
        self._waiting.stop()

    # -- slots ---------------------------------------------------------------------------------------

    def _chosen(self, *_) -> None:
        self._show_fields()
        if (
            self._ui.placeSelector.currentData != "remote"
        ):  # a remote server needs an address first; the Test button applies it
            self._apply()

    def _opened(self, collapsed: bool) -> None:
        if collapsed:
            self._timer.stop()
        else:
            self._show_fields()  # opening the section shows all fields
            self._look()
            self._timer.start()

    def _test(self, *_) -> None:
        if not self._apply():
            return
        self._ui.engineLabel.text = "Asking…"
        self._ask(lambda progress: self._started(), self._tested)

    def _stop(self, *_) -> None:
        self._ui.engineLabel.text = "Ending…"
        self._ask(lambda progress: (self._current().stop(), self._current().state())[1], self._show)

    def _copy_log(self, *_) -> None:
        qt.QApplication.clipboard().setText(self._ui.logView.plainText)
        self._status.say("The log was copied.")

    # -- implementation ------------------------------------------------------------------------------

    def _apply(self) -> bool:
        """Use the selected backend; return whether it is in use now."""
        place = Backend(
            self._ui.placeSelector.currentData, self._ui.serverEdit.text.strip(), self._ui.authorityEdit.text.strip()
        )
        key, self._ui.keyEdit.text = self._ui.keyEdit.text, ""
        if place == self._place and not key:
            return True
        try:
            if place.kind == "remote":
                self._allow(place.url, key)
            runner = backends.make_runner(place, self._interpreter(), local_runner)
            backends.save(place)
        except MedFMError as error:
            self._status.say(str(error), problem=True)
            return False
        self._place = place
        self._use(runner)
        self._status.say(
            f"Jobs run in: {TITLES[place.kind]}{', ' + backends.host(place.url) if place.kind == 'remote' else ''}.",
            log=True,
        )
        return True

    def _allow(self, url: str, key: str) -> None:
        """Store the key, and ask once for consent to sending volumes there."""
        from MedFMLib.execution.remote.client import ServerClient

        ServerClient(url, key)  # rejects insecure addresses
        if key:
            backends.store_key(url, key)
        if backends.needed(url) and slicer.util.confirmOkCancelDisplay(
            backends.says(url), windowTitle="Send volumes to a remote server?"
        ):
            backends.allow(url)

    def _started(self):
        runner = self._current()
        runner.start()
        return runner.state()

    def _look(self) -> None:
        if self._task is None:
            self._ask(lambda progress: self._current().state(), self._show)

    def _ask(self, work, then) -> None:
        self._then, self._task = then, BackgroundTask(work)
        self._waiting.start()

    def _answered(self) -> None:
        task = self._task
        if task is None or not task.ended:
            return
        self._waiting.stop()
        self._task = None
        if task.error:
            self._ui.engineLabel.text = task.error
        else:
            self._then(task.result)

    def _tested(self, state) -> None:
        self._show(state)
        self._status.say(f"The engine answers: it is {state.doing}.", log=True)

    def _show(self, state) -> None:
        parts = [state.doing, listing.size(state.memory) if state.memory else "", state.model]
        parts += [f"{state.waiting} waiting" if state.waiting else "", state.note]
        self._ui.engineLabel.text = " · ".join(part for part in parts if part)

    def _show_fields(self) -> None:
        remote = self._ui.placeSelector.currentData == "remote"
        for name in ("serverLabel", "serverEdit", "keyLabel", "keyEdit", "authorityLabel", "authorityEdit"):
            getattr(self._ui, name).visible = remote
