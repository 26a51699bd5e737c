"""Convert a comparison to a report's section: sentences, a table, pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.findings import Comparison
from .differences import _plain, sentence

COLUMNS = ("structure", "measurement", "this image", "references", "n", "smaller", "z")


@dataclass(frozen=True)
class ComparisonSection:
    """Content of a report's section on a comparison.

    Args:
        paragraphs: plain text.
        columns: column titles of the table.
        rows: its cells as text.
        pictures: (caption, PNG).
    """

    paragraphs: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    pictures: tuple[tuple[str, bytes], ...] = field(repr=False)


def section(comparison: Comparison) -> ComparisonSection:
    """Return the title, the method of level matching, every difference as sentence and row, and every pair of slices."""
    kind = " It is synthetic; nobody was scanned." if comparison.generated else ""
    how = (
        f"The level was matched by {comparison.landmarks} landmarks of structures in common."
        if comparison.landmarks
        else "No structure is in common, so the level was matched by the relative position in the image."
    )
    rows = []
    for d in comparison.differences:
        unit = {"[hnsf'U]": "HU"}.get(d.unit, d.unit)
        spread = f"{_plain(d.mean)} ± {_plain(d.sd)}" if d.z is not None else _plain(d.mean)
        z = "" if d.z is None else f"{d.z:+.1f}"
        rows.append((d.segment, d.name, f"{_plain(d.value)} {unit}", f"{spread} {unit}", str(d.n), str(d.below), z))
    pictures = tuple(
        (f"{pair.slice}, next to {pair.reference} of {comparison.title}", pair.png) for pair in comparison.pairs
    )
    first = f"Compared with: {comparison.title}.{kind} {how}"
    return ComparisonSection(
        (first, *map(sentence, comparison.differences), *comparison.notes), COLUMNS, tuple(rows), pictures
    )
