"""Answer questions about a volume from its header and its grid: plane, modality, slices, field of view, spacing, body part.

Knows no model; the body part is what a model takes the image for (`core.domain`), or what the header states.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.domain import ImageDomain
from ..core.findings import SliceReference
from ..core.image import Image
from ..core.request import Request
from ..fact_check import VolumeQuestion

HEADER_SAYS = "from the image's header"
"""What such an answer rests on, in parentheses at its end."""

MODALITIES = {
    "CT": "CT (computed tomography)", "MR": "MR (magnetic resonance)", "PT": "PET (positron emission tomography)",
    "US": "ultrasound", "CR": "a radiograph",
}  # fmt: skip
SPOKEN = {
    "ct": "CT", "cat": "CT", "computed tomography": "CT", "mr": "MR", "mri": "MR", "magnetic resonance": "MR",
    "magnetic resonance imaging": "MR", "pet": "PT", "x-ray": "CR", "xray": "CR", "radiograph": "CR", "ultrasound": "US",
    "us": "US",
}  # fmt: skip
"""Words for modalities in questions → the image's."""

UNKNOWN_REGION = "not known to this model"


@dataclass(frozen=True)
class GeometricAnswer:
    """An answer that no language model wrote.

    Args:
        text: one or two sentences, which say what they rest on.
        evidence: slices where the structures lie; () for what the header says.
    """

    text: str
    evidence: tuple[SliceReference, ...] = ()


def answer_from_header(asked: VolumeQuestion, request: Request, domain: ImageDomain) -> GeometricAnswer:
    """Return the answer to a question of a kind in `HEADER`.

    Args:
        asked: the question.
        request: with the image and the slices that are asked about.
        domain: what the model takes the image for.
    """
    said = {
        "plane": _plane, "modality": _modality, "slices": _slices, "field of view": _field_of_view, "spacing": _spacing,
    }  # fmt: skip
    if asked.kind == "region":
        return GeometricAnswer(_region(request.image, domain))
    return GeometricAnswer(said[asked.kind](asked, request))


def _plane(asked: VolumeQuestion, request: Request) -> str:
    geometry, chosen = request.image.geometry, request.slices.plane
    if not geometry.oriented:
        return "The file gives no orientation, so the plane is not known."
    plane = chosen or geometry.acquisition_plane
    of = "slices in question are" if chosen else "volume's slices are"
    sure = "" if not asked.value else "Yes, the " if asked.value == plane else "No, the "
    return f"{sure or 'The '}{of} {plane} ({HEADER_SAYS})."


def _modality(asked: VolumeQuestion, request: Request) -> str:
    image = request.image
    name = MODALITIES.get(image.modality, "")
    if not name:
        return "The file does not say the modality, and it could not be guessed."
    if image.facts.get("modality_guessed"):
        return f"Probably {name}: the file does not say it, so it was guessed from the voxel values."
    meant = SPOKEN.get(asked.value, "")
    sure = "" if not meant else "Yes, it" if meant == image.modality else "No, it"
    return f"{sure or 'It'} is {name} ({HEADER_SAYS})."


def _region(image: Image, domain: ImageDomain) -> str:
    stated = image.facts.get("BodyPartExamined", "").lower()
    if domain.region:
        also = f" The header states “{stated}”." if stated else ""
        return f"The image seems to show the {domain.region}, as far as the model recognises.{also}"
    if stated:
        return f"The header states “{stated}”; by its voxels, the body part is {UNKNOWN_REGION}."
    return f"The body part is {UNKNOWN_REGION}."


def _slices(asked: VolumeQuestion, request: Request) -> str:
    geometry = request.image.geometry
    plane = request.slices.plane or geometry.acquisition_plane
    count = geometry.shape[geometry.index_axis(plane)]
    kind = f"{plane} " if geometry.oriented else ""
    return f"The volume has {count} {kind}slice{'' if count == 1 else 's'} ({HEADER_SAYS})."


def _field_of_view(asked: VolumeQuestion, request: Request) -> str:
    geometry = request.image.geometry
    voxels = " × ".join(map(str, geometry.shape))
    if not geometry.metric:
        return f"The volume has {voxels} voxels; their size in millimetres is not known."
    extents = [f"{n * s:.0f}" for n, s in zip(geometry.shape, geometry.spacing, strict=True)]
    if not geometry.oriented:
        return f"The field of view is {' × '.join(extents)} mm, {voxels} voxels ({HEADER_SAYS})."
    ordered = [extents[geometry.world_axes.index(world)] for world in range(3)]
    return f"The field of view is {' × '.join(ordered)} mm (left–right × front–back × head–foot; {HEADER_SAYS})."


def _spacing(asked: VolumeQuestion, request: Request) -> str:
    image, geometry = request.image, request.image.geometry
    if not geometry.metric:
        return "The file does not say how large its voxels are."
    voxel = " × ".join(f"{s:.2f}" for s in geometry.spacing)
    plane = request.slices.plane or geometry.acquisition_plane
    apart = geometry.spacing[geometry.index_axis(plane)]
    kind = f"{plane} " if geometry.oriented else ""
    thick = image.facts.get("SliceThickness", "")
    more = f", with a slice thickness of {thick} mm" if thick else ""
    return f"The voxels measure {voxel} mm, and the {kind}slices are {apart:.2f} mm apart{more} ({HEADER_SAYS})."
