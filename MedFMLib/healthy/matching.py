"""Find the healthy cases that suit an image. Uses the index; loads only the case that is shown.

A case suits if it has the modality and at least one of the structures. They are ranked by: the same sequence, more
common
structures, the same acquisition plane, a real person before an average before a synthetic case, the clinic's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.image import Image
from ..core.request import Reference
from ..errors import InputError
from .library import HealthyLibrary, LibraryEntry, every

SEQUENCES = re.compile(r"(?<![a-z0-9])(flair|t1|t2|pd|dwi|adc|swi)(?![0-9])", re.IGNORECASE)


def sequence_of(*names: str) -> str:
    """Return "T1", "T2", "FLAIR" …, if a name of an image contains it; else ""."""
    found = [match.upper() for name in names for match in SEQUENCES.findall(name.replace("_", " "))]
    return "FLAIR" if "FLAIR" in found else next(iter(found), "")


def fitting(
    cases: Sequence[tuple[HealthyLibrary, LibraryEntry]],
    modality: str,
    labels: Sequence[str] = (),
    plane: str = "",
    sequence: str = "",
) -> list[tuple[HealthyLibrary, LibraryEntry]]:
    """Return the suitable cases, the best first.

    Args:
        cases: of all libraries.
        modality: e.g. "CT".
        labels: structures to compare; empty for any.
        plane: of acquisition.
        sequence: MR sequence; "" if unknown.
    """
    wanted = set(labels)

    def common(entry: LibraryEntry) -> int:
        return len(wanted & set(entry.labels)) if wanted else len(entry.labels)

    def rank(case: tuple[HealthyLibrary, LibraryEntry]):
        _, entry = case
        other = bool(sequence and entry.sequence and sequence.upper() != entry.sequence.upper())
        return (other, entry.generated, -common(entry), entry.average, entry.plane != plane)

    return sorted((case for case in cases if case[1].modality == modality and common(case[1])), key=rank)


def references(
    image: Image, labels: Sequence[str] = (), sequence: str = "", name: str = "", cases: Sequence | None = None
) -> tuple[Reference, ...]:
    """Return the references of a request.

    The best case with its voxels, then the measurements of all other suitable ones.

    Args:
        image: the image to compare.
        labels: structures to compare; empty for any.
        sequence: MR sequence; "" to derive it from the image's name and facts.
        name: id of a case chosen by the user; "" for the best.
        cases: of which libraries; all by default.

    Raises:
        InputError: if none suits, or the chosen one does not exist.
    """
    if image.is_picture:
        raise InputError(
            "A picture has no place in a patient, so it can't be compared with a healthy volume; ask about it."
        )
    cases = every() if cases is None else list(cases)
    sequence = sequence or sequence_of(image.name, *image.facts.values())
    found = fitting(cases, image.modality, labels, image.geometry.acquisition_plane, sequence)
    if name:
        chosen = [case for case in cases if case[1].id == name]
        if not chosen:
            known = ", ".join(entry.id for _, entry in cases) or "none"
            raise InputError(f"There is no healthy case '{name}'; the cases are {known}.")
        found = [chosen[0], *(case for case in found if case[1].id != name)]
    if not found:
        what = f" with {', '.join(labels)}" if labels else ""
        raise InputError(
            f"There is no healthy {image.modality} case{what} to compare with; add one with `medfm healthy add`, or in the panel."
        )
    (library, entry), *others = found
    people = [other for _, other in others if not (other.generated or other.average)]
    same = [other for other in people if other.sequence.upper() == entry.sequence.upper()]
    counted = [Reference(e.id, e.title, e.about, e.generated, e.average, e.measurements) for e in same]
    return (library.load(entry), *counted)
