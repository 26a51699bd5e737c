"""Remove what could identify the patient from a case before it is added to the library.

Depends on voxels and names only.

Names, ids, dates and UIDs are never copied: an `Image` has only its own name and frame of reference, which are
replaced.
Burned-in text is searched in every slice (it can be missed, see `imaging.burned_in_text`), so the user must confirm a
visual check.
A head has a face: only the brain is kept, unless the user consents to storing the face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.findings import Segmentation
from ..core.geometry import Geometry
from ..core.image import Image
from ..core.view import make_view, window_for
from ..errors import InputError
from ..imaging import burned_in_text

KEPT_FACTS = ("SliceThickness", "MagneticFieldStrength", "KVP", "BodyPartExamined", "Contrast", "window")
"""Facts of an image about its acquisition, which do not identify the patient."""

HEAD = ("brain", "cerebell", "cerebr", "ventricle", "thalamus", "hippocampus", "putamen", "caudate", "skull", "eye")
"""Words in the names of structures of a head."""

MARGIN_MM = 6.0
"""Margin in mm around the brain when the rest of a head is removed."""

STRIPPED = 0.02
"""If at most this fraction of the bright voxels lies outside the brain, the image was skull-stripped before."""


@dataclass(frozen=True)
class Consent:
    """Confirmations by the user who adds a case.

    Args:
        text: the user has checked the pictures for text that identifies a person, and there is none.
        face: the face may be stored.
    """

    text: bool = False
    face: bool = False


def cleaned(
    image: Image, segmentation: Segmentation, name: str, consent: Consent
) -> tuple[Image, Segmentation, tuple[str, ...]]:
    """Return the case without what could identify the patient; the grid stays at its position.

    Args:
        image: scalar volume.
        segmentation: on the image's grid.
        name: the case's new name.
        consent: the user's confirmations.

    Returns:
        (image, segmentation, list of what was done)

    Raises:
        InputError: if a confirmation is missing.
    """
    done = ["names, ids, dates and UIDs were removed"]
    if not consent.text and (slices := with_text(image)):
        some = ", ".join(map(str, slices[:6])) + (" …" if len(slices) > 6 else "")
        raise InputError(
            f"{len(slices)} slices may have burned-in text ({image.geometry.acquisition_plane} {some}); check them, and confirm "
            "that no text identifies a person (--text-checked)."
        )
    done.append("burned-in text was excluded by a visual check" if consent.text else "no burned-in text was found")
    voxels = image.voxels
    if is_head(image, segmentation):
        voxels, words = _without_face(image, segmentation, consent)
        done.append(words)
    facts = {key: image.facts[key] for key in KEPT_FACTS if key in image.facts}
    geometry = Geometry(image.geometry.shape, image.geometry.affine)  # drops its frame of reference
    return (
        Image(voxels, geometry, image.modality, name, facts),
        replace(segmentation, geometry=geometry, evidence=()),
        tuple(done),
    )


def with_text(image: Image) -> list[int]:
    """Return the numbers of slices, in the acquisition plane, that may have burned-in text."""
    plane, window = image.geometry.acquisition_plane, window_for(image)
    count = image.geometry.shape[image.geometry.index_axis(plane)]
    return [n for n in range(count) if burned_in_text.find(make_view(image, plane, n, window).pixels)]


def is_head(image: Image, segmentation: Segmentation) -> bool:
    """Return whether the image shows a head, by its structures or its header.

    Args:
        image: scalar volume.
        segmentation: on the image's grid.
    """
    names = [s.label.lower() for s in segmentation.segments if s.boxed.inside.any()]
    by_name = any(word in name for name in names for word in HEAD)
    return by_name or image.facts.get("BodyPartExamined", "").upper() in ("HEAD", "BRAIN", "SKULL", "FACE")


def _without_face(image: Image, segmentation: Segmentation, consent: Consent) -> tuple[np.ndarray, str]:
    """Return (voxels, what was done)."""
    import SimpleITK as sitk

    masks = [s.mask for s in segmentation.segments if any(word in s.label.lower() for word in HEAD[:-2])]
    brain = np.any(masks, axis=0) if masks else np.zeros(image.geometry.shape, bool)
    values = image.scalars
    if brain.any():
        picture = sitk.GetImageFromArray(brain.transpose(2, 1, 0).astype(np.uint8))
        picture.SetSpacing(image.geometry.spacing.tolist())
        far = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(picture, False, False, True)).transpose(2, 1, 0)
        outside = far > MARGIN_MM
        bright = values > values.min() + 0.1 * (np.percentile(values, 99.5) - values.min())
        if (bright & outside).sum() <= STRIPPED * bright.sum():
            return image.voxels, "the image was already limited to the brain"
        if not consent.face:
            return np.where(outside, values.min(), values)[
                None
            ], f"everything outside the brain was removed ({MARGIN_MM:g} mm around it)"
    if not consent.face:
        raise InputError(
            "The image shows a head, and its brain is not segmented, so that the face can't be removed; segment “brain” "
            "first, or consent to storing the face (--keep-face)."
        )
    return image.voxels, "the user consented to storing the face"
