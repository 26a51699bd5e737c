"""Seal report files with a key of this installation, so that a change outside of MedFM is noticed.

A seal is an HMAC-SHA256 of the file's content (RFC 2104). It shows that the file is as MedFM wrote it here; it does not
show who typed the signer's name, and whoever can use this account can make seals. It is no digital signature.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from ..storage import secrets

LINE = re.compile(rb"MEDFM-SEAL1 ([0-9a-f]{8}) ([0-9a-f]{64})\n")
NONE = "the file has no seal"
CHANGED = "the file was changed after that, outside of MedFM"
OTHER = "the file was sealed by another installation, which can't be checked here"


def sealed(content: bytes) -> bytes:
    """Return content with its seal before it.

    Raises:
        OutputError: if there is no key, and none can be stored.
    """
    key = secrets.site_key()
    return b"MEDFM-SEAL1 %s %s\n" % (_name(key), _mac(key, content)) + content


def opened(data: bytes) -> tuple[bytes, str]:
    """Return (content, what is doubtful about it: "" if its seal is valid)."""
    match = LINE.match(data)
    if match is None:
        return data, NONE
    content = data[match.end() :]
    key = next((key for key in secrets.site_keys() if _name(key) == match[1]), None)
    if key is None:
        return content, OTHER
    return content, "" if hmac.compare_digest(_mac(key, content), match[2]) else CHANGED


def _name(key: bytes) -> bytes:
    """Return eight hex digits that say which key it is, and nothing about it."""
    return hashlib.sha256(b"MedFM seal key" + key).hexdigest()[:8].encode()


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).hexdigest().encode()
