"""Write the sentences of a report. Numbers come from measurements; a model's own text is marked as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .. import NOTICE
from ..core.domain import unmarked
from ..core.findings import Answer, Comparison, KeyImage, Link, Measurement, ReportSection, Segmentation, SliceReference
from ..core.geometry import Geometry
from ..core.image import Image
from ..core.measurements import SegmentKey, by_segment, names_in, names_of, side_words
from ..core.request import Provenance
from ..core.terminology import split_side, structure
from ..healthy.section import section
from ..measure import interval_text, plain
from ..storage.model_card import ModelCard
from .templates import PICTURES, RADIOGRAPH, ReportTemplate

NOT_STATED = "Not stated."
EXTENTS = ("extent left-right", "extent front-back", "extent head-foot")
IN_SENTENCE = (
    "volume",
    "area",
    *EXTENTS,
    "long axis",
    "short axis",
    "mean intensity",
    "intensity SD",
    "side",
    "cut off",
)
"""Measurements whose values are in a finding's sentence."""

UNIT_WORDS = {"[hnsf'U]": "HU", "{counts}": "counts"}
"""UCUM units that are written in another way."""

MOST_SLICES = 8
"""Largest number of slices that the provenance lists individually."""

UNEQUAL = 0.1
"""Difference of a pair's volumes, as a fraction of their mean, from which the sentence names the larger one."""


def technique(image: Image) -> tuple[str, ...]:
    """Return the known facts of the acquisition."""
    if image.is_picture:
        return _technique_of_pictures(image)
    geometry = image.geometry
    spacing = " × ".join(f"{s:.2f}" for s in geometry.spacing)
    guessed = " (guessed from voxel values)" if image.facts.get("modality_guessed") else ""
    lines = [
        f"{image.modality}{guessed}, {' × '.join(map(str, geometry.shape))} voxels of {spacing} mm, "
        + (f"acquired in {geometry.acquisition_plane} orientation." if geometry.oriented else "of unknown orientation.")
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
    return (*lines, *_from_header(image, words))


def _technique_of_pictures(image: Image) -> tuple[str, ...]:
    kind = {"CR": "Projection radiograph", "US": "Ultrasound"}.get(image.modality, "Picture")
    count = image.geometry.shape[2]
    sizes = image.extents or (image.geometry.shape[:2],)
    shown = ", ".join(dict.fromkeys(f"{columns} × {rows}" for columns, rows in sizes))
    across, down = image.geometry.spacing[:2]
    scale = f", {down:.3g} × {across:.3g} mm each" if image.geometry.metric else "; sizes in millimetres are not known"
    many = f"{count} pictures" if count > 1 else "1 picture"
    words = {
        "BodyPartExamined": "body part {}",
        "ViewPosition": "view {}",
        "Laterality": "the {} side",
        "KVP": "{} kVp",
    }
    return (f"{kind}: {many} of {shown} pixels{scale}.", *_from_header(image, words))


def _from_header(image: Image, words: dict[str, str]) -> tuple[str, ...]:
    """Return a sentence on what the header says, by a form for each fact; nothing if it says nothing."""
    keep = ("ViewPosition",)  # abbreviations stay as they are
    known = [
        words[tag].format(image.facts[tag] if tag in keep else _tidy(image.facts[tag]))
        for tag in words
        if tag in image.facts
    ]
    scanner = " ".join(image.facts[tag] for tag in ("Manufacturer", "ManufacturerModelName") if tag in image.facts)
    known += [f"scanner {scanner}"] if scanner else []
    return ("According to the header: " + ", ".join(known) + ".",) if known else ()


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
    labels: Sequence[str] = (),
    not_drawn: Mapping[str, str] | None = None,
) -> ReportSection:
    """Return one sentence per structure in the template's order, with pairs compared; each with its link.

    Args:
        measurements: of the segments.
        missing: structures that were searched for and not found.
        description: the model's description of the image, "" if there is none.
        card: of the model.
        template: order of the findings.
        places: name of the structure → the slice that shows it best; see `best_slices`.
        seen: the slice that the description is based on.
        labels: of all segments, in order.
        not_drawn: label → why, of structures whose outline was rejected.
    """
    found = by_segment(measurements)
    names = names_of([*enumerate(labels, 1), *found])
    same: dict[str, list[SegmentKey]] = {}
    for key in found:
        same.setdefault(key[1], []).append(key)
    alone = {label: found[keys[0]] for label, keys in same.items() if len(keys) == 1}
    lines: list[tuple[str, Link | None]] = []
    for heading, grouped in template.grouped(same):
        lines += [(f"{heading}:", None)] if heading else []
        for label in grouped:
            for key in same[label]:
                values, name = found[key], names[key]
                quoted = tuple(one for one in IN_SENTENCE if one in values and values[one].is_reliable)
                lines.append((_sentence(name, values), Link(name, places.get(name), quoted)))
            lines += [(text, None) for text in _pair(label, grouped, alone)]
    if template.groups and lines and (missing or description or not_drawn):
        lines.append(("In addition:", None))
    lines += [
        (f"{label.capitalize()}: not drawn, since its outline failed a check: {why}.", None)
        for label, why in (not_drawn or {}).items()
    ]
    if missing:
        lines.append((f"Looked for and not seen: {', '.join(missing)}.", None))
    if description:
        link = Link("", seen) if seen is not None else None
        lines.append((f"In the model's own words ({card.title}): “{description}”", link))
    of_pictures = template.id in (RADIOGRAPH, PICTURES)
    nothing = f"{card.title} described nothing: see the limitations." if of_pictures else "No structure was found."
    paragraphs, links = zip(*(lines or [(nothing, None)]), strict=True)
    return ReportSection("Findings", paragraphs, links)


def _sentence(label: str, values: dict[str, Measurement]) -> str:
    """Return a structure's sentence, of what was measured: not every image has sides, millimetres and intensities.

    Of an outline that failed a rule of anatomy nothing that was measured is stated.
    """
    if failed := next((m.failed for m in values.values() if m.failed), ""):
        return f"{label.capitalize()}: no number is stated, since its outline failed a check: {failed}."
    parts = []
    for name, unit in (("volume", "mL"), ("area", {"{pixels}": "pixels", "mm2": "mm²"})):
        if name in values:
            shown = unit if isinstance(unit, str) else unit.get(values[name].unit, values[name].unit)
            interval = interval_text(values[name])
            likely = f" (95 % of such measurements lay within {interval} {shown})" if interval else ""
            parts.append(f"{plain(values[name].value)} {shown}{likely}")
    if all(name in values for name in EXTENTS):
        extent = " × ".join(f"{values[name].value:.0f}" for name in EXTENTS)
        parts.append(f"{extent} mm (left–right × front–back × head–foot)")
    if "long axis" in values:
        axes = f"{plain(values['long axis'].value)} × {plain(values['short axis'].value)} mm in plane"
        parts.append(f"longest {axes}")
    mean = values.get("mean intensity")
    if mean is not None and mean.unit:
        unit = UNIT_WORDS.get(mean.unit, mean.unit)
        exact = "{:.0f} ± {:.0f}" if unit == "HU" else "{:.3g} ± {:.2g}"
        parts.append(f"mean {exact.format(mean.value, values['intensity SD'].value)} {unit}")
    clauses = [", ".join(parts) or "delineated"]
    if "side" in values:
        side = values["side"].value
        if structure(unmarked(values["side"].segment)).midline:
            where = f"lies in the {side_words(values)}"
        else:
            where = "crosses the midline" if side == "midline" else f"lies on the {side}"
        named = split_side(values["side"].segment)[0]
        if named and side not in (named, "midline"):
            where += f", though it is called {named}: check it"
        clauses.append(where)
    if "cut off" in values:
        clauses.append("cut off at the image's edge")
    return f"{label.capitalize()}: {'; '.join(clauses)}."


def _pair(label: str, labels: Sequence[str], found: dict[str, dict[str, Measurement]]) -> list[str]:
    """Compare the volumes of a left–right pair, after its second structure, if both are completely in the image."""
    side, name = split_side(label)
    other = f"{'left' if side == 'right' else 'right'} {name}"
    if not side or other not in labels[: labels.index(label)] or not {label, other} <= set(found):
        return []
    if any("cut off" in found[s] or "volume" not in found[s] for s in (label, other)):
        return []
    if not all(found[s]["volume"].is_reliable for s in (label, other)):
        return []
    left, right = (float(found[f"{one} {name}"]["volume"].value) for one in ("left", "right"))
    share = abs(left - right) / ((left + right) / 2)
    larger = f"; the {'left' if left > right else 'right'} one is larger" if share >= UNEQUAL else ""
    return [f"{name.capitalize()}, left against right: volumes differ by {100 * share:.0f} % of their mean{larger}."]


def impression(measurements: Sequence[Measurement], template: ReportTemplate) -> tuple[str, ...]:
    """Return the impression, without interpretation.

    Args:
        measurements: of the segments.
        template: its request to the reader.
    """
    n = len({m.key for m in measurements})
    if not n and template.id in (RADIOGRAPH, PICTURES):
        return tuple(
            filter(None, ("Nothing was measured. No diagnostic interpretation was made.", template.impression))
        )
    doubted = len({m.key for m in measurements if not m.is_reliable})
    failed = f"; the outline{'s' if doubted > 1 else ''} of {doubted} failed a check" if doubted else ""
    done = (
        f"{n} structure{'s' if n != 1 else ''} delineated and measured{failed}. No diagnostic interpretation was made."
    )
    return tuple(filter(None, (done, template.impression)))


def with_warning(made: ReportSection, sentence: str) -> ReportSection:
    """Return a section that begins with a warning.

    Args:
        made: the section.
        sentence: the warning.
    """
    links = (None, *made.links) if made.links else ()
    return ReportSection(made.title, (f"OUTSIDE OF THE MODEL'S DOMAIN: {sentence}", *made.paragraphs), links)


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
        "Prompts: " + (" | ".join(p.prompts) or "none"),
        "Software: " + ", ".join(f"{name} {version}" for name, version in p.versions.items()),
        f"Started {p.started}, took {p.seconds:.1f} s" + (f"; {p.reuse}" if p.reuse else ""),
    )


def best_slices(segmentation: Segmentation, plane: str) -> dict[str, SliceReference]:
    """Return name of each structure → slice of a plane that shows most of it, centred on the structure.

    Names are those of `core.measurements.names_in`: labels, with the place where several segments have one label.

    Args:
        segmentation: the segments.
        plane: sagittal, coronal or axial.
    """
    geometry = segmentation.geometry
    axis = geometry.index_axis(plane)
    others = tuple(a for a in range(3) if a != axis)
    places = {}
    for name, segment in zip(names_in([s.label for s in segmentation.segments]), segmentation.segments, strict=True):
        inside = segment.boxed.inside
        if inside.any():
            nth = int(np.argmax(inside.sum(axis=others)))
            places[name] = _place(geometry, plane, axis, segment.boxed.start, nth, np.take(inside, nth, axis))
    return places


def _place(geometry: Geometry, plane: str, axis: int, start, nth: int, area: np.ndarray) -> SliceReference:
    index = np.empty(3)
    index[[a for a in range(3) if a != axis]] = np.argwhere(area).mean(axis=0)
    index[axis] = nth
    center = geometry.to_world(index + np.asarray(start))
    return SliceReference(plane, int(nth + start[axis]), tuple(float(c) for c in center))
