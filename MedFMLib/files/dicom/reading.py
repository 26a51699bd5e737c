"""Read one DICOM series: as a volume whose every plane lies where its header says, or as pictures.

Nothing that identifies a patient is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.image import MODALITIES, Image
from ...errors import InputError
from ..names import output_name
from .facts import facts_of
from .grid import even_positions, fit_grid, thickness_note
from .headers import read_complete
from .pictures import in_order, read_pictures
from .pixels import is_colour, read_colours, read_values
from .planes import Plane, planes_of
from .series import PROJECTIONS, Series, choose_series, choose_volume, find_series, volumes

REASON_TAGS = ("ReasonForStudy", "ReasonForTheRequestedProcedure", "RequestedProcedureDescription")
"""Header fields with the reason for the examination: free text, so they are not part of the image's facts, which are shared."""


def read_dicom(
    path: Path,
    *,
    modality: str = "",
    frame: int | None = None,
    series: str = "",
    files: Sequence[Path] = (),
    resample: bool = False,
) -> Image:
    """Read one series as a volume, or as pictures if it has no place in the patient.

    Args:
        path: a DICOM file or a folder with DICOM files.
        modality: overrides the modality in the header.
        frame: which volume of a series with several (time points, echoes, stacks), or which picture, from 0.
        series: which series of a folder: its number in the list that the error shows, or its UID.
        files: the files of `path` to read; all by default.
        resample: interpolate slices of uneven spacing to an even grid, instead of refusing them.

    Raises:
        InputError: no DICOM, several series or volumes, uneven or missing slices, damaged headers or pixels.
    """
    chosen = _chosen(find_series(path, files), path, series)
    first = chosen[0]
    stated = first.modality or "OT"
    known = modality or PROJECTIONS.get(stated, stated if stated in MODALITIES else "OT")
    name = output_name(path)
    if first.pictures:
        image = read_pictures([header for one in chosen for header in one.headers], path, frame)
        return Image(
            image.voxels, image.geometry, known, name, image.facts, image.notes,
            image.display, image.extents,
        )  # fmt: skip
    listed, notes = volumes(first, path)
    volume = choose_volume(listed, path, frame)
    planes = volume.planes
    said: list[str] = []
    colour = is_colour(planes, path)
    read = read_colours if colour else read_values
    known = modality or "OT" if colour else known  # colours are no HU
    if len(listed) > 1:
        said.append(f"Volume {listed.index(volume)} of the series was read, of 0 to {len(listed) - 1}: {volume}.")
    if resample and _uneven(planes, path):
        geometry, at = even_positions(planes, path)
        voxels = _interpolated(read(planes, said.append), at)
        gaps = np.diff([plane.depth for plane in planes])
        said.append(
            f"The slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart; they were interpolated to an even "
            f"{geometry.spacing[2]:.4g} mm, so values between them are not measured."
        )
    else:
        geometry = fit_grid(planes, path)
        voxels = read(planes, said.append)
    facts = facts_of(planes[0].header)
    if planes[0].unit and known != "CT" and not colour:
        facts["units"] = planes[0].unit
    every = (*notes, *thickness_note(planes), *dict.fromkeys(said))
    return Image(voxels if colour else voxels[None], geometry, known, name, facts, every)


def find_planes(
    path: Path, series: str = "", frame: int | None = None, files: Sequence[Path] = (), instance: str = ""
) -> tuple[Plane, ...]:
    """Return the planes that `read_dicom` reads, in the order of the volume's k axis; the pictures of a series of pictures.

    Args:
        path: a DICOM file or a folder with DICOM files.
        series: number or UID of the series; "" if there is only one.
        frame: which volume of a series with several, from 0.
        files: the files of `path` to read; all by default.
        instance: SOP Instance UID of one of the volume's slices, which chooses it where `frame` does not.

    Raises:
        InputError: as for `read_dicom`.
    """
    chosen = _chosen(find_series(path, files), path, series)
    if chosen[0].pictures:
        headers = in_order([header for one in chosen for header in one.headers])
        planes = [plane for header in headers for plane in planes_of(header)]
        return tuple(planes if frame is None else planes[frame : frame + 1])
    return choose_volume(volumes(chosen[0], path)[0], path, frame, instance).planes


def reason_for_study(path: Path, series: str = "") -> str:
    """Return the reason for the examination from the header, for the report's indication; "" if there is none.

    Args:
        path: a DICOM file or a folder with DICOM files.
        series: number or UID of the series; "" if there is only one.

    Raises:
        InputError: if there is no DICOM image, or several series.
    """
    header = read_complete(_chosen(find_series(path), path, series)[0].first.path)
    return "; ".join(dict.fromkeys(filter(None, map(header.text, REASON_TAGS))))


def _chosen(found: Sequence[Series], path: Path, series: str) -> list[Series]:
    """Return the chosen series; several if they are the views of one examination, each in a series of its own."""
    one_study = len({one.first.text("StudyInstanceUID") for one in found}) == 1
    if not series and len(found) > 1 and one_study and all(one.pictures for one in found):
        return list(found)
    return [choose_series(found, path, series)]


def _uneven(planes: Sequence[Plane], path: Path) -> bool:
    try:
        fit_grid(planes, path)
    except InputError:
        return True
    return False


def _interpolated(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return (…, K') values at fractional slice numbers, linear between slices; integers are rounded."""
    low = np.clip(at.astype(int), 0, values.shape[-1] - 2)
    share = (at - low).astype(np.float32)
    mixed = values[..., low] * (1 - share) + values[..., low + 1] * share
    return np.rint(mixed).astype(values.dtype) if values.dtype.kind in "iu" else mixed.astype(values.dtype)
