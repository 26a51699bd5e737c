"""Describe the series that a volume was read from: instance, frame and place of every slice, and the study's identity.

Every slice has a header of its own, as a single-frame image would have it, whether it came from one file a slice or from
a file with many frames. The other modules of this package see nothing else of the files.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..core.findings import Code
from ..core.geometry import Geometry, lps_from_ras
from ..errors import InputError, ModelError
from .identity import OPTIONAL, REQUIRED, UTF_8, identity_of

MANUFACTURER, MODEL = "MedFM (research use only)", "MedFM"
ROOT_SERIES = 9000
"""Series numbers of new objects start here, above those of scanners."""

FARTHEST_MM, FARTHEST_SHARE, ROUNDING_MM = 0.5, 0.1, 0.11
"""A slice may lie so far from the result's grid, mm and slice spacings, as where a scanner rounds its positions."""


@dataclass(frozen=True, eq=False)
class SourceSlice:
    """One slice of the volume.

    Args:
        header: pydicom Dataset of a single-frame image with the study's identity and this slice's place.
        frame: number of the frame in its instance, from 1; 0 for an instance without frames.
        position: (3,) LPS mm of the first pixel's centre; None for a picture without a place in the patient.
    """

    header: Any
    frame: int = 0
    position: np.ndarray | None = None

    @property
    def instance(self) -> str:
        """SOP Instance UID."""
        return str(self.header.SOPInstanceUID)


@dataclass(frozen=True, eq=False)
class Source:
    """Slices of one series, in the order of the volume's k axis.

    Args:
        slices: the slices.
        notes: sentences on what the headers lack.

    Raises:
        InputError: if a required UID is missing.
    """

    slices: Sequence[SourceSlice]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if any(not getattr(header, name, "") for header in self.headers):
                raise InputError(f"The series lacks the tag {name}, so it can't be referenced; export it again.")

    @cached_property
    def headers(self) -> tuple[Any, ...]:
        """One header for each instance, in the order of the slices: that of its first slice."""
        return tuple({str(getattr(s.header, "SOPInstanceUID", "")): s.header for s in reversed(self.slices)}.values())[
            ::-1
        ]

    @property
    def first(self):
        """The first slice's header."""
        return self.slices[0].header

    @property
    def in_patient(self) -> bool:
        """Whether every slice has a place in the patient."""
        return all(s.position is not None for s in self.slices)

    @property
    def spacing(self) -> float:
        """Distance between slices along their normal, mm; the thickness of a single one."""
        return float(self.first.SpacingBetweenSlices)

    def slice(self, number: int):
        """Return the header of slice `number` along k."""
        return self.slices[min(max(number, 0), len(self.slices) - 1)].header

    def check_grid(self, geometry: Geometry) -> None:
        """Check that a grid is that of this series, slice by slice.

        Raises:
            InputError: if its shape, or the place of a slice, differs.
        """
        # pictures of different sizes share the grid of the largest
        rows, columns = (max(int(header[name].value) for header in self.headers) for name in ("Rows", "Columns"))
        count = len(self.slices)
        if geometry.shape != (columns, rows, count):
            raise InputError(
                f"The result lies on {'×'.join(map(str, geometry.shape))} voxels, the series has {columns}×{rows}×{count}; "
                "give the series that the image was read from."
            )
        if not self.in_patient or geometry.is_picture:
            return
        affine = lps_from_ras(geometry.affine)
        places = (affine @ np.array([(0, 0, k, 1) for k in range(count)]).T).T[:, :3]
        apart = np.linalg.norm(places - np.array([s.position for s in self.slices]), axis=1)
        allowed = max(min(FARTHEST_MM, FARTHEST_SHARE * self.spacing), ROUNDING_MM)
        if apart[0] > allowed:
            raise InputError(
                f"The result begins {apart[0]:.1f} mm from the series' first slice; give the image's series."
            )
        if apart.max() > allowed:
            raise InputError(
                f"Slice {int(apart.argmax())} of the result lies {apart.max():.1f} mm from that of the series; give the image's "
                "series. An image that was resampled (--resample) lies on a grid of its own and can't be exported."
            )
        directions = np.array(self.first.ImageOrientationPatient, float).reshape(2, 3)
        steps = directions.T * np.array(self.first.PixelSpacing, float)[::-1]
        corner = np.abs(affine[:3, :2] - steps) @ np.array([columns, rows])
        if np.linalg.norm(corner) > max(allowed, 0.5 * min(map(float, self.first.PixelSpacing))):
            raise InputError(
                f"The result's rows and columns differ from the series' by {np.linalg.norm(corner):.1f} mm at the last pixel; "
                "give the image's series."
            )


def read_source(
    path: Path, *, series: str = "", frame: int | None = None, files: Sequence[Path] = (), instance: str = ""
) -> Source:
    """Return the slices of the series that `files.read_image` reads from the same path.

    Args:
        path: a DICOM file or a folder with DICOM files.
        series: number or UID of the series; "" if there is only one.
        frame: which volume of a series with several, from 0.
        files: the files of `path` to read; all by default.
        instance: SOP Instance UID of one of the volume's slices, which chooses it where `frame` does not.

    Raises:
        InputError: as for `read_image`; also if the file is not DICOM.
    """
    from ..files.dicom import find_planes
    from ..files.dicom.headers import read_complete

    planes = find_planes(Path(path), series, frame, files, instance)
    depths = [plane.depth for plane in planes] if planes[0].position is not None else []
    between = (depths[-1] - depths[0]) / (len(depths) - 1) if len(depths) > 1 else 0.0
    complete = {path: read_complete(path) for path in dict.fromkeys(plane.header.path for plane in planes)}
    # one identity for the whole series, so that the objects agree with each other
    identity, said = identity_of(complete[planes[0].header.path].dataset)
    notes = dict.fromkeys(said)
    slices: list[SourceSlice] = []
    for plane in planes:
        header = complete[plane.header.path]
        made = _flat(plane, header.dataset, identity, between, slices[0].header if slices else None, notes)
        many = header.frames > 1 or "PerFrameFunctionalGroupsSequence" in header.dataset
        slices.append(SourceSlice(made, plane.frame + 1 if many else 0, plane.position))
    return Source(tuple(slices), tuple(notes))


def _flat(plane, dataset, identity: dict[str, object], between: float, first, notes: dict[str, None]):
    """Return the header of a slice, as of a single-frame image.

    Args:
        plane: of `files.dicom`.
        dataset: complete header of its file.
        identity: of patient and study.
        between: mm between the slices of the volume; 0 for a single one.
        first: header of the volume's first slice; None for that slice itself.
        notes: gets sentences as keys.
    """
    import pydicom
    from pydicom.uid import generate_uid
    from pydicom.valuerep import DS

    from ..files.dicom.headers import text_of
    from .identity import held

    made = pydicom.Dataset()
    made.SpecificCharacterSet = UTF_8
    for name, value in identity.items():
        setattr(made, name, value if value != "" else None)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID"):
        if text := held("UI", text_of(dataset, name)) or text_of(dataset, name):
            setattr(made, name, text)
    made.Modality = held("CS", text_of(dataset, "Modality")) or "OT"
    made.Rows, made.Columns = plane.rows, plane.columns
    if plane.spacing is not None:
        made.PixelSpacing = [DS(float(value), auto_format=True) for value in plane.spacing]
    if (lossy := text_of(dataset, "LossyImageCompression")) in ("00", "01"):
        made.LossyImageCompression = lossy
        for name in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if lossy == "01" and (
                values := held("DS" if "Ratio" in name else "CS", text_of(dataset, name), several=True)
            ):
                setattr(made, name, values)
    made.PositionReferenceIndicator = held("LO", text_of(dataset, "PositionReferenceIndicator")) or None
    if first is not None:
        made.StudyInstanceUID = first.get("StudyInstanceUID")
    if plane.position is None:
        return made
    spacing = between or plane.thickness or 1.0
    made.SliceThickness = DS(plane.thickness or spacing, auto_format=True)
    made.SpacingBetweenSlices = DS(spacing, auto_format=True)
    made.ImagePositionPatient = [DS(float(value), auto_format=True) for value in plane.position]
    if first is not None:  # slices of one volume share these
        made.ImageOrientationPatient, made.PixelSpacing = first.ImageOrientationPatient, first.PixelSpacing
        made.FrameOfReferenceUID = first.FrameOfReferenceUID
        return made
    made.ImageOrientationPatient = [DS(float(value), auto_format=True) for value in plane.directions.ravel()]
    if "FrameOfReferenceUID" not in made:
        made.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame of reference", str(made.SeriesInstanceUID)])
        notes[
            "The series has no Frame of Reference UID; exported objects share a new one, made of the series' UID."
        ] = None
    return made


def new_object(source: Source, sop_class: str, modality: str, number: int, description: str):
    """Return a pydicom FileDataset with the identity of patient and study, and a new series, for other modules to fill.

    Args:
        source: the series that the object is about.
        sop_class: SOP class UID.
        modality: of the new series, e.g. "DOC".
        number: of the new series, added to `ROOT_SERIES`.
        description: of the new series.
    """
    from datetime import datetime

    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    identify(made, source)
    now = datetime.now()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    made.InstanceCreationDate, made.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.Modality, made.SeriesDescription = modality, description
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(), ROOT_SERIES + number, 1
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = MANUFACTURER, MODEL, __version__
    made.DeviceSerialNumber = "none"
    return made


def identify(made, source: Source):
    """Write the identity of patient and study into an object, the same in all of them, and return the object.

    Args:
        made: pydicom Dataset.
        source: the series that the object is about.
    """
    made.SpecificCharacterSet = UTF_8
    for name in ("StudyInstanceUID", *REQUIRED, *OPTIONAL):
        if name in source.first:
            setattr(made, name, source.first[name].value)
    return made


def reference(source: SourceSlice | Any):
    """Return an item that references an instance, and the frame of a slice if it is one of several.

    Args:
        source: a slice, or a header.
    """
    import pydicom

    header, frame = (source.header, source.frame) if isinstance(source, SourceSlice) else (source, 0)
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if frame:
        item.ReferencedFrameNumber = frame
    return item


def highdicom():
    """Import highdicom, without its warnings about names and numbers that a study came with.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        import highdicom as library

        warnings.filterwarnings("ignore", category=UserWarning, module=r"highdicom\.")
    except ImportError as error:
        raise ModelError(
            f"DICOM objects need the package highdicom ({error}); install it with `pip install medfm[report]`."
        ) from None
    return library


def equipment(series_number: int, description: str) -> dict[str, Any]:
    """Return the attributes that highdicom's classes require of every new object.

    Args:
        series_number: number of the new series, added to `ROOT_SERIES`.
        description: description of the new series.
    """
    uid = highdicom().UID
    return {
        "series_instance_uid": uid(),
        "series_number": ROOT_SERIES + series_number,
        "sop_instance_uid": uid(),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": __version__,
        "device_serial_number": "none",
        "series_description": description,
        "specific_character_set": UTF_8,
    }


def equipment_of_document(series_number: int, description: str) -> dict[str, Any]:
    """Return the attributes for documents, whose classes require fewer; see `equipment`.

    Args:
        series_number: number of the new series, added to `ROOT_SERIES`.
        description: description of the new series.
    """
    made = equipment(series_number, description)
    for name in ("manufacturer_model_name", "software_versions", "device_serial_number"):
        made.pop(name)
    return made


def concept(code: Code):
    """Convert a code to highdicom's type."""
    return highdicom().sr.CodedConcept(code.value, code.scheme, code.meaning[:64])
