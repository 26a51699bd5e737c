"""Read the series that a volume was read from: its headers in slice order, and the attributes that new objects copy."""

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
"""Series numbers of new objects start here, above those of scanners."""


@dataclass(frozen=True, eq=False)
class Source:
    """Headers of one series.

    Args:
        headers: pydicom Datasets without pixels; one for each slice along k, or a single multi-frame one.

    Raises:
        InputError: if a required UID is missing.
    """

    headers: Sequence[Any]

    def __post_init__(self) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if any(not getattr(header, name, "") for header in self.headers):
                raise InputError(f"The series lacks the tag {name}, so it can't be referenced; export it again.")

    @property
    def first(self):
        """The first slice's header."""
        return self.headers[0]

    def slice(self, number: int):
        """Return the header of the instance with slice `number` along k."""
        return self.headers[min(number, len(self.headers) - 1)]

    def check_grid(self, geometry: Geometry) -> None:
        """Check that a grid matches this series.

        Raises:
            InputError: if its shape or the position of its first slice differs.
        """
        rows, columns = int(self.first.Rows), int(self.first.Columns)
        count = int(getattr(self.first, "NumberOfFrames", 1) or 1) if len(self.headers) == 1 else len(self.headers)
        if geometry.shape != (columns, rows, count):
            raise InputError(
                f"The result lies on {'×'.join(map(str, geometry.shape))} voxels, the series has {columns}×{rows}×{count}; "
                "give the series that the image was read from."
            )
        position = getattr(self.first, "ImagePositionPatient", None)
        if position is not None and len(self.headers) > 1:
            apart = np.linalg.norm(lps_from_ras(geometry.affine)[:3, 3] - np.array(position, dtype=float))
            if apart > 0.01:
                raise InputError(
                    f"The result begins {apart:.1f} mm from the series' first slice; give the image's series."
                )


def read_source(path: Path, *, series: str = "", frame: int | None = None) -> Source:
    """Return the headers of the series that `files.read_image` reads from the same path.

    Args:
        path: a DICOM file or a folder with DICOM files.
        series: number or UID of the series; "" if there is only one.
        frame: which time point of a series with several, from 0.

    Raises:
        InputError: as for `read_image`; also if the file is not DICOM.
    """
    import pydicom

    from ..files.dicom import find_slices

    slices = find_slices(Path(path), series, frame)
    return Source([_mended(pydicom.dcmread(s.path, stop_before_pixels=True)) for s in slices])


def _mended(header):
    """Return the header without empty tags where empty values are not allowed; some scanners write such headers."""
    for name in ("SpecificCharacterSet", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber"):
        if name in header and header[name].value in (None, "", []):
            if name == "SpecificCharacterSet":
                del header[name]
            else:
                setattr(header, name, None)
    return header


def highdicom():
    """Import highdicom.

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
