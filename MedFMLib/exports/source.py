"""The series that a volume was read from: its headers in slice order, and what every new object takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..core.findings import Code
from ..core.geometry import Geometry, lps_from_ras
from ..errors import InputError, ModelError

MANUFACTURER, MODEL = "MedFM (research use only)", "MedFM"
ROOT_SERIES = 9000
"""Series numbers of new objects begin here, beyond those of scanners."""


@dataclass(frozen=True, eq=False)
class Source:
    """Headers of one series.

    Args:
        headers: pydicom Datasets without pixels; one for each slice along k, or a single multi-frame one.
    """

    headers: Sequence[Any]

    def __post_init__(self) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if any(not getattr(header, name, "") for header in self.headers):
                raise InputError(f"The series lacks the tag {name}, so nothing can refer to it; export it again.")

    @property
    def first(self):
        """The first slice's header."""
        return self.headers[0]

    def slice(self, number: int):
        """Header of the instance that holds slice `number` along k."""
        return self.headers[min(number, len(self.headers) - 1)]

    def check_grid(self, geometry: Geometry) -> None:
        """Does a grid lie on this series?

        Raises:
            InputError: if its shape or the place of its first slice differs.
        """
        rows, columns = int(self.first.Rows), int(self.first.Columns)
        count = int(getattr(self.first, "NumberOfFrames", 1) or 1) if len(self.headers) == 1 else len(self.headers)
        if geometry.shape != (columns, rows, count):
            raise InputError(
                f"The result lies on {'×'.join(map(str, geometry.shape))} voxels, the series has {columns}×{rows}×{count}; "
                "give the series that it was made from."
            )
        position = getattr(self.first, "ImagePositionPatient", None)
        if position is not None and len(self.headers) > 1:
            apart = np.linalg.norm(lps_from_ras(geometry.affine)[:3, 3] - np.array(position, dtype=float))
            if apart > 0.01:
                raise InputError(
                    f"The result begins {apart:.1f} mm from the series' first slice; give the series that it was made from."
                )


def read_source(path: Path, *, series: str = "", frame: int | None = None) -> Source:
    """Headers of the series that `files.read_image` reads from there.

    Raises:
        InputError: as `read_image`; also if the file is no DICOM.
    """
    import pydicom

    from ..files.dicom import find_slices

    slices = find_slices(Path(path), series, frame)
    return Source([_mended(pydicom.dcmread(s.path, stop_before_pixels=True)) for s in slices])


def _mended(header):
    """Without tags that are there but empty where an empty one is not allowed; scanners write such headers."""
    for name in ("SpecificCharacterSet", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber"):
        if name in header and header[name].value in (None, "", []):
            if name == "SpecificCharacterSet":
                del header[name]
            else:
                setattr(header, name, None)
    return header


def highdicom():
    """The library.

    Raises:
        ModelError: if it is not installed.
    """
    try:
        import highdicom as library
    except ImportError as error:
        raise ModelError(
            f"DICOM objects need the package highdicom ({error}); install it with `pip install medfm[report]`."
        ) from None
    return library


def equipment(series_number: int, description: str) -> dict[str, Any]:
    """What highdicom's classes ask of every new object."""
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
    }


def equipment_of_document(series_number: int, description: str) -> dict[str, Any]:
    """The same for documents, whose classes ask for less."""
    made = equipment(series_number, description)
    for name in ("manufacturer_model_name", "software_versions", "device_serial_number"):
        made.pop(name)
    return made


def concept(code: Code):
    """A coded concept as highdicom takes it."""
    return highdicom().sr.CodedConcept(code.value, code.scheme, code.meaning[:64])
