"""Define the Slicer module MedFM: its name, the connections of its panel, and its self-test inside Slicer.

Connects widgets to functions. MedFMLib does the computation, MedFMPanel manages the panel's state. The GUI
thread never waits: a timer polls the running job for events every 50 ms.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import ctk  # noqa: F401  (registers the CTK widgets of the .ui file)
import qt
import slicer
import vtk
from slicer.i18n import tr as _, translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


def _add_library_path() -> None:
    """Make MedFMLib importable: it is next to this file when installed and one folder up in the source tree."""
    here = Path(__file__).resolve().parent
    for folder in (here, here.parent):
        if (folder / "MedFMLib" / "__init__.py").is_file():
            sys.path[:0] = [str(f) for f in (here, folder) if str(f) not in sys.path]
            return


_add_library_path()

from MedFMLib import NOTICE  # noqa: E402  (the path comes first)
from MedFMLib.errors import MedFMError  # noqa: E402
from MedFMLib.core.geometry import PLANES  # noqa: E402
from MedFMLib.interfaces.jobs import Done, Failed, Stopped  # noqa: E402
from MedFMLib.core.request import CLINICIAN, PATIENT  # noqa: E402
from MedFMLib.scene import read_prompts  # noqa: E402
from MedFMPanel.panel_extensions import PanelExtensions  # noqa: E402
from MedFMPanel.bindings import Bindings  # noqa: E402
from MedFMPanel.engine import EngineControls  # noqa: E402
from MedFMPanel.job_progress import JobProgress  # noqa: E402
from MedFMPanel.model_choice import ModelChoice, fill  # noqa: E402
from MedFMPanel.packages import PackageNotice  # noqa: E402
from MedFMPanel.parameters import Parameters  # noqa: E402
from MedFMPanel.patient import PatientMode, come_up_locked  # noqa: E402
from MedFMPanel.report import ReportTools  # noqa: E402
from MedFMPanel.results import Results, summary  # noqa: E402
from MedFMPanel.session import JobSession, modality_of  # noqa: E402
from MedFMPanel.error_display import shown  # noqa: E402
from MedFMPanel.status import Status  # noqa: E402
from MedFMPanel.structures import StructureList  # noqa: E402
from MedFMPanel.task_tabs import TaskTabs  # noqa: E402

TIMER_MS = 50


class MedFM(ScriptedLoadableModule):
    """Metadata of the module, shown before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "MedFM"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.contributors = ["The MedFM authors"]
        page = '<a href="https://github.com/medfm/SlicerMedFM">documentation</a>'
        about = _("Segment, ask about and report on medical images with a vision-language model on your own computer.")
        parent.helpText = f"{about} See the {page}.<br><br>{NOTICE}"
        parent.acknowledgementText = _("Built on 3D Slicer, PyTorch and Transformers.")
        slicer.app.connect("startupCompleted()", come_up_locked)


class MedFMWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: reads the parameter node, calls functions, shows results."""

    def __init__(self, parent=None, runner=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.session = JobSession(runner)
        self.parameters = None
        self.modality = ""

    # -- lifecycle ------------------------------------------------------------------------------------

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/MedFM.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.timer = qt.QTimer()
        self.timer.setInterval(TIMER_MS)
        self.timer.connect("timeout()", self.onTimer)
        self.models = ModelChoice(self.ui, self.showModels)
        self.structures = StructureList(self.ui, self.onStructuresTicked)
        self.tabs = TaskTabs(self.ui, self.updateButtons)
        self.results = Results(self.ui)
        self.status = Status(self.ui)
        self.following = JobProgress(self.ui, self.status, self.results)
        self.extensions = PanelExtensions(self)
        self.engine = EngineControls(self.ui, self.status, self.session.use, lambda: self.session.runner)
        self.session.use(self.session.runner or self.engine.make_runner())
        self.packages = PackageNotice(
            self.ui, self.resourcePath("requirements.txt"), self.status.say, self.onPackagesReady
        )
        self.patient = PatientMode(self)
        self.report = ReportTools(self)
        fill(self.ui.planeSelector, [(_("as acquired"), ""), *((plane, plane) for plane in PLANES)])
        self.bindings = Bindings(self.ui, self.onParameterChanged, takes=self.patient.takes)
        self.connectWidgets()
        self.observeScene()
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.initialize()

    def connectWidgets(self):
        ui = self.ui
        ui.applyButton.connect("clicked(bool)", self.onApply)
        ui.installButton.connect("clicked(bool)", self.onInstall)
        ui.folderButton.connect("clicked(bool)", self.onChooseFolder)
        ui.newConversationButton.connect("clicked(bool)", self.results.new_conversation)
        ui.taskTabs.connect("currentChanged(int)", self.onTabChanged)
        ui.questionBox.lineEdit().connect("returnPressed()", self.onReturnPressed)
        ui.conversationView.connect("anchorClicked(QUrl)", self.report.go_to)

    def observeScene(self):
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)

    def enter(self):
        self.initialize()

    def exit(self):
        qt.QTimer.singleShot(0, self.patient.come_back)  # a patient must not leave this module

    def cleanup(self):
        self.timer.stop()
        self.patient.close()
        self.report.close()
        self.models.close()
        self.engine.close()
        self.packages.close()
        self.extensions.close()
        self.session.close()
        self.removeObservers()
        self.bindings.parameters = self.tabs.parameters = None

    def onReload(self):
        """Reload the library and the panel's package, too, for developers."""
        for name in [n for n in sys.modules if n.partition(".")[0] in ("MedFMLib", "MedFMPanel")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    # -- parameters and widgets --------------------------------------------------------------------

    @shown
    def initialize(self):
        """Use the scene's parameter node, or a new one, and show it."""
        self.setParameterNode(MedFMLogic().getParameterNode())
        if not self.patient.on:  # a volume loaded in patient mode may belong to another patient
            self.parameters.volume = self.parameters.volume or self.ui.volumeSelector.currentNode()
        self.packages.show()
        self.showModels()
        self.showParameters()
        self.patient.show()

    def setParameterNode(self, node):
        if self.parameters is not None:
            self.removeObserver(self.parameters.node, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self.parameters = self.bindings.parameters = self.tabs.parameters = Parameters(node)
        self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)

    def onParameterNodeModified(self, caller, event):
        self.bindings.show()

    def showParameters(self):
        self.bindings.show()
        self.tabs.show()
        self.ui.taskTabs.setCurrentIndex(self.tabs.index(self.parameters.task))
        self.showVolume()
        self.updateButtons()

    def showModels(self):
        with self.bindings.paused():
            self.models.load(self.parameters.model)
        if not self.models.knows(self.parameters.model):
            self.parameters.choose_model(self.models.default())
        self.showModel()

    def showModel(self):
        with self.bindings.paused():
            self.models.show(self.parameters.model)
        self.bindings.show()
        self.bindings.save()  # the widgets determine the parameters, e.g. when an adapter was removed
        self.showStructures()

    def showVolume(self):
        volume = self.parameters.volume
        self.removeObservers(self.onImageModified)
        if volume is not None:
            self.addObserver(volume, volume.ImageDataModifiedEvent, self.onImageModified)
        self.showStructures()
        self.showResults()

    def onImageModified(self, caller, event):
        if not self.modality:  # a node is often selected before it gets its voxels
            self.showStructures()

    def showStructures(self):
        p, self.modality = self.parameters, modality_of(self.parameters.volume)
        self.structures.show(self.models.labels(p.model, self.modality), p.labels, self.models.outlines(p.model))

    @shown
    def onStructuresTicked(self):
        self.parameters.labels = self.structures.ticked

    @shown
    def onTabChanged(self):
        if self.parameters is not None:
            self.parameters.task = "ask" if self.patient.on else self.tabs.name(self.ui.taskTabs.currentIndex)
            self.updateButtons()

    def onParameterChanged(self, name):
        if name == "model":
            self.parameters.choose_model(self.parameters.model)
            self.showModel()
        elif name == "volume":
            self.onVolumeChanged()
        self.updateButtons()

    @shown
    def onVolumeChanged(self):
        self.results.conversation.clear()
        self.showVolume()

    # -- the job -----------------------------------------------------------------------------------

    @shown
    def onApply(self):
        if self.session.running:
            self.status.say(_("Cancelling…"))
            self.ui.applyButton.enabled = False
            self.session.cancel()
        else:
            self.extensions.begin()

    @shown
    def onReturnPressed(self):
        if not self.session.running:
            self.extensions.begin()

    def start(self, change=lambda request: request):
        p = self.parameters
        self.models.allow(p.model, may_ask=not self.patient.on)
        self.session.start(p.volume, lambda image: self.extensions.prepare(self.makeRequest(image), change))
        request = self.session.request
        self.status.log(f"{request.task}: {p.volume.GetName()}, {p.model} {p.adapter} {p.precision}")
        if request.task == "ask":
            self.results.conversation.ask(request.question)
            self.results.show_conversation()
        self.status.say(_("Starting…"))
        self.following.begin()
        self.timer.start()
        self.updateButtons()

    def makeRequest(self, image):
        p, known = self.parameters, self.models.labels(self.parameters.model, image.modality)
        labels = [label for label in p.labels if label in known] if known else self.structures.typed
        task, nodes = p.pointed(self.models.outlines(p.model))
        audience = PATIENT if self.patient.on else CLINICIAN
        request = p.request(task, image, labels, self.results.conversation.history, read_prompts(nodes), audience)
        return self.patient.apply(replace(request, options=self.tabs.options(task)))

    @shown
    def onTimer(self):
        for event in self.session.events():
            if type(event) in END_METHODS:
                END_METHODS[type(event)](self, event)
            else:
                self.following.show(event, self.session.request.task)

    def onDone(self, event):
        volume, keep = self.session.volume, not self.patient.on
        try:
            written = self.session.write(slicer.mrmlScene, segmentation=self.parameters.target, answers=keep)
        except MedFMError as error:
            return self.endJob(str(error), failed=True)
        self.results.hide_older(slicer.mrmlScene, volume, written.segmentation)
        self.extensions.take(volume, written)
        who = "" if self.patient.on else written.response.provenance.title
        if self.results.conversation.take(written.response.answers, who or "MedFM"):
            self.parameters.question = ""  # ready for the next
        self.endJob(summary(written.response))

    def onFailed(self, event):
        self.extensions.failed(self.session.end())
        self.endJob(getattr(event, "message", _("Cancelled; nothing was written.")), failed=True)

    def endJob(self, message, failed=False):
        """Show the end of a job.

        Args:
            message: sentence for the status line.
            failed: whether the job failed or was cancelled.
        """
        self.timer.stop()
        if failed:
            self.results.conversation.fail(self.status.fit(message, problem=True))
        self.updateButtons()
        self.status.say(message, problem=failed, log=True)
        self.showResults() if failed else qt.QTimer.singleShot(0, self.showResults)  # writing took this turn's time

    def abandonJob(self, reason):
        if self.session.running:
            self.session.abandon()
            self.endJob(f"{reason}, so the job was cancelled and nothing was written. Choose another volume.", True)

    # -- scene -------------------------------------------------------------------------------------

    def onSceneStartClose(self, caller, event):
        self.abandonJob(_("The scene was closed"))
        self.results.conversation.clear()
        self.bindings.parameters = self.tabs.parameters = None  # no widget may write while nodes are removed

    def onSceneChanged(self, caller, event):
        self.initialize()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if node is self.session.volume:
            self.abandonJob(f"'{node.GetName()}' was deleted")
        elif not slicer.mrmlScene.IsClosing() and node.IsA("vtkMRMLSegmentationNode"):
            self.showResults()

    # -- showing -----------------------------------------------------------------------------------

    def showResults(self):
        if self.bindings.parameters is not None:  # the panel or the scene may have been closed meanwhile
            self.results.show(slicer.mrmlScene, self.parameters.volume)
            self.report.show()

    def updateButtons(self):
        running = self.session.running
        self.ui.applyButton.text = _("Cancel") if running else _(self.tabs.button(self.parameters.task))
        self.ui.applyButton.enabled = running or self.parameters.volume is not None
        self.following.rest(running)
        self.extensions.show(running)
        self.patient.keep()
        no_volume = not running and self.parameters.volume is None
        self.status.hint(_("Load a CT or MR volume, then choose it above.") if no_volume else "")

    def showError(self, text):
        self.status.say(text, problem=True)

    # -- other slots -------------------------------------------------------------------------------

    @shown
    def onChooseFolder(self):
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder with a model"))
        if folder:
            self.parameters.choose_model(self.models.add_folder(folder))
            self.showModels()

    @shown
    def onInstall(self):
        self.packages.install()

    @shown
    def onPackagesReady(self):
        self.session.use(self.engine.make_runner())


END_METHODS = {Done: MedFMWidget.onDone, Failed: MedFMWidget.onFailed, Stopped: MedFMWidget.onFailed}  # of a job


class MedFMLogic(ScriptedLoadableModuleLogic):
    """Holds the parameter node; everything else is in MedFMLib, which also works without Slicer."""


class MedFMTest(ScriptedLoadableModuleTest):
    """Self-test inside Slicer; the full test suite is in Testing and needs no Slicer."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        self.setUp()
        self.test_the_panel_opens_and_asks_for_a_volume()

    def test_the_panel_opens_and_asks_for_a_volume(self):
        slicer.util.selectModule("MedFM")
        widget = slicer.modules.MedFMWidget
        assert not widget.ui.applyButton.enabled
        assert "volume" in widget.ui.statusLabel.text
