"""Bound what a chat template may take: it is a program (Jinja) that comes with a model, and runs with every question.

transformers compiles it in Jinja's sandbox, which keeps it from the machine's files and Python's objects, not from loops
without end or texts that double. So the template's source is looked at once, and its lines are counted while it runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from ...errors import ModelError

MOST_LINES = 400_000
"""Lines of one rendering; a conversation of 200 turns takes some 20,000."""

MOST_TEXT = 20 << 20
"""Characters of one rendering, and of one variable."""

LARGEST_NUMBER = 100_000
"""Largest number in a template: a width or a repetition."""

WIDE = re.compile(r"%[-+ #0]*\d{5,}|\{[^}]*\d{5,}")
"""A width in a format, of % or of `str.format`."""

COMPILED = "<template>"
"""Name of the file that Jinja gives to compiled templates without a name."""


@lru_cache(maxsize=32)
def check_source(template: str) -> None:
    """Check the source of a template.

    Args:
        template: Jinja's source.

    Raises:
        ModelError: if it multiplies, or has numbers of a size that no conversation needs.
    """
    from jinja2 import Environment, TemplateError, nodes

    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except (TemplateError, RecursionError):
        return  # tags of transformers' own; what is broken fails when it runs
    for node in tree.find_all((nodes.Mul, nodes.Pow, nodes.Const)):
        if isinstance(node, nodes.Const) and isinstance(node.value, str) and WIDE.search(node.value):
            raise _refused(node, f"the format {node.value[:40]!r}")
        large = (
            isinstance(node, nodes.Const) and isinstance(node.value, int | float) and abs(node.value) > LARGEST_NUMBER
        )
        if large or not isinstance(node, nodes.Const):
            raise _refused(node, f"the number {node.value:g}" if large else "a product")


def _refused(node, what: str) -> ModelError:
    return ModelError(
        f"The chat template of the model has {what} in line {node.lineno}, which no conversation needs, so it isn't run; copy "
        "chat_template.jinja from where the model was published."
    )


@contextmanager
def bounded(template: str) -> Iterator[None]:
    """Count the lines that a template runs and the text that it makes; end it at the limits.

    Args:
        template: Jinja's source.

    Raises:
        ModelError: if it goes beyond a limit.
    """
    check_source(template)
    before = sys.gettrace()
    sys.settrace(_Counter().trace)
    try:
        yield
    except (MemoryError, RecursionError) as error:
        raise _endless() from error
    finally:
        sys.settrace(before)


class _Counter:
    """Counts the lines of compiled templates on this thread, and what they yield."""

    def __init__(self):
        self._lines = self._text = 0

    def trace(self, frame, event: str, value):
        """Follow the frames of templates; see `sys.settrace`."""
        if frame.f_code.co_filename != COMPILED:
            return None
        if event == "line":
            self._lines += 1
            if self._lines > MOST_LINES:
                raise _endless()
            if sum(map(_size, list(frame.f_locals.values()))) > MOST_TEXT:
                raise _endless()
        elif event == "return" and isinstance(value, str):
            self._text += len(value)
            if self._text > MOST_TEXT:
                raise _endless()
        return self.trace


def _size(value) -> int:
    """Return the characters of a text, of the texts in a list, or of the attributes of a namespace."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | tuple):
        return len(value) + sum(len(item) for item in value if isinstance(item, str))
    if type(value).__name__.endswith("Namespace"):  # Jinja's, or transformers' subclass; both hide their attributes
        return sum(map(_size, object.__getattribute__(value, "_Namespace__attrs").values()))
    return 0


def _endless() -> ModelError:
    return ModelError(
        f"The chat template of the model runs more than {MOST_LINES} lines or makes more than {MOST_TEXT >> 20} MB of text, so "
        "it was ended; copy chat_template.jinja from where the model was published."
    )
