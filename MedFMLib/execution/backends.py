"""Where jobs run: what a person chose, remembered on this machine and never in a scene; and the runner for it.

    process   in a process of its own, which only this application talks to
    server    on a server of its own on this machine, which other programs may be given the key of
    here      inside of this application
    remote    on a MedFM server elsewhere, only after a yes to what leaves this machine

The key of a server elsewhere comes from MEDFM_SERVER_KEY or the system's keyring; it is never written to a file of ours.
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
    """Where jobs run.

    Args:
        kind: one of `KINDS`.
        url: address of a server elsewhere. certificates: PEM file of the authority that it is trusted by, or "".

    Raises:
        InputError: there is no such kind.
    """

    kind: str = "process"
    url: str = ""
    certificates: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"Jobs can't run in '{self.kind}'; choose one of {', '.join(KINDS)}.")


def file() -> Path:
    """Where the choice is remembered."""
    return paths.settings() / "place.json"


def load() -> Backend:
    """What was chosen; a process of its own at first, or if the file can't be read."""
    content = user_settings.read(file())
    known = {field.name: str(content[field.name]) for field in fields(Backend) if field.name in content}
    try:
        return Backend(**known)
    except InputError:
        return Backend()


def save(place: Backend) -> None:
    """Remember a choice.

    Raises:
        OutputError: if it can't be written down.
    """
    user_settings.write(file(), asdict(place), "The choice where jobs run")


def make_runner(place: Backend, interpreter: str = "", local: Callable[[], Runner] | None = None) -> Runner:
    """A runner for it; nothing is started yet.

    Args:
        place: where jobs run.
        interpreter: the Python that computes on this machine; Slicer's own if left out.
        local: makes the runner inside this process, `engine.local_runner`; needed for kind "here".

    Raises:
        InputError: the address can't be used. ModelError: a key or a yes is missing.
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
    """The key of a server.

    Raises:
        ModelError: there is none, or it can't be one.
    """
    found, source = os.environ.get(KEY, ""), KEY
    if not found:
        ring, source = safe_keyring(), "the keyring"
        try:
            found = (ring.get_password(SERVICE, url) or "") if ring is not None else ""
        except Exception:  # locked or broken: as if there were none
            found = ""
    if not found:
        raise ModelError(f"The key of {host(url)} is not known on this machine; type it once, or set {KEY}.")
    return checked(found, source)


def store_key(url: str, text: str) -> None:
    """Keep a key: in the keyring, or where there is none until this process ends.

    Raises:
        InputError: if it is empty. ModelError: if it can't be one.
    """
    text = checked(text, "what was typed")
    if not text:
        raise InputError("The key is empty; type the one that the server's keeper gave you.")
    ring = safe_keyring()
    try:
        if ring is None:
            raise LookupError
        ring.set_password(SERVICE, url, text)
        os.environ.pop(KEY, None)
    except Exception:  # no keyring, or it refuses
        os.environ[KEY] = text


# -- the yes to what leaves this machine -------------------------------------------------------------------


def says(url: str) -> str:
    """What goes to a server elsewhere and what does not, for the person who is asked. Plain text, one fact a line."""
    return "\n".join(
        (
            f"With each job, MedFM sends to {url}:",
            "- the voxels of the volume, their grid and modality, and the name of its node;",
            "- the facts shown of it, such as the body part, and marks and regions that you point at;",
            "- the question as you type it, and the earlier questions and answers of the conversation.",
            "Never sent: other DICOM tags, patients' names, dates, UIDs except the frame of reference, file names.",
            "A face can be recognised in a volume of a head. The way there is encrypted.",
            "The server keeps a volume until it needs the room or ends. Whoever runs it is responsible for what it gets, and you "
            "for the permission to send it.",
        )
    )


def needed(url: str) -> bool:
    """Must a person be asked before this server gets anything?"""
    return host(url) not in ("127.0.0.1", "localhost", "::1") and not _allowed().given(url, says(url))


def allow(url: str) -> None:
    """Remember that a person said yes to `says(url)`. Raises `OutputError`."""
    _allowed().give(url, says(url))


def revoke(url: str) -> None:
    """Take a yes back; nothing happens if there is none. Raises `OutputError`."""
    _allowed().take_back(url)


def check(url: str) -> None:
    """Let a server pass that needs no yes, or got it.

    Raises:
        ModelError: if a yes is missing.
    """
    if needed(url):
        raise ModelError(
            f"Sending volumes to {host(url)} was not allowed on this machine; see what is sent and allow it with "
            f"`medfm server allow --server {url}`, or in the panel."
        )


def host(url: str) -> str:
    """The server's name in an address."""
    return urlsplit(url).hostname or url


def _allowed() -> user_settings.Permissions:
    return user_settings.Permissions(paths.settings() / "servers-allowed.json")
