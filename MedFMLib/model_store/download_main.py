"""Download a model as a subprocess: query the hub for its files, and fetch them one by one. Knows huggingface_hub.

    python download_main.py LIBRARY_FOLDER

One JSON line on stdin has the task: {"do": "look" or "get", "id", "revision", "to": folder, "files": […]}; JSON lines
on
stdout report progress and the result. A partial file is continued where it ended: huggingface_hub's own download would
restart
it in a new process. The process ends when its stdin does. The token is that of HF_TOKEN or `hf auth login`; it is
read by huggingface_hub and never by this code.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import threading
from pathlib import Path

NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "ssl")
"""Packages whose errors mean that the hub can't be reached."""


class DamagedDownload(Exception):
    """The downloaded file differs from the hub's."""


def look(task: dict) -> dict:
    """Return what the hub states of a model: commit, gate and files with sizes and checksums."""
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(task["id"], revision=task["revision"] or None, files_metadata=True, timeout=30)
    files = []
    for item in info.siblings or ():
        sha = item.lfs["sha256"] if item.lfs is not None else ""
        files.append({"name": item.rfilename, "size": item.size or 0, "sha256": sha, "blob": item.blob_id or ""})
    return {"host": constants.ENDPOINT, "commit": info.sha, "gated": bool(info.gated), "files": files}


def get(task: dict, tell) -> dict:
    """Fetch files into a folder and check them.

    Args:
        task: the JSON object from stdin.
        tell: receives the progress reports.

    Returns:
        Sizes and checksums for a manifest.
    """
    folder = Path(task["to"])
    folder.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    threading.Thread(target=_report_bytes, args=(folder, stop, tell), daemon=True).start()
    for file in sorted(
        task["files"], key=lambda f: f["size"]
    ):  # small ones first, so that a refused access shows at once
        _fetch(task["id"], task["commit"], file, folder)
    stop.set()
    tell({"stage": "Checking the downloaded files"})
    done, total, checked = 0, sum(f["size"] for f in task["files"]), {}
    for file in task["files"]:
        checked[file["name"]] = {"size": file["size"], "sha256": _check(folder / file["name"], file)}
        done += file["size"]
        tell({"checked": done / max(total, 1)})
    return checked


def _report_bytes(folder: Path, stop: threading.Event, tell) -> None:
    while not stop.wait(0.2):
        try:
            tell({"bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())})
        except OSError:  # a file was renamed meanwhile
            continue


def _fetch(repository: str, commit: str, file: dict, folder: Path) -> None:
    from urllib.parse import urlsplit

    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import get_hf_file_metadata, http_get
    from huggingface_hub.utils import build_hf_headers

    final = folder / file["name"]
    if final.is_file() and final.stat().st_size == file["size"]:
        return
    part = final.with_name(final.name + ".part")
    url, headers = hf_hub_url(repository, file["name"], revision=commit), build_hf_headers()
    facts = get_hf_file_metadata(url)
    if facts.size not in (None, file["size"]):
        raise DamagedDownload(f"{file['name']} has {facts.size} bytes on the hub instead of {file['size']}")
    if urlsplit(facts.location).netloc not in ("", urlsplit(url).netloc):
        headers.pop("authorization", None)  # the token must be sent to the hub only
    if part.is_file() and part.stat().st_size > file["size"]:
        part.unlink()
    try:
        with part.open("ab") as stream:
            start = stream.seek(0, os.SEEK_END)
            http_get(facts.location or url, stream, resume_size=start, headers=headers, expected_size=file["size"])
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            part.unlink(missing_ok=True)  # frees the disk again
        raise
    part.replace(final)


def _check(path: Path, file: dict) -> str:
    """Return the file's SHA-256, after comparing it, or for small files git's hash, with the hub's."""
    sha, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            sha.update(block)
            if not file["sha256"]:
                git.update(block)
    found, expected = (sha, file["sha256"]) if file["sha256"] else (git, file["blob"])
    if expected and found.hexdigest() != expected:
        path.unlink()
        raise DamagedDownload(f"the checksum of {file['name']} is not the hub's")
    return sha.hexdigest()


def kind_of(error: Exception) -> str:
    """Return the kind of an error as one word."""
    from huggingface_hub import errors

    known = {"GatedRepoError": "gated", "RevisionNotFoundError": "revision", "RepositoryNotFoundError": "missing",
             "EntryNotFoundError": "entry", "OfflineModeIsEnabled": "offline"}  # fmt: skip
    for name, kind in known.items():
        if isinstance(error, getattr(errors, name, ())):
            return kind
    if isinstance(error, DamagedDownload):
        return "damaged"
    if isinstance(error, errors.HfHubHTTPError):
        return "gated" if getattr(error.response, "status_code", 0) in (401, 403) else "server"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    if isinstance(error, PermissionError):
        return "write"
    if type(error).__module__.partition(".")[0] in NETWORK or isinstance(error, OSError):
        return "network"
    return "other"


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Run the task; stdout is reserved for lines to the parent process, other output goes to stderr."""
    sys.path[:1] = [sys.argv[1]]  # instead of this file's folder
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(content: dict) -> None:
        with lock:
            stdout.write(json.dumps(content) + "\n")
            stdout.flush()

    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        tell({"result": look(task) if task["do"] == "look" else get(task, tell)})
    except ImportError as error:
        tell({"error": "package", "detail": error.name or str(error)})
    except Exception as error:
        tell({"error": kind_of(error), "detail": " ".join(str(error).split())[:300]})
    os._exit(0)


if __name__ == "__main__":
    main()
