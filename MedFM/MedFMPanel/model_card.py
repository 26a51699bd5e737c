"""Show a model's whole card in a window: purpose, abilities, limits and numbers. Knows Qt and text; no models."""

from __future__ import annotations

import qt

WIDTH, HEIGHT = 820, 760


class CardWindow:
    """A non-modal window that shows one card at a time."""

    def __init__(self, parent):
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle("Model card")
        self.dialog.resize(WIDTH, HEIGHT)
        self.browser = qt.QTextBrowser()
        self.browser.setOpenExternalLinks(True)
        layout = qt.QVBoxLayout(self.dialog)
        layout.addWidget(self.browser)

    def show(self, title: str, markdown: str) -> None:
        """Show a card.

        Args:
            title: of the model.
            markdown: the card.
        """
        self.dialog.setWindowTitle(f"Model card: {title}")
        self.browser.setMarkdown(markdown)
        self.dialog.show()
        self.dialog.raise_()
