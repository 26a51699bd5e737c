"""Convert SimpleITK images to `Image`s and grids. Knows no file format.

SimpleITK's physical space is LPS, MedFM's is RAS; arrays of SimpleITK are (K, J, I), ours (C, I, J, K).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..core.geometry import Geometry, lps_from_ras
from ..core.image import Image, check_finite, guess_modality
from ..errors import InputError


def from_sitk(picture, name: str, *, modality: str = "", frame: int | None = None, file_name: str = "") -> Image:
    """Convert a SimpleITK image to an `Image`.

    Args:
        picture: 3D or 4D scalar image, or a 3D image of three 8-bit components, which is taken for colour.
        name: name of the result.
        modality: one of `MODALITIES`; "" to guess it from the values.
        frame: which volume of a 4D image, from 0.
        file_name: name of the file for error messages; `name` by default.

    Raises:
        InputError: if it is not one scalar or colour volume, or a value is NaN or infinite.
    """
    import SimpleITK as sitk

    shown = file_name or name
    if "complex" in picture.GetPixelIDTypeAsString():
        raise InputError(f"'{shown}' has complex values; convert it to magnitudes first.")
    while picture.GetDimension() > 4 and picture.GetSize()[-1] == 1:
        picture = _without_last_axis(picture)
    notes = ()
    if picture.GetDimension() == 4:
        notes = frame_note(picture.GetSize()[3], shown, frame)
        picture = _frame(picture, shown, frame)
    elif frame not in (None, 0):
        raise InputError(f"'{shown}' has one frame, number 0, so there is no frame {frame}.")
    if picture.GetDimension() != 3:
        raise InputError(
            f"'{shown}' has {picture.GetDimension()} dimensions; MedFM needs a 3D volume, or one frame of a 4D one."
        )
    channels, array = picture.GetNumberOfComponentsPerPixel(), sitk.GetArrayFromImage(picture)
    if channels > 1 and not (channels == 3 and array.dtype == np.uint8):
        raise InputError(
            f"'{shown}' has {channels} values per voxel of type {array.dtype} (vectors); convert it to a scalar (greyscale) or "
            "8-bit RGB volume first."
        )
    if channels == 3:
        return Image(array.transpose(3, 2, 1, 0), geometry_of(picture), modality or "OT", name, notes=notes)
    check_finite(array, shown)
    voxels = array.transpose(2, 1, 0)[None]
    facts = {}
    if not modality:
        modality, facts = guess_modality(voxels[0]), {"modality_guessed": "yes"}
    return Image(voxels, geometry_of(picture), modality, name, facts, notes)


def _frame(picture, shown: str, frame: int | None):
    count = picture.GetSize()[3]
    check_frame(count, shown, frame)
    return _without_last_axis(picture, frame or 0)


def frame_note(count: int, shown: str, frame: int | None) -> tuple[str, ...]:
    """Return a note on which frame was read; none for the only one.

    Args:
        count: number of frames.
        shown: name of the file.
        frame: the choice, from 0.
    """
    return (f"Frame {frame} of '{shown}' was read, of 0 to {count - 1}.",) if count > 1 else ()


def check_frame(count: int, shown: str, frame: int | None) -> None:
    """Check that a frame of a 4D image is chosen, and exists.

    Args:
        count: number of frames.
        shown: name of the file.
        frame: the choice, from 0; None for none.

    Raises:
        InputError: if there are several and none is chosen, or there is none such.
    """
    if frame is None and count > 1:
        raise InputError(
            f"'{shown}' is 4D with {count} frames; choose one with --frame 0 to {count - 1} (in Python frame=)."
        )
    if frame is not None and not 0 <= frame < count:
        raise InputError(f"'{shown}' has frames 0 to {count - 1}, so there is no frame {frame}.")


def _without_last_axis(picture, number: int = 0):
    import SimpleITK as sitk

    dimension = picture.GetDimension()
    size, start = [*picture.GetSize()[:-1], 0], [0] * (dimension - 1) + [number]
    return sitk.Extract(picture, size, start, sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX)


def geometry_of(picture) -> Geometry:
    """Return the grid of a 3D SimpleITK image (which is LPS) in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(picture.GetDirection()).reshape(3, 3) * np.array(picture.GetSpacing())
    affine[:3, 3] = picture.GetOrigin()
    return Geometry(picture.GetSize(), lps_from_ras(affine))


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect what ITK and GDCM warn of while a file is read or written, one sentence each, instead of printing it."""
    import SimpleITK as sitk

    found: list[str] = []

    class Collector(sitk.LoggerBase):
        """Appends warnings to the list; errors arrive as exceptions, too."""

        def DisplayText(self, text):
            self._keep(text)

        def DisplayWarningText(self, text):
            self._keep(text)

        def DisplayErrorText(self, text):
            """Is raised as an exception, too."""

        def DisplayGenericOutputText(self, text):
            self._keep(text)

        def DisplayDebugText(self, text):
            """Is not for users."""

        def _keep(self, text):
            lines = [line.strip() for line in str(text).splitlines() if line.strip() and "WARNING: In" not in line]
            words = " ".join(lines).split("): ", 1)[-1].strip()
            if words and words not in found:
                found.append(words[:300])

    display = sitk.ProcessObject.GetGlobalWarningDisplay()
    collector = Collector()
    previous = collector.SetAsGlobalITKLogger()
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    try:
        yield found
    finally:
        previous.SetAsGlobalITKLogger()
        sitk.ProcessObject.SetGlobalWarningDisplay(display)
