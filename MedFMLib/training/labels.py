"""Which structures the embedded model learns, and which voxel values of which source mean them.

Knows names and numbers only; nothing of files, pictures or models. Three levels:

* a *value* is what a source's label map stores (FreeSurfer numbers, TotalSegmentator numbers, …);
* a *part* is one of our own classes; parts never overlap, so a picture has one part per pixel;
* a *structure* is what a person asks for by name, a union of parts; structures may overlap ("brain").
"""

from __future__ import annotations

import numpy as np

PARTS = (
    "background",
    "head tissue",
    "left cerebrum",
    "right cerebrum",
    "cerebellum",
    "brainstem",
    "left lateral ventricle",
    "right lateral ventricle",
    "left thalamus",
    "right thalamus",
    "midline ventricles",
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
"""Index = part number (uint8). "tissue" parts are whatever of the body has no name here."""

UNKNOWN_PART = 255
"""Part number of pixels that a source doesn't label; ignored by every loss and measure."""

_PART = {name: number for number, name in enumerate(PARTS)}

STRUCTURES: dict[str, tuple[int, ...]] = {
    "brain": tuple(range(_PART["left cerebrum"], _PART["midline ventricles"] + 1)),
    "left cerebral hemisphere": tuple(_PART[p] for p in ("left cerebrum", "left lateral ventricle", "left thalamus")),
    "right cerebral hemisphere": tuple(
        _PART[p] for p in ("right cerebrum", "right lateral ventricle", "right thalamus")
    ),
    **{
        name: (_PART[name],)
        for name in (
            "cerebellum",
            "brainstem",
            "left lateral ventricle",
            "right lateral ventricle",
            "left thalamus",
            "right thalamus",
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
    },
}
"""Name → part numbers, in the order in which answers list structures."""

HEAD_STRUCTURES = tuple(STRUCTURES)[:9]
TORSO_STRUCTURES = tuple(STRUCTURES)[9:]
MR_TORSO_STRUCTURES = ("liver", "spleen", "left kidney", "right kidney", "stomach", "aorta", "spine")

LABELS = {"MR": HEAD_STRUCTURES + MR_TORSO_STRUCTURES, "CT": TORSO_STRUCTURES}
"""What the shipped model offers, by modality."""

_LEFT_CEREBRUM = (2, 3, 11, 12, 13, 17, 18, 25, 26, 27, 28, 30, 31, 136, 163)
_RIGHT_CEREBRUM = (41, 42, 50, 51, 52, 53, 54, 57, 58, 59, 60, 62, 63, 137, 164)

FREESURFER: dict[str, tuple[int, ...]] = {
    "left cerebrum": _LEFT_CEREBRUM,
    "right cerebrum": _RIGHT_CEREBRUM,
    "cerebellum": (7, 8, 46, 47),
    "brainstem": (16,),
    "left lateral ventricle": (4, 5),
    "right lateral ventricle": (43, 44),
    "left thalamus": (9, 10),
    "right thalamus": (48, 49),
    "midline ventricles": (14, 15, 72, 85),
}
"""FreeSurfer values, as in the SynthSeg label maps (53 values) and in aseg; 24 is CSF outside the ventricles and counts
as head tissue; 500 and more are extra-cerebral clusters."""

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
    """(size,) uint8 look-up from a source's value to our part number.

    Args:
        values: part name → values of the source.
        rest: name of the part for every other value but 0, or "unknown".
        size: one more than the largest value.
    """
    table = np.full(size, UNKNOWN_PART if rest == "unknown" else _PART[rest], np.uint8)
    table[0] = _PART["background"]
    for name, numbers in values.items():
        table[list(numbers)] = _PART[name]
    return table


def part_number(name: str) -> int:
    """Number of a part by its name."""
    return _PART[name]


def structure_mask(parts: np.ndarray, structure: str) -> np.ndarray:
    """bool array of the same shape: where a part picture or volume shows a structure."""
    table = np.zeros(256, bool)
    table[list(STRUCTURES[structure])] = True
    return table[parts]


def other_side(structure: str) -> str | None:
    """The same structure on the other side, or None for one in the middle."""
    side, _, rest = structure.partition(" ")
    if side not in ("left", "right"):
        return None
    return f"{'right' if side == 'left' else 'left'} {rest}"
