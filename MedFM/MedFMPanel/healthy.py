"""Compare with a healthy case, and add one: a part of the panel.

Knows its widgets, slice views and the healthy library.

Cases are listed, read and added on a separate thread; a timer polls for the result. On the GUI thread voxels and segments
are only copied, and the selector is filled.
"""

from __future__ import annotations

from dataclasses import replace

import qt
import slicer
from MedFMLib import healthy
from MedFMLib.errors import InputError
from MedFMLib.healthy.library import own
from MedFMLib.scene import read_image
from MedFMLib.scene.reading import copy_segmentation
from MedFMLib.scene.words import words_of_node
from MedFMLib.scene.writing import find
from MedFMPanel.background_task import BackgroundTask
from MedFMPanel.error_display import shown

BEST = "the most suitable one"
LOOK_MS = 50
VIEWS = ("Red", "Yellow")
"""Left and right in Slicer's layout “side by side”."""


class HealthyControls:
    """The part of the panel about healthy cases.

    Args:
        ui: the panel's widgets by name.
        status: its status line.
        start: starts a job, with a function that changes its request.
        volume: returns the selected volume node or None.
        labels: image → structures that the model knows.
    """

    def __init__(self, ui, status, start, volume, labels):
        self._ui, self._status, self._start, self._volume, self._labels = ui, status, start, volume, labels
        self._task, self._then, self._listing = None, None, None
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._look)
        ui.referenceSelector.addItem(BEST, "")
        ui.healthyButton.connect("contentsCollapsed(bool)", self._opened)
        ui.compareButton.connect("clicked(bool)", self.compare)
        ui.addCaseButton.connect("clicked(bool)", self.add)

    def close(self) -> None:
        """Stop polling."""
        self._timer.stop()

    @shown
    def compare(self) -> None:
        """Compare the volume with the selected case."""
        self._find(self._compare)

    def report(self) -> None:
        """Draft a report that compares with the selected case.

        Raises:
            InputError: if there is no volume, or a case is still being read.
        """
        self._find(lambda references: self._start(lambda request: replace(request, references=references)))

    def _find(self, then) -> None:
        image = self._image(self._volume())
        labels, name = self._labels(image), self._ui.referenceSelector.currentData or ""
        self._status.say("Looking for a healthy case…")
        self._begin(lambda progress: healthy.references(image, labels, name=name), then)

    @shown
    def add(self) -> None:
        """Add the volume and its newest segmentation to the library."""
        volume = self._volume()
        image = self._image(volume)
        node = find(slicer.mrmlScene, volume, "segmentation")
        if node is None:
            raise InputError("Nothing is segmented in this volume, so nothing could be compared; segment it first.")
        held, title, words = copy_segmentation(node), self._ui.caseTitleEdit.text, words_of_node(volume)
        consent = healthy.Consent(bool(self._ui.textCheck.checked), bool(self._ui.faceCheck.checked))
        self._status.say("Adding the healthy case…")
        library = own()

        def work(progress):
            entry = library.add(image, held.on(image.geometry), title, consent=consent, words=words)
            return entry, healthy.every()

        self._begin(work, self._added)

    def take(self, volume, written) -> None:
        """Show both volumes of a finished comparison side by side, linked, at the same level.

        Args:
            volume: node of the job.
            written: the nodes of its response.
        """
        if written.response.comparison is not None:  # deferred until the other results are shown, since both take time
            qt.QTimer.singleShot(0, lambda: self._show_next_to(volume, written))

    def _show_next_to(self, volume, written) -> None:
        comparison = written.response.comparison
        if written.reference.GetScene() is None or volume.GetScene() is None:  # the scene was closed meanwhile
            return
        manager = slicer.app.layoutManager()
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
        pair = comparison.pairs[len(comparison.pairs) // 2]
        for name, node in zip(VIEWS, (volume, written.reference), strict=True):
            widget = manager.sliceWidget(name)
            composite, view = widget.mrmlSliceCompositeNode(), widget.mrmlSliceNode()
            composite.SetBackgroundVolumeID(node.GetID())
            composite.SetForegroundVolumeID(None)
            view.SetOrientation(pair.slice.plane.capitalize())
            widget.sliceLogic().FitSliceToBackground()
            view.JumpSliceByOffsetting(*pair.slice.center)
        for name in VIEWS:  # from now on the views are linked
            manager.sliceWidget(name).mrmlSliceCompositeNode().SetLinkedControl(True)

    def showError(self, text: str) -> None:
        """See `slots.shown`."""
        self._status.say(text, problem=True)

    def show(self, running: bool) -> None:
        """Enable the buttons that are possible now."""
        free = not running and self._volume() is not None and self._task is None
        self._ui.compareButton.enabled = self._ui.addCaseButton.enabled = free

    # -- implementation ---------------------------------------------------------------------------------

    def _image(self, volume):
        if volume is None:
            raise InputError("There is no volume; load a CT or MR volume, then choose it above.")
        if self._task is not None:
            raise InputError("A healthy case is still being read; wait until it is finished.")
        return read_image(volume)

    def _opened(self, collapsed: bool) -> None:
        if not collapsed and self._listing is None:
            self._listing = BackgroundTask(lambda progress: _listed())
            self._timer.start()

    def _fill(self, cases) -> None:
        selector, chosen = self._ui.referenceSelector, self._ui.referenceSelector.currentData
        selector.clear()
        selector.addItem(BEST, "")
        for _, entry in cases:
            selector.addItem(f"{entry.title} ({entry.modality}{', synthetic' if entry.generated else ''})", entry.id)
        selector.setCurrentIndex(max(0, selector.findData(chosen)))

    def _begin(self, work, then) -> None:
        self._task, self._then = BackgroundTask(work), then
        self._ui.compareButton.enabled = self._ui.addCaseButton.enabled = False
        self._timer.start()

    @shown
    def _look(self) -> None:
        listing, task = self._listing, self._task
        if listing is not None and listing.ended:
            self._listing = None
            self._take(listing, self._fill)
        elif task is not None and task.ended:  # one result a turn
            self._task = None
            self._ui.compareButton.enabled = self._ui.addCaseButton.enabled = True
            self._take(task, self._then)
        if self._listing is None and self._task is None:
            self._timer.stop()

    def _take(self, task, then) -> None:
        if task.error:
            self._status.say(task.error, problem=True)
        else:
            then(task.result)

    def _compare(self, references) -> None:
        self._start(
            lambda request: replace(request, task="compare", labels=(), prompts=(), question="", references=references)
        )

    def _added(self, result) -> None:
        entry, cases = result
        self._ui.caseTitleEdit.text = ""
        self._ui.textCheck.checked = self._ui.faceCheck.checked = False
        self._fill(cases)
        self._status.say(f"Added the healthy case {entry.id}: {'; '.join(entry.done)}.", log=True)


def _listed() -> list:
    """Return all cases; loads what adding one needs, too, so that the window doesn't wait for it later."""
    import SimpleITK  # noqa: F401 - its 50,000 lines keep every other thread waiting for 45 ms, once

    return healthy.every()
