"""Choose where jobs run, save that choice per user, and create the runner for it.

The choice is saved on this machine, never in a scene. Its kinds:

    process   in a separate process that only this application communicates with
    server    on a local server process, whose key other programs may be given
    here      inside this application
    remote    on a MedFM server elsewhere, only after the user's consent to what leaves this machine

The key of a server elsewhere comes from MEDFM_SERVER_KEY or the system's keyring; MedFM never writes it to a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from ..endpoints.keys import checked, safe_keyring
from ..errors import InputError, ModelError
from ..interfaces.jobs import Runner
from ..storage import paths, user_settings

KINDS = ("process", "server", "here", "remote")
KEY = "MEDFM_SERVER_KEY"
SERVICE = "MedFM servers"


@dataclass(frozen=True)
class Backend:
    """The backend where jobs run.

    Args:
        kind: one of `KINDS`.
        url: address of a server elsewhere; "" for the other kinds.
        certificates: PEM file of the certificate authority to trust, or "".

    Raises:
        InputError: if the kind is unknown.
    """

    kind: str = "process"
    url: str = ""
    certificates: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"Jobs can't run in '{self.kind}'; choose one of {', '.join(KINDS)}.")


def file() -> Path:
    """Return the path of the file with the saved choice."""
    return paths.settings() / "place.json"


def load() -> Backend:
    """Return the saved backend; kind "process" if there is none or the file can't be read."""
    content = user_settings.read(file())
    known = {field.name: str(content[field.name]) for field in fields(Backend) if field.name in content}
    try:
        return Backend(**known)
    except InputError:
        return Backend()


def save(place: Backend) -> None:
    """Save the choice of backend.

    Raises:
        OutputError: if the file can't be written.
    """
    user_settings.write(file(), asdict(place), "The choice where jobs run")


def make_runner(place: Backend, interpreter: str = "", local: Callable[[], Runner] | None = None) -> Runner:
    """Return a runner for a backend; nothing is started yet.

    Args:
        place: the backend.
        interpreter: Python interpreter for computations on this machine; Slicer's own if "".
        local: creates the runner inside this process, `engine.local_runner`; needed for kind "here".

    Raises:
        InputError: if the address can't be used.
        ModelError: if a key or the user's consent is missing.
    """
    if place.kind == "here":
        if local is None:
            raise TypeError("jobs inside this process need a `local` runner")
        return local()
    if place.kind == "process":
        from .worker import ProcessRunner

        return ProcessRunner(interpreter=interpreter)
    from .remote import RemoteRunner, ServerRunner

    if place.kind == "server":
        return ServerRunner(interpreter=interpreter)
    check(place.url)
    return RemoteRunner(place.url, key(place.url), place.certificates)


# -- keys ------------------------------------------------------------------------------------------------


def key(url: str) -> str:
    """Return the key of a server.

    Raises:
        ModelError: if there is none, or it is malformed.
    """
    found, source = os.environ.get(KEY, ""), KEY
    if not found:
        ring, source = safe_keyring(), "the keyring"
        try:
            found = (ring.get_password(SERVICE, url) or "") if ring is not None else ""
        except Exception:  # locked or broken: treated as if there were none
            found = ""
    if not found:
        raise ModelError(f"The key of {host(url)} is not known on this machine; type it once, or set {KEY}.")
    return checked(found, source)


def store_key(url: str, text: str) -> None:
    """Store a key in the keyring; without one, only in this process.

    Args:
        url: address of the server.
        text: the key as typed.

    Raises:
        InputError: if it is empty.
        ModelError: if it is malformed.
    """
    text = checked(text, "what was typed")
    if not text:
        raise InputError("The key is empty; type the one that the server's administrator gave you.")
    ring = safe_keyring()
    try:
        if ring is None:
            raise LookupError
        ring.set_password(SERVICE, url, text)
        os.environ.pop(KEY, None)
    except Exception:  # no keyring, or it refuses
        os.environ[KEY] = text


# -- consent to what leaves this machine -------------------------------------------------------------------


def says(url: str) -> str:
    """Return the consent text: what is sent to a server elsewhere and what is not. Plain text, one fact per line."""
    return "\n".join(
        (
            f"With each job, MedFM sends to {url}:",
            "- the voxels of the volume, their grid and modality, and the name of its node;",
            "- the facts shown of it, such as the body part, and marks and regions that you point at;",
            "- the question as you type it, and the earlier questions and answers of the conversation.",
            "Never sent: other DICOM tags, patients' names, dates, UIDs except the frame of reference, file names.",
            "A face can be recognised in a volume of a head. The connection is encrypted.",
            "The server stores a volume until it needs the space or stops. Whoever runs it is responsible for the data it "
            "receives, and you are responsible for the permission to send it.",
        )
    )


def needed(url: str) -> bool:
    """Return whether the user's consent is still needed before data is sent to this server."""
    return host(url) not in ("127.0.0.1", "localhost", "::1") and not _allowed().given(url, says(url))


def allow(url: str) -> None:
    """Save the user's consent to `says(url)`. Raises `OutputError` if it can't be saved."""
    _allowed().give(url, says(url))


def revoke(url: str) -> None:
    """Withdraw the consent; does nothing if there is none. Raises `OutputError` if that can't be saved."""
    _allowed().take_back(url)


def check(url: str) -> None:
    """Check that a server needs no consent or has it.

    Raises:
        ModelError: if consent is missing.
    """
    if needed(url):
        raise ModelError(
            f"Sending volumes to {host(url)} was not allowed on this machine; see what is sent and allow it with "
            f"`medfm server allow --server {url}`, or in the panel."
        )


def host(url: str) -> str:
    """Return the host name of an address."""
    return urlsplit(url).hostname or url


def _allowed() -> user_settings.Permissions:
    return user_settings.Permissions(paths.settings() / "servers-allowed.json")
