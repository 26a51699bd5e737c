"""Keep secrets of this installation: in the system's keyring, else in a file that only its user can read.

The package `keyring` is optional. A backend that stores texts in plain files counts as none.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from ..errors import OutputError
from . import paths

PLAIN = ("keyrings.alt.file", "keyrings.alt.Gnome", "sagecipher")
"""Keyring backends that store keys in files with little or no encryption."""

SERVICE, USER = "MedFM", "report seal"
FILE = "report-seal.key"
KEY = re.compile(r"[0-9a-f]{64}")


def safe_keyring():
    """Return the package `keyring` if its backend is safe, or None."""
    try:
        import keyring
    except ImportError:
        return None
    backend = keyring.get_keyring()
    module = type(backend).__module__
    if module.startswith(PLAIN) or module.startswith(("keyring.backends.fail", "keyring.backends.null")):
        return None
    return keyring


def site_keys() -> list[bytes]:
    """Return the keys of this installation that exist, 32 bytes each, the keyring's first."""
    found = [text for text in (_from_keyring(), _from_file()) if text]
    return [bytes.fromhex(text) for text in dict.fromkeys(found)]


def site_key() -> bytes:
    """Return the key of this installation, 32 bytes, made when there is none.

    Raises:
        OutputError: if it can't be stored.
    """
    if keys := site_keys():
        return keys[0]
    made = secrets.token_hex(32)
    ring = safe_keyring()
    if ring is not None:
        try:
            ring.set_password(SERVICE, USER, made)
            return bytes.fromhex(made)
        except Exception:  # any error of a backend: locked, without a session
            pass
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(made)
    except FileExistsError:
        if text := _from_file():  # another process made it meanwhile
            return bytes.fromhex(text)
        raise OutputError(f"'{path}' is no key of MedFM; remove it.") from None
    except OSError as error:
        raise OutputError(f"The key for sealing reports can't be written to '{path}' ({error.strerror}).") from error
    return bytes.fromhex(made)


def _from_keyring() -> str:
    ring = safe_keyring()
    if ring is None:
        return ""
    try:
        text = ring.get_password(SERVICE, USER) or ""
    except Exception:  # a locked or broken keyring
        return ""
    return text if KEY.fullmatch(text) else ""


def _from_file() -> str:
    try:
        text = _file().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if KEY.fullmatch(text) else ""


def _file() -> Path:
    return paths.settings() / FILE
