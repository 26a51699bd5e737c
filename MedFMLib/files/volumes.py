"""Read volume files with SimpleITK, and say what their headers leave open.

NIfTI files are placed as ITK, and so Slicer, places them; where their two transforms disagree, a note says by how many
millimetres, and where neither is set, no side is known. A sheared transform is kept, since `Geometry` can shear. MGH
and NIfTI-2 need nibabel (the extra `formats`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.geometry import UNORIENTED, Geometry
from ..core.image import Image
from ..errors import InputError
from .data_files import check_data_files
from .limits import check_length, check_voxels
from .nifti import NiftiPlace, check_values, is_nifti2, is_sheared, read_place
from .sitk import check_frame, collected_warnings, from_sitk

READERS = {
    ".nii": "NiftiImageIO", ".nii.gz": "NiftiImageIO", ".hdr": "NiftiImageIO", ".img": "NiftiImageIO", ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO",
}  # fmt: skip
PAIRS = {".hdr": ".img", ".img": ".hdr"}
"""Suffixes of files that belong together: header and voxels."""

DETACHED = (".mhd", ".nhdr")
"""Suffixes of headers that name the file of their voxels."""

NIBABEL_COPIES = 5.0
"""Memory while nibabel reads a volume ÷ its bytes: scaled values are float64."""

WITH_NIBABEL = (".mgh", ".mgz", ".mgh.gz")

PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"

DIFFERENT_MM = 0.1
"""Two transforms of a NIfTI file agree if no corner of the grid moves farther; quaternions are stored in single precision."""


def read_volume_file(path: Path, name: str, *, modality: str = "", frame: int | None = None) -> Image:
    """Read a volume file.

    Args:
        path: a NIfTI, NRRD, MetaImage or MGH file.
        name: of the result.
        modality: overrides the guess.
        frame: which volume of a 4D file or a sequence, from 0.

    Raises:
        InputError: if it is damaged, not one scalar or colour volume, or has values that are NaN or infinite.
    """
    suffix = suffix_of(path)
    _check_pair(path)
    if suffix in WITH_NIBABEL or (READERS[suffix] == "NiftiImageIO" and is_nifti2(path)):
        return _with_nibabel(path, name, modality, frame)
    with collected_warnings() as warned:
        picture = read_picture(path)
        kind = "NRRD_kinds[pixel]"  # of the axis whose entries ITK takes for the components of a voxel
        if picture.HasMetaDataKey(kind) and picture.GetMetaData(kind) == "list":
            picture, frame = _list_item(picture, path, frame)
    if READERS[suffix] == "NiftiImageIO":  # ITK replaces NaN by 0 without a word
        check_values(path, picture.GetNumberOfPixels() * picture.GetNumberOfComponentsPerPixel())
    image = from_sitk(picture, name, modality=modality, frame=frame, file_name=path.name)
    notes = [f"ITK on '{path.name}': {text}" for text in warned if not _is_covered(text)]
    if READERS[suffix] == "NiftiImageIO":
        image, more = _placed(image, read_place(path), path)
        notes = [*more, *notes]
    return replace(image, notes=(*image.notes, *notes))


def suffix_of(path: Path) -> str:
    """Return the suffix of a volume file in lower case, the longest that fits: ".nii.gz" rather than ".gz"."""
    lower = path.name.lower()
    return max((s for s in (*READERS, *WITH_NIBABEL) if lower.endswith(s)), key=len, default="")


def read_picture(path: Path):
    """Return the SimpleITK image of a volume file, whatever the case of its name's letters.

    Raises:
        InputError: if it can't be read, or names data files elsewhere.
    """
    import SimpleITK as sitk

    check_data_files(path)
    reader = sitk.ImageFileReader()
    try:
        with _readable(path) as (file, suffix), _sheared_allowed(path, suffix):
            reader.SetImageIO(READERS[suffix])
            reader.SetFileName(str(file))
            reader.ReadImageInformation()
            _check_declared(path, reader)
            return reader.Execute()
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = re.sub(r"^ITK ERROR: |\(0x[0-9a-fA-F]+\)|(?<=\s)\S*/image(?=\.)", "", lines[-1])
        apart = (
            f", or the file of voxels that it names isn't beside '{path.name}'" if suffix_of(path) in DETACHED else ""
        )
        raise InputError(
            f"'{path.name}' can't be read; it is damaged, truncated or not of the type that its name suggests{apart} "
            f"({reason[:160]})."
        ) from error


def _check_declared(path: Path, reader) -> None:
    """Refuse voxels that the file can't hold, or that don't fit into memory."""
    import SimpleITK as sitk

    shape = (*reader.GetSize(), *([n] if (n := reader.GetNumberOfComponents()) > 1 else []))
    kind = re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(reader.GetPixelID()))
    bits = int(kind[1]) if kind else 64
    size = check_voxels(path.name, shape, bits)
    if suffix_of(path) not in (*DETACHED, *PAIRS):
        check_length(path, size)


def _check_pair(path: Path) -> None:
    """Check that the other file of a pair of header and voxels is there."""
    suffix = suffix_of(path)
    partner = PAIRS.get(suffix)
    if partner and _sibling(path, partner) is None:
        missing = path.name[: -len(suffix)] + partner
        raise InputError(f"'{missing}' is missing, the other half of '{path.name}'; copy both files into one folder.")


@contextmanager
def _readable(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield (a path under which ITK reads the file, its suffix): its own, or a link with a fitting name.

    ITK chooses readers, and whether a file is compressed, by the name, and is particular about its case.
    """
    suffix = suffix_of(path)
    wanted = suffix
    if suffix in (".nii", ".nii.gz"):
        with path.open("rb") as stream:
            wanted = ".nii.gz" if stream.read(2) == b"\x1f\x8b" else ".nii"
    other = {".nii": ".nii.gz", ".nii.gz": ".nii"}.get(suffix)
    alone = other is None or _sibling(path, other) is None  # of x.nii and x.nii.gz, ITK reads whichever it finds first
    if alone and wanted == suffix and path.name.endswith(suffix):
        yield path, suffix
        return
    with tempfile.TemporaryDirectory() as folder:
        partner = PAIRS.get(suffix)
        link = _link(path, Path(folder) / f"image{wanted}")
        if partner and (other := _sibling(path, partner)) is not None:
            _link(other, Path(folder) / f"image{partner}")
        yield link, wanted


@contextmanager
def _sheared_allowed(path: Path, suffix: str) -> Iterator[None]:
    """Let ITK read a file whose only transform is sheared, which it refuses otherwise; `_placed` restores the shear.

    Other files are read as in Slicer, which doesn't set this.
    """
    place = read_place(path) if READERS[suffix] == "NiftiImageIO" else None
    if place is None or place.qform is not None or place.sform is None or not is_sheared(place.sform):
        yield
        return
    before = os.environ.get(PERMISSIVE)
    os.environ[PERMISSIVE] = "1"
    try:
        yield
    finally:
        os.environ.pop(PERMISSIVE) if before is None else os.environ.update({PERMISSIVE: before})


def _link(path: Path, link: Path) -> Path:
    try:
        os.symlink(os.path.abspath(path), link)
    except OSError:  # Windows without the right to make links
        shutil.copyfile(path, link)
    return link


def _sibling(path: Path, suffix: str) -> Path | None:
    stem = path.name[: -len(suffix_of(path))]
    return next((p for p in path.parent.iterdir() if p.name.lower() == (stem + suffix).lower()), None)


def _list_item(picture, path: Path, frame: int | None):
    """Return (one item of a sequence that Slicer wrote as a list of volumes, no further frame)."""
    import SimpleITK as sitk

    count = picture.GetNumberOfComponentsPerPixel()
    check_frame(count, path.name, frame)
    return (sitk.VectorIndexSelectionCast(picture, frame or 0) if count > 1 else picture), None


def _is_covered(text: str) -> bool:
    """Return whether a warning of ITK is about the transforms of a NIfTI file, of which `_placed` says more."""
    return any(word in text.lower() for word in ("qform", "sform", "orthonormal", "direction cosines"))


def _placed(image: Image, place: NiftiPlace | None, path: Path) -> tuple[Image, list[str]]:
    """Return the image on the grid that its NIfTI header describes, and notes."""
    if place is None:
        return image, []
    own = image.geometry
    if place.qform is None and place.sform is None:
        return replace(image, geometry=replace(own, space=UNORIENTED)), [
            f"'{path.name}' states no orientation (neither qform nor sform), so left and right are unknown and no side is stated."
        ]
    forms = {name: form for name, form in (("qform", place.qform), ("sform", place.sform)) if form is not None}
    apart = {name: _mm_apart(own, form) for name, form in forms.items()}
    notes = []
    if len(forms) == 1:
        ((name, form),) = forms.items()
        if is_sheared(form):  # ITK makes it orthogonal
            own = replace(own, affine=form)
            notes.append(f"The {name} of '{path.name}' is sheared; the shear was kept.")
        elif apart[name] > DIFFERENT_MM:
            notes.append(
                f"'{path.name}' was placed as in 3D Slicer, up to {apart[name]:.3g} mm from where its {name} says, since sizes "
                "or signs in pixdim contradict it."
            )
    elif max(apart.values()) > DIFFERENT_MM:
        used, other = sorted(apart, key=apart.get)
        notes.append(
            f"The two transforms of '{path.name}' place the image up to {apart[other]:.3g} mm apart; the {used} was used, as in "
            f"3D Slicer, not the {other}."
        )
    if place.offset:
        image = replace(image, voxels=image.voxels - image.voxels.dtype.type(place.offset))
    return replace(image, geometry=own), notes


def _mm_apart(geometry: Geometry, affine: np.ndarray) -> float:
    """Return the largest distance in mm of the grid's corners from where another affine puts them."""
    return float(np.linalg.norm(geometry.corners() - replace(geometry, affine=affine).corners(), axis=1).max())


def _with_nibabel(path: Path, name: str, modality: str, frame: int | None) -> Image:
    """Read a file that SimpleITK doesn't know."""
    from .objects import image_from_object

    try:
        import nibabel
    except ImportError:
        kind = "NIfTI-2" if suffix_of(path) not in WITH_NIBABEL else "MGH"
        raise InputError(
            f"'{path.name}' is a {kind} file, which needs the package nibabel; install it with `pip install nibabel`, or convert "
            "the file to NIfTI-1."
        ) from None
    try:
        with _readable_by_nibabel(path) as file:
            found = nibabel.load(file)
            if getattr(found, "affine", None) is None:
                raise InputError(
                    f"'{path.name}' has no grid of voxels ({type(found).__name__}, such as values on a surface); give a volume."
                )
            size = check_voxels(path.name, found.shape, found.get_data_dtype().itemsize * 8, NIBABEL_COPIES)
            check_length(path, size)
            image = image_from_object(found, modality=modality, frame=frame, name=name, shown=path.name)
    except InputError:
        raise
    except Exception as error:  # nibabel raises many kinds for damaged files
        raise InputError(
            f"'{path.name}' can't be read; it is damaged or truncated ({type(error).__name__}); copy it again."
        ) from error
    return image


@contextmanager
def _readable_by_nibabel(path: Path) -> Iterator[Path]:
    if path.name == path.name.lower():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield _link(path, Path(folder) / f"image{suffix_of(path)}")
