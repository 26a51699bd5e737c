"""Take DICOM files apart into planes: single images and frames, each with its own place, scale and time.

A frame's attributes are those of its own functional groups, then of the shared ones (PS3.3 C.7.6.16). This module is
the only one that knows where an attribute of a plane is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...errors import InputError
from .headers import DAMAGED, RT_DOSE, SEPARATE_VOLUMES, Header, numbers_of, tag_of, text_of

NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "FrameReferenceDateTime": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "DimensionIndexValues": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "InversionTimes": "MRModifierSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}
"""Attribute of a frame → the functional group that holds it."""

MOSAICS = {"MOSAIC": "Siemens", "VFRAME": "United Imaging"}
"""Value of Image Type that marks many slices in one picture → manufacturer."""

FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
VOLUMES_OF_FRAMES = (
    "TemporalPositionIndex", "FrameAcquisitionNumber", "EffectiveEchoTime", "DiffusionBValue", "InversionTimes", "FlipAngle",
    "ComplexImageComponent", "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "ConvolutionKernel",
)  # fmt: skip
"""Attributes of frames in which two volumes of one file can differ."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One single-frame image, or one frame of a file with several, with its own header values.

    Args:
        header: of its file.
        frame: its number in the file, from 0.
        rows: pixels down.
        columns: pixels across.
        position: (3,) LPS mm of the centre of the first pixel; None if it has no place in the patient.
        directions: (2, 3) LPS unit vectors along a row and down a column; None as above.
        spacing: mm between (rows, columns); None if the header has none.
        thickness: mm; 0 if unknown.
        slope: multiplies the stored values.
        intercept: is added to them.
        unit: UCUM unit of the values; "" if unknown or HU.
        scaled: whether the header gives a slope and intercept, rather than leaving the stored values as they are.
        stack: identifies the stack of a file whose frames form several; "" for one.
        separators: attribute → value, in which planes at one position may differ.
    """

    header: Header
    frame: int
    rows: int
    columns: int
    position: np.ndarray | None
    directions: np.ndarray | None
    spacing: tuple[float, float] | None
    thickness: float = 0.0
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    scaled: bool = True
    stack: str = ""
    separators: dict[str, str] = field(default_factory=dict)

    @property
    def normal(self) -> np.ndarray:
        """(3,) LPS unit vector, rows × columns."""
        return np.cross(*self.directions)

    @property
    def depth(self) -> float:
        """Mm of the position along the normal."""
        return float(self.normal @ self.position)

    @property
    def name(self) -> str:
        """The file's name, with the frame's number (from 1, as in DICOM) if the file has several."""
        several = self.header.text("NumberOfFrames") not in ("", "1")
        return f"{self.header.path.name}' frame '{self.frame + 1}" if several else self.header.path.name

    @property
    def number(self) -> float:
        """Instance Number, or that of the frame; 0 if it is not a number."""
        found = numbers_of(self.header.dataset, "InstanceNumber")
        return (float(found[0]) if found is not None and len(found) == 1 else 0.0) + self.frame * 1e-6


def planes_of(header: Header) -> list[Plane]:
    """Return the planes of a file.

    Args:
        header: complete if the file has several frames; see `headers.Header`.

    Raises:
        InputError: if a value that is needed is missing or wrong, with tag, value and file.
    """
    rows, columns = (_size(header, name) for name in ("Rows", "Columns"))
    kinds = header.text("ImageType").split("\\")
    if maker := next((MOSAICS[kind] for kind in kinds if kind in MOSAICS), ""):
        raise InputError(
            f"'{header.path.name}' is a {maker} mosaic, many slices side by side in one picture; convert the series with "
            "dcm2niix and give the NIfTI file, or export it as enhanced MR."
        )
    if header.text("SOPClassUID") == RT_DOSE:
        return list(_dose(header, rows, columns))
    if "PerFrameFunctionalGroupsSequence" in header.dataset:
        return list(_frames(header, rows, columns))
    if header.frames > 1 and header.text("SOPClassUID") == NUCLEAR_MEDICINE:
        return list(_nuclear(header, rows, columns))
    position = directions = None
    if header.text("ImagePositionPatient") and header.text("ImageOrientationPatient"):
        position = header.numbers("ImagePositionPatient", 3)
        directions = _directions(header, header.numbers("ImageOrientationPatient", 6))
    plane = Plane(
        header, 0, rows, columns, position, directions, _spacing(header, header.dataset),
        _positive(header.dataset, "SliceThickness"), *_scale(header), _unit(header),
        bool(header.text("RescaleSlope")), "", {name: text for name in SEPARATE_VOLUMES if (text := header.text(name))},
    )  # fmt: skip
    if header.frames == 1:
        return [plane]
    vars_of = {**vars(plane), "position": None, "directions": None}  # frames of a clip share their header
    return [Plane(**{**vars_of, "frame": number}) for number in range(header.frames)]


def _size(header: Header, name: str) -> int:
    value = header.number(name)
    if value < 1 or value != int(value):
        raise InputError(f"'{header.path.name}' has {value:g} in {name}; correct or leave out that file.")
    return int(value)


def _directions(header: Header, cosines: np.ndarray) -> np.ndarray:
    """Return (2, 3) unit vectors; headers round them, some write them with another length."""
    vectors = cosines.reshape(2, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths < 0.1).any() or abs(vectors[0] @ vectors[1]) > 0.01 * lengths.prod():
        shown = ", ".join(f"{v:g}" for v in cosines)
        raise InputError(
            f"'{header.path.name}' has {shown} in ImageOrientationPatient (0020,0037), which are no two perpendicular "
            "directions; correct or leave out that file."
        )
    return vectors / lengths[:, None]


def _spacing(header: Header, dataset) -> tuple[float, float] | None:
    if not text_of(dataset, "PixelSpacing"):
        return None
    rows, columns = header.numbers("PixelSpacing", 2, dataset)
    if rows <= 0 or columns <= 0:
        raise InputError(
            f"'{header.path.name}' has {rows:g} and {columns:g} in PixelSpacing (0028,0030), which must be above 0; correct or "
            "leave out that file."
        )
    return float(rows), float(columns)


def _positive(dataset, name: str) -> float:
    """Return a length that is only used where nothing better is known; 0 if it is missing or no positive number."""
    found = numbers_of(dataset, name)
    return float(found[0]) if found is not None and len(found) == 1 and found[0] > 0 else 0.0


def _scale(header: Header, dataset=None) -> tuple[float, float]:
    """Return (slope, intercept)."""
    values = []
    for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        there = text_of(header.dataset if dataset is None else dataset, name)
        values.append(float(header.numbers(name, 1, dataset)[0]) if there else default)
    if values[0] == 0:
        raise InputError(f"'{header.path.name}' has 0 in RescaleSlope (0028,1053); correct or leave out that file.")
    return values[0], values[1]


UCUM = {"BQML": "Bq/mL", "CNTS": "{counts}", "PROPCNTS": "{counts}", "GML": "g/mL", "OD": "{od}", "GY": "Gy"}
"""Units of PET (PS3.3 C.8.9.1.1.3), optical density and dose → UCUM."""


def _unit(header: Header) -> str:
    return UCUM.get(header.text("Units") or header.text("RescaleType"), "")


# -- files with several frames -----------------------------------------------------------------------------


def _frames(header: Header, rows: int, columns: int) -> Iterator[Plane]:
    """Yield the frames of an enhanced image."""
    from pydicom.sequence import Sequence

    own = _items(header, "PerFrameFunctionalGroupsSequence")
    shared = next(iter(_items(header, "SharedFunctionalGroupsSequence")), None)
    if len(own) != header.frames:
        raise InputError(
            f"'{header.path.name}' describes {len(own)} frames and says that it has {header.frames}; copy it again."
        )

    def item(groups, name: str):
        """Return the first item of a functional group, or None."""
        sequence = groups.get(name) if groups is not None else None
        return sequence[0] if isinstance(sequence, Sequence) and len(sequence) else None

    for number, groups in enumerate(own):

        def find(name: str, groups=groups):
            """Return the dataset that holds an attribute of this frame; None if there is none."""
            for where in (item(groups, GROUPS[name]), item(shared, GROUPS[name]), header.dataset):
                if where is not None and text_of(where, name):
                    return where
            return None

        def text(name: str, find=find) -> str:
            return "" if (where := find(name)) is None else text_of(where, name)

        place, turned, measures = find("ImagePositionPatient"), find("ImageOrientationPatient"), find("PixelSpacing")
        position = directions = None
        if place is not None and turned is not None:
            position = header.numbers("ImagePositionPatient", 3, place)
            directions = _directions(header, header.numbers("ImageOrientationPatient", 6, turned))
        thick, scale = find("SliceThickness"), find("RescaleSlope")
        separators = {name: said for name in VOLUMES_OF_FRAMES if (said := text(name))}
        for name in FRAME_TYPES:
            if (kind := item(groups, name) or item(shared, name)) is not None and (said := text_of(kind, "FrameType")):
                separators["FrameType"] = said
        for dimension, index in enumerate(text("DimensionIndexValues").split("\\"), start=1):
            separators[f"dimension {dimension}"] = index
        yield Plane(
            header, number, rows, columns, position, directions,
            None if measures is None else _spacing(header, measures),
            0.0 if thick is None else _positive(thick, "SliceThickness"),
            *((1.0, 0.0) if scale is None else _scale(header, scale)),
            UCUM.get(text("RescaleType") or header.text("Units"), ""), scale is not None, text("StackID"), separators,
        )  # fmt: skip


def _items(header: Header, name: str) -> list:
    """Return the items of a sequence; none if it is missing.

    Raises:
        InputError: if it is no sequence.
    """
    from pydicom.sequence import Sequence

    try:
        found = header.dataset.get(name)
    except DAMAGED:
        found = b""
    if found is None:
        return []
    if not isinstance(found, Sequence):
        raise InputError(
            f"'{header.path.name}' has no items in {name} ({tag_of(name)}), but other data; copy it again."
        )
    return list(found)


def _dose(header: Header, rows: int, columns: int) -> Iterator[Plane]:
    """Yield the planes of a dose grid in Gy (PS3.3 C.8.8.3): offsets from the first plane, or its own z values."""
    offsets = np.zeros(1) if header.frames == 1 else header.numbers("GridFrameOffsetVector", header.frames)
    position = header.numbers("ImagePositionPatient", 3)
    directions = _directions(header, header.numbers("ImageOrientationPatient", 6))
    normal = np.cross(*directions)
    if offsets[0] != 0:  # absolute patient coordinates along z, allowed for axial grids
        offsets = (offsets - offsets[0]) * np.sign(normal[2])
    scaling = header.number("DoseGridScaling")
    unit = UCUM.get(header.text("DoseUnits"), "")
    for number, offset in enumerate(offsets):
        yield Plane(
            header, number, rows, columns, position + normal * offset, directions, _spacing(header, header.dataset),
            _positive(header.dataset, "SliceThickness"), scaling, 0.0, unit,
        )  # fmt: skip


def _nuclear(header: Header, rows: int, columns: int) -> Iterator[Plane]:
    """Yield the slices of a reconstructed tomogram (PS3.3 C.8.4.15); frames without a place for other kinds."""
    detectors = _items(header, "DetectorInformationSequence")
    detector = detectors[0] if len(detectors) else None
    step = numbers_of(header.dataset, "SpacingBetweenSlices")
    placed = detector is not None and text_of(detector, "ImagePositionPatient") and step is not None and len(step) == 1
    placed = placed and "TOMO" in header.text("ImageType") and len(detectors) == 1
    slices = numbers_of(header.dataset, "SliceVector")
    for number in range(header.frames):
        position = directions = None
        if placed and text_of(detector, "ImageOrientationPatient"):
            directions = _directions(header, header.numbers("ImageOrientationPatient", 6, detector))
            at = number if slices is None or len(slices) != header.frames else slices[number] - 1
            first = header.numbers("ImagePositionPatient", 3, detector)
            position = first + np.cross(*directions) * step[0] * at
        yield Plane(
            header, number, rows, columns, position, directions, _spacing(header, header.dataset),
            _positive(header.dataset, "SliceThickness"), *_scale(header), _unit(header),
        )  # fmt: skip
