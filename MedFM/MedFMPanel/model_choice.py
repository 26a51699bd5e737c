"""Select model, adapter and precision, and show their consequences. Knows cards and its own widgets."""

from __future__ import annotations

from html import escape
from pathlib import Path

import slicer
from MedFMLib.storage import adapter_card, installed_models
from MedFMLib import hardware
from MedFMLib.models.runtime import estimates
from MedFMLib.models.runtime.precision import choose_precision
from MedFMLib.interfaces import registry
from MedFMLib.endpoints import egress
from MedFMLib.endpoints.settings import Endpoint
from MedFMLib.storage.model_card import ModelCard
from MedFMLib.core.request import DEFAULT_MODEL
from MedFMLib.model_store import listing
from MedFMPanel.finetune import FineTuneWindow
from MedFMPanel.model_card import CardWindow
from MedFMPanel.models_window import ModelsWindow

CARD_LINK, ALL_LINK, TUNE_LINK = "model-card", "all-models", "fine-tune"
NO_MODEL = "No model is installed."


class ModelChoice:
    """The model's part of the panel.

    Args:
        ui: the panel's widgets by name.
        changed: called after models were added or removed.
        find_cards: returns model cards by id.
    """

    def __init__(self, ui, changed=lambda: None, find_cards=registry.cards):
        self._ui, self._changed, self._find_cards = ui, changed, find_cards
        self.cards: dict[str, ModelCard] = {}
        self._from_folders: dict[str, ModelCard] = {}
        self._shown = ""
        self.window: CardWindow | None = None
        self.all: ModelsWindow | None = None
        self.tune: FineTuneWindow | None = None
        ui.modelSummaryLabel.connect("linkActivated(QString)", self._open)
        ui.precisionSelector.connect("currentIndexChanged(int)", self._show_memory)
        ui.questionBox.setCompleter(None)  # it would complete the user's question with an example

    def load(self, chosen: str = "") -> None:
        """List the models, those from folders last.

        Args:
            chosen: the model named in a saved scene; an existing folder is added to the list.

        Raises:
            ModelError: if a card is damaged.
        """
        known = self._find_cards()
        if chosen and chosen not in known and Path(chosen).is_dir():
            self._from_folders[chosen] = registry.card(chosen)
        self.cards = known | self._from_folders
        fill(self._ui.modelSelector, [(card.title, card.id) for card in self.cards.values()])

    def add_folder(self, folder: str) -> str:
        """Add a model from a folder and return its id. The list shows it after the next `load`.

        Raises:
            ModelError: if the folder has no model of a known architecture.
        """
        card = registry.card(folder)
        self._from_folders[card.id] = card
        return card.id

    def knows(self, model: str) -> bool:
        """Return whether the model is listed."""
        return model in self.cards

    def default(self) -> str:
        """Return the embedded model, or else the first one, or ""."""
        return DEFAULT_MODEL if DEFAULT_MODEL in self.cards else next(iter(self.cards), "")

    def show(self, model: str) -> None:
        """Show adapters, precisions, example questions and the summary of one model."""
        ui, card = self._ui, self.cards.get(model)
        self._shown = model
        names = dict.fromkeys((card.default_adapter, *card.adapters, *self._own(card))) if card is not None else {}
        fill(ui.adapterSelector, [*((name, name) for name in names if name), ("none", "none")])
        fill(ui.precisionSelector, _precisions(card))
        self._show_memory()
        question = ui.questionBox.currentText
        fill(ui.questionBox, [(text, text) for text in card.questions.values()] if card is not None else [])
        ui.questionBox.setEditText(question)
        summary = f'{escape(card.summary)} <a href="{CARD_LINK}">Model card</a>' if card is not None else NO_MODEL
        ui.modelSummaryLabel.text = (
            f'{summary} · <a href="{ALL_LINK}">All models…</a> · <a href="{TUNE_LINK}">Fine-tune…</a>'
        )
        ui.modelSummaryLabel.toolTip = f"Licence: {card.licence}. {card.not_for}" if card is not None else ""

    def _show_memory(self, *_) -> None:
        """Show the memory of the weights in the selected precision, and the free memory."""
        bar, card = self._ui.memoryBar, self.cards.get(self._shown)
        taken = self._weights(card)
        free = hardware.free_memory()
        if card is not None and card.endpoint:
            text = f"none here: runs on {Endpoint.of(card).host}"
        elif not taken:
            text = "unknown until the model is installed"
        elif not free:
            text = f"{listing.size(taken)}"
        else:
            text = f"{listing.size(taken)} of {listing.size(free)} free"
            text += "" if taken <= free else ": does not fit"
        bar.setValue(min(100, round(100 * taken / free)) if taken and free else 0)
        bar.setFormat(text)

    def _weights(self, card: ModelCard | None) -> int | None:
        """Return the bytes of the weights in the chosen precision; None if unknown."""
        if card is None:
            return None
        return estimates.weight_bytes(card, choose_precision(card, self._ui.precisionSelector.currentData or ""))

    def _own(self, card: ModelCard) -> list[str]:
        """Return the user's adapters, except those made for another listed model."""
        found = installed_models.adapters() if "writes" in card.abilities else {}
        bases = {name: config.get("base_model_name_or_path") for name, config in found.items()}
        return [
            name
            for name, base in bases.items()
            if (base == card.id or base not in self.cards)
            and not adapter_card.refusal(installed_models.adapter_folder(name))
        ]

    def _mergeable(self, model: str) -> list[str]:
        """Return the adapters that can be merged into a model."""
        card = self.cards.get(model)
        return [*dict.fromkeys((*card.adapters, *self._own(card)))] if card is not None else []

    def _open(self, link: str) -> None:
        if link == ALL_LINK:
            self.open_all()
        elif link == TUNE_LINK:
            self.open_tune()
        else:
            self.open_card()

    def open_all(self) -> None:
        """Show the window with all models, for downloads, imports, exports and removal."""
        self.all = self.all or ModelsWindow(slicer.util.mainWindow(), self._use, self._changed, self._mergeable)
        self.all.show()

    def open_tune(self) -> None:
        """Show the fine-tuning window."""
        self.tune = self.tune or FineTuneWindow(
            slicer.util.mainWindow(), lambda: self._shown, self._case, self._use_adapter, self._changed
        )
        self.tune.show()

    def _case(self):
        return self._ui.volumeSelector.currentNode(), self._ui.targetSelector.currentNode()

    def _use_adapter(self, name: str) -> None:
        self._changed()
        self._ui.adapterSelector.setCurrentIndex(self._ui.adapterSelector.findData(name))

    def _use(self, model: str) -> None:
        if self._ui.modelSelector.enabled:  # it is disabled while a job runs
            self._ui.modelSelector.setCurrentIndex(self._ui.modelSelector.findData(model))

    def close(self) -> None:
        """Stop running tasks."""
        for window in (self.all, self.tune):
            if window is not None:
                window.close()

    def open_card(self) -> None:
        """Show the card of the selected model in a window."""
        card = self.cards.get(self._shown)
        if card is not None:
            self.window = self.window or CardWindow(slicer.util.mainWindow())
            self.window.show(card.title, registry.page(card))

    def allow(self, model: str, may_ask: bool = True) -> None:
        """Ask once for consent to sending pictures to a model on a server; shows what is sent.

        Args:
            model: its id.
            may_ask: False if no user is present who could consent.

        Raises:
            ModelError: without consent.
        """
        card = self.cards.get(model)
        if card is None or not egress.needed(card):
            return
        if may_ask and slicer.util.confirmOkCancelDisplay(egress.says(card), windowTitle="Send pictures to a server?"):
            egress.allow(card)
        egress.check(card)

    def outlines(self, model: str) -> bool:
        """Return whether the model segments from points and boxes."""
        return model in self.cards and "outlines" in self.cards[model].abilities

    def labels(self, model: str, modality: str) -> tuple[str, ...]:
        """Return the structures that the model lists.

        Args:
            model: its id.
            modality: e.g. "CT"; "" for all.

        Returns:
            Labels; empty if it lists none.
        """
        card = self.cards.get(model)
        if card is None or not card.labels:
            return ()
        if modality:
            return card.labels_for(modality)
        return tuple(dict.fromkeys(label for labels in card.labels.values() for label in labels))


def _precisions(card: ModelCard | None) -> list[tuple[str, str]]:
    """Return (text, data) rows: automatic first where there is a choice, then each precision of the card."""
    if card is None:
        return []
    rows = [(name, name) for name in card.precisions]
    return [("automatic", ""), *rows] if len(rows) > 1 else rows


def fill(combo, items) -> None:
    """Replace the rows of a combo box.

    Args:
        combo: the combo box.
        items: (text, data) pairs.
    """
    combo.clear()
    for text, data in items:
        combo.addItem(text, data)
