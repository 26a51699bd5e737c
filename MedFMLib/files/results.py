"""Choose names for result files, so that the results of one image never replace those of another.

Two inputs can have one name (scans called image.nii.gz in many folders). A result names the image that it was computed
from in its provenance, so that the same image's results are replaced, and another's are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..storage.json_text import read_json

RESULTS = (".seg.nrrd", ".answer.json", ".measurements.json")
"""Endings of result files that hold a provenance."""

HEADER_BYTES = 1 << 20
"""Longest header of a .seg.nrrd that is searched."""


def free_name(
    folder: Path,
    name: str,
    image: str,
    tell: Callable[[str], None],
    endings: Iterable[str] = RESULTS,
    origin: Callable[[Path], str] | None = None,
) -> str:
    """Return a name for the results of an image: `name`, or NAME-2 and so on where another image's results have it.

    Args:
        folder: of the results; it need not exist.
        name: that they would have.
        image: SHA-256 of the image; see `Image.digest`.
        tell: receives a sentence if another name was chosen.
        endings: of the files to look at.
        origin: returns the SHA-256 of the image that a file was computed from, "" if it doesn't say; `image_of` if None.
    """
    origin = origin or image_of
    endings, number, chosen = tuple(endings), 1, name
    while any(origin(folder / f"{chosen}{ending}") not in ("", image) for ending in endings):
        number += 1
        chosen = f"{name}-{number}"
    if chosen != name:
        tell(f"'{folder.name}' has results of another image called '{name}'; these are called '{chosen}'.")
    return chosen


def image_of(path: Path) -> str:
    """Return the SHA-256 of the image that a result file was computed from; "" if there is no file, or it doesn't say."""
    try:
        if path.name.endswith(".json"):
            provenance = read_json(path.read_bytes()).get("provenance", {})
        else:
            with path.open("rb") as stream:
                header = stream.read(HEADER_BYTES).partition(b"\n\n")[0].decode("utf-8", "replace")
            lines = (line.partition(":=") for line in header.splitlines())
            provenance = read_json(next((value for key, _, value in lines if key == "MedFM_Provenance"), "{}"))
        return str(provenance.get("image", ""))
    except (OSError, ValueError, AttributeError):
        return ""
