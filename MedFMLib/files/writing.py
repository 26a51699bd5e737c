"""Write results to files. Every file is written under a temporary name in its folder and moved when it is complete."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..core.findings import Code, Segment, Segmentation
from ..core.geometry import Geometry, lps_from_ras
from ..core.request import Provenance
from ..errors import OutputError
from .nifti import write_nifti


def make_folder(folder: Path) -> Path:
    """Create the folder if needed, check that it is writable, and return it.

    Raises:
        OutputError: if it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Results can't be written to '{folder}' ({error.strerror}); choose another folder with --output."
        ) from error
    return folder


def replace_file(path: Path, write: Callable[[Path], None]) -> Path:
    """Write a file under a temporary name with the same suffixes, then move it to `path`.

    Args:
        path: the final file.
        write: writes the content to the path that it is given.

    Returns:
        `path`

    Raises:
        OutputError: if that fails; an existing file at `path` is unchanged.
    """
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1]
        raise OutputError(f"'{path}' can't be written ({reason}); free some space or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text and return the path.

    Args:
        path: the file, replaced if it exists.
        text: its content.

    Raises:
        OutputError: if it can't be written.
    """
    return replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes and return the path.

    Args:
        path: the file, replaced if it exists.
        content: its content.

    Raises:
        OutputError: if it can't be written.
    """
    return replace_file(path, lambda temporary: temporary.write_bytes(content))


def write_segmentation(path: Path, segmentation: Segmentation, provenance: Provenance | None = None) -> Path:
    """Write a `.seg.nrrd` as 3D Slicer does: names, colours, terminology; overlapping segments in layers.

    Args:
        path: the file, replaced if it exists.
        segmentation: the segments.
        provenance: stored in the header as "MedFM_Provenance"; None for none.

    Returns:
        `path`

    Raises:
        OutputError: if it can't be written.
    """
    import SimpleITK as sitk

    layers, places = pack_layers(segmentation.segments, segmentation.geometry.shape)
    planes = [sitk.GetImageFromArray(np.ascontiguousarray(layer.transpose(2, 1, 0))) for layer in layers]
    picture = planes[0] if len(planes) == 1 else sitk.Compose(planes)
    place_picture(picture, segmentation.geometry)
    header = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    if provenance is not None:
        header["MedFM_Provenance"] = json.dumps({**vars(provenance)}, default=str)
    for number, (segment, (layer, value)) in enumerate(zip(segmentation.segments, places, strict=True)):
        header |= {
            f"Segment{number}_{key}": text for key, text in _segment_header(segment, layer, value, number).items()
        }
    for key, value in header.items():
        picture.SetMetaData(key, value)
    return replace_file(path, lambda temporary: sitk.WriteImage(picture, str(temporary), useCompression=True))


def write_volume(path: Path, voxels: np.ndarray, geometry: Geometry) -> Path:
    """Write a volume as NIfTI, NRRD or MetaImage, according to the suffix.

    Args:
        path: the file, replaced if it exists.
        voxels: (I, J, K).
        geometry: its grid.

    Returns:
        `path`

    Raises:
        OutputError: if it can't be written.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return replace_file(path, lambda temporary: write_nifti(temporary, voxels, geometry))
    import SimpleITK as sitk

    picture = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    place_picture(picture, geometry)
    return replace_file(path, lambda temporary: sitk.WriteImage(picture, str(temporary), useCompression=True))


def place_picture(picture, geometry: Geometry) -> None:
    """Set the grid of a SimpleITK image.

    Args:
        picture: the image.
        geometry: its grid.
    """
    affine = lps_from_ras(geometry.affine)
    picture.SetSpacing(geometry.spacing.tolist())
    picture.SetDirection((affine[:3, :3] / geometry.spacing).ravel().tolist())
    picture.SetOrigin(affine[:3, 3].tolist())


def pack_layers(
    segments: tuple[Segment, ...], shape: tuple[int, int, int]
) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """Pack segments into label layers; segments within a layer don't overlap.

    Args:
        segments: the segments.
        shape: (I, J, K) of their grid.

    Returns:
        ([(I, J, K) uint8 label layers], [(layer, value) of each segment])
    """
    layers: list[np.ndarray] = []
    places: list[tuple[int, int]] = []
    for segment in segments:
        box, inside = segment.boxed.box, segment.boxed.inside
        free = (n for n, layer in enumerate(layers) if not layer[box][inside].any() and layer.max() < 255)
        number = next(free, len(layers))
        if number == len(layers):
            layers.append(np.zeros(shape, np.uint8))
        value = 1 + max((v for n, v in places if n == number), default=0)
        layers[number][box][inside] = value
        places.append((number, value))
    return layers or [np.zeros(shape, np.uint8)], places


def terminology_tag(segment: Segment) -> str:
    """Return 3D Slicer's serialized terminology entry of a segment.

    Its parts are context~category~type~modifier~anatomic context~region~modifier.
    """

    def part(code: Code | None) -> str:
        return f"{code.scheme}^{code.value}^{code.meaning}" if code else "^^"

    if segment.code is None or segment.category is None:
        return ""
    return (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        f"~{part(segment.category)}~{part(segment.code)}~{part(segment.side)}~Anatomic codes - DICOM master list~^^~^^"
    )


def _segment_header(segment: Segment, layer: int, value: int, number: int) -> dict[str, str]:
    boxed = segment.boxed
    low, high = boxed.start, np.add(boxed.start, boxed.inside.shape) - 1
    if not boxed.inside.any():
        low, high = (0, 0, 0), (-1, -1, -1)
    tags = {
        "TerminologyEntry": terminology_tag(segment),
        "MedFM.Source": "MedFM",
        "SegmentAlgorithmType": segment.origin,
    }
    return {
        "ID": f"Segment_{number + 1}",
        "Name": segment.label,
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{c:.6g}" for c in segment.color),
        "ColorAutoGenerated": "0",
        "LabelValue": str(value),
        "Layer": str(layer),
        "Extent": " ".join(f"{a} {b}" for a, b in zip(low, high, strict=True)),
        "Tags": "|".join(f"{key}:{text}" for key, text in tags.items() if text),
    }
