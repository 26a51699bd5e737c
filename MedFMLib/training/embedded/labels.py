"""Define the structures of the embedded model, and the voxel values of each source that represent them.

Depends on names and numbers only; no files, pictures or models. Three levels:

* a *value* is what a source's label map stores (FreeSurfer numbers, TotalSegmentator numbers, …);
* a *part* is one of the model's classes; parts never overlap, so a picture has one part per pixel;
* a *structure* is what a user requests by name, a union of parts; structures may overlap ("brain").
"""

from __future__ import annotations

import numpy as np

_HALVES = (
    "cerebral white matter",
    "cerebral cortex",
    "lateral ventricle",
    "cerebellum",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "hippocampus",
    "amygdala",
    "accumbens",
    "ventral diencephalon",
)
"""Brain parts that come in pairs."""

PARTS = (
    "background",
    "head tissue",
    *(f"{side} {name}" for name in _HALVES for side in ("left", "right")),
    "third ventricle",
    "fourth ventricle",
    "brainstem",
    "torso tissue",
    "left lung",
    "right lung",
    "liver",
    "spleen",
    "left kidney",
    "right kidney",
    "stomach",
    "aorta",
    "spine",
    "urinary bladder",
    "left hip bone",
    "right hip bone",
)
"""Index = part number (uint8). "tissue" parts are all of the body without another name here."""

TISSUES = ("background", "head tissue", "torso tissue")
"""Parts that are not structures."""

UNKNOWN_PART = 255
"""Part number of pixels that a source doesn't label; ignored by every loss and measure."""

_PART = {name: number for number, name in enumerate(PARTS)}

PAIRS = tuple((_PART[p], _PART[p.replace("left", "right", 1)]) for p in PARTS if p.startswith("left "))
"""(left, right) part numbers; in a sagittal slice they can't be distinguished."""

_FIRST, _LAST = _PART["left cerebral white matter"], _PART["brainstem"]


def _hemisphere(side: str) -> tuple[int, ...]:
    names = ("cerebellum", "ventral diencephalon")
    return tuple(_PART[f"{side} {name}"] for name in _HALVES if name not in names)


STRUCTURES: dict[str, tuple[int, ...]] = {
    "brain": tuple(range(_FIRST, _LAST + 1)),
    "left cerebral hemisphere": _hemisphere("left"),
    "right cerebral hemisphere": _hemisphere("right"),
    "cerebellum": (_PART["left cerebellum"], _PART["right cerebellum"]),
    **{
        name: (_PART[name],)
        for name in (
            "brainstem",
            "left lateral ventricle",
            "right lateral ventricle",
            "left thalamus",
            "right thalamus",
            "third ventricle",
            "fourth ventricle",
            *(
                f"{side} {name}"
                for name in (
                    "caudate",
                    "putamen",
                    "pallidum",
                    "hippocampus",
                    "amygdala",
                    "accumbens",
                    "ventral diencephalon",
                    "cerebellum",
                    "cerebral cortex",
                    "cerebral white matter",
                )
                for side in ("left", "right")
            ),
            *PARTS[_PART["left lung"] :],
        )
    },
}
"""Name → part numbers, in the order of structures in answers."""

BRAIN_PARTS = PARTS[_FIRST : _LAST + 1]
"""The 27 brain structures that don't overlap; used to measure brain segmentation."""

DEEP = tuple(range(_PART["left thalamus"], _PART["third ventricle"] + 1))
"""Part numbers of the small structures deep in the brain."""

HEAD_STRUCTURES = tuple(name for name in STRUCTURES if STRUCTURES[name][-1] <= _LAST)
TORSO_STRUCTURES = tuple(name for name in STRUCTURES if STRUCTURES[name][0] > _LAST)
MR_TORSO_STRUCTURES = ("liver", "spleen", "left kidney", "right kidney", "stomach", "aorta", "spine")

SPOKEN = (
    "brain",
    "left cerebral hemisphere",
    "right cerebral hemisphere",
    "cerebellum",
    "brainstem",
    "left lateral ventricle",
    "right lateral ventricle",
    "left thalamus",
    "right thalamus",
    *TORSO_STRUCTURES,
)
"""Structures in questions, answers and mask tokens; the smaller structures of the brain are only segmented."""

SPOKEN_HEAD = SPOKEN[: len(SPOKEN) - len(TORSO_STRUCTURES)]

HEAD_NECK_STRUCTURES = (
    "brainstem",
    "spinal cord",
    "right parotid gland",
    "left parotid gland",
    "esophagus",
    "larynx",
    "mandible",
)
"""Organs of the head and neck in CT, which a volume network segments."""

HIPPOCAMPUS_PARTS = ("anterior hippocampus", "posterior hippocampus")

LABELS = {"MR": HEAD_STRUCTURES + HIPPOCAMPUS_PARTS, "CT": HEAD_NECK_STRUCTURES}
"""Structures that the shipped model can segment, by modality."""

FREESURFER: dict[str, tuple[int, ...]] = {
    "left cerebral white matter": (2, 25, 27, 30, 136, 163),
    "right cerebral white matter": (41, 57, 59, 62, 137, 164),
    "left cerebral cortex": (3,),
    "right cerebral cortex": (42,),
    "left lateral ventricle": (4, 5, 31),
    "right lateral ventricle": (43, 44, 63),
    "left cerebellum": (7, 8),
    "right cerebellum": (46, 47),
    "left thalamus": (9, 10),
    "right thalamus": (48, 49),
    "left caudate": (11,),
    "right caudate": (50,),
    "left putamen": (12,),
    "right putamen": (51,),
    "left pallidum": (13,),
    "right pallidum": (52,),
    "left hippocampus": (17,),
    "right hippocampus": (53,),
    "left amygdala": (18,),
    "right amygdala": (54,),
    "left accumbens": (26,),
    "right accumbens": (58,),
    "left ventral diencephalon": (28,),
    "right ventral diencephalon": (60,),
    "third ventricle": (14,),
    "fourth ventricle": (15,),
    "brainstem": (16,),
}
"""FreeSurfer values, as in the SynthSeg label maps (53 values) and in aseg. 24 is CSF outside the ventricles and counts,
with 72 and 85, as head tissue, and so do the extra-cerebral clusters from 500 on. The choroid plexus (31, 63) belongs to
its ventricle, vessels and lesions to the white matter around them."""

FREESURFER_UNSIDED = (77, 80, 251, 252, 253, 254, 255)
"""Cerebral white matter whose value has no side; given the side of the nearest sided white matter."""

TOTALSEGMENTATOR_CT: dict[str, tuple[int, ...]] = {
    "spleen": (1,),
    "right kidney": (2,),
    "left kidney": (3,),
    "liver": (5,),
    "stomach": (6,),
    "left lung": (10, 11),
    "right lung": (12, 13, 14),
    "urinary bladder": (21,),
    "spine": tuple(range(25, 51)),
    "aorta": (52,),
    "left hip bone": (77,),
    "right hip bone": (78,),
}

TOTALSEGMENTATOR_MR: dict[str, tuple[int, ...]] = {
    "spleen": (1,),
    "right kidney": (2,),
    "left kidney": (3,),
    "liver": (5,),
    "stomach": (6,),
    "left lung": (10,),
    "right lung": (11,),
    "spine": (19, 20, 21),
    "aorta": (23,),
}

LUNGS: dict[str, tuple[int, ...]] = {"left lung": (1,), "right lung": (2,)}


def part_table(values: dict[str, tuple[int, ...]], rest: str, size: int = 1024) -> np.ndarray:
    """Return the (size,) uint8 look-up table from a source's value to the part number.

    Args:
        values: part name → values of the source.
        rest: name of the part for every other value except 0, or "unknown".
        size: one more than the largest value.
    """
    table = np.full(size, UNKNOWN_PART if rest == "unknown" else _PART[rest], np.uint8)
    table[0] = _PART["background"]
    for name, numbers in values.items():
        table[list(numbers)] = _PART[name]
    return table


def part_number(name: str) -> int:
    """Return the number of a part."""
    return _PART[name]


def structure_mask(parts: np.ndarray, structure: str) -> np.ndarray:
    """Return a bool array: where a part picture or volume has a structure.

    Args:
        parts: part numbers, any shape.
        structure: its name.
    """
    table = np.zeros(256, bool)
    table[list(STRUCTURES[structure])] = True
    return table[parts]


def other_side(structure: str) -> str | None:
    """Return the same structure on the other side, or None for one without a side."""
    side, _, rest = structure.partition(" ")
    if side not in ("left", "right"):
        return None
    return f"{'right' if side == 'left' else 'left'} {rest}"


FACT_SIZES = (3, 2, 2)
"""Numbers of values of plane, modality and region of whole pictures (crops are for adapters)."""
