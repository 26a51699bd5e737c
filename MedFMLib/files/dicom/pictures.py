"""Read DICOM images without a place in the patient: radiographs, ultrasound, clips, colour.

Values are stored values with slope and intercept (or the modality lookup table); `display` has the pixels as a
workstation shows them: the header's window or lookup table, MONOCHROME1 inverted (PS3.4 N.2). Spacing counts as mm in
the patient only where the header says so: not the spacing at the detector of a radiograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.geometry import picture_geometry
from ...core.image import Image
from ...errors import InputError
from ..pictures import join_pictures
from .facts import facts_of
from .headers import DAMAGED, Header, numbers_of, read_complete, text_of
from .pixels import Tell, eight_bits, has_table, looked_up, stored_values

CENTIMETRES = 3
"""Physical Units X/Y Direction of an ultrasound region (PS3.3 C.8.5.5.1.15)."""

TISSUE = 1
"""Region Spatial Format of a two-dimensional ultrasound picture (PS3.3 C.8.5.5.1.1)."""

SLIDES = "1.2.840.10008.5.1.4.1.1.77.1.6"


def read_pictures(headers: Sequence[Header], path: Path, frame: int | None = None) -> Image:
    """Return the pictures of DICOM files as one image, k from picture to picture.

    Args:
        headers: of the files.
        path: of the file or folder, for messages.
        frame: one of the pictures, or of the frames of a clip, from 0; all if None.

    Raises:
        InputError: if a file is damaged, or there is no such frame.
    """
    images = [_picture(header) for header in in_order(headers)]
    made = join_pictures(images)
    if frame is None:
        return made
    count = made.geometry.shape[2]
    if not 0 <= frame < count:
        raise InputError(f"'{path.name}' has pictures 0 to {count - 1}, so there is no frame {frame}.")
    keep = slice(frame, frame + 1)
    return replace(
        made, voxels=made.voxels[..., keep], geometry=made.geometry.crop((0, 0, 0), (*made.geometry.shape[:2], 1)),
        display=None if made.display is None else made.display[..., keep], extents=made.extents[keep],
        notes=(*made.notes, f"Picture {frame} of 0 to {count - 1} was read."),
    )  # fmt: skip


def in_order(headers: Sequence[Header]) -> list[Header]:
    """Return the files of pictures in the order in which they are shown: by series, then instance number."""
    return sorted(headers, key=lambda h: (h.text("SeriesInstanceUID"), _instance(h), h.path))


def _instance(header: Header) -> float:
    found = numbers_of(header.dataset, "InstanceNumber")
    return float(found[0]) if found is not None and len(found) == 1 else 0.0


def _picture(header: Header) -> Image:
    """Return the picture or clip of one file."""
    header = read_complete(header.path)
    if header.text("SOPClassUID") == SLIDES and header.frames > 1:
        raise InputError(
            f"'{header.path.name}' is a whole-slide image of {header.frames} tiles; export the region of interest as PNG or TIFF."
        )
    notes: list[str] = []
    stored = stored_values(header.path, notes.append)
    frames, rows, columns = stored.shape[:3]
    spacing, note = _spacing(header)
    geometry = picture_geometry(columns, rows, frames, spacing)
    notes += [note] if note else []
    if stored.ndim == 4:
        return Image(eight_bits(stored).transpose(3, 2, 1, 0), geometry, facts=facts_of(header), notes=notes)
    try:
        values = looked_up(stored, header) if has_table(header) else _scaled(stored, header)
        shown = _shown(values, stored, header, notes.append)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"The header of '{header.path.name}' doesn't describe its pixels ({type(error).__name__}); export the image again."
        ) from error
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)) and np.abs(values).max() < 2**31:
        values = values.astype(np.int32)
    return Image(
        values.transpose(2, 1, 0)[None],
        geometry,
        facts=facts_of(header),
        notes=notes,
        display=shown.transpose(2, 1, 0)[None],
    )


def _scaled(stored: np.ndarray, header: Header) -> np.ndarray:
    """Return stored values with the slope and intercept of the header, unchanged without."""
    if not header.text("RescaleSlope"):
        return stored
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept", 0.0)
    return stored if (slope, intercept) == (1.0, 0.0) else stored * slope + intercept


def _shown(values: np.ndarray, stored: np.ndarray, header: Header, tell: Tell) -> np.ndarray:
    """Return pixels of 8 bits as a workstation shows them, (frames, rows, columns).

    A window or lookup table that can't be applied makes no picture unreadable: then the range of its values is shown.
    """
    dataset = header.dataset
    try:
        window = _windowed(values, dataset)
    except DAMAGED as error:
        window = None
        tell(
            f"The window or lookup table of '{header.path.name}' is damaged ({type(error).__name__}), so the picture is shown "
            "over the range of its values."
        )
    if window is not None:
        look, low, high = window
    else:
        look = values.astype(np.float64)
        if stored.dtype.itemsize == 1 and np.array_equal(values, stored):
            low, high = (0.0, 255.0) if stored.dtype.kind == "u" else (-128.0, 127.0)
        else:
            low, high = _content_range(look, stored, dataset)
    shown = np.rint(np.clip((look - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    dark_is_high = text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    if dark_is_high or text_of(dataset, "PresentationLUTShape") == "INVERSE":
        shown = 255 - shown
    return shown


def _windowed(values: np.ndarray, dataset) -> tuple[np.ndarray, float, float] | None:
    """Return (windowed values, darkest, brightest) by the header's first window or lookup table; None without either."""
    from pydicom.pixels import apply_voi_lut

    tables = dataset.get("VOILUTSequence")
    if tables and not any(item.get("LUTDescriptor") or item.get("LUTData") for item in tables):  # some write it empty
        dataset = dataset.copy()
        del dataset.VOILUTSequence
        tables = None
    if not tables and not (text_of(dataset, "WindowCenter") and text_of(dataset, "WindowWidth")):
        return None
    width = numbers_of(dataset, "WindowWidth")
    if not tables and width is not None and 0 < width[0] < 1:
        # of values below 1, such as doses; the standard's formula for LINEAR, which subtracts 1, is for whole numbers
        centre = numbers_of(dataset, "WindowCenter")[0]
        return values.astype(np.float64), float(centre - width[0] / 2), float(centre + width[0] / 2)
    look = np.asarray(apply_voi_lut(_integers(values), dataset), np.float64)
    return (look, *_output_range(look, values, dataset))


def _integers(values: np.ndarray) -> np.ndarray:
    """Return values as integers where a rescale left whole numbers as floats, which lookup tables need."""
    whole = values.dtype.kind == "f" and np.array_equal(values, np.rint(values)) and np.abs(values).max() < 2**31
    return values.astype(np.int32) if whole else values


def _output_range(look: np.ndarray, values: np.ndarray, dataset) -> tuple[float, float]:
    """Return the darkest and brightest output of the window or lookup table that pydicom applied."""
    tables = dataset.get("VOILUTSequence")
    if tables:  # pydicom prefers the table to a window
        bits = int(tables[0].LUTDescriptor[2])
        return 0.0, float(2**bits - 1)
    used = int(dataset.BitsStored)
    low, high = (-(2 ** (used - 1)), 2 ** (used - 1) - 1) if int(dataset.PixelRepresentation) else (0, 2**used - 1)
    tables = dataset.get("ModalityLUTSequence")
    if tables and tables[0].get("LUTDescriptor"):
        return 0.0, float(2 ** int(tables[0].LUTDescriptor[2]) - 1)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return low * slope + intercept, high * slope + intercept


def _content_range(look: np.ndarray, stored: np.ndarray, dataset) -> tuple[float, float]:
    """Return the range of values without the padding around a radiograph."""
    padding = numbers_of(dataset, "PixelPaddingValue")
    inside = look if padding is None else look[stored != padding[0]]
    inside = inside if inside.size else look
    return float(inside.min()), float(inside.max())


def _spacing(header: Header) -> tuple[tuple[float, float] | None, str]:
    """Return ((rows, columns) spacing in mm, None if unknown; a note, "" if there is nothing to say)."""
    regions = header.dataset.get("SequenceOfUltrasoundRegions")
    if regions:
        return _ultrasound_spacing(list(regions))
    own = numbers_of(header.dataset, "PixelSpacing")
    detector = numbers_of(header.dataset, "ImagerPixelSpacing")
    valid = own is not None and len(own) == 2 and np.isfinite(own).all() and (own > 0).all()
    calibrated = bool(header.text("PixelSpacingCalibrationType"))
    if valid and (calibrated or detector is None or len(detector) != 2 or not np.allclose(own, detector)):
        return (float(own[0]), float(own[1])), ""
    if detector is not None and len(detector) == 2:
        return None, (
            f"The header gives the pixel spacing at the detector ({detector[0]:g} mm), not in the patient, so no millimetre is "
            "stated."
        )
    return None, ""


def _ultrasound_spacing(regions: list) -> tuple[tuple[float, float] | None, str]:
    spacings = set()
    for region in regions:
        kind, units, deltas = (
            [numbers_of(region, name) for name in names]
            for names in (
                ("RegionSpatialFormat",),
                ("PhysicalUnitsXDirection", "PhysicalUnitsYDirection"),
                ("PhysicalDeltaX", "PhysicalDeltaY"),
            )
        )
        if kind[0] is None or kind[0][0] != TISSUE:
            continue
        if any(u is None or u[0] != CENTIMETRES for u in units) or any(d is None or d[0] == 0 for d in deltas):
            return None, "A region of this ultrasound has no scale in centimetres, so no millimetre is stated."
        spacings.add((round(abs(float(deltas[1][0])) * 10, 6), round(abs(float(deltas[0][0])) * 10, 6)))
    if len(spacings) > 1:
        return None, "The regions of this ultrasound have different scales, so no millimetre is stated."
    return (next(iter(spacings)) if spacings else None), ""
