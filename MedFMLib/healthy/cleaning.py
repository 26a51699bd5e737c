"""Takes out of a case what could tell who it is, before it goes into the library. Knows voxels and words; nothing of folders.

Names, ids, dates and UIDs never come along: an `Image` has none but its own name and frame of reference, which are replaced.
Text that is burned in is looked for in every slice (it can be missed, see `burned_in`), so that a person must say that they
looked. A head has a face: only the brain is kept, or a person says yes to the face.
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
"""Facts of an image that say how it was made and not of whom."""

HEAD = ("brain", "cerebell", "cerebr", "ventricle", "thalamus", "hippocampus", "putamen", "caudate", "skull", "eye")
"""Words in the names of structures of a head."""

MARGIN_MM = 6.0
"""Left around the brain when the rest of a head is taken away."""

STRIPPED = 0.02
"""Where no more than this share of what is bright lies outside of the brain, the head was stripped before."""


@dataclass(frozen=True)
class Consent:
    """What the person who adds a case says.

    Args:
        text: they looked, and there is no text in the pictures that names anybody.
        face: the face may stay.
    """

    text: bool = False
    face: bool = False


def cleaned(
    image: Image, segmentation: Segmentation, name: str, consent: Consent
) -> tuple[Image, Segmentation, tuple[str, ...]]:
    """(image, segmentation, what was done) without what could tell who it is; the grid stays where it was.

    Args:
        name: the case's new name.

    Raises:
        InputError: where a person has to look, or to say yes.
    """
    done = ["names, ids, dates and UIDs did not come along"]
    if not consent.text and (slices := with_text(image)):
        some = ", ".join(map(str, slices[:6])) + (" …" if len(slices) > 6 else "")
        raise InputError(
            f"{len(slices)} slices may have text burned in ({image.geometry.acquisition_plane} {some}); look at them, and say "
            "that there is none that names anybody (--text-checked)."
        )
    done.append("a person looked for burned-in text" if consent.text else "no burned-in text was found")
    voxels = image.voxels
    if is_head(image, segmentation):
        voxels, words = _without_face(image, segmentation, consent)
        done.append(words)
    facts = {key: image.facts[key] for key in KEPT_FACTS if key in image.facts}
    geometry = Geometry(image.geometry.shape, image.geometry.affine)  # without its frame of reference
    return (
        Image(voxels, geometry, image.modality, name, facts),
        replace(segmentation, geometry=geometry, evidence=()),
        tuple(done),
    )


def with_text(image: Image) -> list[int]:
    """Numbers of slices, as acquired, that may have text burned in."""
    plane, window = image.geometry.acquisition_plane, window_for(image)
    count = image.geometry.shape[image.geometry.index_axis(plane)]
    return [n for n in range(count) if burned_in_text.find(make_view(image, plane, n, window).pixels)]


def is_head(image: Image, segmentation: Segmentation) -> bool:
    """Does the image show a head, by its structures or its header?"""
    names = [s.label.lower() for s in segmentation.segments if s.boxed.inside.any()]
    by_name = any(word in name for name in names for word in HEAD)
    return by_name or image.facts.get("BodyPartExamined", "").upper() in ("HEAD", "BRAIN", "SKULL", "FACE")


def _without_face(image: Image, segmentation: Segmentation, consent: Consent) -> tuple[np.ndarray, str]:
    """(voxels, what was done)."""
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
            return image.voxels, "there is nothing but the brain"
        if not consent.face:
            return np.where(outside, values.min(), values)[
                None
            ], f"all but the brain was taken away ({MARGIN_MM:g} mm around it)"
    if not consent.face:
        raise InputError(
            "The image shows a head, and its brain is not segmented, so that the face can't be taken away; segment “brain” "
            "first, or say yes to the face (--keep-face)."
        )
    return image.voxels, "a person said yes to the face"
