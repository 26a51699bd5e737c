"""Define `Image`, voxels on a grid. Depends on `Geometry`; knows no files, windows, models or MRML."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from .geometry import Geometry

MODALITIES = ("CT", "MR", "US", "CR", "PT", "OT")
"""DICOM modality codes that MedFM distinguishes; CR stands for every projection radiograph."""


MOST_NAME, MOST_FACT, MOST_FACTS = 200, 200, 100
"""Longest name and value, and largest number of values, that an image takes over from a header or a node."""


@dataclass(frozen=True, eq=False)
class Image:
    """A volume in the patient, or pictures without a place in a patient; a slice has one voxel along an axis.

    Args:
        voxels: (C, I, J, K), any real dtype; HU for CT, arbitrary units otherwise; uint8 and C = 3 for colour (RGB).
        geometry: the grid, whose shape is (I, J, K).
        modality: one of `MODALITIES`.
        name: the image's display name, cut to `MOST_NAME` letters; it becomes part of file names, so never put patient data
            there.
        facts: further facts about the acquisition that identify no one, e.g. {"BodyPart": "HEAD"}, cut to `MOST_FACTS` of
            `MOST_FACT` letters; "modality_guessed" is "yes" if the modality came from the voxel values; "units" is a UCUM
            unit of the values where it is known and they are not HU.
        notes: sentences on how the image was read that a reader of every result must know.
        display: (1 or 3, I, J, K) uint8, the pixels as a workstation shows them (window, lookup table and inversion of
            the header applied); None where `core.view` chooses the window.
        extents: (columns, rows) of each picture along k, where pictures of different sizes share a grid, each in its
            corner at index 0; () if all fill the grid.

    Raises:
        InputError: if an array has another shape than the grid, or the modality is unknown.
    """

    voxels: np.ndarray = field(repr=False)
    geometry: Geometry
    modality: str = "OT"
    name: str = "image"
    facts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    display: np.ndarray | None = field(default=None, repr=False)
    extents: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        voxels = np.asarray(self.voxels)
        if voxels.ndim != 4 or voxels.shape[1:] != self.geometry.shape:
            raise InputError(
                f"An image needs voxels of shape (C, I, J, K) on its grid {self.geometry.shape}; received {voxels.shape}."
            )
        if voxels.dtype.kind not in "iufb":
            raise InputError(f"Voxels must be real numbers, not {voxels.dtype}; convert the image first.")
        if self.modality not in MODALITIES:
            raise InputError(f"Unknown modality {self.modality!r}; choose one of {', '.join(MODALITIES)}.")
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "name", str(self.name)[:MOST_NAME])
        facts = {str(key)[:MOST_NAME]: str(value)[:MOST_FACT] for key, value in list(self.facts.items())[:MOST_FACTS]}
        object.__setattr__(self, "facts", facts)
        shown = self.display
        if shown is not None and (
            shown.dtype != np.uint8 or shown.shape[0] not in (1, 3) or shown.shape[1:] != voxels.shape[1:]
        ):
            raise InputError(
                f"The displayed pixels need shape (1 or 3, I, J, K) on the grid {self.geometry.shape} and type uint8; "
                f"received {shown.dtype} {shown.shape}."
            )
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "extents", tuple((int(c), int(r)) for c, r in self.extents))
        columns, rows, count = self.geometry.shape
        if self.extents and (
            len(self.extents) != count or any(not (0 < c <= columns and 0 < r <= rows) for c, r in self.extents)
        ):
            raise InputError(f"The sizes {self.extents} don't fit {count} pictures of at most {columns}×{rows} pixels.")

    @property
    def is_picture(self) -> bool:
        """Whether it is a stack of pictures without a place in the patient."""
        return self.geometry.is_picture

    @property
    def is_colour(self) -> bool:
        """Whether the voxels are colours: three channels of 8 bits."""
        return self.voxels.shape[0] == 3 and self.voxels.dtype == np.uint8

    @property
    def scalars(self) -> np.ndarray:
        """The only channel, (I, J, K).

        Raises:
            InputError: if the image has several channels.
        """
        if self.voxels.shape[0] != 1:
            raise InputError(
                f"'{self.name}' has {self.voxels.shape[0]} channels (colour or vector); convert it to a scalar volume first."
            )
        return self.voxels[0]

    @property
    def units(self) -> str:
        """'HU' for CT, the header's unit where it has one ("Gy", "Bq/mL"), else '' (arbitrary)."""
        return "HU" if self.modality == "CT" else self.facts.get("units", "")

    def with_voxels(self, voxels: np.ndarray) -> Image:
        """Return the same image with other values, (C, I, J, K), on the same grid."""
        return replace(self, voxels=voxels)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of voxels and grid, which identifies the content in caches and provenance."""
        sha = hashlib.sha256(repr((self.voxels.dtype.str, self.voxels.shape)).encode())
        sha.update(self.geometry.affine.tobytes())
        sha.update(np.ascontiguousarray(self.voxels))
        if self.display is not None:
            sha.update(np.ascontiguousarray(self.display))
        return sha.hexdigest()

    def check_usable(self) -> None:
        """Check that a model can read the image.

        Raises:
            InputError: several channels other than colour, non-finite values, no variation, or a single row of voxels.
        """
        values = self.voxels if self.is_colour else self.scalars
        shape = self.geometry.shape
        if sorted(shape)[1] < 8:
            raise InputError(
                f"'{self.name}' is only {'×'.join(map(str, shape))} voxels; choose an image with at least 8×8 in plane."
            )
        check_finite(values, self.name)
        if values.min() == values.max():
            raise InputError(
                f"'{self.name}' is constant (every voxel is {values.flat[0]}), so there is nothing to analyse; "
                "check that it was loaded correctly."
            )


def check_finite(values: np.ndarray, name: str) -> None:
    """Check that no value is NaN or infinite.

    Args:
        values: any array of real numbers.
        name: of the image, for the message.

    Raises:
        InputError: if one is, with their number.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.size(values) - np.count_nonzero(np.isfinite(values)))
        raise InputError(
            f"'{name}' has {bad} voxels that are NaN or infinite; replace them first (with 0 or the value of air)."
        )


def guess_modality(values: np.ndarray) -> str:
    """Guess 'CT' or 'MR' from (I, J, K) values alone: only CT has air far below zero and tissue near zero.

    For files whose header states no modality (NIfTI, most NRRD); callers must report that it was guessed.
    """
    steps = (max(1, n // 64) for n in values.shape)  # a few 100,000 voxels represent the volume well enough
    low, high = np.percentile(np.asarray(values)[tuple(slice(None, None, step) for step in steps)], (1, 99.5))
    return "CT" if low <= -200 and high < 5000 else "MR"
