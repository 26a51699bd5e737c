"""Manage a folder of healthy cases with an index. Knows files; no models or comparisons.

    index.json              {"format": 1, "cases": [{…}, …]}, checked when read, written atomically
    cases/ID/image.nrrd     voxels on their grid
    cases/ID/segments.seg.nrrd

A case exists once it is in the index; a folder without an entry is left by an interrupted addition, and is ignored.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core.findings import Measurement, Segmentation
from ..core.geometry import PLANES
from ..core.image import MODALITIES, Image
from ..core.request import Reference
from ..errors import InputError, OutputError
from ..measure import measure_fully
from ..storage import paths, resources
from ..storage.json_records import check_record
from ..storage.json_text import read_json
from ..storage.user_settings import write
from .cleaning import Consent, check_texts, cleaned

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class LibraryEntry:
    """A case as listed in the index.

    Args:
        id: its folder.
        title: description in plain words.
        modality: e.g. "MR".
        plane: of acquisition.
        labels: structures that are segmented.
        measurements: of these structures.
        sequence: MR sequence, e.g. "T1"; "" if unknown.
        generated: whether it is synthetic, so that no one was scanned.
        average: whether it is the mean of many people.
        about: its origin.
        licence: its terms of use.
        done: what was removed when it was added.
        shape: number of voxels along i, j, k.
        spacing: mm along i, j, k.
    """

    id: str
    title: str
    modality: str
    plane: str
    labels: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    sequence: str = ""
    generated: bool = False
    average: bool = False
    about: str = ""
    licence: str = ""
    done: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()

    @classmethod
    def read(cls, content: dict) -> LibraryEntry:
        """Check an entry of the index.

        Raises:
            ValueError: if a field is missing, unknown or of the wrong type.
        """
        check_record(cls, content, complete=True)
        if not NAME.fullmatch(content["id"]):
            raise ValueError(f"the id {content['id']!r} is no plain name")
        if content["modality"] not in MODALITIES or content["plane"] not in PLANES:
            raise ValueError(f"{content['id']} is {content['modality']!r}, {content['plane']!r}")
        measured = tuple(Measurement(**check_record(Measurement, m)) for m in content["measurements"])
        numbers = {name: tuple(content[name]) for name in ("labels", "done", "shape", "spacing")}
        return cls(**{**content, **numbers, "measurements": measured})


class HealthyLibrary:
    """A folder of cases.

    Args:
        folder: its path; it is created with the first case.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder).expanduser()

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"

    def entries(self) -> list[LibraryEntry]:
        """Return all cases, in the order of their addition.

        Raises:
            InputError: if the index is damaged.
        """
        if not self._index.is_file():
            return []
        try:
            content = read_json(self._index.read_bytes())
            if not isinstance(content, dict) or set(content) != {"format", "cases"} or content["format"] != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            found = [LibraryEntry.read(case) for case in content["cases"]]
            if len({entry.id for entry in found}) != len(found):
                raise ValueError("it has an id twice")
            return found
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"The library of healthy cases in '{self.folder}' can't be read ({error}); restore its index.json."
            ) from error

    def add(
        self,
        image: Image,
        segmentation: Segmentation,
        title: str,
        *,
        consent: Consent = Consent(),
        words: Sequence[str] = (),
        **facts,
    ) -> LibraryEntry:
        """Add a case after removing identifying data and measuring it, atomically.

        Args:
            image: scalar volume.
            segmentation: on the image's grid.
            title: description in plain words, without a name or date.
            consent: the user's confirmations.
            words: texts that came with the image, such as the study's description; not stored, they may tell of a head.
            **facts: `sequence`, `about`, `licence`, `generated`, `average` of its `LibraryEntry`.

        Raises:
            InputError: if it can't be used, or a confirmation is missing.
            OutputError: if it can't be written.
        """
        from ..files.writing import make_folder, write_segmentation, write_volume

        image.check_usable()
        if not segmentation.geometry.matches(image.geometry):
            raise InputError("The segmentation lies on another grid than the image; segment this image first.")
        filled = tuple(s for s in segmentation.segments if s.boxed.inside.any())
        if not filled:
            raise InputError("Nothing is segmented, so nothing could be compared; segment the case first.")
        labels = {f"label of segment {n}": s.label for n, s in enumerate(filled, start=1)}
        check_texts({"title": title, **labels, **{k: v for k, v in facts.items() if isinstance(v, str)}}, consent)
        entries = self.entries()
        name = _free_name(title, {entry.id for entry in entries} | {p.name for p in self.folder.glob("cases/*")})
        clean, segments, done = cleaned(image, Segmentation(filled, segmentation.geometry), name, consent, words)
        entry = LibraryEntry(
            name, title.strip(), image.modality, image.geometry.acquisition_plane, tuple(s.label for s in filled),
            measure_fully(segments, clean), done=done, shape=image.geometry.shape,
            spacing=tuple(round(float(s), 4) for s in image.geometry.spacing), **facts,
        )  # fmt: skip
        folder = make_folder(self.folder / "cases" / name)
        try:
            write_volume(folder / "image.nrrd", _compact(clean.scalars), clean.geometry)
            write_segmentation(folder / "segments.seg.nrrd", segments)
            self._write([*entries, entry])
        except OutputError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return entry

    def remove(self, name: str) -> None:
        """Remove a case.

        Raises:
            InputError: if there is none of that name.
            OutputError: if the index can't be written.
        """
        entries = self.entries()
        if name not in {entry.id for entry in entries}:
            known = ", ".join(entry.id for entry in entries) or "none"
            raise InputError(f"There is no healthy case '{name}' in '{self.folder}'; the cases are {known}.")
        self._write([entry for entry in entries if entry.id != name])  # from now on the case is ignored
        shutil.rmtree(self.folder / "cases" / name, ignore_errors=True)

    def load(self, entry: LibraryEntry) -> Reference:
        """Load a case with its voxels and segments.

        Raises:
            InputError: if its files are missing or damaged.
        """
        from ..files import read_image
        from ..files.segmentations import read_segmentation

        folder = self.folder / "cases" / entry.id
        image = read_image(folder / "image.nrrd", modality=entry.modality)
        image = Image(image.voxels, image.geometry, entry.modality, entry.id)
        return Reference(
            entry.id, entry.title, " ".join(filter(None, (entry.about, entry.licence))), entry.generated, entry.average,
            entry.measurements, image, read_segmentation(folder / "segments.seg.nrrd", image.geometry),
        )  # fmt: skip

    def _write(self, entries: Sequence[LibraryEntry]) -> None:
        write(self._index, {"format": FORMAT, "cases": [_record(entry) for entry in entries]}, "The library's index")


def _record(entry) -> dict:
    """Return an entry as JSON; what its measurements lack is left out."""
    content = asdict(entry)
    content["measurements"] = [
        {key: value for key, value in one.items() if value is not None} for one in content["measurements"]
    ]
    return content


def own() -> HealthyLibrary:
    """Return the user's or clinic's own library."""
    return HealthyLibrary(paths.data() / "healthy")


def shipped() -> HealthyLibrary:
    """Return the library of open cases that ships with MedFM."""
    return HealthyLibrary(resources.path("healthy"))


def every() -> list[tuple[HealthyLibrary, LibraryEntry]]:
    """Return every case of the user's own library, then of the shipped one.

    Raises:
        InputError: if an index is damaged.
    """
    return [(library, entry) for library in (own(), shipped()) for entry in library.entries()]


def _free_name(title: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:32] or "case"
    numbers = (f"{base}-{n}" for n in range(2, 10_000))
    return base if base not in taken else next(name for name in numbers if name not in taken)


def _compact(values: np.ndarray) -> np.ndarray:
    """Convert float64 and int64, which few readers support, to float32 and int32; others are unchanged."""
    if values.dtype.itemsize < 8:
        return values
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
