"""Read and store API keys of endpoints: in the environment or the system's keyring, never in a file of MedFM.

The first key found is used: MEDFM_ENDPOINT_KEY_NAME; OPENAI_API_KEY, if the card says so; the
keyring (package `keyring`, optional), where it is stored for the endpoint's name and address together, so that it is
never
sent to another address of the same name.
"""

from __future__ import annotations

import os
import re

from ..errors import InputError, ModelError
from ..storage.model_card import ModelCard
from ..storage.secrets import safe_keyring
from .settings import Endpoint

SERVICE = "MedFM endpoints"


def variable(name: str) -> str:
    """Return the environment variable for the key of an endpoint."""
    return "MEDFM_ENDPOINT_KEY_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def key(card: ModelCard) -> str:
    """Return the key, or "" if there is none.

    Raises:
        ModelError: if it is malformed. The message doesn't contain it.
    """
    endpoint = Endpoint.of(card)
    source, found = variable(card.id), os.environ.get(variable(card.id), "")
    if not found and endpoint.openai_key:
        source, found = "OPENAI_API_KEY", os.environ.get("OPENAI_API_KEY", "")
    if not found:
        source, found = "the keyring", _from_keyring(card.id, endpoint)
    return checked(found, source)


def checked(text: str, source: str) -> str:
    """Return a key without surrounding white space.

    Args:
        text: the key.
        source: its origin, for the error message.

    Raises:
        ModelError: if it has invalid characters, such as a line break. The message doesn't contain it.
    """
    text = text.strip()
    if text and not re.fullmatch(r"[!-~]+", text):
        raise ModelError(f"The key in {source} has spaces or characters that no key has; copy it again.")
    return text


def has_keyring() -> bool:
    """Return whether keys can be stored on this machine."""
    return safe_keyring() is not None


def store(card: ModelCard, text: str) -> None:
    """Store a key in the keyring, replacing an earlier one.

    Args:
        card: of the endpoint.
        text: the key.

    Raises:
        InputError: if it is empty.
        ModelError: if there is no safe keyring.
    """
    text = checked(text, "the input")
    if not text:
        raise InputError("The key is empty; nothing was stored.")
    ring = safe_keyring()
    if ring is None:
        raise ModelError(
            f"This machine has no keyring for Python; run `pip install keyring`, or set {variable(card.id)} instead."
        )
    try:
        ring.set_password(SERVICE, _user(card.id, Endpoint.of(card)), text)
    except Exception as error:  # any error of a backend; its text may contain the key
        raise ModelError(
            f"The keyring refused the key ({type(error).__name__}); unlock it, or set {variable(card.id)} instead."
        ) from None


def delete(card: ModelCard) -> None:
    """Remove the key from the keyring, if there is one."""
    ring = safe_keyring()
    if ring is None:
        return
    try:
        ring.delete_password(SERVICE, _user(card.id, Endpoint.of(card)))
    except Exception:  # no key, or a locked keyring
        return


def _user(name: str, endpoint: Endpoint) -> str:
    return f"{name} {endpoint.url}"


def _from_keyring(name: str, endpoint: Endpoint) -> str:
    ring = safe_keyring()
    if ring is None:
        return ""
    try:
        return ring.get_password(SERVICE, _user(name, endpoint)) or ""
    except Exception:  # a locked or broken keyring counts as none; the endpoint reports if it needs a key
        return ""
