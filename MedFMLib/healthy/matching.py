"""Which healthy cases fit an image. Knows the index; reads only the case that is shown.

A case fits if it has the modality and at least one of the structures. Of those, the best comes first: the same sequence, more
structures in common, acquired in the same plane, taken of a person (then an average, then a computed one), the clinic's own.
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
    """ "T1", "T2", "FLAIR" …, if a name of an image says so; else ""."""
    found = [match.upper() for name in names for match in SEQUENCES.findall(name.replace("_", " "))]
    return "FLAIR" if "FLAIR" in found else next(iter(found), "")


def fitting(
    cases: Sequence[tuple[HealthyLibrary, LibraryEntry]],
    modality: str,
    labels: Sequence[str] = (),
    plane: str = "",
    sequence: str = "",
) -> list[tuple[HealthyLibrary, LibraryEntry]]:
    """Those that fit, the best first.

    Args:
        labels: structures that are to be compared; empty for any. plane: of acquisition. sequence: "" if unknown.
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
    """For a request: the case that fits best, with its voxels, then the measurements of all others that fit.

    Args:
        labels: structures that are to be compared. sequence: of an MR image. name: a case that was chosen by a person.
        cases: of which libraries; all by default.

    Raises:
        InputError: if none fits, or that one is not there.
    """
    cases = every() if cases is None else list(cases)
    sequence = sequence or sequence_of(image.name, *image.facts.values())
    found = fitting(cases, image.modality, labels, image.geometry.acquisition_plane, sequence)
    if name:
        chosen = [case for case in cases if case[1].id == name]
        if not chosen:
            known = ", ".join(entry.id for _, entry in cases) or "none"
            raise InputError(f"There is no healthy case '{name}'; there is {known}.")
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
