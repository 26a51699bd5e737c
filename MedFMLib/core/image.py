"""Define `Image`, voxels on a grid. Depends on `Geometry`; knows no files, windows, models or MRML."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from .geometry import Geometry

MODALITIES = ("CT", "MR", "US", "CR", "PT", "OT")
"""DICOM modality codes that MedFM distinguishes; CR stands for every projection radiograph."""


@dataclass(frozen=True, eq=False)
class Image:
    """A scalar or multi-channel volume in the patient; a slice is an Image with one voxel along an axis.

    Args:
        voxels: (C, I, J, K), any real dtype; HU for CT, arbitrary units otherwise.
        geometry: the grid, whose shape is (I, J, K).
        modality: one of `MODALITIES`.
        name: the image's display name; it becomes part of file names, so never put patient data there.
        facts: further facts about the acquisition that identify no one, e.g. {"BodyPart": "HEAD"};
            "modality_guessed" is "yes" if the modality came from the voxel values.

    Raises:
        InputError: if the array has another shape than the grid, or the modality is unknown.
    """

    voxels: np.ndarray = field(repr=False)
    geometry: Geometry
    modality: str = "OT"
    name: str = "image"
    facts: dict[str, str] = field(default_factory=dict)

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
        """'HU' for CT, '' (arbitrary) otherwise."""
        return "HU" if self.modality == "CT" else ""

    def with_voxels(self, voxels: np.ndarray) -> Image:
        """Return the same image with other values, (C, I, J, K), on the same grid."""
        return replace(self, voxels=voxels)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of voxels and grid, which identifies the content in caches and provenance."""
        sha = hashlib.sha256(repr((self.voxels.dtype.str, self.voxels.shape)).encode())
        sha.update(self.geometry.affine.tobytes())
        sha.update(np.ascontiguousarray(self.voxels))
        return sha.hexdigest()

    def check_usable(self) -> None:
        """Check that a model can read the image.

        Raises:
            InputError: several channels, non-finite values, no variation, or a single row of voxels.
        """
        values = self.scalars
        if sorted(values.shape)[1] < 8:
            raise InputError(
                f"'{self.name}' is only {'×'.join(map(str, values.shape))} voxels; choose an image with at least 8×8 in plane."
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int(np.size(values) - np.count_nonzero(np.isfinite(values)))
            raise InputError(
                f"'{self.name}' has {bad} voxels that are NaN or infinite; replace them first (with 0 or the value of air)."
            )
        if values.min() == values.max():
            raise InputError(
                f"'{self.name}' is constant (every voxel is {values.flat[0]}), so there is nothing to analyse; "
                "check that it was loaded correctly."
            )


def guess_modality(values: np.ndarray) -> str:
    """Guess 'CT' or 'MR' from (I, J, K) values alone: only CT has air far below zero and tissue near zero.

    For files whose header states no modality (NIfTI, most NRRD); callers must report that it was guessed.
    """
    steps = (max(1, n // 64) for n in values.shape)  # a few 100,000 voxels represent the volume well enough
    low, high = np.percentile(np.asarray(values)[tuple(slice(None, None, step) for step in steps)], (1, 99.5))
    return "CT" if low <= -200 and high < 5000 else "MR"
