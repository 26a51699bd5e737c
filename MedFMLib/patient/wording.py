"""Express measurements as plain sentences made of approved parts. Uses numbers and the glossary; never interprets a finding."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.findings import Measurement, Part
from ..core.measurements import by_segment
from ..core.terminology import split_side
from .glossary import Glossary
from .parts import plain_volume, render

__all__ = ["plain_lines", "plain_volume"]


def plain_lines(measurements: Sequence[Measurement], missing: Sequence[str], words: Glossary) -> tuple[str, ...]:
    """Return one or two sentences per structure with a plain name, largest first, and those that were not found.

    Nothing is said of an outline that failed a rule of anatomy.

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
        if not words.knows(label) or not all(m.is_reliable for m in values.values()):
            continue
        if key in volumes:
            said = [Part("size", {"structure": label, "volume": volumes[key]})]
        else:
            said = [Part("where", {"structure": label})]
        if "side" in values and values["side"].value == "midline" and not split_side(label)[0]:
            said.append(Part("middle"))
        if "cut off" in values:
            said.append(Part("cut"))
        lines.append(render(said, words.language))
    if missing := tuple(label for label in missing if words.knows(label)):
        lines.append(render(Part("missing", {"missing": missing}), words.language))
    return tuple(lines)
