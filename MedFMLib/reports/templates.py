"""Load report templates: the sections of a report and the order of its findings.

One JSON file each (Resources/reports).

A clinic's own templates are in the user's settings folder (`report-templates/*.json`) and override shipped ones of the
same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..core.domain import unmarked
from ..core.terminology import split_side
from ..errors import InputError
from ..storage import paths, resources
from ..storage.json_text import read_json

SECTIONS = (
    "Indication", "Technique", "Comparison", "Findings", "Impression", "Questions and answers", "Limitations", "Provenance",
)  # fmt: skip
NEEDED = ("Findings", "Limitations", "Provenance")
"""Sections that every template must have: the findings, the limitations and the provenance."""

GENERAL, RADIOGRAPH, PICTURES = "general", "radiograph", "picture"
"""Ids of the templates for volumes that no other suits, for projection radiographs, and for other pictures."""
LEAST_SHARE = 0.5
"""Smallest fraction of a template's structures that must be found for its automatic choice."""


@dataclass(frozen=True)
class ReportTemplate:
    """Layout of a report.

    Args:
        id: unique name.
        title: the document's title.
        about: one sentence for the user's choice.
        modalities: that it is for; empty for any.
        sections: of `SECTIONS`, in order.
        groups: (heading, structures without side) in the order of the findings; others follow.
        suits: structures for its automatic choice; empty if it is only chosen by name.
        impression: request to the reader in the impression.
        not_assessed: what was not assessed.
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
        """Return whether it places this structure; a template without groups places all."""
        names = [name for _, group in self.groups for name in group]
        return not names or _name(label) in names

    def grouped(self, labels: Iterable[str]) -> list[tuple[str, list[str]]]:
        """Return [(heading, labels)] in the template's order, "" as the heading of those in no group.

        Without empty groups.
        """
        left = list(dict.fromkeys(labels))
        made = []
        for heading, names in self.groups:
            order = {name: n for n, name in enumerate(names)}
            mine = sorted((label for label in left if _name(label) in order), key=lambda label: order[_name(label)])
            left = [label for label in left if label not in mine]
            if mine:
                made.append((heading, mine))
        return [*made, *([("Other structures" if made else "", left)] if left else [])]


def templates() -> dict[str, ReportTemplate]:
    """Return a mapping from id to template, shipped ones and the user's own.

    Raises:
        InputError: if a file is damaged or incomplete.
    """
    own = paths.settings() / "report-templates"
    files = [*sorted(resources.path("reports", "templates").glob("*.json")), *(sorted(own.glob("*.json")))]
    return {found.id: found for found in map(_read, files)}


def choose_template(asked: str, modality: str, labels: Sequence[str], picture: bool = False) -> ReportTemplate:
    """Return the requested template, or else the one that suits the found structures best.

    Args:
        asked: id, or "" for the automatic choice.
        modality: of the image, e.g. "CT".
        labels: structures that were found.
        picture: whether it is a picture without a place in a patient.

    Raises:
        InputError: for an unknown id.
    """
    known = templates()
    if asked:
        if asked not in known:
            raise InputError(f"There is no report template '{asked}'; choose one of {', '.join(known)}.")
        return known[asked]
    if picture:
        return known[RADIOGRAPH if modality == "CR" else PICTURES]
    names = set(map(_name, labels))
    best, best_share = known[GENERAL], LEAST_SHARE
    for template in known.values():
        if template.suits and modality in template.modalities:
            share = len(names & set(template.suits)) / len(template.suits)
            if share > best_share or (share == best_share and best.id == GENERAL):
                best, best_share = template, share
    return best


def _name(label: str) -> str:
    """Return a structure's name without its side, and without the mark of images outside of a model's domain."""
    return split_side(unmarked(label))[1]


def _read(path: Path) -> ReportTemplate:
    try:
        content = read_json(path.read_bytes())
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
