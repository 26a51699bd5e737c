"""Show the report: its text with links into the views, its page, and the window to edit, sign and export it."""

from __future__ import annotations

import time
from pathlib import Path

import qt
import slicer
from MedFMLib.reports.templates import templates
from MedFMLib.scene.nodes import find

from .conversation import link_position
from .report_window import ReportWindow
from .error_display import shown

NO_REPORT = "No report has been drafted for this volume."


class ReportTools:
    """The widgets of the Report tab.

    Args:
        widget: the module's widget: its `ui`, `status`, `parameters`, `bindings`.
    """

    def __init__(self, widget):
        self._widget, self._ui, self._page = widget, widget.ui, None
        self.showError = widget.showError
        self.window = None
        self._pages: list[Path] = []
        ui = self._ui
        ui.templateSelector.addItem("automatic", "")
        for name, template in templates().items():
            ui.templateSelector.addItem(template.title, name)
            ui.templateSelector.setItemData(ui.templateSelector.count - 1, template.about, qt.Qt.ToolTipRole)
        ui.openReportButton.connect("clicked(bool)", self.open_page)
        ui.editReportButton.connect("clicked(bool)", self.edit)
        ui.reportView.connect("anchorClicked(QUrl)", self.go_to)

    def show(self) -> None:
        """Show the newest report of the selected volume."""
        scene, volume = slicer.mrmlScene, self._widget.parameters.volume
        kinds = ("report", "report-view", "report-html", "report-data")
        text, view, self._page, data = (find(scene, volume, kind) if volume is not None else None for kind in kinds)
        if view is not None:
            self._ui.reportView.setHtml(view.GetText())
        else:
            self._ui.reportView.setPlainText(text.GetText() if text is not None else NO_REPORT)
        self._ui.openReportButton.enabled = self._page is not None
        self._ui.editReportButton.enabled = data is not None and bool(data.GetText())

    def go_to(self, url) -> None:
        """Move the views to the position of a sentence's measurement."""
        position = link_position(url.toString())
        if position is not None:
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position)

    @shown
    def open_page(self) -> None:
        """Write the page to a new file and open it in the browser."""
        path = Path(slicer.app.temporaryPath) / f"MedFM-report-{time.strftime('%Y%m%d-%H%M%S')}.html"
        self._pages.append(path)
        path.write_text(self._page.GetText(), encoding="utf-8")
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
        self._widget.status.say(f"The report page was written to {path}.")

    @shown
    def edit(self) -> None:
        """Open the window to edit, sign and export."""
        self.window = self.window or ReportWindow(slicer.util.mainWindow(), self._changed)
        self.window.open(slicer.mrmlScene, self._widget.parameters.volume)

    def _changed(self, text: str) -> None:
        self.show()
        self._widget.status.say(text, log=True)

    def close(self) -> None:
        """Stop running tasks, and delete patients' pages from the temporary files."""
        for path in self._pages:
            path.unlink(missing_ok=True)
        self._pages.clear()
        if self.window is not None:
            self.window.close()
