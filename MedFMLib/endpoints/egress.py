"""Ask once for the user's consent to what is sent to an endpoint, and store it. Depends on cards; sends nothing.

Consent is given to the text as it was shown: if the address, the number of pictures or the masking changes, the user is
asked
again. An endpoint on this machine needs no consent, unless it is known to forward pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelError
from ..storage import paths, user_settings
from ..storage.model_card import ModelCard
from .settings import Endpoint


def file() -> Path:
    """Return the settings file with the consents."""
    return paths.settings() / "endpoints-allowed.json"


def needed(card: ModelCard) -> bool:
    """Return whether consent is missing for this model."""
    if not card.endpoint or not Endpoint.of(card).leaves:
        return False
    return not _allowed().given(_key(card), says(card))


def allow(card: ModelCard) -> None:
    """Store the user's consent to `says(card)`.

    Raises:
        OutputError: if it can't be saved.
    """
    _allowed().give(_key(card), says(card))


def revoke(card: ModelCard) -> None:
    """Remove the consent, if there is one.

    Raises:
        OutputError: if it can't be saved.
    """
    _allowed().take_back(_key(card))


def check(card: ModelCard) -> None:
    """Check that an endpoint needs no consent, or has it.

    Raises:
        ModelError: if consent is missing.
    """
    if needed(card):
        raise ModelError(
            f"{card.title} would get pictures of the volume, and sending them to {Endpoint.of(card).host} was not allowed on "
            f"this machine; see what is sent and allow it with `medfm endpoints allow {card.id}`."
        )


def says(card: ModelCard) -> str:
    """Return what is sent to an endpoint and what is not, for the user's consent: plain text, one fact per line."""
    endpoint = Endpoint.of(card)
    lines = [
        f"With each question, MedFM sends to {endpoint.url} (model {endpoint.model}):",
        f"- up to {endpoint.max_pictures} pictures of slices, at most {card.image_size}×{card.image_size} pixels, as "
        f"{endpoint.format.upper()};",
        "- the question as you type it, and the earlier questions and answers of the conversation;",
        "- for a marked region, its modality, plane, size and side.",
        "Never sent: DICOM tags, names, dates, UIDs, file names, the volume itself.",
    ]
    if endpoint.mask_text:
        lines.append(
            "Text that is burned into pictures is looked for and blackened. The search can miss some: look at your images first. "
            "A face can be recognised in some slices, and no search removes that."
        )
    else:
        lines.append("Text that is burned into pictures is sent as it is.")
    if endpoint.scheme == "http" and not endpoint.is_loopback:
        lines.append("The way there is not encrypted: whoever is on the network can read it.")
    if not endpoint.leaves:
        return "\n".join([*lines, "That address is this machine."])
    if endpoint.is_loopback:
        lines.append("The address is this machine, but the name of the model says that it runs at its maker's.")
    if endpoint.openai_key:
        lines.append("The key in OPENAI_API_KEY goes there, too.")
    lines.append("Whoever runs the endpoint may keep what it gets. You are responsible for the permission to send it.")
    return "\n".join(lines)


def sent(card: ModelCard, pictures: int, side: int, question: str, history: Sequence[tuple[str, str]] = ()) -> str:
    """Return a summary of what one question sends.

    Args:
        card: of the endpoint.
        pictures: number of pictures.
        side: side length of each in pixels.
        question: the question.
        history: earlier (question, answer) pairs.
    """
    endpoint = Endpoint.of(card)
    many = f"{pictures} picture{'s' * (pictures != 1)} of {side}×{side} pixels ({endpoint.format.upper()})"
    words = f"a question of {len(question)} characters"
    return f"{many}, {words}" + (f" and {len(history)} earlier turn{'s' * (len(history) != 1)}" if history else "")


def _allowed() -> user_settings.Permissions:
    return user_settings.Permissions(file())


def _key(card: ModelCard) -> str:
    return f"{card.id} {Endpoint.of(card).url}"
