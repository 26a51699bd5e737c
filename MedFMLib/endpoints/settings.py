"""Define `Endpoint`, the settings of an endpoint in a model card. Parses addresses; makes no network requests."""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError, ModelError
from ..storage.json_records import check_record
from ..storage.model_card import ModelCard

FORMATS = ("png", "jpeg")
CHAT = "/chat/completions"
SENT_ON = ("-cloud", ":cloud")
"""Suffixes of model names that a local Ollama forwards to its provider's servers."""


@dataclass(frozen=True)
class Endpoint:
    """Address and settings of a model on a server.

    Args:
        url: base address, to which "/chat/completions" is added, such as "http://localhost:11434/v1".
        model: its name there.
        max_pictures: largest number of pictures in one question.
        format: "png" or "jpeg", format of the pictures.
        mask_text: whether areas that may be burned-in text are blacked out before pictures are sent.
        insecure: whether unencrypted http to another machine is permitted.
        ca: file with trusted certificates; "" for the environment's (REQUESTS_CA_BUNDLE) or the usual ones.
        openai_key: whether the key is in OPENAI_API_KEY.
        stop: texts at which an answer ends, at most 4.
        connect_seconds: time limit for a connection.
        read_seconds: time limit for the next byte.
        total_seconds: time limit for the answer.
        tries: number of attempts while the endpoint can't be reached or is busy.
        found: result of the last test; see `probe`.

    Raises:
        InputError: if a value is invalid.
    """

    url: str
    model: str
    max_pictures: int = 8
    format: str = "png"
    mask_text: bool = True
    insecure: bool = False
    ca: str = ""
    openai_key: bool = False
    stop: tuple[str, ...] = ()
    connect_seconds: float = 10.0
    read_seconds: float = 180.0
    total_seconds: float = 900.0
    tries: int = 4
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", base_address(self.url))
        object.__setattr__(self, "stop", tuple(self.stop))
        if not self.model.strip():
            raise InputError("An endpoint needs the name of a model there; give it with --model.")
        if self.format not in FORMATS:
            raise InputError(f"Pictures are sent as {' or '.join(FORMATS)}, not '{self.format}'.")
        if not 1 <= self.max_pictures <= 256:
            raise InputError(f"A question may have 1 to 256 pictures, not {self.max_pictures}.")
        if len(self.stop) > 4:
            raise InputError(f"An answer may end at no more than 4 texts, not {len(self.stop)}.")
        if min(self.connect_seconds, self.read_seconds, self.total_seconds, self.tries) <= 0:
            raise InputError("The seconds to wait and the number of tries must be above 0; correct the card.")
        if self.scheme == "http" and not self.is_loopback and not self.insecure:
            raise InputError(
                f"{self.url} is another machine and http is not encrypted; use https, or add --insecure if the network is safe."
            )

    @classmethod
    def of(cls, card: ModelCard) -> Endpoint:
        """Return the endpoint of a card.

        Raises:
            ModelError: if the card has none, or it has an unknown field or one of the wrong type.
        """
        if not card.endpoint:
            raise ModelError(
                f"The endpoint in the card of {card.title} is missing; add it again with `medfm endpoints add`."
            )
        try:
            check_record(cls, card.endpoint)
        except ValueError as error:
            raise ModelError(
                f"The endpoint in the card of {card.title} is damaged: {error}; add it again with `medfm endpoints add`."
            ) from error
        try:
            return cls(**card.endpoint)
        except (InputError, TypeError) as error:
            raise ModelError(f"The endpoint in the card of {card.title} can't be used: {error}") from None

    def as_json(self) -> dict[str, Any]:
        """Return the settings as stored in a card."""
        return asdict(self) | {"stop": list(self.stop)}

    @property
    def scheme(self) -> str:
        """URL scheme, "http" or "https"."""
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """Host and port, for display."""
        return urlsplit(self.url).netloc

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def leaves(self) -> bool:
        """Whether pictures leave this machine, also through a local program that is known to forward them."""
        return not self.is_loopback or self.model.endswith(SENT_ON)


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is that of this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def base_address(url: str) -> str:
    """Return the base address of the API, without a slash at its end, from an address as users enter it.

    Raises:
        InputError: if it is no http address, or has a key, a query or a fragment in it.
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        shown = url if "@" not in url and "?" not in url else "The input"
        raise InputError(f"{shown} is not the address of an endpoint; give one such as http://localhost:11434/v1.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            f"The address of {host} may not have a user, key, query or fragment in it; store a key with "
            "`medfm endpoints key NAME`."
        )
    path = parts.path.rstrip("/").removesuffix(CHAT)
    return f"{parts.scheme}://{parts.netloc.lower()}{path or '/v1'}"
