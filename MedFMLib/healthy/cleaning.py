"""Remove what could identify the patient from a case before it is added to the library.

Depends on voxels and names only.

Names, ids, dates and UIDs are never copied: an `Image` has only its own name and frame of reference, which are
replaced.
Burned-in text is searched in every slice (it can be missed, see `imaging.burned_in_text`), so the user must confirm a
visual check.
Texts that are stored with the case are checked for dates, numbers and names (`texts`).
A head has a face: only the brain is kept, unless the user consents to storing the face. What is not known to be without a head
counts as one (`heads`), and what remains of a head is measured for a surface.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..core.findings import Segmentation
from ..core.geometry import Geometry, mask_box
from ..core.image import Image
from ..core.view import make_view, window_for
from ..errors import InputError
from ..imaging import burned_in_text
from . import heads, outline, texts

KEPT_FACTS = ("SliceThickness", "MagneticFieldStrength", "KVP", "BodyPartExamined", "Contrast", "window")
"""Facts of an image about its acquisition, which do not identify the patient."""

MARGIN_MM = 6.0
"""Margin in mm around the brain when the rest of a head is removed."""

STRIPPED = 0.02
"""If at most this fraction of the bright voxels lies outside the brain, the image was skull-stripped before."""

MOST_BRAIN = 2000.0, 205.0
"""Volume in mL and extent in mm of the largest brain; what is larger has more than a brain in it."""

MOST_SURFACE = 0.03
"""Largest fraction of the voxels kept around the brain that may be surroundings of the head: more would be its surface.
Measured on a T1 of a whole head: 0.1 % for its brain, 14 % and 23 % for its back and its face under that name."""

MOST_AT_BORDER = 0.02
"""Largest fraction of a stripped brain's voxels at the border of the picture: more may be a part of a face, cut off there."""

BRAIN_HU = (-30.0, 100.0), 0.9
"""HU of a brain in CT, and the least fraction of it with such values; a face has air, fat and bone."""


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
    image: Image, segmentation: Segmentation, name: str, consent: Consent, words: Iterable[str] = ()
) -> tuple[Image, Segmentation, tuple[str, ...]]:
    """Return the case without what could identify the patient; the grid stays at its position.

    Args:
        image: scalar volume.
        segmentation: on the image's grid.
        name: the case's new name.
        consent: the user's confirmations.
        words: texts that came with the image and are not stored, such as the study's description; they may tell of a head.

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
    voxels, signs = image.voxels, heads.look(image, segmentation, words)
    if signs.may_show_face:
        voxels, said = _without_face(image, segmentation, consent, signs)
        done.append(said)
    else:
        done.append(f"no head is in sight: {signs}")
    facts = {key: image.facts[key] for key in KEPT_FACTS if key in image.facts}
    geometry = Geometry(image.geometry.shape, image.geometry.affine)  # drops its frame of reference
    return (
        Image(voxels, geometry, image.modality, name, facts),
        replace(segmentation, geometry=geometry, evidence=()),
        tuple(done),
    )


def check_texts(stored: dict[str, str], consent: Consent) -> None:
    """Check the texts that are stored with a case.

    Args:
        stored: what a text is, such as "title" → the text.
        consent: the user's confirmations.

    Raises:
        InputError: for a text that may identify a person and was not confirmed; a date or number in the title always.
    """
    for what, text in stored.items():
        found = texts.identifying(text)
        if what == "title" and (found or not text.strip()):
            raise InputError(f"A title describes the case without names or dates, such as “adult head”; not '{text}'.")
        if consent.text:
            continue
        if found := (*found, *texts.unusual(text)):
            raise InputError(
                f"The {what} '{text}' may identify a person ({', '.join(found[:5])}); write it in other words, or "
                "confirm that no text identifies a person (--text-checked)."
            )


def with_text(image: Image) -> list[int]:
    """Return the numbers of slices, in the acquisition plane, that may have burned-in text."""
    plane, window = image.geometry.acquisition_plane, window_for(image)
    count = image.geometry.shape[image.geometry.index_axis(plane)]
    return [n for n in range(count) if burned_in_text.find(make_view(image, plane, n, window).pixels)]


def _without_face(
    image: Image, segmentation: Segmentation, consent: Consent, signs: heads.HeadSigns
) -> tuple[np.ndarray, str]:
    """Return (voxels, what was done)."""
    if consent.face:
        return image.voxels, "the user consented to storing the face"
    masks = [s.mask for s in segmentation.segments if heads.is_of_brain(s.label)]
    brain = np.any(masks, axis=0) if masks else np.zeros(image.geometry.shape, bool)
    if not brain.any():
        raise InputError(_question(signs))
    far, values = _distance(brain, image), image.scalars
    outside = far > MARGIN_MM
    bright = values > values.min() + 0.1 * (np.percentile(values, 99.5) - values.min())
    stripped = (bright & outside).sum() <= STRIPPED * bright.sum()
    if problem := _more_than_brain(image, brain, ~outside, stripped):
        raise InputError(
            f"What is segmented as brain has more than a brain in it ({problem}), so that the face can't be removed; correct "
            "it, or consent to storing the face (--keep-face)."
        )
    if stripped:
        return image.voxels, "the image was already limited to the brain"
    return (
        np.where(outside, values.min(), values)[None],
        f"everything outside the brain was removed ({MARGIN_MM:g} mm around it)",
    )


def _question(signs: heads.HeadSigns) -> str:
    if signs.head:
        return (
            "The image shows a head, and its brain is not segmented, so that the face can't be removed; segment “brain” first, "
            f"or consent to storing the face (--keep-face). Signs: {signs}."
        )
    return (
        f"It is not certain that the image shows no face: {signs}; look at it, and confirm that no face is in it or that it may "
        "be stored (--keep-face)."
    )


def _distance(mask: np.ndarray, image: Image) -> np.ndarray:
    """Return the distance of each voxel to a mask in mm, (I, J, K)."""
    import SimpleITK as sitk

    picture = sitk.GetImageFromArray(mask.transpose(2, 1, 0).astype(np.uint8))
    picture.SetSpacing(image.geometry.spacing.tolist())
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(picture, False, False, True)).transpose(2, 1, 0)


def _more_than_brain(image: Image, brain: np.ndarray, kept: np.ndarray, stripped: bool) -> str:
    """Return why a mask can't be that of a brain alone, measured; "" if it can.

    Args:
        image: the image, with the head.
        brain: (I, J, K) bool.
        kept: the brain with its margin.
        stripped: whether nothing but the brain is bright.
    """
    volume = float(brain.sum()) * image.geometry.voxel_volume / 1000
    extents = [(box.stop - box.start) * mm for box, mm in zip(mask_box(brain), image.geometry.spacing, strict=True)]
    if volume > MOST_BRAIN[0] or max(extents) > MOST_BRAIN[1]:
        return f"{volume:.0f} mL, {max(extents):.0f} mm long"
    if image.modality == "CT":
        (low, high), least = BRAIN_HU
        share = float(((image.scalars[brain] >= low) & (image.scalars[brain] <= high)).mean())
        if share < least:
            return f"only {100 * share:.0f} % of it have the HU of a brain"
    if stripped:
        at_border = sum(int(np.take(brain, side, axis=axis).sum()) for axis in range(3) for side in (0, -1))
        share = at_border / brain.sum()
        return f"{100 * share:.0f} % of it lie at the border of the image" if share > MOST_AT_BORDER else ""
    head = outline.averaged(image)
    near, _ = outline.pooled(outline.to_axial(kept, image), outline.axial_spacing(image))
    near = near > 0.5
    share = float((near & outline.surroundings(head)).sum() / max(near.sum(), 1))
    return f"{100 * share:.0f} % of it and its margin are the surface of the head" if share > MOST_SURFACE else ""
