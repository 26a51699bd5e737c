"""The Slicer module MedFM: its name, its panel's wiring, its test inside of Slicer.

Knows widgets and who to call. What is computed lies in MedFMLib, what the panel remembers in MedFMPanel. The GUI
thread never waits: a timer looks every 50 ms for what the running job has to say.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from pathlib import Path

import ctk  # noqa: F401  (registers the CTK widgets of the .ui file)
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


def _add_library_path() -> None:
    """Make MedFMLib importable: it lies beside this file when installed and one folder up in the source tree."""
    here = Path(__file__).resolve().parent
    for folder in (here, here.parent):
        if (folder / "MedFMLib" / "__init__.py").is_file():
            sys.path[:0] = [str(f) for f in (here, folder) if str(f) not in sys.path]
            return


_add_library_path()

from MedFMLib import NOTICE, registry  # noqa: E402  (the path comes first)
from MedFMLib.errors import MedFMError  # noqa: E402
from MedFMLib.geometry import PLANES  # noqa: E402
from MedFMLib.request import DEFAULT_MODEL, Request, SliceChoice  # noqa: E402
from MedFMLib.runner import Done, Failed, Fraction, LocalRunner, Note, PartialText, Stage, Stopped  # noqa: E402
from MedFMLib.scene import read_image, read_prompts  # noqa: E402
from MedFMLib.scene.writing import find  # noqa: E402
from MedFMPanel import bindings, packages  # noqa: E402
from MedFMPanel.conversation import Conversation, link_position  # noqa: E402
from MedFMPanel.parameters import Parameters  # noqa: E402
from MedFMPanel.session import Session  # noqa: E402

TASKS = ("segment", "ask", "report")
"""Tasks in the order of the tabs."""

TIMER_MS = 50
RUN_LOCKED = ("volumeSelector", "modelSelector", "adapterSelector", "precisionSelector", "advancedButton",
              "questionBox", "newConversationButton", "labelList", "labelFilter", "clearLabelsButton",
              "freeLabelsEdit", "installButton")  # fmt: skip
"""Widgets that rest while a job runs."""


class MedFM(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "MedFM"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The MedFM authors"]
        parent.helpText = _(
            "Segment, ask about and report on medical images with a vision-language model on your own computer. "
            'See the <a href="https://github.com/medfm/SlicerMedFM">documentation</a>.<br><br>'
        ) + NOTICE
        parent.acknowledgementText = _("Built on 3D Slicer, PyTorch and Transformers.")


def shown(method):
    """A slot whose errors appear in the panel: PythonQt would only print them. Arguments of the signal are dropped."""

    @functools.wraps(method)
    def slot(self, *_arguments):
        try:
            return method(self)
        except MedFMError as error:
            self.showError(str(error))
        except Exception as error:
            logging.exception("MedFM: %s failed", method.__name__)
            self.showError(f"Something unexpected went wrong ({type(error).__name__}: {error}); see the Python console.")

    return slot


class MedFMWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: reads the parameters, calls, shows."""

    def __init__(self, parent=None, runner=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.session = Session(runner or LocalRunner())
        self.conversation = Conversation()
        self.cards = {}
        self.parameters = None

    # -- life ------------------------------------------------------------------------------------

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedFM.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.timer = qt.QTimer()
        self.timer.setInterval(TIMER_MS)
        self.timer.connect("timeout()", self.onTimer)
        self.fillPlanes()
        self.bindings = bindings.Bindings(self.boundWidgets(), self.onParameterChanged)
        self.connectWidgets()
        self.observeScene()
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.initialize()

    def boundWidgets(self):
        ui = self.ui
        return {
            "volume": (ui.volumeSelector, bindings.NODE),
            "region": (ui.regionSelector, bindings.NODE),
            "target": (ui.targetSelector, bindings.NODE),
            "model": (ui.modelSelector, bindings.CHOICE),
            "adapter": (ui.adapterSelector, bindings.CHOICE),
            "precision": (ui.precisionSelector, bindings.CHOICE),
            "plane": (ui.planeSelector, bindings.CHOICE),
            "freeLabels": (ui.freeLabelsEdit, bindings.LINE),
            "question": (ui.questionBox, bindings.EDITABLE),
            "firstSlice": (ui.firstSlice, bindings.NUMBER),
            "lastSlice": (ui.lastSlice, bindings.NUMBER),
            "sliceStep": (ui.sliceStep, bindings.NUMBER),
            "maxTokens": (ui.maxTokens, bindings.NUMBER),
            "refine": (ui.refineCheck, bindings.FLAG),
        }

    def connectWidgets(self):
        ui = self.ui
        ui.applyButton.connect("clicked(bool)", self.onApply)
        ui.installButton.connect("clicked(bool)", self.onInstall)
        ui.clearLabelsButton.connect("clicked(bool)", self.onClearLabels)
        ui.newConversationButton.connect("clicked(bool)", self.onNewConversation)
        ui.openReportButton.connect("clicked(bool)", self.onOpenReport)
        ui.taskTabs.connect("currentChanged(int)", self.onTabChanged)
        ui.labelFilter.connect("textChanged(QString)", self.onFilterChanged)
        ui.labelList.connect("itemChanged(QListWidgetItem*)", self.onLabelTicked)
        ui.questionBox.lineEdit().connect("returnPressed()", self.onReturnPressed)
        ui.conversationView.connect("anchorClicked(QUrl)", self.onSliceLink)

    def observeScene(self):
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)

    def enter(self):
        self.initialize()

    def exit(self):
        """A running job goes on; its result is written when it comes."""

    def cleanup(self):
        self.timer.stop()
        self.session.close()
        self.removeObservers()
        self.bindings.parameters = None

    def onReload(self):
        """For developers: take the library and the panel's package fresh as well."""
        for name in [n for n in sys.modules if n.partition(".")[0] in ("MedFMLib", "MedFMPanel")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    # -- parameters ↔ widgets ----------------------------------------------------------------------

    @shown
    def initialize(self):
        """Take the scene's parameter node, or a new one, and show it."""
        node = MedFMLogic().getParameterNode()
        if self.parameters is None or self.parameters.node is not node:
            if self.parameters is not None:
                self.removeObserver(self.parameters.node, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
            self.parameters = self.bindings.parameters = Parameters(node)
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self.parameters.volume = self.parameters.volume or self.ui.volumeSelector.currentNode()
        self.showPackages()
        self.fillModels()
        self.showParameters()

    def onParameterNodeModified(self, caller, event):
        self.showParameters()

    def showParameters(self):
        self.bindings.show()
        self.ui.taskTabs.setCurrentIndex(TASKS.index(self.parameters.task))
        self.showResults()
        self.updateButtons()

    @shown
    def fillModels(self):
        self.cards = registry.cards()
        with self.bindings.paused():
            self.fillCombo(self.ui.modelSelector, [(card.title, card.id) for card in self.cards.values()])
        if self.parameters.model not in self.cards:
            self.parameters.model = DEFAULT_MODEL if DEFAULT_MODEL in self.cards else next(iter(self.cards), "")
        self.fillForModel()

    def fillForModel(self):
        """Adapters, precisions, examples and structures of the chosen model."""
        card, ui = self.card, self.ui
        adapters = [*((name, name) for name in card.adapters), (_("none"), "none")] if card else []
        precisions = [(name, name) for name in card.precisions] if card else []
        question = self.parameters.question
        with self.bindings.paused():
            self.fillCombo(ui.adapterSelector, adapters)
            self.fillCombo(ui.precisionSelector, precisions)
            self.fillCombo(ui.questionBox, [(text, "") for text in (card.questions.values() if card else ())])
            ui.questionBox.setEditText(question)
        ui.modelSummaryLabel.text = card.summary if card else _("No model is installed.")
        ui.modelSummaryLabel.toolTip = f"{card.licence}. {card.citation}" if card else ""
        self.bindings.show()
        self.bindings.save()
        self.fillLabels()

    def fillLabels(self):
        """The structures that the model knows in this kind of image, ticked as the parameters say."""
        labels = self.knownLabels()
        ticked = self.parameters.labels
        with self.bindings.paused():
            self.ui.labelList.clear()
            for label in labels:
                item = qt.QListWidgetItem(label, self.ui.labelList)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Checked if label in ticked else qt.Qt.Unchecked)
        self.ui.labelList.visible = bool(labels)
        self.ui.labelFilter.visible = self.ui.clearLabelsButton.visible = bool(labels)
        self.ui.freeLabelsEdit.visible = not labels
        self.showLabelHint()

    def knownLabels(self):
        if self.card is None or not self.card.labels:
            return ()
        volume = self.parameters.volume
        if volume is None or volume.GetImageData() is None:
            return tuple(dict.fromkeys(label for labels in self.card.labels.values() for label in labels))
        return self.card.labels_for(read_image(volume).modality)

    def fillPlanes(self):
        self.fillCombo(self.ui.planeSelector, [(_("as acquired"), ""), *((plane, plane) for plane in PLANES)])

    @staticmethod
    def fillCombo(combo, items):
        combo.clear()
        for text, data in items:
            combo.addItem(text, data)

    @property
    def card(self):
        return self.cards.get(self.parameters.model) if self.parameters is not None else None

    def onParameterChanged(self, name):
        if name == "model":
            self.fillForModel()
        elif name == "volume":
            self.onVolumeChanged()
        self.updateButtons()

    @shown
    def onVolumeChanged(self):
        self.conversation.clear()
        self.fillLabels()
        self.showResults()

    # -- the job -----------------------------------------------------------------------------------

    @shown
    def onApply(self):
        if self.session.running:
            self.showStatus(_("Cancelling…"))
            self.ui.applyButton.enabled = False
            self.session.cancel()
        else:
            self.start()

    @shown
    def onReturnPressed(self):
        if not self.session.running:
            self.start()

    def start(self):
        parameters = self.parameters
        self.session.start(parameters.volume, self.makeRequest)
        self.log(f"{parameters.task}: {parameters.volume.GetName()}, {parameters.model}")
        if parameters.task == "ask":
            self.conversation.ask(parameters.question)
            self.showConversation()
        self.showStatus(_("Starting…"))
        self.ui.progressBar.value = 0
        self.timer.start()
        self.updateButtons()

    def makeRequest(self, image):
        p = self.parameters
        slices = SliceChoice(p.plane, p.firstSlice, p.lastSlice, p.sliceStep)
        prompts = read_prompts([p.region]) if p.task == "ask" and p.region is not None else ()
        return Request(p.task, image, self.chosenLabels(), p.question, self.conversation.history, prompts, slices,
                       p.refine, p.maxTokens, p.model, p.adapter, p.precision)  # fmt: skip

    def chosenLabels(self):
        if self.card is not None and self.card.labels:
            return tuple(label for label in self.parameters.labels if label in self.knownLabels())
        return tuple(label.strip() for label in self.parameters.freeLabels.split(",") if label.strip())

    @shown
    def onTimer(self):
        for event in self.session.events():
            EVENT_METHODS[type(event)](self, event)

    def onStage(self, event):
        self.showStatus(f"{event.name}…")
        self.log(event.name)

    def onFraction(self, event):
        self.ui.progressBar.value = round(100 * event.value)

    def onPartialText(self, event):
        if self.session.request.task == "ask":
            self.conversation.write(event.text)
            self.showConversation()

    def onNote(self, event):
        self.showStatus(event.text)
        self.log(event.text)

    def onDone(self, event):
        try:
            written = self.session.write(slicer.mrmlScene, **self.writeOptions())
        except MedFMError as error:
            return self.endJob(str(error), failed=True)
        for answer in written.response.answers:
            self.conversation.answer(answer)
        self.endJob(self.summary(written))

    def onFailed(self, event):
        self.session.end()
        self.endJob(event.message, failed=True)

    def onStopped(self, event):
        self.session.end()
        self.endJob(_("Cancelled; nothing was written."), failed=True)

    def writeOptions(self):
        return {"segmentation": self.parameters.target}

    def summary(self, written):
        """One sentence about a result."""
        provenance, response = written.response.provenance, written.response
        parts = []
        if response.report is not None:
            parts.append(_("report drafted"))
        if response.segmentation is not None:
            parts.append(f"{len(response.segmentation.segments)} structures segmented and measured")
        if not parts:
            parts.append(_("question answered"))
        notes = " ".join(provenance.notes)
        return f"Done in {provenance.seconds:.1f} s: {', '.join(parts)}. {notes}".strip()

    def endJob(self, message, failed=False):
        self.timer.stop()
        if failed:
            self.conversation.fail(message)
        self.showResults()
        self.updateButtons()
        self.showStatus(message, error=failed)
        self.log(message)

    def abandonJob(self, reason):
        if self.session.running:
            self.session.abandon()
            self.endJob(reason, failed=True)

    # -- scene -------------------------------------------------------------------------------------

    def onSceneStartClose(self, caller, event):
        self.abandonJob(_("The scene was closed, so the job was cancelled and nothing was written. Load a volume to go on."))
        self.bindings.parameters = None
        self.conversation.clear()

    def onSceneEndClose(self, caller, event):
        self.parameters = None
        self.initialize()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if node is self.session.volume:
            self.abandonJob(f"'{node.GetName()}' was deleted, so the job was cancelled and nothing was written. Choose another volume.")
        elif not slicer.mrmlScene.IsClosing() and node.IsA("vtkMRMLSegmentationNode"):
            self.showResults()

    # -- showing -----------------------------------------------------------------------------------

    def showResults(self):
        """What the scene holds for the chosen volume."""
        volume = self.parameters.volume if self.parameters is not None else None
        segmentation, page, text = (find(slicer.mrmlScene, volume, kind) if volume is not None else None
                                    for kind in ("segmentation", "report-html", "report"))  # fmt: skip
        self.ui.segmentsTable.setSegmentationNode(segmentation)
        self.ui.show3DButton.setSegmentationNode(segmentation)
        self.ui.openReportButton.enabled = page is not None
        self.ui.reportView.setPlainText(text.GetText() if text is not None else _("No report has been drafted for this volume."))
        self.showConversation()

    def showConversation(self):
        self.ui.conversationView.setHtml(self.conversation.html())
        bar = self.ui.conversationView.verticalScrollBar()
        bar.setValue(bar.maximum)

    def updateButtons(self):
        running, task = self.session.running, self.parameters.task
        names = {"segment": _("Segment"), "ask": _("Ask"), "report": _("Draft the report")}
        self.ui.applyButton.text = _("Cancel") if running else names[task]
        self.ui.applyButton.enabled = running or self.parameters.volume is not None
        self.ui.progressBar.visible = running
        for name in RUN_LOCKED:
            getattr(self.ui, name).enabled = not running
        if self.parameters.volume is None:
            self.showStatus(_("Load a CT or MR volume and choose it above."))

    def showLabelHint(self):
        chosen, known = self.chosenLabels(), self.knownLabels()
        every = f"all {len(known)} structures" if known else "nothing yet: name at least one structure"
        self.ui.labelHint.text = f"To segment: {', '.join(chosen) or every}."

    def showPackages(self):
        self.missingPackages = packages.missing(self.resourcePath("requirements.txt"))
        self.ui.packagesFrame.visible = bool(self.missingPackages)
        self.ui.packagesLabel.text = f"Models need Python packages that are not installed: {', '.join(self.missingPackages)}."

    def showStatus(self, text, error=False):
        self.ui.statusLabel.text = f"⚠ {text}" if error else text

    def showError(self, text):
        self.showStatus(text, error=True)
        self.log(text)

    def log(self, text):
        self.ui.logView.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    # -- other slots -------------------------------------------------------------------------------

    @shown
    def onTabChanged(self):
        if self.parameters is not None:
            self.parameters.task = TASKS[self.ui.taskTabs.currentIndex]
            self.updateButtons()

    @shown
    def onFilterChanged(self):
        wanted = self.ui.labelFilter.text.lower()
        for item in self.labelItems():
            item.setHidden(wanted not in item.text())

    @shown
    def onLabelTicked(self):
        self.parameters.labels = [i.text() for i in self.labelItems() if i.checkState() == qt.Qt.Checked]
        self.showLabelHint()

    @shown
    def onClearLabels(self):
        for item in self.labelItems():
            item.setCheckState(qt.Qt.Unchecked)

    def labelItems(self):
        return [self.ui.labelList.item(row) for row in range(self.ui.labelList.count)]

    @shown
    def onNewConversation(self):
        self.conversation.clear()
        self.showConversation()

    def onSliceLink(self, url):
        position = link_position(url.toString())
        if position is not None:
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position)

    @shown
    def onOpenReport(self):
        page = find(slicer.mrmlScene, self.parameters.volume, "report-html")
        path = Path(slicer.app.temporaryPath) / f"MedFM-report-{time.strftime('%Y%m%d-%H%M%S')}.html"
        path.write_text(page.GetText(), encoding="utf-8")
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
        self.showStatus(f"The report page was written to {path}.")

    @shown
    def onInstall(self):
        try:
            packages.install(self.missingPackages)
        except RuntimeError as error:
            self.showError(f"Nothing was installed: {error}")
        self.showPackages()


EVENT_METHODS = {
    Stage: MedFMWidget.onStage,
    Fraction: MedFMWidget.onFraction,
    PartialText: MedFMWidget.onPartialText,
    Note: MedFMWidget.onNote,
    Done: MedFMWidget.onDone,
    Failed: MedFMWidget.onFailed,
    Stopped: MedFMWidget.onStopped,
}
"""What the panel does at each event of a job."""


class MedFMLogic(ScriptedLoadableModuleLogic):
    """Keeps the parameter node; everything else is in MedFMLib, which also works without Slicer."""


class MedFMTest(ScriptedLoadableModuleTest):
    """What can be tested inside of a real Slicer; the full suite lies in Testing and needs no Slicer."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        self.setUp()
        self.test_the_panel_opens_and_asks_for_a_volume()

    def test_the_panel_opens_and_asks_for_a_volume(self):
        slicer.util.selectModule("MedFM")
        widget = slicer.modules.MedFMWidget
        self.assertFalse(widget.ui.applyButton.enabled)
        self.assertIn("volume", widget.ui.statusLabel.text)
