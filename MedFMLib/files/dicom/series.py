"""Find the series of a file or folder, and the volumes in a series: its stacks, stations, phases and echoes.

One rule: planes belong to one volume only if no two of them lie at one place. Where several do, an attribute in which
they differ must show which belong together; what nothing distinguishes is refused, not guessed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..presence import packed_as, start_of
from .headers import Header, files_of, read_headers
from .planes import Plane, planes_of

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations, which have pixels and are no images."""

VOLUMETRIC = (
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.2.2",
    "1.2.840.10008.5.1.4.1.1.4.4", "1.2.840.10008.5.1.4.1.1.128.1", "1.2.840.10008.5.1.4.1.1.481.2",
)  # fmt: skip
"""SOP classes of CT, MR and PET (single-frame, enhanced, legacy converted) and dose: every plane has a place."""

PROJECTIONS = {"CR": "CR", "DX": "CR", "RF": "CR", "XA": "CR", "MG": "CR", "IO": "CR", "PX": "CR", "RG": "CR"}
"""DICOM modalities whose images are projections: pictures, even where a header gives them a position."""

SAME_DIRECTION = 1e-2
"""Largest difference of direction cosines of the planes of one volume; `grid` proves that each fits far better."""

SAME_PLACE_MM = 0.01

LEAST_OF_A_BLOCK = 4
"""Fewest slices of volumes that only the order of file names distinguishes."""

WORDS = {
    "EchoTime": "echo time {} ms", "EffectiveEchoTime": "echo time {} ms", "EchoNumbers": "echo {}",
    "AcquisitionNumber": "acquisition {}", "FrameAcquisitionNumber": "acquisition {}",
    "TemporalPositionIdentifier": "time point {}", "TemporalPositionIndex": "time point {}", "DiffusionBValue": "b-value {}",
    "InversionTime": "inversion time {} ms", "InversionTimes": "inversion time {} ms", "FlipAngle": "flip angle {}°",
    "TriggerTime": "trigger time {} ms", "NominalPercentageOfCardiacPhase": "cardiac phase {} %",
    "NominalCardiacTriggerDelayTime": "trigger delay {} ms", "ImageType": "image type {}", "FrameType": "image type {}",
    "ComplexImageComponent": "{}", "ConvolutionKernel": "kernel {}", "ContrastBolusAgent": "contrast {}",
    "AcquisitionTime": "acquired at {}", "ContentTime": "made at {}", "FrameReferenceTime": "at {} ms",
    "SequenceName": "sequence {}", "file": "file {}", "place": "station {}", "folder": "folder {}",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Series:
    """The images of one series.

    Args:
        uid: Series Instance UID.
        headers: of its files, without exact copies.
        copies: number of files that were left out because they are copies of others.
    """

    uid: str
    headers: tuple[Header, ...]
    copies: int = 0

    @property
    def first(self) -> Header:
        """The header that describes the series."""
        return self.headers[0]

    @property
    def images(self) -> int:
        """Number of images: each frame of a file counts."""
        return sum(_count(header) for header in self.headers)

    @property
    def modality(self) -> str:
        """DICOM modality as it is written, "" if missing."""
        return self.first.text("Modality")

    @property
    def pictures(self) -> bool:
        """Whether its images are pictures without a place in the patient."""
        if self.modality in PROJECTIONS:
            return True
        return not any(map(_placed, self.headers)) and not any(
            h.text("SOPClassUID") in VOLUMETRIC for h in self.headers
        )

    def __str__(self) -> str:
        size = f"{self.first.text('Columns')}×{self.first.text('Rows')}"
        return f"{self.modality or '?'}, {self.images} image{'s' if self.images > 1 else ''} of {size}"


def _count(header: Header) -> int:
    try:
        return header.frames
    except InputError:
        return 1  # reported if this series is read


def _placed(header: Header) -> bool:
    """Return whether a file's images may have a place: its own, a detector's, or one for each frame."""
    names = ("ImagePositionPatient", "PerFrameFunctionalGroupsSequence", "DetectorInformationSequence")
    return any(name in header.dataset for name in names)


def find_series(path: Path, files: Sequence[Path] = ()) -> list[Series]:
    """Return the series of images of a DICOM file, or of a folder with its subfolders; those with most images first.

    Args:
        path: a DICOM file or a folder.
        files: the files of `path` to read; all by default.

    Raises:
        InputError: if there is no DICOM image, or a file is damaged.
    """
    headers = read_headers(files or files_of(path))
    found = group_series(headers)
    if not found:
        if any(header.text("SOPClassUID") in SEGMENTATIONS for header in headers):
            raise InputError(
                f"'{path.name}' is a segmentation, not an image; give the image, and this as SEGMENTATION."
            )
        if path.is_file() and (packed := packed_as(start_of(path))):
            raise InputError(f"'{path.name}' is packed ({packed}); unpack it first, then give the file or folder.")
        what = "is no DICOM image" if path.is_file() else "contains no DICOM images"
        raise InputError(
            f"'{path.name}' {what}; give a NIfTI, NRRD or MHA file, a picture, a DICOM file, or a folder of one series."
        )
    return found


def group_series(headers: Iterable[Header]) -> list[Series]:
    """Return the series that headers belong to, those with most images first; segmentations and documents are left out.

    Args:
        headers: of any DICOM files.
    """
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        image = header.text("Rows") and header.text("Columns")
        if image and header.text("SOPClassUID") not in SEGMENTATIONS:
            groups[header.text("SeriesInstanceUID")].append(header)
    found = [_series(uid, some) for uid, some in groups.items()]
    return sorted(found, key=lambda series: (-series.images, series.uid))


def _series(uid: str, headers: list[Header]) -> Series:
    """Return a series without copies of its files, as on a disc that has its images twice."""
    kept: dict[tuple, Header] = {}
    for number, header in enumerate(headers):
        # a broken program may give several images one UID, so their places must agree, too
        own = (
            header.uid,
            header.text("ImagePositionPatient"),
            header.text("InstanceNumber"),
            header.path.stat().st_size,
        )
        kept.setdefault(own if header.uid else (number,), header)
    return Series(uid, tuple(kept.values()), len(headers) - len(kept))


def choose_series(found: Sequence[Series], path: Path, series: str = "") -> Series:
    """Return one of several series.

    Args:
        found: of `find_series`.
        path: where they are, for messages.
        series: its number in the list that the error shows, or its UID; "" if there is only one.

    Raises:
        InputError: if there are several and none is named, or there is none such.
    """
    if series:
        for number, one in enumerate(found, start=1):
            if series in (str(number), one.uid):
                return one
    elif len(found) == 1:
        return found[0]
    listed = "; ".join(f"{number}: {one}" for number, one in enumerate(found, start=1))
    problem = f"has no series {series!r}" if series else f"contains {len(found)} series"
    raise InputError(f"'{path.name}' {problem} ({listed}); choose one with --series NUMBER (in Python series=).")


# -- volumes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Volume:
    """Planes that form one volume, in the order along their normal.

    Args:
        planes: the planes.
        about: in which it differs from the other volumes of the series, in words; "" if it is the only one.
    """

    planes: tuple[Plane, ...]
    about: str = ""

    def __str__(self) -> str:
        count = len(self.planes)
        return f"{count} slice{'s' if count > 1 else ''}" + (f", {self.about}" if self.about else "")


def volumes(series: Series, path: Path) -> tuple[list[Volume], tuple[str, ...]]:
    """Return the volumes of a series, and notes on what was left out.

    Args:
        series: whose images have a place in the patient.
        path: of the file or folder, for messages.

    Raises:
        InputError: if a plane has no place, or planes at one place can't be distinguished.
    """
    planes = [plane for header in series.headers for plane in planes_of(header)]
    planes, notes = _without_strays(planes)
    if series.copies:
        were = "s were left out as copies" if series.copies > 1 else " was left out as a copy"
        notes.append(f"{series.copies} file{were} of others of the series.")
    for plane in planes:
        for value, tag in ((plane.position, "ImagePositionPatient"), (plane.directions, "ImageOrientationPatient"),
                           (plane.spacing, "PixelSpacing")):  # fmt: skip
            if value is None:
                missing = tag if tag == "PixelSpacing" else _missing(plane)
                raise InputError(
                    f"'{plane.name}' has no position in the patient ({missing} is missing); choose another series, or save "
                    "the image as PNG to ask about it without a place."
                )
    _check_scales(planes, path)
    stacks = _stacks(planes)
    found = []
    for words, stack in stacks:
        for about, members in _apart(stack, path):
            ordered = tuple(sorted(members, key=lambda p: (p.depth, p.number)))
            found.append(Volume(ordered, ", ".join(filter(None, (words, about)))))
    return found, tuple(notes)


def _check_scales(planes: Sequence[Plane], path: Path) -> None:
    """Refuse a series of which only some slices have a rescale, as after damage: their values could not be compared."""
    without = [plane for plane in planes if not plane.scaled]
    if without and len(without) < len(planes):
        raise InputError(
            f"In '{path.name}', {len(planes) - len(without)} slices have RescaleSlope (0028,1053) and {len(without)} have none, "
            f"such as '{without[0].name}'; copy the series again."
        )


def choose_volume(found: Sequence[Volume], path: Path, frame: int | None, instance: str = "") -> Volume:
    """Return one of the volumes of a series.

    Args:
        found: of `volumes`.
        path: for messages.
        frame: its number, from 0; None if there is only one.
        instance: SOP Instance UID of one of its slices, which chooses it where `frame` does not; "" if unknown.

    Raises:
        InputError: if there are several and none is chosen, or there is none such.
    """
    if frame in (None, 0) and len(found) == 1:
        return found[0]
    holding = [volume for volume in found if any(plane.header.uid == instance for plane in volume.planes)]
    if frame is None and instance and len(holding) == 1:
        return holding[0]
    if frame is not None and 0 <= frame < len(found):
        return found[frame]
    if len(found) == 1:
        raise InputError(f"The series in '{path.name}' has one frame, number 0, so there is no frame {frame}.")
    listed = "; ".join(f"{number}: {volume}" for number, volume in enumerate(found[:12]))
    more = f"; and {len(found) - 12} more" if len(found) > 12 else ""
    mixed = _mixed(found)
    kind = f"mixes {mixed}, which makes {len(found)} volumes" if mixed else f"has {len(found)} frames"
    none = f", so there is no frame {frame}" if frame is not None else ""
    raise InputError(
        f"The series in '{path.name}' {kind}{none}; choose one with --frame 0 to {len(found) - 1} (in Python frame=): "
        f"{listed}{more}."
    )


def _missing(plane: Plane) -> str:
    header = plane.header
    names = ("ImagePositionPatient", "ImageOrientationPatient")
    return next((name for name in names if not header.text(name)), names[0])


def _without_strays(planes: list[Plane]) -> tuple[list[Plane], list[str]]:
    """Leave out localizers, and screenshots without a place, in the series of a volume; return planes and notes."""
    notes = []

    def drop(stray: Callable[[Plane], bool], what: str) -> None:
        nonlocal planes
        kept = [plane for plane in planes if not stray(plane)]
        if kept and len(kept) < len(planes):
            count = len(planes) - len(kept)
            many = what.replace("picture", "pictures").replace("localizer", "localizers")
            notes.append(
                f"{count} {many if count > 1 else what} in the series {'were' if count > 1 else 'was'} left out."
            )
            planes = kept

    drop(lambda p: p.position is None and p.header.text("SOPClassUID") not in VOLUMETRIC, "picture without a position")
    drop(lambda p: "LOCALIZER" in p.header.text("ImageType").split("\\"), "localizer")
    return planes, notes


def _stacks(planes: Sequence[Plane]) -> list[tuple[str, list[Plane]]]:
    """Return (words, planes) of each set of planes with one stack number, size, pixel spacing and direction."""
    groups: list[tuple[tuple, np.ndarray, list[Plane]]] = []
    for plane in planes:
        own = (plane.stack, plane.rows, plane.columns, tuple(round(s, 5) for s in plane.spacing))
        for key, directions, members in groups:
            if key == own and np.abs(plane.directions - directions).max() <= SAME_DIRECTION:
                members.append(plane)
                break
        else:
            groups.append((own, plane.directions, [plane]))
    if len(groups) == 1:
        return [("", groups[0][2])]
    return [(_stack_words(members[0]), members) for _, _, members in groups]


def _stack_words(plane: Plane) -> str:
    axis = ("sagittal", "coronal", "axial")[int(np.abs(plane.normal).argmax())]
    spacing = "×".join(f"{s:.4g}" for s in plane.spacing)
    stack = f"stack {plane.stack}, " if plane.stack else ""
    return f"{stack}{axis}, {plane.columns}×{plane.rows} pixels of {spacing} mm"


def _mixed(found: Sequence[Volume]) -> str:
    """Return in which respects, besides time and contrast, the volumes of a series differ; "" if in none."""
    firsts = [volume.planes[0] for volume in found]
    differ = []
    if len({(p.rows, p.columns) for p in firsts}) > 1:
        differ.append("image sizes " + " and ".join(sorted({f"{p.columns}×{p.rows}" for p in firsts})))
    if any(np.abs(p.directions - firsts[0].directions).max() > SAME_DIRECTION for p in firsts):
        differ.append("slice directions (a localizer?)")
    spacings = sorted({tuple(round(s, 5) for s in p.spacing) for p in firsts})
    if len(spacings) > 1:
        differ.append("pixel spacings " + " and ".join("×".join(f"{s:.4g}" for s in pair) for pair in spacings) + " mm")
    return " and ".join(differ)


def _apart(planes: list[Plane], path: Path) -> list[tuple[str, list[Plane]]]:
    """Return (words, planes) of each volume of a stack, so that no two planes of one volume lie at one place."""
    places = _places(planes)
    crowd = Counter(places)
    most = max(crowd.values())
    if most == 1:
        return [("", planes)]
    attributes = _attributes(planes, alone=len(crowd) == 1)
    for names in _choices(attributes):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number in range(len(planes)):
            groups[tuple(attributes[name][number] for name in names)].append(number)
        if len(groups) == most and all(len({places[n] for n in some}) == len(some) for some in groups.values()):
            ordered = sorted(groups.items(), key=lambda item: (_sortable(item[0]), planes[item[1][0]].number))
            return [(_about(names, values), [planes[n] for n in some]) for values, some in ordered]
    numbers = [plane.number for plane in planes]
    if set(crowd.values()) == {most} and len(set(numbers)) == len(numbers):
        at: dict[int, list[Plane]] = defaultdict(list)
        for place, plane in zip(places, planes, strict=True):
            at[place].append(plane)
        ranked = [sorted(some, key=lambda p: p.number) for some in at.values()]
        others = " and others" if len(ranked) > 1 else ""
        return [(f"instance {int(ranked[0][n].number)}{others}", [some[n] for some in ranked]) for n in range(most)]
    if blocks := _blocks(planes, places, most):
        return blocks
    least = min(crowd.values())
    count = f"between {least} and {most} images" if least < most else f"{most} images"
    raise InputError(
        f"The series in '{path.name}' has {count} at one position, and nothing in their headers tells which belong together; "
        "remove the duplicates or choose another series."
    )


def _blocks(planes: Sequence[Plane], places: Sequence[int], most: int) -> list[tuple[str, list[Plane]]]:
    """Return volumes whose files follow each other in the order of their names; nothing if the names show no such order.

    Names that are identifiers in random order practically never have every position once in each of equal blocks.
    """
    order = sorted(range(len(planes)), key=lambda n: (planes[n].header.path, planes[n].frame))
    size = len(planes) // most
    blocks = [order[n * size : (n + 1) * size] for n in range(most)]
    complete = all({places[n] for n in block} == set(places) for block in blocks)
    if size < LEAST_OF_A_BLOCK or size * most != len(planes) or not complete:
        return []
    return [(f"from file '{planes[block[0]].header.path.name}' on", [planes[n] for n in block]) for block in blocks]


def _places(planes: Sequence[Plane]) -> list[int]:
    """Return a number for each plane, the same for planes at one depth along the normal."""
    depths = np.array([plane.depth for plane in planes])
    order = np.argsort(depths, kind="stable")
    gaps = np.diff(depths[order])
    near = max(SAME_PLACE_MM, min(0.1 * float(gaps.max(initial=0.0)), 0.5))
    level = np.empty(len(planes), int)
    level[order] = np.concatenate([[0], np.cumsum(gaps > near)])
    return level.tolist()


def _attributes(planes: Sequence[Plane], alone: bool) -> dict[str, list[str]]:
    """Return attribute → its value for each plane, of those in which planes differ, in the order of preference.

    Args:
        planes: of one stack.
        alone: whether all lie at one place, as in a film of one slice; then each may have a value of its own. In a stack,
            such an attribute numbers the slices.
    """
    names = list(dict.fromkeys(name for plane in planes for name in plane.separators))
    named = [name for name in names if not name.startswith("dimension")]
    dimensions = [name for name in names if name.startswith("dimension")]
    values = {"place": [_station(plane, planes[0]) for plane in planes]}
    values |= {name: [plane.separators.get(name, "") for plane in planes] for name in named}
    files = {header.path: str(n) for n, header in enumerate(dict.fromkeys(plane.header for plane in planes), start=1)}
    folders = {folder: str(n) for n, folder in enumerate(dict.fromkeys(p.header.path.parent for p in planes), start=1)}
    values["folder"] = [folders[plane.header.path.parent] for plane in planes]
    values |= {name: [plane.separators.get(name, "") for plane in planes] for name in dimensions}
    if len(files) < len(planes):  # files with several frames
        values["file"] = [files[plane.header.path] for plane in planes]
    return {name: given for name, given in values.items() if 1 < len(set(given)) < len(planes) or alone}


def _station(plane: Plane, first: Plane) -> str:
    """Return the place of a plane across its normal in cm; stations of a moving table lie beside each other."""
    return "/".join(f"{v:.0f}" for v in first.directions @ (plane.position - first.position) / 10 + 0.0)


def _choices(attributes: dict[str, list[str]]) -> Iterable[tuple[str, ...]]:
    """Yield the sets of attributes to try: each alone, then pairs, then triples of the first ones."""
    names = [name for name in attributes if len(set(attributes[name])) > 1]
    for size in (1, 2, 3):
        yield from combinations(names[: 16 if size < 3 else 8], size)


def _sortable(values: tuple[str, ...]) -> tuple:
    """Return a key by which numbers sort as numbers."""
    made = []
    for value in values:
        try:
            made.append((0, float(value), ""))
        except ValueError:
            made.append((1, 0.0, value))
    return tuple(made)


def _about(names: Sequence[str], values: Sequence[str]) -> str:
    said = (
        WORDS.get(name, name + " {}").format(value or "not stated") for name, value in zip(names, values, strict=True)
    )
    return ", ".join(said)
