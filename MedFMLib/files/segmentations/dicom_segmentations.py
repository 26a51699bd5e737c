"""Read DICOM segmentations: each frame is placed by its own position and orientation. Knows pydicom; no highdicom.

Source: DICOM PS3.3 C.8.20 (Segmentation) and C.8.20.2.3 (frames); C.10.7.1.1 for CIELab colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...core.findings import Code
from ...core.geometry import BoxedMask, Geometry, lps_from_ras
from ...errors import InputError
from ..dicom.headers import Header, numbers_of, read_complete, text_of
from ..dicom.pixels import stored_values
from ..dicom.planes import Plane, planes_of
from .found import ORIGINS, THRESHOLD, FoundSegment, Target
from .placing import Placed, fit_grids, place_labels, refuse_loss

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", LABEL_MAP)
"""SOP classes: segmentation, label map segmentation."""

BACKGROUND = ("125040", "DCM")
"""Property type of the background in a label map segmentation."""

UNEVEN_MM = 0.1
"""Largest distance of a frame from its place in an even stack; headers round positions."""

XYZ_TO_RGB = np.array([[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560],
                       [0.0556434, -0.2040259, 1.0572252]])  # fmt: skip
"""CIE XYZ (D65) → linear sRGB, IEC 61966-2-1."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """The labelled pixels of one segment in one frame.

    Args:
        number: of the segment.
        plane: where it lies.
        inside: (columns, rows) bool.
    """

    number: int
    plane: Plane
    inside: np.ndarray = field(repr=False)


@dataclass(eq=False)
class _Parts:
    """What was found of one segment: its placed parts, and its size before."""

    placed: list[Placed] = field(default_factory=list)
    voxels: int = 0
    volume: float = 0.0

    def add(self, placed: Placed, mask: np.ndarray, own: Geometry) -> None:
        count = int(np.count_nonzero(mask))
        self.placed.append(placed)
        self.voxels += count
        self.volume += count * own.voxel_volume


def read_dicom_segmentation(path: Path, target: Target) -> list[FoundSegment]:
    """Return the segments of a DICOM SEG in the order of their numbers.

    Args:
        path: the file.
        target: where they are placed.

    Raises:
        InputError: if it can't be read, has frames without a place in the patient, or lies on another grid.
    """
    header, shown = read_complete(path), f"'{path.name}'"
    frame_of_reference = header.text("FrameOfReferenceUID")
    if frame_of_reference and target.geometry.frame_of_reference not in ("", frame_of_reference):
        target.tell(
            f"{shown} has another frame of reference than the image; it was placed by its positions nevertheless."
        )
    described = _described(header)
    frames = list(_frames(header, target))
    parts = {number: _Parts() for number in [*described, *sorted({f.number for f in frames} - set(described))]}
    grids = {frame.plane.frame: _grid(frame.plane, target.geometry) for frame in frames}
    each = all(fit_grids(own, target.geometry).aligned for own in grids.values())
    volumes = _slices(frames, grids) if each else _stacks(frames, header, target.geometry)
    used = []
    for number, mask, own in volumes:
        placed = (
            place_labels(mask, own, target.geometry, shown, resample=True) if each else target.place(mask, own, shown)
        )
        parts[number].add(placed, mask, own)
        used.append(own)
    if used:
        worst = max(dict.fromkeys(used), key=lambda own: fit_grids(own, target.geometry).misfit)
        every = [placed for part in parts.values() for placed in part.placed]
        if not target.resample:
            refuse_loss(every, worst, target.geometry, shown)
        target.note(every, worst, shown)
    found = []
    for number, part in parts.items():
        item = described.get(number)
        category, code, side = _codes(item)
        origin = text_of(item, "SegmentAlgorithmType") if item is not None else ""
        found.append(
            FoundSegment(
                text_of(item, "SegmentLabel") if item is not None and text_of(item, "SegmentLabel") else f"segment {number}",
                _joined(part.placed, target), part.volume, part.voxels, _color(item), category, code, side,
                origin if origin in ORIGINS else "", all(placed.lossless for placed in part.placed),
            )
        )  # fmt: skip
    return found


# -- pixels ------------------------------------------------------------------------------------------------


def _frames(header: Header, target: Target) -> Iterator[_Frame]:
    """Yield the labelled pixels of each segment in each frame; none for frames without any."""
    stored = stored_values(header.path, target.tell)
    planes = planes_of(header)
    groups = items_of(header.dataset, "PerFrameFunctionalGroupsSequence")
    if len(stored) != len(planes):
        raise InputError(f"'{header.path.name}' has {len(stored)} frames and describes {len(planes)}; copy it again.")
    if len(groups) != len(planes) or any(plane.position is None or plane.spacing is None for plane in planes):
        raise InputError(
            f"'{header.path.name}' has frames without a place in the patient; give a segmentation of a volume."
        )
    maps = header.text("SOPClassUID") == LABEL_MAP or header.text("SegmentationType") == "LABELMAP"
    least = 1.0
    if header.text("SegmentationType") == "FRACTIONAL":
        share = THRESHOLD if target.threshold is None else target.threshold
        target.tell(f"'{header.path.name}' holds fractions; voxels of at least {share:g} belong to a segment.")
        least = share * header.number("MaximumFractionalValue", 255.0)
    background = {int(header.number("PixelPaddingValue", 0.0)), *_background(header)} if maps else set()
    for plane, values, own in zip(planes, stored, groups, strict=True):
        if not values.any() and not maps:
            continue
        if maps:
            for number in np.unique(values):
                if int(number) not in background:
                    yield _Frame(int(number), plane, (values == number).T)
            continue
        inside = values >= least
        if inside.any():
            yield _Frame(_number(header, own), plane, inside.T)


def _number(header: Header, groups) -> int:
    """Return the segment number of a frame, of its own groups or the shared ones."""
    for where in (groups, *items_of(header.dataset, "SharedFunctionalGroupsSequence")):
        for item in items_of(where, "SegmentIdentificationSequence"):
            if (found := numbers_of(item, "ReferencedSegmentNumber")) is not None:
                return int(found[0])
    raise InputError(
        f"'{header.path.name}' has a frame that names no segment; write it again with the program that made it."
    )


# -- places ------------------------------------------------------------------------------------------------


def _slices(frames: Sequence[_Frame], grids: dict[int, Geometry]) -> Iterator[tuple[int, np.ndarray, Geometry]]:
    """Yield (segment number, (i, j, 1) mask, its grid) of each frame.

    Frame by frame, positions may be uneven or rounded, slices missing, and the image sheared.
    """
    for frame in frames:
        yield frame.number, frame.inside[..., None], grids[frame.plane.frame]


def _stacks(frames: Sequence[_Frame], header: Header, geometry: Geometry) -> Iterator[tuple[int, np.ndarray, Geometry]]:
    """Yield (segment number, (i, j, k) mask, its grid) of each segment, for frames that are no slices of the image."""
    for number in dict.fromkeys(frame.number for frame in frames):
        yield number, *_stack([f for f in frames if f.number == number], frames, header, geometry)


def _grid(plane: Plane, geometry: Geometry) -> Geometry:
    """Return the grid of a frame, as deep as a slice of the image that is most parallel to it."""
    affine = np.eye(4)
    affine[:3, 0] = plane.directions[0] * plane.spacing[1]
    affine[:3, 1] = plane.directions[1] * plane.spacing[0]
    affine[:3, 3] = plane.position
    ras = lps_from_ras(affine)
    normal = np.cross(ras[:3, 0], ras[:3, 1])
    axis = int(np.abs(normal @ geometry.directions).argmax())
    ras[:3, 2] = geometry.affine[:3, axis]
    return Geometry((plane.columns, plane.rows, 1), ras)


def _stack(own: Sequence[_Frame], frames: Sequence[_Frame], header: Header, geometry: Geometry):
    """Return ((i, j, k) mask, grid) of one segment, with the distance between slices that all frames share."""
    first = min(frames, key=lambda frame: frame.plane.depth).plane
    depths = np.array([frame.plane.depth for frame in frames]) - first.depth
    step = _step(depths, first, header, geometry)
    far = frames[int(depths.argmax())].plane
    count = round(float(depths.max() / step)) + 1
    axis = (far.position - first.position) / (count - 1) if count > 1 else first.normal * step
    for frame in frames:
        plane = frame.plane
        at = round(float((plane.depth - first.depth) / step))
        off = np.linalg.norm(plane.position - first.position - at * axis)
        turned = np.abs(plane.directions - first.directions).max() > 1e-3 or not np.allclose(
            plane.spacing, first.spacing
        )
        if turned or off > UNEVEN_MM:
            raise InputError(
                f"'{header.path.name}' has frames at uneven places ('{plane.name}' is {off:.2g} mm off), and they don't fit the "
                "slices of the image either; give the image that it was made on."
            )
    low = min(round(float((f.plane.depth - first.depth) / step)) for f in own)
    high = max(round(float((f.plane.depth - first.depth) / step)) for f in own)
    mask = np.zeros((first.columns, first.rows, high - low + 1), bool)
    for frame in own:
        mask[:, :, round(float((frame.plane.depth - first.depth) / step)) - low] |= frame.inside
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 2] = axis
    affine[:3, 3] = first.position + low * axis
    return mask, Geometry(mask.shape, lps_from_ras(affine))


def _step(depths: np.ndarray, plane: Plane, header: Header, geometry: Geometry) -> float:
    """Return the distance in mm between slices: the header's if the frames lie on multiples of it, else the smallest."""
    measures = [item for groups in items_of(header.dataset, "SharedFunctionalGroupsSequence")
                for item in items_of(groups, "PixelMeasuresSequence")]  # fmt: skip
    stated = [found[0] for item in measures if (found := numbers_of(item, "SpacingBetweenSlices")) is not None]
    apart = np.diff(np.unique(np.round(depths, 3)))
    apart = apart[apart > UNEVEN_MM]
    for step in (*stated, plane.thickness):
        if step > 0 and (np.abs(apart / step - np.rint(apart / step)) * step < UNEVEN_MM).all():
            return float(step)
    if len(apart):
        return float(apart.min())
    return plane.thickness or float(geometry.spacing.max())


def _joined(parts: Sequence[Placed], target: Target) -> BoxedMask:
    """Return one mask of parts on the image's grid."""
    parts = [part for part in parts if part.labels.any()]
    if not parts:
        return target.empty()
    low = np.min([part.start for part in parts], axis=0)
    high = np.max([np.add(part.start, part.labels.shape) for part in parts], axis=0)
    mask = np.zeros(high - low, bool, order="F")  # frames are slices along k, mostly
    for part in parts:
        at = np.subtract(part.start, low)
        mask[tuple(slice(a, a + n) for a, n in zip(at, part.labels.shape, strict=True))] |= part.labels.astype(bool)
    return BoxedMask.of(mask, target.geometry.shape, low)


# -- descriptions ------------------------------------------------------------------------------------------


def _described(header: Header) -> dict[int, object]:
    """Return number → item of the Segment Sequence, in the order of the numbers, without the background."""
    found = {}
    for item in items_of(header.dataset, "SegmentSequence"):
        number = numbers_of(item, "SegmentNumber")
        if number is not None and not _is_background(item):
            found[int(number[0])] = item
    return dict(sorted(found.items()))


def _background(header: Header) -> set[int]:
    items = items_of(header.dataset, "SegmentSequence")
    return {int(header.numbers("SegmentNumber", 1, item)[0]) for item in items if _is_background(item)}


def _is_background(item) -> bool:
    _, code, _ = _codes(item)
    return code is not None and (code.value, code.scheme) == BACKGROUND


def _codes(item) -> tuple[Code | None, Code | None, Code | None]:
    """Return (category, type, modifier) of a segment."""
    if item is None:
        return None, None, None
    types = items_of(item, "SegmentedPropertyTypeCodeSequence")
    return (
        code_of(items_of(item, "SegmentedPropertyCategoryCodeSequence")),
        code_of(types),
        code_of(items_of(types[0], "SegmentedPropertyTypeModifierCodeSequence")) if types else None,
    )


def items_of(dataset, name: str) -> list:
    """Return the items of a sequence; none if it is missing, or the value is no sequence.

    Args:
        dataset: a pydicom Dataset.
        name: keyword of the attribute.
    """
    from pydicom.sequence import Sequence as Items

    value = dataset.get(name)
    return list(value) if isinstance(value, Items) else []


def code_of(sequence) -> Code | None:
    """Return the first coded concept of a sequence; None if there is none that is complete."""
    for item in sequence:
        value = next(
            (text for name in ("CodeValue", "LongCodeValue", "URNCodeValue") if (text := text_of(item, name))), ""
        )
        if value and (scheme := text_of(item, "CodingSchemeDesignator")):
            return Code(value, scheme, text_of(item, "CodeMeaning"))
    return None


def _color(item) -> tuple[float, float, float] | None:
    """Return red, green, blue, 0…1, of a segment's CIELab value (D65, as highdicom and DCMTK write it)."""
    stored = numbers_of(item, "RecommendedDisplayCIELabValue") if item is not None else None
    if stored is None or len(stored) != 3:
        return None
    lightness, a, b = stored[0] / 65535 * 100, stored[1] / 65535 * 255 - 128, stored[2] / 65535 * 255 - 128
    middle = (lightness + 16) / 116
    cubes = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, 3 * (6 / 29) ** 2 * (cubes - 4 / 29)) * (0.950456, 1.0, 1.088754)
    linear = np.clip(XYZ_TO_RGB @ xyz, 0, 1)
    red, green, blue = (
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).round(4).tolist()
    )
    return red, green, blue
