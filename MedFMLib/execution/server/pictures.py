"""Convert the pictures of a chat to an `Image`. Knows PIL and data URLs; nothing of HTTP.

A picture has no position in a patient, so it gets a grid in which models see it unchanged: axial, 1 mm per pixel, the
picture's left at the patient's right.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings

import numpy as np

from ...core.geometry import Geometry
from ...core.image import Image
from ...errors import InputError

DATA_URL = re.compile(r"data:image/(png|jpe?g|webp|bmp|tiff);base64,", re.I)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def image_from_urls(urls: list[str], most_pixels: int) -> Image:
    """Return one image whose slices are the pictures.

    Args:
        urls: base64 data URLs.
        most_pixels: largest number of pixels of all pictures together.

    Raises:
        InputError: if a picture is not a data URL, damaged, too large, or differs in size from the first.
    """
    pictures: list[np.ndarray] = []
    for url in urls:
        pictures.append(_grey(url, most_pixels, sum(picture.size for picture in pictures)))
    if any(picture.shape != pictures[0].shape for picture in pictures):
        sizes = ", ".join(f"{p.shape[1]}×{p.shape[0]}" for p in pictures)
        raise InputError(f"Several pictures are read as slices of one volume, so they need one size; received {sizes}.")
    voxels = np.stack([picture.T for picture in pictures], axis=-1)[None]  # (1, I, J, K) from rows and columns
    facts = {"window": "0 255"} if voxels.dtype == np.uint8 else {}
    return Image(voxels, Geometry(voxels.shape[1:], np.diag([-1.0, -1.0, 1.0, 1.0])), "OT", "picture", facts)


def _grey(url: str, most_pixels: int, before: int) -> np.ndarray:
    """Return (H, W) uint8, or uint16 for pictures with 16 bits; `before` pixels were read already."""
    from PIL import Image as Picture

    found = DATA_URL.match(url)
    if not found:
        raise InputError(
            "A picture must be sent inside the request, as data:image/png;base64,…; this server fetches nothing from elsewhere."
        )
    try:
        raw = base64.b64decode(url[found.end() :], validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's own size limit; ours is checked below
            picture = Picture.open(io.BytesIO(raw), formats=FORMATS)
        width, height = picture.size
        if before and before + width * height > most_pixels:
            raise InputError(
                f"The pictures have {before + width * height} pixels together; this server accepts {most_pixels}. Send fewer."
            )
        if width * height > most_pixels:
            raise InputError(
                f"A picture has {width}×{height} pixels; this server accepts {most_pixels}. Send a smaller one."
            )
        if picture.mode.startswith("I"):
            return np.clip(np.asarray(picture), 0, 65535).astype(np.uint16)
        return np.asarray(picture.convert("L"))
    except InputError:
        raise
    except (binascii.Error, OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise InputError(f"A picture can't be read ({type(error).__name__}); send it as PNG or JPEG.") from None
