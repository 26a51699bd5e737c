"""Convert images of other libraries to `Image`s: SimpleITK, nibabel, and numpy arrays with an affine. Imports neither."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..core.geometry import UNORIENTED, Geometry
from ..core.image import Image, check_finite, guess_modality
from ..errors import InputError
from .sitk import check_frame, frame_note, from_sitk


def image_from_object(
    source: Any, *, modality: str = "", frame: int | None = None, name: str = "image", shown: str = ""
) -> Image:
    """Return the image that an object of another library holds.

    Args:
        source: `SimpleITK.Image`; an image of nibabel; or a pair of an array (I, J, K) or (I, J, K, frames) and a 4×4
            affine, index → RAS mm.
        modality: overrides the guess.
        frame: which volume of a 4D image, from 0.
        name: of the result.
        shown: name of the file for messages; `name` by default.

    Raises:
        InputError: if it is something else, with what it is; or not one usable image.
    """
    if type(source).__module__.startswith("SimpleITK") and hasattr(source, "GetDirection"):
        return from_sitk(source, name, modality=modality, frame=frame)
    if hasattr(source, "dataobj") and getattr(source, "affine", None) is not None:
        image = _from_array(np.asanyarray(source.dataobj), source.affine, modality, frame, name, shown or name)
        return _oriented(image, source, shown or name)
    if isinstance(source, tuple | list) and len(source) == 2 and np.shape(source[1]) == (4, 4):
        return _from_array(np.asanyarray(source[0]), np.asarray(source[1], float), modality, frame, name, shown or name)
    raise InputError(
        "An image must be a path, an Image, a volume node, an image of SimpleITK or nibabel, or a pair (array, 4×4 affine); "
        f"got {describe(source)}."
    )


def describe(source: Any) -> str:
    """Return what an object is, for messages: its type, with the shape of an array."""
    kind = type(source)
    name = (
        kind.__name__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__.split('.')[0]}.{kind.__name__}"
    )
    shape = getattr(source, "shape", None)
    if isinstance(shape, tuple):
        return f"{name} of shape {shape}"
    if isinstance(source, tuple | list):
        return f"{name} of {len(source)} items"
    return name


def _from_array(values: np.ndarray, affine, modality: str, frame: int | None, name: str, shown: str) -> Image:
    if values.dtype.names is not None:  # nibabel's RGB
        values = np.stack([values[part] for part in values.dtype.names[:3]])
        return Image(values, Geometry(values.shape[1:], affine), modality or "OT", name)
    if values.dtype.kind not in "iufb":
        raise InputError(f"'{shown}' has values of type {values.dtype}; convert it to real numbers first.")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    while values.ndim > 4 and values.shape[-1] == 1:
        values = values[..., 0]
    notes = ()
    if values.ndim == 4:
        check_frame(values.shape[3], shown, frame)
        notes = frame_note(values.shape[3], shown, frame)
        values = values[..., frame or 0]
    elif frame not in (None, 0):
        raise InputError(f"'{shown}' has one frame, number 0, so there is no frame {frame}.")
    if values.ndim != 3:
        raise InputError(f"'{shown}' has {values.ndim} dimensions; MedFM needs a 3D volume, or one frame of a 4D one.")
    check_finite(values, shown)
    facts = {}
    if not modality:
        modality, facts = guess_modality(values), {"modality_guessed": "yes"}
    return Image(values[None], Geometry(values.shape, affine), modality, name, facts, notes)


def _oriented(image: Image, source: Any, shown: str) -> Image:
    """Return the image without a side, if the header of nibabel's image states no orientation."""
    header = getattr(source, "header", None)
    if header is None or not hasattr(header, "get_sform"):
        return image
    codes = {int(header["sform_code"]), int(header["qform_code"])}
    if codes != {0}:
        return image
    note = f"'{shown}' states no orientation (neither qform nor sform), so left and right are unknown and no side is stated."
    return replace(image, geometry=replace(image.geometry, space=UNORIENTED), notes=(*image.notes, note))
