"""Check outlines against rules of anatomy: size, sides, places, edges, pieces. Knows the rules' file and geometry; no model.

The rules are in `Resources/anatomy/rules.json`, with the source of each. Places are compared by centroids, in axes that the
mid-sagittal plane gives: to the right, to the front, to the head. What a rule says depends on who drew:

* a model's outline that fails is flagged, or rejected if it is impossible;
* one of a person or a file is only noted, since people draw what is there;
* one that no rule covers is unknown, not right.

Where two structures can't both be right, the one that fails more rules is blamed; if none does, both are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..core.domain import unmarked
from ..core.findings import FLAGGED, NOTED, OK, PARTIAL, REJECTED, UNKNOWN, OutlineCheck, Segment, Segmentation
from ..core.geometry import Geometry
from ..core.image import Image
from ..core.measurements import plain
from ..core.terminology import normalize, split_side
from ..storage import resources
from .edges import is_cut
from .midsagittal import MidsagittalPlane, axes_of, pairs_of, plane_from_image, plane_from_pairs

IMPOSSIBLE_LOW, IMPOSSIBLE_HIGH = 0.1, 3.0
"""Multiples of the lower and the upper limit of a volume beyond which it is impossible."""

LEAST_WRONG_MM = 3.0
"""A structure lies on the wrong side if it is farther than this, and than the plane's uncertainty, beyond the plane."""

FRAGMENT_SHARE = 0.3
"""Share of a structure outside of its largest part from which it is in pieces."""

COARSE_BOX = 64
"""Voxels along each side of the box in which pieces are counted."""

DENSE_BOX = 400_000
"""Voxels of a bounding box above which a centroid is computed from every second voxel."""

OWN_RULE = "MedFM's own limit"


@dataclass(frozen=True)
class OutlineVerdict:
    """What the rules say of one segment.

    Args:
        number: place of the segment, from 1.
        label: of the segment.
        verdict: see `core.findings.OK`.
        checks: the rules that it failed.
    """

    number: int
    label: str
    verdict: str
    checks: tuple[OutlineCheck, ...] = ()


@dataclass
class _Outline:
    """What is known of one segment. `center` is in RAS mm, `place` in the patient's axes; `r` is None without a plane."""

    number: int
    label: str
    side: str
    name: str
    rule: dict | None
    volume: float
    center: np.ndarray
    is_cut: bool
    is_models: bool
    place: np.ndarray | None = None
    off: float | None = None  # mm to the right of the mid-sagittal plane
    unsure: float = 0.0
    was_checked: bool = False

    @property
    def called(self) -> str:
        return f"{self.side} {self.name}".strip()

    @property
    def is_one_side(self) -> bool:
        """Whether it is no pair under one name."""
        return bool(self.side) or "spread" not in (self.rule or {})


@dataclass(frozen=True)
class _Failure:
    """A failed rule of one structure, or of one (`of`) and another (`to`)."""

    of: int
    to: tuple[int, ...]
    is_hard: bool
    check: OutlineCheck
    check_of_other: OutlineCheck | None = None


@lru_cache(maxsize=1)
def rules() -> dict:
    """Return the rules: sources, structures and relations."""
    return resources.load_json("anatomy", "rules.json")


def check_outlines(
    segmentation: Segmentation, image: Image | None = None, within: Sequence[slice] | None = None
) -> tuple[tuple[OutlineVerdict, ...], MidsagittalPlane | None]:
    """Return (verdicts on the segments that have a voxel, the mid-sagittal plane or None).

    Args:
        segmentation: all segments that are to be checked against each other.
        image: on the same grid; without it padding isn't seen, and only paired structures give a plane.
        within: three slices, the part of the grid that was examined; all by default.
    """
    geometry = segmentation.geometry
    outlines = [
        _outline(number, segment, geometry, image, within)
        for number, segment in enumerate(segmentation.segments, 1)
        if segment.boxed.inside.any()
    ]
    plane = _plane(outlines, image, geometry)
    if geometry.is_picture or not geometry.metric:
        return tuple(_verdict(outline, []) for outline in outlines), plane
    failures = []
    for n, outline in enumerate(outlines):
        failures += _own_failures(n, outline, segmentation.segments[outline.number - 1])
    failures += _ratios(outlines)
    if geometry.oriented:
        _place(outlines, plane)
        failures += [*_wrong_sides(outlines, plane), *_relations(outlines)]
    return tuple(_verdicts(outlines, failures)), plane


def _outline(number: int, segment: Segment, geometry: Geometry, image: Image | None, within) -> _Outline:
    label = normalize(unmarked(segment.label))
    side, name = split_side(label)
    inside, start = segment.boxed.inside, np.array(segment.boxed.start)
    rule = rules()["structures"].get(name)
    step = 1 if inside.size < DENSE_BOX else 2
    index = center_of(inside[::step, ::step, ::step]) * step
    if not np.isfinite(index).all():  # every second voxel missed it
        index = center_of(inside)
    center = geometry.to_world(index + start)
    volume = np.count_nonzero(inside) * geometry.voxel_volume / 1000
    cut = is_cut(segment, geometry, image, within)
    return _Outline(number, segment.label, side, name, rule, volume, center, cut, bool(segment.drawn_by))


def center_of(inside: np.ndarray) -> np.ndarray:
    """Return the (3,) mean index of true voxels; NaN if there are none."""
    rest = inside.sum(axis=2, dtype=np.int32)
    sums = rest.sum(axis=1), rest.sum(axis=0), inside.sum(axis=0, dtype=np.int32).sum(axis=0)
    count = sums[0].sum()
    return np.array([np.arange(len(s)) @ s / count if count else np.nan for s in sums])


def _plane(outlines: Sequence[_Outline], image: Image | None, geometry: Geometry) -> MidsagittalPlane | None:
    """Return the plane of two and more pairs; of one pair or none, that of the image if it is known better."""
    if not geometry.oriented:
        return None
    whole = {o.called: o.center for o in outlines if not o.is_cut and o.side and o.rule is not None}
    usual = {name: entry["spread"] for name, entry in rules()["structures"].items() if "spread" in entry}
    pairs, spread = pairs_of(whole, usual)
    plane = plane_from_pairs(pairs, spread, max(0.5, float(geometry.spacing.max()) / 4))
    if (plane is not None and len(pairs) > 1) or image is None:
        return plane
    other = plane_from_image(image)
    return min(filter(None, (plane, other)), key=lambda one: one.mm, default=None)


def _place(outlines: Sequence[_Outline], plane: MidsagittalPlane | None) -> None:
    axes = plane.axes if plane is not None else axes_of((1.0, 0.0, 0.0))
    for outline in outlines:
        outline.place = axes @ outline.center
        if plane is not None:
            outline.off = float(plane.distance(outline.center))
            outline.unsure = plane.uncertainty(outline.center)


def _check(rule: str, words: str, sentence: str, source: str = "") -> OutlineCheck:
    shown = rules()["sources"][source][0] if source else OWN_RULE
    return OutlineCheck(rule, words, f"{sentence[0].upper()}{sentence[1:]} ({shown}).")


def _own_failures(n: int, outline: _Outline, segment: Segment) -> list[_Failure]:
    """Return what is wrong with one outline by itself: its volume, its pieces."""
    rule, failures = outline.rule, []
    if rule is None:
        return []
    limits = rule.get("volume of one side" if outline.side else "volume", rule.get("volume"))
    if limits is not None:
        low, high = limits[0], limits[1] * (1 if outline.is_one_side else 2)
        outline.was_checked = True
        if (outline.volume < low and not outline.is_cut) or outline.volume > high:
            where = "below" if outline.volume < low else "above"
            failures.append(_Failure(
                n, (), outline.volume < IMPOSSIBLE_LOW * low or outline.volume > IMPOSSIBLE_HIGH * high,
                _check(
                    "volume", f"its volume is {where} the expected range",
                    f"{outline.label}: volume {plain(outline.volume)} mL, where {plain(low)} to {plain(high)} mL are expected",
                    rule["source"],
                ),
            ))  # fmt: skip
    if rule.get("fragments", True) and not outline.is_cut and outline.is_one_side:
        share = fragment_share(segment.boxed.inside)
        if share > FRAGMENT_SHARE:
            failures.append(_Failure(n, (), False, _check(
                "fragments", "it is in pieces",
                f"{outline.label}: {100 * share:.0f} % of it lies outside of its largest part, where at most "
                f"{100 * FRAGMENT_SHARE:.0f} % are expected",
            )))  # fmt: skip
    return failures


def fragment_share(inside: np.ndarray) -> float:
    """Return the share of a mask outside of its largest connected part; parts that nearly touch count as one.

    Args:
        inside: (i, j, k) bool with at least one voxel.
    """
    import SimpleITK as sitk

    for axis in range(3):
        step = -(-inside.shape[axis] // COARSE_BOX)
        if step > 1:  # a coarse voxel is set if any of its voxels is
            parts = [np.moveaxis(inside, axis, 0)[offset::step] for offset in range(step)]
            joined = parts[0].copy()
            for part in parts[1:]:
                joined[: len(part)] |= part
            inside = np.moveaxis(joined, 0, axis)
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(inside.astype(np.uint8)), True)
    counts = np.bincount(sitk.GetArrayViewFromImage(labelled).ravel())[1:]
    return float(1 - counts.max() / counts.sum())


def _ratios(outlines: Sequence[_Outline]) -> list[_Failure]:
    failures = []
    for n, left in enumerate(outlines):
        for m, right in enumerate(outlines):
            if (
                (left.side, right.side) != ("left", "right")
                or left.name != right.name
                or "ratio" not in (left.rule or {})
            ):
                continue
            if left.is_cut or right.is_cut:
                continue
            large, small = (left, right) if left.volume > right.volume else (right, left)
            ratio, most = large.volume / small.volume, left.rule["ratio"]
            left.was_checked = right.was_checked = True
            if ratio > most:
                check = _check(
                    "ratio", "its volume differs too much from that of the other side",
                    f"{large.label}: {plain(ratio)} times the volume of the {small.side} one, where at most {plain(most)} times "
                    "are expected", left.rule.get("source", "anatomy"),
                )  # fmt: skip
                failures.append(_Failure(n, (m,), False, check, check))
    return failures


def _wrong_sides(outlines: Sequence[_Outline], plane: MidsagittalPlane | None) -> list[_Failure]:
    """Return structures that lie on the other side than their name says, or in the wrong order."""
    failures, wrong = [], set()
    for n, outline in enumerate(outlines):
        if not outline.side or outline.rule is None:
            continue
        if outline.off is not None:
            outline.was_checked = True
            beyond = outline.off if outline.side == "left" else -outline.off
            if beyond > max(LEAST_WRONG_MM, outline.unsure):
                wrong.add(n)
                where = "right" if outline.side == "left" else "left"
                failures.append(_Failure(n, (), True, _check(
                    "side", "it lies on the other side than its name says",
                    f"{outline.label}: its centre lies {plain(beyond)} mm to the {where} of the mid-sagittal plane "
                    f"(± {plain(outline.unsure)} mm)", "anatomy",
                )))  # fmt: skip
    across = axes_of(plane.normal if plane is not None else (1.0, 0.0, 0.0))[0]
    for n, left in enumerate(outlines):
        for m, right in enumerate(outlines):
            if (left.side, right.side) != ("left", "right") or left.name != right.name or left.rule is None:
                continue
            left.was_checked = right.was_checked = True
            apart = float(across @ (right.center - left.center))
            if apart < 0 and not {n, m} & wrong:
                check = _check(
                    "side", "the left one lies to the right of the right one",
                    f"Left and right {left.name}: the left one lies {plain(-apart)} mm to the right of the right one", "anatomy",
                )  # fmt: skip
                hard = apart < -LEAST_WRONG_MM
                failures += [_Failure(n, (), hard, check), _Failure(m, (), hard, check)]
    return failures


_DIRECTIONS = {"above": (2, 1), "below": (2, -1), "in front of": (1, 1), "behind": (1, -1)}
"""Relation → (axis, sign) of the difference of places that must be large enough."""

_OPPOSITE = {
    "above": "below", "below": "above", "in front of": "behind", "behind": "in front of", "medial to": "lateral to",
    "lateral to": "medial to",
}  # fmt: skip


def _relations(outlines: Sequence[_Outline]) -> list[_Failure]:
    found: dict[str, list[int]] = {}
    for n, outline in enumerate(outlines):
        if outline.rule is not None:
            found.setdefault(outline.name, []).append(n)
    failures = []
    for relation in rules()["relations"]:
        for n in found.get(relation["of"], ()):
            if "to" not in relation:
                failures += _own_place(n, outlines[n], relation)
                continue
            to = [m for m in found.get(relation["to"], ()) if m != n]
            if outlines[n].side and any(outlines[m].side for m in to):
                to = [m for m in to if outlines[m].side == outlines[n].side]
            if to:
                failures += _related(n, to, outlines, relation)
    return failures


def _own_place(n: int, outline: _Outline, relation: dict) -> list[_Failure]:
    """Return a failure if one structure lies too far from the midline, or on the wrong side."""
    if outline.off is None or outline.side or not outline.is_one_side:
        return []
    kind, off = relation["is"], outline.off
    outline.was_checked = True
    if kind == "within mm of the midline":
        value, limits, words = -abs(off), (-relation["flag"], -relation["reject"] if "reject" in relation else None), (
            "it should lie in the midline"
        )  # fmt: skip
        expected = f"at most {plain(relation['flag'])} mm are expected"
    else:
        value, limits = off if kind == "on the right" else -off, (relation["flag"], relation.get("reject"))
        words = f"it should lie {kind}"
        expected = f"it is expected {kind}"
    value += outline.unsure
    if value >= limits[0]:
        return []
    side = "right" if off > 0 else "left"
    sentence = f"{outline.label}: its centre lies {plain(abs(off))} mm to the {side} of the mid-sagittal plane, where {expected}"
    hard = limits[1] is not None and value < limits[1] and not outline.is_cut
    return [_Failure(n, (), hard, _check("place", words, sentence, relation["source"]))]


def _related(n: int, to: list[int], outlines: Sequence[_Outline], relation: dict) -> list[_Failure]:
    of, others, kind = outlines[n], [outlines[m] for m in to], relation["is"]
    sideways = kind in ("medial to", "lateral to")
    if sideways and (of.off is None or not all(o.is_one_side for o in (of, *others))):
        return []
    cut = of.is_cut or any(o.is_cut for o in others)
    place = np.mean([o.place for o in others], axis=0)
    if sideways:
        outward = abs(of.off) - float(np.mean([abs(o.off) for o in others]))
        value = outward if kind == "lateral to" else -outward
    elif kind == "near":
        value = -float(np.linalg.norm(of.place - place))
    else:
        axis, sign = _DIRECTIONS[kind]
        value = sign * float(of.place[axis] - place[axis])
    least, reject = relation["flag"], relation.get("reject")
    if kind == "near":
        least, reject = -least, None if reject is None else -reject
    if cut:  # the centre of what is left of it lies elsewhere
        if reject is None or not relation.get("to"):
            return []
        least = reject
    of.was_checked = True
    for other in others:
        other.was_checked = True
    if value >= least:
        return []
    name = others[0].called if len(others) == 1 else others[0].name
    if kind == "near":
        sentence = f"{plain(-value)} mm from that of the {name}, where at most {plain(-least)} mm are expected"
        words = (f"it lies too far from the {name}", f"the {of.called} lies too far from it")
    else:
        expected = (
            f"at least {plain(least)} mm {kind} it" if least > 0 else f"at most {plain(-least)} mm {_OPPOSITE[kind]} it"
        )
        lies = kind if value >= 0 else _OPPOSITE[kind]
        sentence = f"{plain(abs(value))} mm {lies} that of the {name}, where {expected} are expected"
        words = (f"it should lie {kind} the {name}", f"the {of.called} should lie {kind} it")
    checks = [_check("place", one, f"{of.label}: its centre lies {sentence}", relation["source"]) for one in words]
    hard = reject is not None and value < reject and not cut
    return [_Failure(n, tuple(to), hard, *checks)]


def _verdicts(outlines: Sequence[_Outline], failures: Sequence[_Failure]) -> list[OutlineVerdict]:
    def share(n: int, failure: _Failure) -> float:
        """Return how much of a failure is one's: two structures that agree against a third are each blamed half."""
        return 1.0 if n == failure.of else 1 / len(failure.to) if n in failure.to else 0.0

    score = [0.0] * len(outlines)
    for failure in failures:
        for n in (failure.of, *failure.to):
            score[n] += (3 if failure.is_hard and not failure.to else 2 if failure.is_hard else 1) * share(n, failure)
    rejected = {f.of for f in failures if f.is_hard and not f.to}
    while True:  # of structures that can't both be right, reject the one that fails most
        open_ = [f for f in failures if f.is_hard and f.to and not {f.of, *f.to} & rejected]
        count = [sum(share(n, f) for f in open_) for n in range(len(outlines))]
        ranks = {n: (count[n], score[n]) for f in open_ for n in (f.of, *f.to)}
        best = max(ranks.values(), default=None)
        if best is None or sum(rank == best for rank in ranks.values()) > 1:
            break
        rejected.add(next(n for n, rank in ranks.items() if rank == best))
    checks: dict[int, list[OutlineCheck]] = {n: [] for n in range(len(outlines))}
    for failure in failures:
        members = {failure.of: failure.check, **dict.fromkeys(failure.to, failure.check_of_other or failure.check)}
        blamed = set(members) & rejected
        if not blamed:
            most = max(score[n] for n in members)
            blamed = {n for n in members if score[n] == most}
        for n in blamed:
            hard = n in rejected and failure.is_hard
            checks[n].append(replace(members[n], verdict=REJECTED if hard else FLAGGED))
    return [_verdict(outline, checks[n]) for n, outline in enumerate(outlines)]


def _verdict(outline: _Outline, checks: list[OutlineCheck]) -> OutlineVerdict:
    unique = {one.sentence: one for one in sorted(checks, key=lambda one: one.verdict == REJECTED)}
    checks = sorted(unique.values(), key=lambda one: one.verdict != REJECTED)
    verdict = REJECTED if any(c.verdict == REJECTED for c in checks) else FLAGGED if checks else ""
    if checks and not outline.is_models:
        checks, verdict = [replace(one, verdict=NOTED) for one in checks], NOTED
    if outline.is_cut:
        words = "it is cut by the edge of the image"
        sentence = f"{outline.label} is cut by the edge of the image, so its sizes are lower bounds."
        checks.append(OutlineCheck("edge", words, sentence[0].upper() + sentence[1:], PARTIAL))
        verdict = verdict or PARTIAL
    return OutlineVerdict(
        outline.number, outline.label, verdict or (OK if outline.was_checked else UNKNOWN), tuple(checks)
    )
