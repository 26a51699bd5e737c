"""Report templates: which sections a report has and in which order findings stand. One JSON file each (Resources/reports).

A clinic's own templates lie in the person's folder for settings (`report-templates/*.json`) and win over shipped ones of the
same id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..core.terminology import split_side
from ..errors import InputError
from ..storage import paths, resources

SECTIONS = (
    "Indication", "Technique", "Comparison", "Findings", "Impression", "Questions and answers", "Limitations", "Provenance",
)  # fmt: skip
NEEDED = ("Findings", "Limitations", "Provenance")
"""Sections that no template may leave out: a report says what was found, what it can't know, and how it came about."""

GENERAL = "general"
LEAST_SHARE = 0.5
"""Of a template's structures that were found, from which it suits."""


@dataclass(frozen=True)
class ReportTemplate:
    """How a report is laid out.

    Args:
        id, title, about: its name, the document's title, one sentence for people who choose.
        modalities: that it is for; empty for any.
        sections: of `SECTIONS`, in order.
        groups: (heading, structures without side) in the order in which findings stand; others follow.
        suits: structures by which it is chosen for an image; empty if it is only chosen by name.
        impression: what is asked of the reader there. not_assessed: what nobody looked at.
    """

    id: str
    title: str
    about: str
    modalities: tuple[str, ...]
    sections: tuple[str, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    suits: tuple[str, ...]
    impression: str
    not_assessed: str

    def covers(self, label: str) -> bool:
        """Does it say where this structure stands? One without groups takes all."""
        names = [name for _, group in self.groups for name in group]
        return not names or split_side(label)[1] in names

    def grouped(self, labels: Iterable[str]) -> list[tuple[str, list[str]]]:
        """[(heading, labels)] in the template's order, "" as the heading of those in no group; empty groups are left out."""
        left = list(dict.fromkeys(labels))
        made = []
        for heading, names in self.groups:
            order = {name: n for n, name in enumerate(names)}
            mine = sorted(
                (label for label in left if split_side(label)[1] in order), key=lambda lab: order[split_side(lab)[1]]
            )
            left = [label for label in left if label not in mine]
            if mine:
                made.append((heading, mine))
        return [*made, *([("Other structures" if made else "", left)] if left else [])]


def templates() -> dict[str, ReportTemplate]:
    """id → template, shipped ones and the person's own.

    Raises:
        InputError: a file is damaged or lacks something.
    """
    own = paths.settings() / "report-templates"
    files = [*sorted(resources.path("reports", "templates").glob("*.json")), *(sorted(own.glob("*.json")))]
    return {found.id: found for found in map(_read, files)}


def choose_template(asked: str, modality: str, labels: Sequence[str]) -> ReportTemplate:
    """The template that was asked for, or else the one that suits what was found best.

    Raises:
        InputError: for an unknown id.
    """
    known = templates()
    if asked:
        if asked not in known:
            raise InputError(f"There is no report template '{asked}'; choose one of {', '.join(known)}.")
        return known[asked]
    names = {split_side(label)[1] for label in labels}
    best, best_share = known[GENERAL], LEAST_SHARE
    for template in known.values():
        if template.suits and modality in template.modalities:
            share = len(names & set(template.suits)) / len(template.suits)
            if share > best_share or (share == best_share and best.id == GENERAL):
                best, best_share = template, share
    return best


def _read(path: Path) -> ReportTemplate:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(content) - {f.name for f in fields(ReportTemplate)}
        if unknown:
            raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
        lists = {name: tuple(content[name]) for name in ("modalities", "sections", "suits")}
        groups = tuple((str(heading), tuple(names)) for heading, names in content["groups"])
        made = ReportTemplate(**content | lists | {"groups": groups})
        strange = [title for title in made.sections if title not in SECTIONS]
        missing = [title for title in NEEDED if title not in made.sections]
        if strange or missing:
            raise ValueError(
                f"unknown section {strange[0]}" if strange else f"the section {missing[0]} can't be left out"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"The report template {path.name} can't be used ({error}); correct or remove it.") from error
    return made
