"""Read picture files (PNG, JPEG, TIFF, WebP and others) with Pillow, and join the pictures of one examination.

Pixels are those that Pillow decodes: colours unchanged, transparent parts on black, 16-bit greys kept, turned as the
camera's EXIF note says. A picture has no place in a patient: no millimetre and no side follow from it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.geometry import Geometry, picture_geometry
from ..core.image import Image
from ..errors import InputError

MOST_PIXELS = 300_000_000
"""Of all pictures of a file together."""

MOST_PAGES = 5000
"""Of a TIFF."""

UNKNOWN = "it is damaged, or of a format that MedFM doesn't know"

BITS, SAMPLE_FORMAT = 258, 339
"""Tags of TIFF."""

UNSIGNED, SIGNED = 1, 2
"""Values of SampleFormat."""

FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "WEBP", "BMP", "GIF")


def read_picture_file(path: Path, name: str, *, modality: str = "", frame: int | None = None) -> Image:
    """Return the picture of a file; every page of a TIFF, every frame of a GIF.

    Args:
        path: the file.
        name: of the result.
        modality: e.g. "CR" for a radiograph; "OT" if "".
        frame: one of several pages or frames, from 0; all if None.

    Raises:
        InputError: if it is no picture, damaged or too large, or there is no such frame.
    """
    return decode_picture(path.read_bytes(), name, modality=modality, frame=frame, shown=path.name)


def decode_picture(
    content: bytes, name: str, *, modality: str = "", frame: int | None = None, shown: str = "",
    most_pixels: int = MOST_PIXELS,
) -> Image:  # fmt: skip
    """Return the picture that encoded bytes hold.

    Args:
        content: a PNG, JPEG, TIFF, WebP, BMP or GIF.
        name: of the result.
        modality: e.g. "CR" for a radiograph; "OT" if "".
        frame: one of several pages or frames, from 0; all if None.
        shown: name of the file for messages; `name` by default.
        most_pixels: largest number of pixels of all frames together.

    Raises:
        InputError: if it is no picture, damaged or too large, or there is no such frame.
    """
    from PIL import Image as Picture
    from PIL import ImageSequence, UnidentifiedImageError

    shown = shown or name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size limit; ours is checked below
            with Picture.open(io.BytesIO(content), formats=FORMATS) as picture:
                count = _count(picture, shown)
                wanted = count if frame is None else 1
                if picture.width * picture.height * wanted > most_pixels:
                    raise InputError(
                        f"'{shown}' has {picture.width}×{picture.height} pixels"
                        + (f" in {wanted} frames" if wanted > 1 else "")
                        + f"; at most {most_pixels} are read. Give a smaller picture."
                    )
                if frame is not None and not 0 <= frame < count:
                    raise InputError(f"'{shown}' has frames 0 to {count - 1}, so there is no frame {frame}.")
                pages = [
                    _pixels(_turned(page, count), _sample_type(page))
                    for number, page in enumerate(ImageSequence.Iterator(picture))
                    if frame is None or number == frame
                ]
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        KeyError,
        TypeError,
        IndexError,
        Picture.DecompressionBombError,
    ) as error:
        if isinstance(error, Picture.DecompressionBombError):
            raise InputError(
                f"'{shown}' has too many pixels; at most {most_pixels} are read. Give a smaller picture."
            ) from error
        lines = str(error).splitlines() or [type(error).__name__]
        reason = UNKNOWN if isinstance(error, UnidentifiedImageError) else lines[0][:120]
        raise InputError(f"The picture '{shown}' can't be read ({reason}); save it again as PNG.") from error
    return join_pictures([picture_image(page, name, modality) for page in pages])


def _turned(page, count: int):
    """Return a page as the camera's note says; the only page of a file is turned in its place, without a copy."""
    from PIL import ImageOps

    if count > 1:
        return ImageOps.exif_transpose(page)
    ImageOps.exif_transpose(page, in_place=True)
    return page


def _count(picture, shown: str) -> int:
    """Return the number of frames; of a TIFF at most `MOST_PAGES`, since Pillow searches a list for each."""
    if picture.format != "TIFF":
        return getattr(picture, "n_frames", 1)
    for number in range(1, MOST_PAGES + 1):
        try:
            picture.seek(number)
        except EOFError:
            picture.seek(0)
            return number
    raise InputError(f"'{shown}' has more than {MOST_PAGES} pages; save those that are needed in a file of their own.")


def _sample_type(page) -> np.dtype | None:
    """Return the type of a TIFF's greys where Pillow takes them for another of the same size; None elsewhere."""
    tags = getattr(page, "tag_v2", {})
    bits, kind = (np.ravel(tags.get(tag, default))[0] for tag, default in ((BITS, 8), (SAMPLE_FORMAT, UNSIGNED)))
    return {(8, SIGNED): np.dtype(np.int8), (32, UNSIGNED): np.dtype(np.uint32)}.get((int(bits), int(kind)))


def _pixels(page, kind: np.dtype | None = None) -> np.ndarray:
    """Return (rows, columns) of any type, or (rows, columns, 3) uint8."""
    from PIL import Image as Picture

    if page.mode in ("1", "L"):
        grey = np.asarray(page.convert("L"))
        return grey.view(kind) if kind is not None and page.mode == "L" else grey
    if page.mode.startswith("I"):
        values = np.asarray(page)  # signed ones too, as of CT slices that were saved as TIFF
        values = values.view(kind) if kind is not None and values.dtype.itemsize == kind.itemsize else values
        return values.astype(np.uint16) if values.min() >= 0 and values.max() <= 65535 else values
    if page.mode == "F":
        values = np.asarray(page, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("values that are NaN or infinite")
        return values
    if page.mode == "LA" and page.getextrema()[1] == (255, 255):
        return np.asarray(page.getchannel(0))
    if not page.has_transparency_data:  # without a copy with four channels
        return np.asarray(page if page.mode == "RGB" else page.convert("RGB"))
    rgba = page.convert("RGBA")
    black = Picture.new("RGBA", rgba.size, (0, 0, 0, 255))
    return np.asarray(Picture.alpha_composite(black, rgba).convert("RGB"))


def picture_image(
    pixels: np.ndarray, name: str = "picture", modality: str = "", spacing: tuple[float, float] | None = None
) -> Image:
    """Return pixels as an image without a place in a patient.

    Args:
        pixels: (rows, columns) grey, or (rows, columns, 3) uint8.
        name: of the result.
        modality: "OT" if "".
        spacing: mm between (rows, columns); None if unknown.
    """
    voxels = pixels.transpose(2, 1, 0)[..., None] if pixels.ndim == 3 else pixels.T[None, ..., None]
    shown = None
    if pixels.ndim == 2 and pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        shown = np.rint((voxels - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    return Image(
        voxels, picture_geometry(pixels.shape[1], pixels.shape[0], 1, spacing), modality or "OT", name, display=shown
    )


def join_pictures(images: Sequence[Image]) -> Image:
    """Return several pictures as one image, k from picture to picture, for one question about all of them.

    Pictures of different sizes keep their own (`Image.extents`). If one is in colour, all are. Millimetres are known only
    if all have the same.

    Args:
        images: at least one, each of one or several pictures.

    Raises:
        InputError: if one is a volume with a place in the patient.
    """
    if len(images) == 1:
        return images[0]
    for image in images:
        if not image.is_picture:
            raise InputError(f"'{image.name}' is a volume, not a picture; only pictures are asked about together.")
    colour = any(image.is_colour for image in images)
    ready = colour or len({image.voxels.dtype for image in images}) > 1 or any(i.display is not None for i in images)
    sizes = [size for image in images for size in sizes_of(image)]
    columns, rows = (max(size[axis] for size in sizes) for axis in (0, 1))
    spacings = {(tuple(image.geometry.spacing[:2]), image.geometry.metric) for image in images}
    spacing = None
    if len(spacings) == 1 and images[0].geometry.metric:
        across, down = images[0].geometry.spacing[:2]
        spacing = (float(down), float(across))
    same = len(set(sizes)) == 1
    if not ready:
        voxels, display = _stacked([image.voxels for image in images], columns, rows), None
    elif colour:
        voxels, display = (
            _stacked([np.broadcast_to(_look(i), (3, *i.geometry.shape)) for i in images], columns, rows),
            None,
        )
    else:
        kind = np.result_type(*(image.voxels.dtype for image in images))
        voxels = _stacked([image.voxels.astype(kind) for image in images], columns, rows)
        display = _stacked([_look(image) for image in images], columns, rows)
    first = images[0]
    notes = tuple(dict.fromkeys(note for image in images for note in image.notes))
    facts = {key: value for key, value in first.facts.items() if all(i.facts.get(key) == value for i in images)}
    geometry: Geometry = picture_geometry(columns, rows, len(sizes), spacing)
    return Image(voxels, geometry, first.modality, first.name, facts, notes, display, () if same else tuple(sizes))


def sizes_of(image: Image) -> list[tuple[int, int]]:
    """Return (columns, rows) of each picture of an image."""
    return list(image.extents) or [image.geometry.shape[:2]] * image.geometry.shape[2]


def _look(image: Image) -> np.ndarray:
    """Return the pixels that are shown, (1 or 3, I, J, K) uint8."""
    if image.display is not None:
        return image.display
    return image.voxels


def _stacked(arrays: Sequence[np.ndarray], columns: int, rows: int) -> np.ndarray:
    """Return arrays (C, I, J, K) one after the other along k, each in the corner at index 0 of a common size."""
    count = sum(array.shape[3] for array in arrays)
    made = np.zeros((arrays[0].shape[0], columns, rows, count), arrays[0].dtype)
    start = 0
    for array in arrays:
        made[:, : array.shape[1], : array.shape[2], start : start + array.shape[3]] = array
        start += array.shape[3]
    return made
