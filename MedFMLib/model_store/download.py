"""Getting a model or adapter from the hub: look first, then fetch, check and put it on the shelf. Knows a child process.

HF_ENDPOINT (a mirror), HTTPS_PROXY and HF_HUB_OFFLINE count as for every program that uses the hub. The token is the one of
HF_TOKEN or `hf auth login`; MedFM neither reads nor writes it.
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
from ..interfaces.model import ModelCard
from ..storage import installed_models, licence_acceptance, offline
from . import files

CHILD = Path(__file__).with_name("download_main.py")


@dataclass(frozen=True)
class DownloadOffer:
    """What would be downloaded, for a person to say yes or no to.

    Args:
        id, title, licence, licence_url, gate: of the card; only the id for an adapter.
        host: whose server. commit: the hub's revision.
        files: name, size and checksums of each.
        total: bytes in all. here: bytes that an earlier try left. folder: where it will lie.
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
        """For JSON."""
        return asdict(self) | {"files": [file["name"] for file in self.files]}


def look(card: ModelCard, progress: Progress | None = None) -> DownloadOffer:
    """Ask the hub what a model consists of; downloads nothing.

    Raises:
        ModelError: if the hub can't be asked, doesn't have it, or has it only as pickles.
        InputError: if the model is no hub's model, or here already.
    """
    if card.weights:
        raise InputError(f"{card.title} comes with MedFM; there is nothing to get.")
    if Path(card.id).is_dir() or card.id.count("/") != 1:
        raise InputError(f"{card.title} is a folder of yours; there is nothing to get.")
    if installed_models.model_folder(card.id):
        raise InputError(f"{card.title} is on this machine already; remove it first to get it anew.")
    found = _look(card.id, card.revision, card.title, installed_models.models_root(), progress, card.gate)
    if not any(file["name"].endswith(".safetensors") for file in found.files):
        raise ModelError(
            f"{card.title} is at {_host(found.host)} without .safetensors weights; other formats can run code when opened and "
            f"are not fetched. {card.recipe}".strip()
        )
    facts = {name: getattr(card, name) for name in ("licence", "licence_url", "gate")}
    return DownloadOffer(**(vars(found) | facts))


def offer_adapter(name: str, progress: Progress | None = None) -> DownloadOffer:
    """The same for an adapter, `org/name`.

    Raises:
        ModelError, InputError: as for `look`.
    """
    if name.count("/") != 1:
        raise InputError(f"'{name}' is no adapter of the hub; give it as org/name.")
    if installed_models.adapter_folder(name):
        raise InputError(f"The adapter {name} is on this machine already; remove it first to get it anew.")
    found = _look(name, "", name, installed_models.adapters_root(), progress)
    lacking = {"adapter_config.json", "adapter_model.safetensors"} - {file["name"] for file in found.files}
    if lacking:
        raise ModelError(f"{name} is no PEFT adapter in safetensors: it lacks {' and '.join(sorted(lacking))}.")
    return found


def get(card: ModelCard, progress: Progress | None = None, offer: DownloadOffer | None = None) -> Path:
    """Download a model to the person's shelf; whole or not at all. What was fetched before a stop is taken up again.

    Args:
        progress: told stages and 0…1; its cancel is heard within half a second.
        offer: what `look` found, if a person saw it.

    Returns:
        The model's folder.

    Raises:
        ModelError: if the terms were not accepted, or the download fails.
        OutputError: if it finds no room.
        Cancelled: on request.
    """
    licence_acceptance.check(card)
    offer = offer or look(card, progress)

    def finish(folder: Path) -> None:
        files.write_json(folder / installed_models.CARD, card.as_json())
        from ..models.runtime.loading import check_folder

        check_folder(folder)

    return _get(offer, "model", card.gate, progress or NoProgress(), finish)


def get_adapter(name: str, progress: Progress | None = None, offer: DownloadOffer | None = None) -> Path:
    """Download an adapter to the person's shelf. See `get`."""
    from .adapters import check

    return _get(offer or offer_adapter(name, progress), "adapter", "", progress or NoProgress(), check)


def unfinished(folder: Path) -> Path:
    """Where a download on its way to `folder` lies."""
    return folder.with_name(f".{folder.name}.part")


# -- how -------------------------------------------------------------------------------------------------


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
        for path in part.iterdir():  # of another revision, or ours
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
    """Run the child to its end and relay what it tells.

    Raises:
        MedFMError: what went wrong, in a sentence.
    """

    def on_line(line: dict) -> None:
        if "error" in line:
            raise _sentence(line, title, gate, task["id"])
        _relay(line, progress, total)

    words = (
        "The download was stopped; what has arrived is kept, so that it can go on.",
        "The download ended unexpectedly; start it again, it goes on where it was.",
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
    """What the child met, with the next step."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    host, kind, detail = _host(endpoint), line["error"], line["detail"]
    proxy = next(
        (os.environ[v] for v in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy") if os.environ.get(v)), ""
    )
    through = f" through the proxy {_host(proxy)}" if proxy else ""
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    other = "or import it from a folder or zip with `medfm models import PATH`"
    texts = {
        "gated": f"{host} does not give {title} to you: it is gated. Accept its terms at {endpoint}/{name}, {log_in}, and get "
        f"it again; MedFM stores no token.",
        "missing": f"{host} has no '{name}', or hides it from you; check the name, and {log_in} if it is private.",
        "revision": f"{host} no longer has the revision of {title} that MedFM was written for; update MedFM.",
        "entry": f"{host} lacks a file of {title} that it lists; try again later.",
        "offline": f"HF_HUB_OFFLINE is set, so nothing is downloaded; unset it, {other}.",
        "network": f"{host} can't be reached{through}, or was lost on the way; connect, set HTTPS_PROXY or HF_ENDPOINT (a "
        f"mirror), {other}. What has arrived is kept.",
        "server": f"{host} answered with an error ({detail}); try again later, {other}.",
        "damaged": f"{title} arrived damaged: {detail}; the file was deleted, so get it again.",
        "package": f"Downloads need the Python package '{detail}', which is missing; install MedFM's packages.",
    }  # fmt: skip
    if kind == "disk":
        return OutputError(f"The disk got full while {title} was downloaded; make room, then get it again: it goes on.")
    if kind == "write":
        return OutputError(
            f"{title} can't be written to {installed_models.models_root()} ({detail}); make that folder writable."
        )
    return ModelError(texts.get(kind, f"{title} could not be downloaded ({detail}); try again."))
