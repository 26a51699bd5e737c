"""Measurements in plain sentences. Knows numbers and the glossary; nothing of pages, and never what a finding means."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.findings import Measurement
from ..core.terminology import split_side
from .glossary import Glossary

LITERS_FROM = 1000.0
"""mL from which a volume is told in liters."""


def plain_lines(measurements: Sequence[Measurement], missing: Sequence[str], words: Glossary) -> tuple[str, ...]:
    """One or two sentences a structure, largest first, and what was looked for and not seen.

    Args:
        missing: labels that were looked for and not seen.
    """
    found: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        found.setdefault(m.segment, {})[m.name] = m
    ordered = sorted(found, key=lambda label: -float(found[label]["volume"].value))
    lines = []
    for label in ordered:
        said = [
            words.sentences["size"].format(name=words.plain(label), size=plain_volume(found[label]["volume"].value))
        ]
        if found[label]["side"].value == "midline" and not split_side(label)[0]:
            said.append(words.sentences["middle"])
        if "cut off" in found[label]:
            said.append(words.sentences["cut"])
        lines.append(" ".join(said))
    if missing:
        names = ". ".join(dict.fromkeys(words.plain(label).capitalize() for label in missing))
        lines.append(words.sentences["missing"].format(names=names))
    return tuple(lines)


def plain_volume(milliliters: float) -> str:
    """For example "1.2 liters" or "166 mL", as precise as outlines of a computer are."""
    if milliliters >= LITERS_FROM:
        return f"{milliliters / 1000:.1f} liters"
    return f"{milliliters:.0f} mL" if milliliters >= 10 else f"{milliliters:.1f} mL"
