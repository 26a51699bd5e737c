"""Add descriptions written by a model to pictures without a human one; they are marked.

Uses an ability, no model family.
"""

from __future__ import annotations

from ...errors import InputError
from ...interfaces.jobs import NoProgress, Progress
from .pictures import view_of
from .samples import QuestionPair, ReaderResult

QUESTION = "what does this image show?"


def add(found: ReaderResult, model: str, progress: Progress | None = None) -> int:
    """Let a model describe every picture without a description, and return the number of these pictures.

    Args:
        found: by the reader; pairs are added to it.
        model: id or folder, of one that writes text. It is recorded in each pair's `origin`.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        InputError: if the model writes no text.
        ModelError: if it can't be loaded.
    """
    from ...engine import load_model
    from ...interfaces import registry
    from ...interfaces.model import Writes
    from ...models.runtime.precision import choose_precision

    progress = progress or NoProgress()
    card = registry.card(model)
    loaded = load_model(card, "", choose_precision(card), progress)
    if not isinstance(loaded, Writes):
        raise InputError(f"{card.title} writes no text; choose a model that does.")
    described = {pair.picture for pair in found.pairs if pair.category == "caption"}
    progress.stage("Describing pictures")
    rest = [picture for picture in found.pictures if picture.key not in described]
    for number, picture in enumerate(rest):
        progress.fraction(number / len(rest))
        shown = picture.load()
        text = loaded.write(
            [view_of(shown.pixels, shown.spacing, shown.placed)], kind="describe", max_tokens=128
        ).strip()
        if text:
            found.pairs.append(QuestionPair(picture.key, QUESTION, text, "caption", origin=f"model {model}"))
    return len(rest)
