"""Describe failures of an endpoint, each as a sentence and a kind.

Knows HTTP statuses and servers' messages; no sockets.

Servers word the same refusal differently; the patterns match vLLM, llama.cpp, Ollama, LM Studio,
transformers and OpenAI. A key never gets into a message: a server's text is shown without it, and the message for a
refused key
shows nothing of the server's text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ..errors import ModelError
from ..storage.json_text import read_json
from . import keys
from .settings import Endpoint

KINDS = (
    "key",
    "model",
    "pictures",
    "length",
    "large",
    "busy",
    "server",
    "down",
    "tls",
    "timeout",
    "nonsense",
    "moved",
    "refused",
)
BUSY = (429, 502, 503)
"""Statuses after which the request is worth repeating."""

UNKNOWN_MODEL = re.compile(
    r"model[^.]{0,200}(not found|does ?n.t exist|does not exist|is not available|not loaded|unknown)|model_not_found|"
    r"unknown model|no such model|pinned to",
    re.I | re.S,
)
TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum context|exceed_context|context_length_exceeded|prompt is too long|too many tokens|"
    r"longer than the (maximum|context)|max_model_len|input is too long",
    re.I,
)
NO_PICTURES = re.compile(
    r"mmproj|not a multimodal|multi-?modal|image_url|image input|images? (is|are) not|not support(ed)? (image|vision)|"
    r"support (for )?(image|vision)|vision (is|not)|at most \d+ image|image[^.]{0,80}(unsupported|not supported|not allowed)|"
    r"content[^.]{0,40}must be a string",
    re.I,
)
NO_MEMORY = re.compile(r"out of memory|can't allocate|bad_alloc", re.I)
SECRET = re.compile(r"(Bearer\s+\S+|\b(sk|hf|gsk|pk|xai)[-_][A-Za-z0-9_\-*]{6,})")
DATA_URL = re.compile(r"data:image/\S+")
LONGEST = 160


class EndpointError(ModelError):
    """Failure of a request to an endpoint.

    Args:
        message: one sentence with the next step.
        kind: one of `KINDS`.
        again: whether the request is worth repeating soon.
        wait: seconds that the endpoint asked to wait, or None.
    """

    def __init__(self, message: str, kind: str, again: bool = False, wait: float | None = None):
        super().__init__(message)
        self.kind, self.again, self.wait = kind, again, wait


@dataclass(frozen=True)
class Failures:
    """Error messages for one endpoint.

    Args:
        name: the user's name for it.
        endpoint: its settings.
        key: used only to remove it from texts.
    """

    name: str
    endpoint: Endpoint
    key: str = ""

    @property
    def where(self) -> str:
        """The endpoint, as subject of a sentence."""
        return f"'{self.name}' at {self.endpoint.host}"

    def of_status(self, status: int, body: bytes, wait: float | None = None) -> EndpointError:
        """Return the error for an HTTP status other than success.

        Args:
            status: of HTTP.
            body: of the answer.
            wait: of Retry-After, seconds.
        """
        code, text = words_of(body)
        said = f"{code} {text}"
        if 300 <= status < 400:
            return EndpointError(
                f"{self.where} redirects to another address ({status}), which MedFM doesn't follow; add the endpoint with "
                "that address.",
                "moved",
            )
        if status in (401, 403, 407):
            return self._key(status)
        if status == 413:
            return EndpointError(
                f"{self.where} accepts no question this large ({status}); ask about fewer slices, or send jpeg.",
                "large",
            )
        if status == 429 and re.search("insufficient_quota|billing", said, re.I):
            return EndpointError(f"The account at {self.where} has no quota left; ask whoever runs it.", "busy")
        if status in BUSY:
            what = "is busy" if status == 429 else "is not ready"
            return EndpointError(f"{self.where} {what} ({status}); try again later.", "busy", True, wait)
        if TOO_LONG.search(said):
            return self.too_long()
        if UNKNOWN_MODEL.search(said):
            return self.no_model()
        if NO_PICTURES.search(said):
            return EndpointError(
                f"The model {self.endpoint.model} of {self.where} refused the pictures: {self.shown(text)}; choose a model that "
                f"takes pictures, or fewer at a time (--max-pictures, now {self.endpoint.max_pictures}).",
                "pictures",
            )
        if status in (404, 405):
            return EndpointError(
                f"There is no chat at {self.endpoint.url} ({status}); correct the address, which usually ends in /v1.",
                "refused",
            )
        if NO_MEMORY.search(said):
            return EndpointError(f"{self.where} ran out of memory ({status}); ask about fewer slices.", "server")
        if status >= 500:
            return EndpointError(
                f"{self.where} failed ({status}): {self.shown(text)}; look at the server's log.", "server"
            )
        return EndpointError(f"{self.where} refused the question ({status}): {self.shown(text)}.", "refused")

    def in_stream(self, error: object) -> EndpointError:
        """Return the error for an error message in the middle of an answer."""
        made = self.of_status(500, json.dumps({"error": error}).encode())
        return EndpointError(str(made), made.kind)

    def _key(self, status: int) -> EndpointError:
        if status == 407:
            return EndpointError(
                f"The proxy on the way to {self.where} wants a password; set it in HTTPS_PROXY.", "key"
            )
        way = f"set {keys.variable(self.name)}, or store it with `medfm endpoints key {self.name}`"
        what = f"refused the key ({status}); correct it: {way}" if self.key else f"wants a key ({status}): {way}"
        return EndpointError(f"{self.where} {what}.", "key")

    def no_model(self) -> EndpointError:
        """Return the error for an unknown model."""
        offered = [str(name) for name in self.endpoint.found.get("models", ()) if isinstance(name, str)]
        seen = f"it offered {', '.join(offered[:8])}" if offered else "see what it offers with `medfm endpoints test`"
        return EndpointError(f"{self.where} has no model '{self.endpoint.model}'; {seen}.", "model")

    def too_long(self) -> EndpointError:
        """Return the error for a question longer than the model's context."""
        return EndpointError(
            f"The question is too long for the model at {self.where}; ask about fewer slices or start a new conversation.",
            "length",
        )

    def down(self, proxy: bool = False) -> EndpointError:
        """Return the error for no connection, or one lost before an answer began."""
        what = f"The proxy on the way to {self.where} can't be reached" if proxy else f"{self.where} can't be reached"
        return EndpointError(f"{what}; check that it runs, and the address.", "down", True)

    def broken(self) -> EndpointError:
        """Return the error for a connection lost in the middle."""
        return EndpointError(f"The connection to {self.where} broke in the middle of the answer; ask again.", "down")

    def tls(self, reason: str = "") -> EndpointError:
        """Return the error for an untrusted certificate, or no TLS."""
        return EndpointError(
            f"The secure connection to {self.where} failed{f' ({reason})' if reason else ''}; give your hospital's certificates "
            "with --ca FILE or REQUESTS_CA_BUNDLE.",
            "tls",
        )

    def no_certificates(self, path: str) -> EndpointError:
        """Return the error for a missing file with certificates."""
        return EndpointError(f"The file with certificates, {path}, is missing or damaged; correct --ca.", "tls")

    def silent(self, seconds: float) -> EndpointError:
        """Return the error for a timeout between bytes."""
        return EndpointError(
            f"{self.where} sent nothing for {seconds:g} s; it may be loading the model: try again, or ask about fewer slices.",
            "timeout",
        )

    def slow(self, seconds: float) -> EndpointError:
        """Return the error for a timeout of the whole answer."""
        return EndpointError(
            f"{self.where} took longer than {seconds:g} s; ask for a shorter answer or about fewer slices.", "timeout"
        )

    def nonsense(self, what: str) -> EndpointError:
        """Return the error for an answer that violates the protocol."""
        return EndpointError(
            f"{self.where} answered with {what}; check that the address is that of an OpenAI API.", "nonsense"
        )

    def shown(self, text: str) -> str:
        """Return a server's text in quotes, shortened to one line, without keys and pictures."""
        if self.key:
            text = text.replace(self.key, "…")
        text = SECRET.sub("…", DATA_URL.sub("…", text))
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(".")
        return f"“{text[:LONGEST] + '…' if len(text) > LONGEST else text}”" if text else "no reason given"


def words_of(body: bytes) -> tuple[str, str]:
    """Return (code, message) of an error's body, in any of the formats in use."""
    text = body.decode("utf-8", "replace")
    try:
        content = read_json(text)
    except ValueError:
        return "", "" if "<html" in text.lower() else text
    error = content.get("error", content) if isinstance(content, dict) else content
    if not isinstance(error, dict):
        return "", error if isinstance(error, str) else json.dumps(error)
    code = " ".join(str(error[key]) for key in ("code", "type") if error.get(key))
    message = next((error[key] for key in ("message", "detail", "error") if error.get(key)), "")
    return code, message if isinstance(message, str) else json.dumps(message)
