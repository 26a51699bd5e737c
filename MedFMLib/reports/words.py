"""Write the sentences of a report. Numbers come from measurements; a model's own text is marked as such."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import NOTICE
from ..core.findings import Answer, Comparison, KeyImage, Link, Measurement, ReportSection, Segmentation, SliceReference
from ..core.geometry import Geometry
from ..core.image import Image
from ..core.request import Provenance
from ..core.terminology import split_side
from ..healthy.section import section
from ..measure import plain
from ..storage.model_card import ModelCard
from .templates import ReportTemplate

NOT_STATED = "Not stated."
EXTENTS = ("extent left-right", "extent front-back", "extent head-foot")
IN_SENTENCE = ("volume", *EXTENTS, "long axis", "short axis", "mean intensity", "intensity SD", "side", "cut off")
"""Measurements whose values are in a finding's sentence."""

MOST_SLICES = 8
"""Largest number of slices that the provenance lists individually."""

UNEQUAL = 0.1
"""Difference of a pair's volumes, as a fraction of their mean, from which the sentence names the larger one."""


def technique(image: Image) -> tuple[str, ...]:
    """Return the known facts of the acquisition."""
    geometry = image.geometry
    spacing = " × ".join(f"{s:.2f}" for s in geometry.spacing)
    guessed = " (guessed from voxel values)" if image.facts.get("modality_guessed") else ""
    lines = [
        f"{image.modality}{guessed}, {' × '.join(map(str, geometry.shape))} voxels of {spacing} mm, "
        f"acquired in {geometry.acquisition_plane} orientation."
    ]
    words = {
        "BodyPartExamined": "body part {}",
        "SliceThickness": "slice thickness {} mm",
        "MagneticFieldStrength": "{} T",
        "RepetitionTime": "TR {} ms",
        "EchoTime": "TE {} ms",
        "InversionTime": "TI {} ms",
        "FlipAngle": "flip angle {}°",
        "KVP": "{} kVp",
        "ConvolutionKernel": "kernel {}",
        "Contrast": "intravenous contrast: {}",
    }
    known = [words[tag].format(_tidy(image.facts[tag])) for tag in words if tag in image.facts]
    scanner = " ".join(image.facts[tag] for tag in ("Manufacturer", "ManufacturerModelName") if tag in image.facts)
    known += [f"scanner {scanner}"] if scanner else []
    if known:
        lines.append("According to the header: " + ", ".join(known) + ".")
    return tuple(lines)


def _tidy(text: str) -> str:
    """Return a header's value in its usual form: "1.5" for "1.50000", "head" for "HEAD"."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.lower()


def findings(
    measurements: Sequence[Measurement],
    missing: Sequence[str],
    description: str,
    card: ModelCard,
    template: ReportTemplate,
    places: dict[str, SliceReference],
    seen: SliceReference | None = None,
) -> ReportSection:
    """Return one sentence per structure in the template's order, with pairs compared; each with its link.

    Args:
        measurements: of the segments.
        missing: structures that were searched for and not found.
        description: the model's description of the image, "" if there is none.
        card: of the model.
        template: order of the findings.
        places: label → the slice that shows it best.
        seen: the slice that the description is based on.
    """
    by_segment: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        by_segment.setdefault(m.segment, {})[m.name] = m
    lines: list[tuple[str, Link | None]] = []
    for heading, labels in template.grouped(by_segment):
        lines += [(f"{heading}:", None)] if heading else []
        for label in labels:
            values = by_segment[label]
            named = tuple(name for name in IN_SENTENCE if name in values)
            lines.append((_sentence(label, values), Link(label, places.get(label), named)))
            lines += [(text, None) for text in _pair(label, labels, by_segment)]
    if template.groups and lines and (missing or description):
        lines.append(("In addition:", None))
    if missing:
        lines.append((f"Looked for and not seen: {', '.join(missing)}.", None))
    if description:
        link = Link("", seen) if seen is not None else None
        lines.append((f"In the model's own words ({card.title}): “{description}”", link))
    paragraphs, links = zip(*(lines or [("No structure was found.", None)]), strict=True)
    return ReportSection("Findings", paragraphs, links)


def _sentence(label: str, values: dict[str, Measurement]) -> str:
    extent = " × ".join(f"{values[name].value:.0f}" for name in EXTENTS)
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
    return (
        f"{label.capitalize()}: {plain(values['volume'].value)} mL, {extent} mm "
        f"(left–right × front–back × head–foot){axes}{mean}; {where}{cut}."
    )


def _pair(label: str, labels: Sequence[str], by_segment: dict[str, dict[str, Measurement]]) -> list[str]:
    """Compare the volumes of a left–right pair, after its second structure, if both are completely in the image."""
    side, name = split_side(label)
    other = f"{'left' if side == 'right' else 'right'} {name}"
    if (
        not side
        or other not in labels[: labels.index(label)]
        or any("cut off" in by_segment[s] for s in (label, other))
    ):
        return []
    left, right = (float(by_segment[f"{one} {name}"]["volume"].value) for one in ("left", "right"))
    share = abs(left - right) / ((left + right) / 2)
    larger = f"; the {'left' if left > right else 'right'} one is larger" if share >= UNEQUAL else ""
    return [f"{name.capitalize()}, left against right: volumes differ by {100 * share:.0f} % of their mean{larger}."]


def impression(measurements: Sequence[Measurement], template: ReportTemplate) -> tuple[str, ...]:
    """Return the impression, without interpretation.

    Args:
        measurements: of the segments.
        template: its request to the reader.
    """
    n = len({m.segment for m in measurements})
    done = f"{n} structure{'s' if n != 1 else ''} delineated and measured. No diagnostic interpretation was made."
    return tuple(filter(None, (done, template.impression)))


def questions(answers: Sequence[Answer]) -> ReportSection:
    """Return the questions with their answers."""
    lines = tuple(f"Q: {a.question} — A: {a.text}" for a in answers)
    links = tuple(Link("", a.evidence[len(a.evidence) // 2]) if a.evidence else None for a in answers)
    return ReportSection("Questions and answers", lines, links)


def comparison(made: Comparison) -> ReportSection:
    """Return the differences from a healthy case as sentences."""
    return ReportSection("Comparison with healthy", section(made).paragraphs)


def comparison_pictures(made: Comparison) -> list[KeyImage]:
    """Return the image next to the healthy case at the same level, as pictures without a separate overlay."""
    captions = [caption for caption, _ in section(made).pictures]
    return [
        KeyImage(caption[0].upper() + caption[1:], pair.slice, pair.png, b"")
        for caption, pair in zip(captions, made.pairs, strict=True)
    ]


def limitations(card: ModelCard, provenance: Provenance, template: ReportTemplate) -> tuple[str, ...]:
    """Return the notice, the model's limits, what was not assessed, and every note of the job.

    Args:
        card: of the model.
        provenance: with the notes.
        template: with what was not assessed.
    """
    lines = [NOTICE, f"{card.title}: {card.summary}"]
    if card.not_for:
        lines.append(f"Not for: {card.not_for}")
    if template.not_assessed:
        lines.append(template.not_assessed)
    return (*lines, *provenance.notes)


def provenance_lines(p: Provenance) -> tuple[str, ...]:
    """Return the provenance as readable lines."""
    looked = ", ".join(p.slices)  # an entry may be a whole range
    if len(p.slices) > MOST_SLICES:
        looked = f"{', '.join(p.slices[:2])} … {p.slices[-1]} ({len(p.slices)} in all)"
    return (
        f"Model: {p.model}, precision {p.precision}, weights {p.revision[:16]}",
        f"Adapter: {p.adapter or 'none'}" + (f", weights {p.adapter_hash[:16]}" if p.adapter_hash else ""),
        f"Image content: {p.image[:16]}",
        f"Slices: {looked or 'none'}",
        "Prompts: " + " | ".join(p.prompts),
        "Software: " + ", ".join(f"{name} {version}" for name, version in p.versions.items()),
        f"Started {p.started}, took {p.seconds:.1f} s" + (f"; {p.reuse}" if p.reuse else ""),
    )


def best_slices(segmentation: Segmentation, plane: str) -> dict[str, SliceReference]:
    """Return a mapping from label to slice of a plane that shows most of it, centred on the structure.

    Args:
        segmentation: the segments.
        plane: sagittal, coronal or axial.
    """
    geometry = segmentation.geometry
    axis = geometry.index_axis(plane)
    others = tuple(a for a in range(3) if a != axis)
    places = {}
    for segment in segmentation.segments:
        inside = segment.boxed.inside
        if inside.any():
            nth = int(np.argmax(inside.sum(axis=others)))
            places[segment.label] = _place(geometry, plane, axis, segment.boxed.start, nth, np.take(inside, nth, axis))
    return places


def _place(geometry: Geometry, plane: str, axis: int, start, nth: int, area: np.ndarray) -> SliceReference:
    index = np.empty(3)
    index[[a for a in range(3) if a != axis]] = np.argwhere(area).mean(axis=0)
    index[axis] = nth
    center = geometry.to_world(index + np.asarray(start))
    return SliceReference(plane, int(nth + start[axis]), tuple(float(c) for c in center))
