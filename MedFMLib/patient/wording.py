"""Express measurements as plain sentences. Uses numbers and the glossary; never interprets a finding."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.findings import Measurement
from ..core.measurements import by_segment
from ..core.terminology import split_side
from .glossary import Glossary

LITERS_FROM = 1000.0
"""Volume in mL from which liters are used."""


def plain_lines(measurements: Sequence[Measurement], missing: Sequence[str], words: Glossary) -> tuple[str, ...]:
    """Return one or two sentences per structure with a plain name, largest first, and those that were not found.

    Args:
        measurements: of the report.
        missing: labels that were searched for and not found.
        words: the glossary.
    """
    found = by_segment(measurements)
    volumes = {key: float(values["volume"].value) for key, values in found.items() if "volume" in values}
    lines = []
    for key in sorted(found, key=lambda key: -volumes.get(key, 0.0)):
        label, values = key[1], found[key]
        if not words.knows(label):
            continue
        if key in volumes:
            said = [words.sentences["size"].format(name=words.plain(label), size=plain_volume(volumes[key]))]
        else:
            said = [words.sentences["where"].format(name=words.plain(label))]
        if "side" in values and values["side"].value == "midline" and not split_side(label)[0]:
            said.append(words.sentences["middle"])
        if "cut off" in values:
            said.append(words.sentences["cut"])
        lines.append(" ".join(said))
    if missing := [label for label in missing if words.knows(label)]:
        names = ". ".join(dict.fromkeys(words.plain(label).capitalize() for label in missing))
        lines.append(words.sentences["missing"].format(names=names))
    return tuple(lines)


def plain_volume(milliliters: float) -> str:
    """Return for example "1.2 liters" or "166 mL", at the precision of automatic segmentation."""
    if milliliters >= LITERS_FROM:
        return f"{milliliters / 1000:.1f} liters"
    return f"{milliliters:.0f} mL" if milliliters >= 10 else f"{milliliters:.1f} mL"
