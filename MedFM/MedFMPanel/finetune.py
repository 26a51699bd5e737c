"""Implement the fine-tuning window: data, plan, training, card.

Knows its widgets and the library's subprocess; no torch.

Long operations run in a subprocess, through a `BackgroundTask`; during training, a timer reads the small files that the
subprocess writes (`training.finetune.control`). The GUI thread never waits.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import qt
import slicer
from MedFMLib.storage import adapter_card, paths, installed_models
from MedFMLib import environment
from MedFMLib.errors import InputError
from MedFMLib.scene.collecting import copy_case
from MedFMLib.training.finetune import finetune_in_subprocess, control
from MedFMLib.training.finetune.settings import TrainingSettings

from .background_task import BackgroundTask
from .finetune_form import FineTuneForm
from .error_display import shown

TIMER_MS = 250
WAITING = "Choose or build a data set; it stays on this computer, and so does everything derived from it."


class FineTuneWindow:
    """A non-modal window for fine-tuning.

    Args:
        parent: Slicer's main window.
        model: returns the id of the model selected in the panel.
        case: returns (volume node, segmentation node or None) to collect.
        use: called with an adapter's name.
        changed: called when an adapter was added.
    """

    def __init__(self, parent, model, case, use, changed):
        self._model, self._case, self._use_adapter, self._changed = model, case, use, changed
        self._task, self._then, self._run, self._drawn = None, None, None, 0.0
        self.adapter = ""
        self.form = FineTuneForm(parent)
        self.dialog = self.form.dialog
        for name, button in self.form.buttons.items():
            button.connect("clicked(bool)", getattr(self, f"on_{name}"))
        self._timer = qt.QTimer()
        self._timer.setInterval(TIMER_MS)
        self._timer.connect("timeout()", self.on_timer)
        self.say(WAITING)
        self.refresh()

    # -- showing -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a background task is running."""
        return self._task is not None

    @property
    def training(self) -> bool:
        """Whether a training is running."""
        return self.busy and self._run is not None

    def show(self) -> None:
        """Open the window."""
        self.dialog.show()
        self.dialog.raise_()

    def close(self) -> None:
        """Close the window; a training stops after its step and keeps its result."""
        if self.training:
            self.on_stop()
        elif self._task is not None:
            self._task.cancel()
        self._timer.stop()
        self.dialog.close()

    def showError(self, text):
        self.say(f"⚠ {text}")

    def say(self, text) -> None:
        """Show a sentence."""
        self.form.status.text = text

    def refresh(self) -> None:
        """Enable the buttons that are possible now."""
        state = control.state_of(self._run) if self.training else None
        paused = state is not None and state.state == "paused"
        idle = {"folder", "build", "collect", "estimate", "train", "resume"}
        for name, button in self.form.buttons.items():
            button.enabled = (
                not self.busy if name in idle else self.training if name in ("pause", "stop") else bool(self.adapter)
            )
        self.form.buttons["pause"].text = "Continue" if paused else "Pause"
        self.form.bar.visible = self.busy

    # -- background tasks ---------------------------------------------------------------------------

    def start(self, work, then) -> None:
        """Run a task on a thread, then a function on the GUI thread.

        Args:
            work: called with a `Progress`.
            then: called with the result.
        """
        self._task, self._then = BackgroundTask(work), then
        self.form.bar.value = 0
        self._timer.start()
        self.refresh()

    @shown
    def on_timer(self):
        task = self._task
        if task is None:
            return self._timer.stop()
        if self.training:
            self._follow()
        elif task.name:
            self.say(f"{task.name}…")
        self.form.bar.value = round(100 * task.value)
        if task.ended:
            self._end(task)
        self.refresh()

    def _end(self, task) -> None:
        self._timer.stop()
        self._task, run = None, self._run
        self._run = None
        if task.error:
            again = (
                " “Resume” continues from the last checkpoint."
                if run is not None and (run / "settings.json").is_file()
                else ""
            )
            return self.showError(f"{task.error}{again}")
        self._then(task.result)

    def _follow(self) -> None:
        """Show the training's state and its plot."""
        state = control.state_of(self._run)
        if state is None:
            return
        texts = (
            [self._task.name or state.state] if state.state != "training" else [f"Step {state.step} of {state.steps}"]
        )
        if state.state == "paused":
            texts = [f"Paused at step {state.step} of {state.steps}"]
        if state.state == "training" and state.seconds_left >= 0:
            texts.append(f"about {_minutes(state.seconds_left)} left")
        for name in ("loss", "validation"):
            if getattr(state, name) >= 0:
                texts.append(f"{name} {getattr(state, name):.3f}")
        self.say(", ".join(texts) + ".")
        self.form.warning.text = "<br>".join(f"⚠ {escape(text)}" for text in state.warnings)
        self._draw(self._run / "steps.png")

    def _draw(self, path: Path) -> None:
        when = path.stat().st_mtime if path.is_file() else 0.0
        if when > self._drawn:
            self._drawn = when
            self.form.plot.setPixmap(qt.QPixmap(str(path)))

    # -- actions of the user -----------------------------------------------------------------------

    @shown
    def on_folder(self):
        path = qt.QFileDialog.getExistingDirectory(self.dialog, "Folder of a data set")
        if path:
            self.form.data.text = path
            self.say(f"{path} will be used for training.")

    @shown
    def on_build(self):
        source = qt.QFileDialog.getExistingDirectory(
            self.dialog, "Folder with cases: MedPix 2.0, volumes and labels, or collected"
        )
        target = source and qt.QFileDialog.getExistingDirectory(self.dialog, "Folder to put the data set into")
        if not target:
            return
        output, skip = Path(target) / f"{Path(source).name}-data", self.form.skip.checked
        self.start(
            lambda progress: finetune_in_subprocess.build_data(
                source, output, progress, skip=skip, interpreter=environment.interpreter()
            ),
            lambda card: self._built(card, output),
        )

    def _built(self, card, output) -> None:
        self.form.data.text = str(output)
        splits = ", ".join(f"{name} {counts['patients']}" for name, counts in card["splits"].items())
        left = "".join(f" Skipped: {count} × {name}." for name, count in card["problems"].items())
        self.say(
            f"{card['pairs']} pairs about {card['images']} pictures of {card['patients']} patients ({splits}).{left}"
        )

    @shown
    def on_collect(self):
        volume, segmentation = self._case()
        if volume is None:
            raise InputError("No volume is chosen in the panel; choose the one to collect.")
        held, patient = copy_case(slicer.mrmlScene, volume, segmentation), self.form.patient.text
        folder = Path(self.form.cases.text.strip() or paths.data() / "cases")
        self.form.cases.text = str(folder)
        self.start(lambda progress: held.write(folder, patient), lambda name: self._collected(name, folder))

    def _collected(self, name, folder) -> None:
        self.say(f"{name} is in {folder}; “Build from a folder…” makes a data set of all cases collected there.")

    def settings(self) -> TrainingSettings:
        """Return the settings in the form.

        Raises:
            InputError: if a value is invalid.
        """
        return self.form.settings(self._model())

    def data(self) -> Path:
        """Return the folder of the data set.

        Raises:
            InputError: if none is selected.
        """
        if not self.form.data.text.strip():
            raise InputError("No data set is chosen; choose one, or build it from a folder with cases.")
        return Path(self.form.data.text.strip())

    @shown
    def on_estimate(self):
        data, settings = self.data(), self.settings()
        self.start(
            lambda progress: finetune_in_subprocess.estimate(data, settings, progress, environment.interpreter()),
            self._estimated,
        )

    def _estimated(self, found) -> None:
        took = f"A dry run estimates {_minutes(60 * found['minutes'])} for {found['steps']} steps."
        self.say(" ".join(filter(None, (found["says"], found["verified"], took))))

    @shown
    def on_train(self):
        self._train(False)

    @shown
    def on_resume(self):
        self._train(True)

    def _train(self, resume) -> None:
        data, settings, name = self.data(), self.settings(), self.form.name.text.strip()
        installed_models.folder_name(name)
        run = paths.data() / "trainings" / name
        if resume:
            control.order(run, "resume")
        self._run, self._drawn, self.adapter = run, 0.0, ""
        self.form.warning.text = ""
        self.start(
            lambda progress: finetune_in_subprocess.train(
                data, run, settings, progress, name=name, resume=resume, interpreter=environment.interpreter()
            ),
            self._trained,
        )

    def _trained(self, card) -> None:
        self.adapter = card["installed_as"]
        self._draw(paths.data() / "trainings" / self.adapter / "steps.png")
        gained = card["results"]["table"]["all"]["difference"]
        reasons = "; ".join(card["verdict"]["reasons"])
        said = "It may be used." if card["verdict"]["offered"] else f"It is not offered for use: {reasons}."
        self.say(
            f"{self.adapter}: {gained['score']:+.3f} on held-out patients ({gained['low']:+.3f} to {gained['high']:+.3f}). {said}"
        )
        self._changed()

    @shown
    def on_pause(self):
        paused = control.state_of(self._run).state == "paused"
        control.order(self._run, "resume" if paused else "pause")

    @shown
    def on_stop(self):
        try:
            control.order(self._run, "stop")
        except InputError:
            self._task.cancel()  # the training has not started
        self.say("Stopping after this step; the trained adapter is kept and evaluated.")

    @shown
    def on_card(self):
        page = installed_models.adapter_folder(self.adapter) / adapter_card.PAGE
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(page)))

    @shown
    def on_use(self):
        folder = installed_models.adapter_folder(self.adapter)
        reasons = adapter_card.refusal(folder)
        if reasons:
            question = f"{self.adapter} is not offered for use:\n\n{reasons}\n\nUse it nevertheless?"
            if not slicer.util.confirmOkCancelDisplay(question, windowTitle="An adapter that is worse or less safe"):
                return self.say(f"{self.adapter} was not chosen.")
            adapter_card.accept(folder)
        self._use_adapter(self.adapter)
        self.say(f"{self.adapter} is chosen in the panel; the next question uses it, and the base stays loaded.")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
