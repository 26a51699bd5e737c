"""Implement the window with all models: search, download, import, export, delete.

Knows its widgets and the model store.

Long operations run on a `BackgroundTask`; downloads additionally in a subprocess. Nothing is downloaded or deleted
before
the user has confirmed it.
"""

from __future__ import annotations

import re
from html import escape

import qt
import slicer
from MedFMLib.storage import licence_acceptance, installed_models
from MedFMLib.interfaces import registry
from MedFMLib import model_store
from MedFMLib.model_store import listing
from MedFMLib.model_store.files import gigabytes

from .adapter_row import AdapterRow
from .background_task import BackgroundTask
from .error_display import shown

WIDTH, HEIGHT, TIMER_MS = 1000, 640, 100
COLUMNS = ("Model", "Parameters", "Fits this machine", "State", "Licence")
WIDTHS = (270, 90, 140, 180)
BUTTONS = (
    ("use", "Use", "Choose this model in the panel."),
    ("get", "Get…", "Download this model, after showing its size, terms and host."),
    ("export", "Export…", "Write this model to a zip, for a machine without internet."),
    ("delete", "Delete…", "Delete this model from this computer."),
    ("zip", "Import zip…", "Install a model from a zip exported by MedFM."),
    ("folder", "Import folder…", "Install a model from an exported folder, or from a Hugging Face model's folder."),
)
GET_HINT = "Choose a model. Downloads are stored in your own data folder; a download sends no image."


class ModelsWindow:
    """A non-modal window with all models.

    Args:
        parent: Slicer's main window.
        use: called with a model's id.
        changed: called after models or adapters were added or removed.
        adapters: called with a model's id; returns the names of adapters that can be merged into it.
    """

    def __init__(self, parent, use, changed, adapters=lambda model: []):
        self._use, self._changed = use, changed
        self._task, self._then, self._rows = None, None, []
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle("Models")
        self.dialog.resize(WIDTH, HEIGHT)
        self._build(qt.QVBoxLayout(self.dialog), adapters)
        self._timer = qt.QTimer()
        self._timer.setInterval(TIMER_MS)
        self._timer.connect("timeout()", self.on_timer)

    def _build(self, layout, adapters) -> None:
        self.search = qt.QLineEdit()
        self.search.placeholderText = "Find: name, licence, CT, MR …"
        self.search.setClearButtonEnabled(True)
        self.table = qt.QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        self.table.horizontalHeader().setDefaultAlignment(qt.Qt.AlignLeft | qt.Qt.AlignVCenter)
        self.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self.table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        self.table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.table.horizontalHeader().setStretchLastSection(True)
        for column, width in enumerate(WIDTHS):
            self.table.setColumnWidth(column, width)
        self.details = qt.QLabel()
        self.details.wordWrap = True
        self.details.setTextFormat(qt.Qt.RichText)
        self.details.openExternalLinks = True
        self.details.setAlignment(qt.Qt.AlignTop)
        self.details.setMinimumHeight(96)
        self.status = qt.QLabel(GET_HINT)
        self.status.wordWrap = True
        self.bar = qt.QProgressBar()
        self.bar.visible = False
        self.cancel = qt.QPushButton("Cancel")
        self.cancel.toolTip = "Stop; the downloaded part is kept, so that it can continue."
        self.cancel.visible = False
        self.cancel.connect("clicked(bool)", self.on_cancel)
        row, buttons = qt.QHBoxLayout(), qt.QHBoxLayout()
        row.addWidget(self.bar)
        row.addWidget(self.cancel)
        self.buttons = {}
        for name, text, tip in BUTTONS:
            if name == "zip":
                buttons.addStretch(1)
            button = self.buttons[name] = qt.QPushButton(text)
            button.toolTip = tip
            button.setAutoDefault(False)
            button.connect("clicked(bool)", getattr(self, f"on_{name}"))
            buttons.addWidget(button)
        for widget in (self.search, self.table, self.details):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        self.adapters = AdapterRow(layout, self, adapters)
        layout.addWidget(self.status)
        layout.addLayout(row)
        self.search.connect("textChanged(QString)", self.on_search)
        self.table.connect("itemSelectionChanged()", self.on_select)

    # -- showing -----------------------------------------------------------------------------------

    def show(self) -> None:
        """Open the window and list the models again."""
        self.dialog.show()
        self.dialog.raise_()
        if not self.busy:
            self.refresh()

    @property
    def busy(self) -> bool:
        """Whether a background task is running."""
        return self._task is not None

    def close(self) -> None:
        """Stop everything and close."""
        if self._task is not None:
            self._task.cancel()
        self._timer.stop()
        self._task = None
        self.dialog.hide()

    def refresh(self, said: str = GET_HINT) -> None:
        """List the models again, then show a sentence."""
        self.start(lambda progress: [listing.facts(card) for card in registry.cards().values()], self._fill, said)

    def _fill(self, rows, said) -> None:
        chosen = self.chosen
        self._rows = rows
        table, model = (
            self.table,
            self.table.model(),
        )  # the model creates the items in C++, so that Python doesn't own them
        table.clearSelection()
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            words = (
                row["title"],
                listing.parameters(row["parameters"]),
                listing.fits(row),
                listing.state(row),
                row["licence"],
            )
            for column, text in enumerate(words):
                model.setData(model.index(number, column), text)
                model.setData(model.index(number, column), text, qt.Qt.ToolTipRole)
            if row["id"] == chosen:
                table.selectRow(number)
        self.on_search()
        self.on_select()
        self.say(said)

    @property
    def chosen(self) -> str:
        """Id of the selected model, or ""."""
        numbers = {index.row() for index in self.table.selectionModel().selectedRows()}
        return self._rows[min(numbers)]["id"] if numbers and max(numbers) < len(self._rows) else ""

    def choose(self, model: str) -> None:
        """Select a model's row."""
        for number, row in enumerate(self._rows):
            if row["id"] == model:
                self.table.selectRow(number)

    @shown
    def on_search(self):
        cards = registry.cards()
        for number, row in enumerate(self._rows):
            card = cards.get(row["id"])
            self.table.setRowHidden(number, card is None or not listing.matches(card, self.search.text))

    @shown
    def on_select(self):
        row = next((row for row in self._rows if row["id"] == self.chosen), None)
        self.details.text = _details(row) if row is not None else ""
        hub = row is not None and not row["weights"]
        here = row is not None and row["downloaded"]
        enabled = {"use": here and row["loadable"], "get": hub and not here, "export": here, "delete": hub and here,
                   "zip": True, "folder": True}  # fmt: skip
        for name, button in self.buttons.items():
            button.enabled = enabled[name] and not self.busy
        self.adapters.show(self.chosen, bool(here and row["loadable"] and not row["endpoint"]), self.busy)

    def showError(self, text):
        self.say(f"⚠ {text}")

    def say(self, text) -> None:
        """Show a sentence."""
        self.status.text = text

    # -- background tasks ----------------------------------------------------------------------------

    def start(self, work, then, said="") -> None:
        """Run a task on a thread, then a function on the GUI thread.

        Args:
            work: called with a `Progress`.
            then: called with the result and `said`.
            said: sentence to show afterwards.
        """
        self._task, self._then = BackgroundTask(work), lambda result: then(result, said)
        self.bar.value = 0
        self._timer.start()
        self.on_select()

    @shown
    def on_timer(self):
        task = self._task
        self.bar.visible = self.cancel.visible = bool(task.name) and not task.ended
        self.bar.value = round(100 * task.value)
        if task.name and not task.cancelled():
            self.say(f"{task.name}…")
        if task.ended:
            self._end(task)

    def _end(self, task) -> None:
        self._timer.stop()
        self._task = None
        self.cancel.enabled = True
        self.on_select()
        if task.error:
            self.showError(task.error)
        else:
            self._then(task.result)
            if task.notes:
                self.say(" ".join([self.status.text, *task.notes]))

    @shown
    def on_cancel(self):
        if self._task is not None:
            self._task.cancel()
            self.cancel.enabled = False
            self.say("Stopping…")

    # -- actions of the user -------------------------------------------------------------------------

    @shown
    def on_use(self):
        self._use(self.chosen)
        self.say(f"{registry.card(self.chosen).title} is chosen in the panel.")

    @shown
    def on_get(self):
        card = registry.card(self.chosen)
        if not licence_acceptance.accepted(card):
            question = f"{card.title} is gated.\n\n{card.licence}\n{card.licence_url}\n\n{card.gate}"
            if not _confirm(f"{question}\n\nDid you read and accept these terms?", "Terms of the model"):
                return self.say(f"The terms of {card.title} were not accepted; nothing was downloaded.")
            licence_acceptance.accept(card)
        self.start(lambda progress: model_store.look(card, progress), lambda offer, _: self._offer(card, offer))

    def _offer(self, card, offer) -> None:
        left = f" ({gigabytes(offer.here)} are already downloaded)" if offer.here else ""
        question = (
            f"Download {card.title}?\n\n{gigabytes(offer.total)}{left}\nfrom {offer.host}\nLicence: {card.licence}\n\n"
            f"to {offer.folder}"
        )
        if not _confirm(question, "Get a model"):
            return self.say("Nothing was downloaded.")
        said = f"{card.title} is installed and checked against the hub's checksums."
        self.start(lambda progress: model_store.get(card, progress, offer), self.came, said)

    @shown
    def on_zip(self):
        path = qt.QFileDialog.getOpenFileName(self.dialog, "Import a model", "", "Exported model (*.zip)")
        self._import(path)

    @shown
    def on_folder(self):
        self._import(qt.QFileDialog.getExistingDirectory(self.dialog, "Folder with a model"))

    def _import(self, path) -> None:
        if path:
            self.start(lambda progress: model_store.import_model(path, "", progress), self._imported)

    def _imported(self, card, _) -> None:
        self.came(card, f"{card.title} is installed.")

    @shown
    def on_export(self):
        card = registry.card(self.chosen)
        name = f"{installed_models.folder_name(card.id)}.zip"
        path = qt.QFileDialog.getSaveFileName(self.dialog, "Export a model", name, "Exported model (*.zip)")
        if path:
            target = path if path.lower().endswith(".zip") else f"{path}.zip"
            self.start(lambda progress: model_store.export_model(card, target, progress), self._exported)

    def _exported(self, path, _) -> None:
        self.say(f"Wrote {path}.")

    @shown
    def on_delete(self):
        model = self.chosen
        self.start(lambda progress: model_store.remove(model, dry=True), lambda freed, _: self._delete(model, freed))

    def _delete(self, model, freed) -> None:
        title = registry.card(model).title
        question = f"Delete {title} from this computer?\n\n{gigabytes(freed)} become free, quantized copies included."
        if not _confirm(question, "Delete a model"):
            return self.say("Nothing was deleted.")
        self.start(lambda progress: model_store.remove(model), self.came, f"{title} was deleted.")

    def came(self, _, said) -> None:
        """Update after models were added or removed.

        Args:
            _: result of the task, unused.
            said: sentence to show.
        """
        self._changed()
        self.refresh(said)


def _confirm(question, title) -> bool:
    return slicer.util.confirmOkCancelDisplay(question, windowTitle=title)


def _details(row) -> str:
    """Return a description of a model in a few lines of rich text."""
    url = row["licence_url"]
    licence = f'<a href="{escape(url)}">{escape(row["licence"])}</a>' if url else escape(row["licence"])
    lines = [f"<b>{escape(row['title'])}</b> ({escape(row['id'])})", escape(row["summary"]), f"Licence: {licence}"]
    if row["gate"]:
        gate = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(row["gate"]))
        lines.append(f"Gate: {gate} MedFM stores no token.")
    return "<br>".join(lines)
