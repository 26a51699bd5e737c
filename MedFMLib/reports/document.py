"""The words of a report, and its HTML page. Numbers come from measurements; a model's words are marked as such."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from .. import NOTICE, resources
from ..findings import Answer, KeyImage, Measurement, Report, Section
from ..image import Image
from ..measure import EVERYDAY, as_table, plain
from ..model import ModelCard
from ..request import Provenance
from ..terminology import split_side

TITLE = "Draft imaging report"


def sections(
    image: Image,
    card: ModelCard,
    measurements: Sequence[Measurement],
    missing: Sequence[str],
    description: str,
    answers: Sequence[Answer],
    provenance: Provenance,
) -> tuple[Section, ...]:
    """Technique, findings, impression, questions, limitations, provenance.

    Args:
        missing: structures that were looked for and not seen.
        description: what the model wrote about the image, "" if nothing.
    """
    made = [
        Section("Technique", technique(image)),
        Section("Findings", findings(measurements, missing, description, card)),
        Section("Impression", (impression(measurements),)),
    ]
    if answers:
        made.append(Section("Questions and answers", tuple(f"Q: {a.question} — A: {a.text}" for a in answers)))
    made.append(Section("Limitations", limitations(card, provenance)))
    made.append(Section("Provenance", tuple(provenance_lines(provenance))))
    return tuple(made)


def technique(image: Image) -> tuple[str, ...]:
    """What is known of the acquisition."""
    geometry = image.geometry
    spacing = " × ".join(f"{s:.2f}" for s in geometry.spacing)
    kind = {"CT": "CT", "MR": "MR"}.get(image.modality, image.modality)
    guessed = " (guessed from voxel values)" if image.facts.get("modality_guessed") else ""
    lines = [
        f"{kind}{guessed}, {' × '.join(map(str, geometry.shape))} voxels of {spacing} mm, "
        f"acquired in {geometry.acquisition_plane} orientation."
    ]
    words = {
        "BodyPartExamined": "body part {}",
        "SliceThickness": "slice thickness {} mm",
        "MagneticFieldStrength": "{} T",
        "KVP": "{} kVp",
        "Contrast": "intravenous contrast: {}",
    }
    known = [words[tag].format(_tidy(image.facts[tag])) for tag in words if tag in image.facts]
    if known:
        lines.append("According to the header: " + ", ".join(known) + ".")
    return tuple(lines)


def _tidy(text: str) -> str:
    """A header's value as one writes it: "1.50000" → "1.5", "HEAD" → "head"."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.lower()


def findings(
    measurements: Sequence[Measurement], missing: Sequence[str], description: str, card: ModelCard
) -> tuple[str, ...]:
    """One sentence a structure, its numbers taken from measurements."""
    by_segment: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        by_segment.setdefault(m.segment, {})[m.name] = m
    lines = []
    for label, values in by_segment.items():
        extent = " × ".join(f"{values[f'extent {d}'].value:.0f}" for d in ("left-right", "front-back", "head-foot"))
        density = values["mean intensity"]
        mean = f", mean {density.value:.0f} ± {values['intensity SD'].value:.0f} HU" if density.unit else ""
        side = values["side"].value
        where = "crosses the midline" if side == "midline" else f"lies on the {side}"
        named = split_side(label)[0]
        if named and side not in (named, "midline"):
            where += f", though it is called {named}: check it"
        axes = (
            f", longest {plain(values['long axis'].value)} × {plain(values['short axis'].value)} mm in plane"
            if "long axis" in values
            else ""
        )
        cut = "; cut off at the image's edge" if "cut off" in values else ""
        lines.append(
            f"{label.capitalize()}: {plain(values['volume'].value)} mL, {extent} mm "
            f"(left–right × front–back × head–foot){axes}{mean}; {where}{cut}."
        )
    if missing:
        lines.append(f"Looked for and not seen: {', '.join(missing)}.")
    if description:
        lines.append(f"In the model's own words ({card.title}): “{description}”")
    return tuple(lines) or ("No structure was found.",)


def impression(measurements: Sequence[Measurement]) -> str:
    """What can be said without interpreting."""
    n = len({m.segment for m in measurements})
    return (
        f"{n} structure{'s' if n != 1 else ''} delineated and measured. No diagnostic interpretation was made; "
        "a radiologist must read the images and complete this section."
    )


def limitations(card: ModelCard, provenance: Provenance) -> tuple[str, ...]:
    """The notice, what the model is not for, and every note of the job."""
    lines = [NOTICE, f"{card.title}: {card.summary}"]
    if card.not_for:
        lines.append(f"Not for: {card.not_for}")
    return (*lines, *provenance.notes)


def provenance_lines(p: Provenance) -> list[str]:
    """Provenance as readable lines."""
    looked = f"{len(p.slices)} slices: {p.slices[0]} … {p.slices[-1]}" if len(p.slices) > 2 else ", ".join(p.slices)
    return [
        f"Model: {p.model}, held as {p.precision}, weights {p.revision[:16]}",
        f"Adapter: {p.adapter or 'none'}" + (f", weights {p.adapter_hash[:16]}" if p.adapter_hash else ""),
        f"Image content: {p.image[:16]}",
        f"Looked at {looked or 'no slices'}",
        "Prompts: " + " | ".join(p.prompts),
        "Software: " + ", ".join(f"{name} {version}" for name, version in p.versions.items()),
        f"Started {p.started}, took {p.seconds:.1f} s" + (f"; {p.reuse}" if p.reuse else ""),
    ]


def as_text(report_sections: Sequence[Section], table: tuple[list[str], list[list[str]]]) -> str:
    """The report as plain text, for text nodes and terminals."""
    lines = [TITLE.upper(), NOTICE, ""]
    for section in report_sections:
        lines += [section.title.upper(), *section.paragraphs, ""]
        if section.title == "Findings" and table[1]:
            lines += ["MEASUREMENTS", *_columns([table[0], *table[1]]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def make_report(
    image: Image,
    card: ModelCard,
    measurements: Sequence[Measurement],
    missing: Sequence[str],
    description: str,
    answers: Sequence[Answer],
    key_images: Sequence[KeyImage],
    colors: dict[str, tuple[float, float, float]],
    provenance: Provenance,
) -> Report:
    """Everything together; `colors` maps segment labels to red, green, blue in 0…1 for the legend."""
    parts = sections(image, card, measurements, missing, description, answers, provenance)
    table = as_table(measurements, EVERYDAY)
    html = _page(parts, table, key_images, colors, answers)
    return Report(TITLE, parts, tuple(key_images), as_text(parts, table), html)


def _page(parts, table, key_images, colors, answers) -> str:
    try:
        from jinja2 import Environment
    except ImportError:
        from ..errors import ModelError

        raise ModelError(
            "The report page needs the package jinja2; install it with `pip install medfm[report]`."
        ) from None
    source = resources.path("reports", "report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    pictures = [
        {
            "caption": k.caption,
            "plain": base64.b64encode(k.png).decode(),
            "overlay": base64.b64encode(k.overlay_png).decode(),
            "id": f"{k.slice.plane}-{k.slice.number}",
        }
        for k in key_images
    ]
    rgb = {label: "#" + "".join(f"{round(255 * c):02x}" for c in color) for label, color in colors.items()}
    return page.render(
        title=TITLE,
        notice=NOTICE,
        sections=parts,
        columns=table[0],
        rows=table[1],
        pictures=pictures,
        colors=rgb,
        answers=answers,
    )
