"""Check the keys of clients: tokens by name, compared in constant time. Knows a file of keys; nothing of HTTP."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from ...errors import InputError

SHORTEST = 20
"""Smallest number of characters of a key."""

LINE = re.compile(r"([A-Za-z0-9._-]+)\s+(\S+)")


def fresh_token() -> str:
    """Return a new token, 256 random bits."""
    return secrets.token_urlsafe(32)


class ApiKeys:
    """Names of clients by token; only hashes of the tokens are stored.

    Args:
        tokens: token → name of the client.
    """

    def __init__(self, tokens: dict[str, str]):
        self._names = {_hash(token): name for token, name in tokens.items()}

    @property
    def count(self) -> int:
        """Number of clients; a name with two keys, as while one replaces the other, is one client."""
        return len(set(self._names.values()))

    @classmethod
    def from_file(cls, path: Path) -> ApiKeys:
        """Read a file with lines "name key"; empty lines and lines that begin with # are skipped.

        Raises:
            InputError: if the file or a line can't be read, a key is short or used twice, there is no key, or every
                user of the machine may read the file.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
            mode = Path(path).stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The file of keys '{path}' can't be read ({error}); give another.") from error
        if os.name != "nt" and mode & 0o007:
            raise InputError(
                f"Everyone on this machine may read or change the file of keys '{path}'; chmod 600 it first."
            )
        tokens: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = LINE.fullmatch(line.strip())
            if not found or len(found[2]) < SHORTEST or found[2] in tokens:
                raise InputError(
                    f"Line {number} of the file of keys is not 'name key' with an unused key of at least {SHORTEST} characters."
                )
            tokens[found[2]] = found[1]
        if not tokens:
            raise InputError(
                f"The file of keys '{path}' is empty; add a line 'name key' for each client that may connect."
            )
        return cls(tokens)

    def name_of(self, token: str) -> str | None:
        """Return the name that belongs to a token, or None, in time that does not depend on the token."""
        given, found = _hash(token), None
        for known, name in self._names.items():
            if hmac.compare_digest(known, given):
                found = name
        return found


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
