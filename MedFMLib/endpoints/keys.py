"""Keys of endpoints: from the environment, or the system's keyring. They are never written to a file of ours.

Where a key is looked for, first found first taken: MEDFM_ENDPOINT_KEY_NAME; OPENAI_API_KEY, if the card says so; the
keyring (package `keyring`, optional), where it is kept for the endpoint's name and address together, so that it never
goes to another address of the same name.
"""

from __future__ import annotations

import os
import re

from ..errors import InputError, ModelError
from ..interfaces.model import ModelCard
from .settings import Endpoint

SERVICE = "MedFM endpoints"
PLAIN = ("keyrings.alt.file", "keyrings.alt.Gnome", "sagecipher")
"""Keyrings that keep keys in files that are not, or hardly, encrypted."""


def variable(name: str) -> str:
    """Variable of the environment for the key of an endpoint."""
    return "MEDFM_ENDPOINT_KEY_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def key(card: ModelCard) -> str:
    """The key, or "" if there is none.

    Raises:
        ModelError: if it can't be one. The message doesn't have it.
    """
    endpoint = Endpoint.of(card)
    source, found = variable(card.id), os.environ.get(variable(card.id), "")
    if not found and endpoint.openai_key:
        source, found = "OPENAI_API_KEY", os.environ.get("OPENAI_API_KEY", "")
    if not found:
        source, found = "the keyring", _from_keyring(card.id, endpoint)
    return checked(found, source)


def checked(text: str, source: str) -> str:
    """A key without space around it.

    Raises:
        ModelError: if it has what no key has, such as a line break inside. The message doesn't show it.
    """
    text = text.strip()
    if text and not re.fullmatch(r"[!-~]+", text):
        raise ModelError(f"The key in {source} has spaces or characters that no key has; copy it again.")
    return text


def has_keyring() -> bool:
    """Can keys be stored on this machine?"""
    return safe_keyring() is not None


def store(card: ModelCard, text: str) -> None:
    """Put a key into the keyring, in place of an earlier one.

    Raises:
        InputError: if it is empty. ModelError: if there is no keyring that keeps it safely.
    """
    text = checked(text, "what was typed")
    if not text:
        raise InputError("The key is empty; nothing was stored.")
    ring = safe_keyring()
    if ring is None:
        raise ModelError(
            f"This machine has no keyring for Python; run `pip install keyring`, or set {variable(card.id)} instead."
        )
    try:
        ring.set_password(SERVICE, _user(card.id, Endpoint.of(card)), text)
    except Exception as error:  # whatever a keyring's backend raises; its text may hold anything
        raise ModelError(
            f"The keyring refused the key ({type(error).__name__}); unlock it, or set {variable(card.id)} instead."
        ) from None


def delete(card: ModelCard) -> None:
    """Take the key out of the keyring; nothing happens if there is none."""
    ring = safe_keyring()
    if ring is None:
        return
    try:
        ring.delete_password(SERVICE, _user(card.id, Endpoint.of(card)))
    except Exception:  # none there, or a locked keyring
        return


def _user(name: str, endpoint: Endpoint) -> str:
    return f"{name} {endpoint.url}"


def _from_keyring(name: str, endpoint: Endpoint) -> str:
    ring = safe_keyring()
    if ring is None:
        return ""
    try:
        return ring.get_password(SERVICE, _user(name, endpoint)) or ""
    except Exception:  # a locked or broken keyring: as if there were none; the endpoint says if it wants a key
        return ""


def safe_keyring():
    """The package `keyring` with a backend that keeps keys safely, or None."""
    try:
        import keyring
    except ImportError:
        return None
    backend = keyring.get_keyring()
    module = type(backend).__module__
    if module.startswith(PLAIN) or module.startswith(("keyring.backends.fail", "keyring.backends.null")):
        return None
    return keyring
