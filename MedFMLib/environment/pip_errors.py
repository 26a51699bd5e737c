"""Explain what pip printed in one clause. Knows pip's messages; runs nothing."""

from __future__ import annotations

import re

PROBLEMS = (
    (r"No space left|Errno 28", "the disk is full; free some space"),
    (r"ProxyError|Tunnel connection failed", "the proxy refused; check HTTPS_PROXY and its password"),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "a certificate is not trusted; set PIP_CERT to your site's authority"),
    (r"NewConnectionError|Name or service not known|Temporary failure|getaddrinfo|Network is unreachable|ConnectTimeout",
     "the package index can't be reached; check the network, or use a folder of wheels"),
    (r"No matching distribution found for (\S+)", "there is no build of {0} for this computer"),
    (r"Permission denied|Errno 13", "the folder can't be written to; check its permissions"),
    (r"HASH|hashes? .*do(?:es)? not match", "a wheel is damaged; copy the folder again"),
)  # fmt: skip
"""Pattern in pip's output → explanation, as one clause."""


def explain(lines: list[str]) -> str:
    """Return why pip or Python failed, in one clause."""
    text = "\n".join(lines[-60:])
    for pattern, words in PROBLEMS:
        if found := re.search(pattern, text):
            return words.format(*(found.groups() or ("",)))
    errors = [line for line in lines if re.match(r"(ERROR|error|\w*Error):?", line.strip())]
    return (errors or [line for line in lines if line.strip()] or ["no message"])[-1].strip()[:200]
