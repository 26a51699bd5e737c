r"""Write to terminals nothing that a terminal obeys, except what the command itself writes.

Names of files, DICOM texts, answers of models and errors of servers come from others, and an escape sequence in them could
rewrite the screen, the title, or what was printed before. So control characters in texts are shown as escapes ("\x1b"),
here, for everything that the command prints: `Console` for rich, `shielded` for print and the standard streams.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rich.console

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters except tab and newline, marks that change the direction of text or end lines, half characters."""


def printable(text: str) -> str:
    """Return a text with control characters as escapes; tabs and newlines stay."""
    return OBEYED.sub(lambda match: _escaped(match[0]), text)


def _escaped(letter: str) -> str:
    number = ord(letter)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


class Console(rich.console.Console):
    """rich's console, which prints texts as they are: without markup, unless a call asks for it, and without controls."""

    def __init__(self, **options):
        super().__init__(markup=False, **options)

    def render_str(self, text: str, **options):
        """Return a text as rich shows it; everything that is printed as a plain string passes here, cells of tables too.

        Args:
            text: the text.
            options: of `rich.console.Console.render_str`.
        """
        return super().render_str(printable(text), **options)


class _Stream:
    """A text stream whose control characters are shown as escapes; rich writes to the stream itself."""

    def __init__(self, stream):
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return self.rich_proxied_file.write(printable(text))

    def __getattr__(self, name: str):
        return getattr(self.rich_proxied_file, name)


@contextmanager
def shielded() -> Iterator[None]:
    """Let print and the standard streams show control characters as escapes."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Stream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
