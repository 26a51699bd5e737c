"""Download a model or adapter from the hub: list its files, fetch and check them, and install it, in a subprocess.

HF_ENDPOINT (a mirror), HTTPS_PROXY and HF_HUB_OFFLINE are respected as in every program that uses the hub. The token is
that of
HF_TOKEN or `hf auth login`; MedFM neither reads nor stores it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InputError, MedFMError, ModelError, OutputError
from ..execution import subprocess_task
from ..interfaces.jobs import NoProgress, Progress
from ..storage import installed_models, licence_acceptance, offline
from ..storage.model_card import ModelCard
from . import files

CHILD = Path(__file__).with_name("download_main.py")


@dataclass(frozen=True)
class DownloadOffer:
    """A download for the user to confirm.

    Args:
        id: id of the model or adapter.
        title: of the card; the id for an adapter.
        host: URL of the server.
        commit: the hub's revision.
        files: name, size and checksums of each file.
        total: bytes of all files.
        here: bytes that an earlier attempt already downloaded.
        folder: destination.
        licence: of the card; "" for an adapter.
        licence_url: of the card; "" for an adapter.
        gate: of the card; "" for an adapter.
    """

    id: str
    title: str
    host: str
    commit: str
    files: tuple[dict, ...]
    total: int
    here: int
    folder: str
    licence: str = ""
    licence_url: str = ""
    gate: str = ""

    def as_dict(self) -> dict:
        """Return the fields as a dict, for JSON."""
        return asdict(self) | {"files": [file["name"] for file in self.files]}


def look(card: ModelCard, progress: Progress | None = None) -> DownloadOffer:
    """Query the hub for a model's files; downloads nothing.

    Args:
        card: of the model.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        ModelError: if the hub can't be reached, doesn't have the model, or has it only as pickles.
        InputError: if the model is not from a hub, or already installed.
    """
    if card.weights:
        raise InputError(f"{card.title} comes with MedFM; there is nothing to download.")
    if Path(card.id).is_dir() or card.id.count("/") != 1:
        raise InputError(f"{card.title} is your own folder; there is nothing to download.")
    if installed_models.model_folder(card.id):
        raise InputError(f"{card.title} is already installed; remove it first to download it again.")
    found = _look(card.id, card.revision, card.title, installed_models.models_root(), progress, card.gate)
    if not any(file["name"].endswith(".safetensors") for file in found.files):
        raise ModelError(
            f"{card.title} is at {_host(found.host)} without .safetensors weights; other formats can run code when opened and "
            f"are not fetched. {card.recipe}".strip()
        )
    facts = {name: getattr(card, name) for name in ("licence", "licence_url", "gate")}
    return DownloadOffer(**(vars(found) | facts))


def offer_adapter(name: str, progress: Progress | None = None) -> DownloadOffer:
    """Query the hub for an adapter's files; downloads nothing.

    Args:
        name: `org/name`.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        ModelError: if the hub can't be reached, doesn't have the adapter, or it is no PEFT adapter in safetensors.
        InputError: if the name is not `org/name`, or the adapter is already installed.
    """
    if name.count("/") != 1:
        raise InputError(f"'{name}' is not the name of an adapter on the hub; give it as org/name.")
    if installed_models.adapter_folder(name):
        raise InputError(f"The adapter {name} is already installed; remove it first to download it again.")
    found = _look(name, "", name, installed_models.adapters_root(), progress)
    lacking = {"adapter_config.json", "adapter_model.safetensors"} - {file["name"] for file in found.files}
    if lacking:
        raise ModelError(f"{name} is no PEFT adapter in safetensors: it lacks {' and '.join(sorted(lacking))}.")
    return found


def get(card: ModelCard, progress: Progress | None = None, offer: DownloadOffer | None = None) -> Path:
    """Download a model and install it, atomically. An interrupted download is continued.

    Args:
        card: of the model.
        progress: receives stages and 0…1; its cancellation takes effect within half a second.
        offer: the result of `look`, if the user has confirmed it.

    Returns:
        The model's folder.

    Raises:
        ModelError: if the terms were not accepted, or the download fails.
        OutputError: if the disk is full.
        Cancelled: on request.
    """
    licence_acceptance.check(card)
    offer = offer or look(card, progress)

    def finish(folder: Path) -> None:
        files.write_json(folder / installed_models.CARD, card.as_json())
        from ..models.runtime.checkpoint import check_folder

        check_folder(folder)

    return _get(offer, "model", card.gate, progress or NoProgress(), finish)


def get_adapter(name: str, progress: Progress | None = None, offer: DownloadOffer | None = None) -> Path:
    """Download an adapter and install it; see `get`.

    Args:
        name: `org/name`.
        progress: receives stages and 0…1; its cancellation takes effect within half a second.
        offer: the result of `offer_adapter`, if the user has confirmed it.

    Returns:
        The adapter's folder.
    """
    from .adapters import check

    return _get(offer or offer_adapter(name, progress), "adapter", "", progress or NoProgress(), check)


def unfinished(folder: Path) -> Path:
    """Return the temporary folder of an unfinished download to `folder`."""
    return folder.with_name(f".{folder.name}.part")


# -- implementation ---------------------------------------------------------------------------------------


def _look(name: str, revision: str, title: str, root: Path, progress, gate: str = "") -> DownloadOffer:
    folder = root / installed_models.folder_name(name)
    progress = progress or NoProgress()
    progress.stage(f"Asking for {title}")
    found = _child({"do": "look", "id": name, "revision": revision}, title, gate, progress)
    parts = tuple(f for f in found["files"] if "/" not in f["name"] and files.is_wanted(f["name"]))
    part = unfinished(folder)
    here = files.bytes_in(part) if part.is_dir() else 0
    return DownloadOffer(
        name, title, found["host"], found["commit"], parts, sum(f["size"] for f in parts), here, str(folder)
    )


def _get(offer: DownloadOffer, kind: str, gate: str, progress: Progress, finish) -> Path:
    folder = Path(offer.folder)
    part = unfinished(folder)
    files.require_disk_space(part, max(offer.total - offer.here, 0))
    with files.writing(folder):
        part.mkdir(parents=True, exist_ok=True)
        keep = {name for file in offer.files for name in (file["name"], file["name"] + ".part")}
        for path in part.iterdir():  # files of another revision, or written by MedFM
            if path.name not in keep:
                path.unlink()
    progress.stage(f"Downloading {offer.title}")
    task = {"do": "get", "id": offer.id, "commit": offer.commit, "files": list(offer.files), "to": str(part)}
    found = _child(task, offer.title, gate, progress, offer.total)
    with files.writing(folder):
        try:
            finish(part)
        except ModelError:
            shutil.rmtree(part)
            raise
        if kind == "model":
            path = part / installed_models.CARD
            found[installed_models.CARD] = {"size": path.stat().st_size, "sha256": files.sha256(path)}
        manifest = files.make_manifest(kind, offer.id, offer.title, found, offer.host, offer.commit)
        files.write_json(part / installed_models.MANIFEST, manifest)
        part.rename(folder)
    progress.fraction(1.0)
    return folder


def _child(task: dict, title: str, gate: str, progress: Progress, total: int = 0) -> dict:
    """Run the download subprocess to its end and relay its progress.

    Raises:
        MedFMError: with the cause of a failure.
    """

    def on_line(line: dict) -> None:
        if "error" in line:
            raise _sentence(line, title, gate, task["id"])
        _relay(line, progress, total)

    words = (
        "The download was stopped; the downloaded part is kept, so that it can continue.",
        "The download ended unexpectedly; start it again, it continues where it stopped.",
    )
    return subprocess_task.run(CHILD, task, progress, on_line, words, offline.environment())


def _relay(line: dict, progress: Progress, total: int) -> None:
    if "stage" in line:
        progress.stage(line["stage"])
    elif "bytes" in line and total:
        progress.fraction(min(0.9 * line["bytes"] / total, 0.9))
    elif "checked" in line:
        progress.fraction(0.9 + 0.1 * line["checked"])


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).hostname or endpoint


def _sentence(line: dict, title: str, gate: str, name: str) -> MedFMError:
    """Return the error of the subprocess as a sentence with the next step."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    host, kind, detail = _host(endpoint), line["error"], line["detail"]
    proxy = next(
        (os.environ[v] for v in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy") if os.environ.get(v)), ""
    )
    through = f" through the proxy {_host(proxy)}" if proxy else ""
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    other = "or import it from a folder or zip with `medfm models import PATH`"
    texts = {
        "gated": f"{host} denies access to {title}: it is gated. Accept its terms at {endpoint}/{name}, {log_in}, and get "
        f"it again; MedFM stores no token.",
        "missing": f"{host} has no '{name}', or hides it from you; check the name, and {log_in} if it is private.",
        "revision": f"{host} no longer has the revision of {title} that MedFM was written for; update MedFM.",
        "entry": f"{host} lacks a file of {title} that it lists; try again later.",
        "offline": f"HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, {other}.",
        "network": f"{host} can't be reached{through}, or was lost on the way; connect, set HTTPS_PROXY or HF_ENDPOINT (a "
        f"mirror), {other}. The downloaded part is kept.",
        "server": f"{host} answered with an error ({detail}); try again later, {other}.",
        "damaged": f"{title} was damaged during the download: {detail}; the file was deleted, so download it again.",
        "package": f"Downloads need the Python package '{detail}', which is missing; install MedFM's packages.",
    }  # fmt: skip
    if kind == "disk":
        return OutputError(
            f"The disk became full while {title} was downloaded; free some space, then start again: it continues."
        )
    if kind == "write":
        return OutputError(
            f"{title} can't be written to {installed_models.models_root()} ({detail}); make that folder writable."
        )
    return ModelError(texts.get(kind, f"{title} could not be downloaded ({detail}); try again."))
