"""Faces that would enter the library of healthy cases: every open image of a head asks, and no open image of a trunk does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.healthy import Consent, HealthyLibrary, heads, outline
from MedFMLib.healthy.cleaning import cleaned

HEADS = (
    ("MR", "brain_t1/t1_head.nii.gz"), ("MR", "brain_t1/t1_stripped.nii.gz"), ("MR", "brain_stroke/*.nii.gz"),
    ("MR", "brain_lesion/t2.nii.gz"), ("MR", "brain_tumor/brain1_image.nrrd"), ("MR", "sequences/brain_asl_4d.nii.gz"),
    ("MR", "healthy_reference/mni152_2009_t1.nii.gz"), ("CT", "healthy_reference/ct_head_template.nii.gz"),
    ("MR", "orientation/*.nii.gz"), ("MR", "dicom_mr_brain"), ("MR", "msd_hippocampus/images/*.nii.gz"),
    ("MR", "brain_labelmaps/*.nii.gz"), ("CT", "openkbp/*/*_ct.nii.gz"),
    ("MR", "spine_mr/t2.nii.gz"), ("MR", "spine_mr/t1w.nii.gz"), ("MR", "spine_mr/t2s_uncropped.nii.gz"),
    ("MR", "sequences/spine_*_4d.nii.gz"),
)  # fmt: skip
"""Images of a head, a part of it or a neck, which may show a chin."""

TRUNKS = (
    ("CT", "ct_torso/ct.nii.gz"), ("MR", "mr_torso/mr.nii.gz"), ("CT", "ct_chest/chest_ct.nii.gz"), ("CT", "dicom_ct_chest"),
    ("CT", "dicom_seg/ct"), ("CT", "ct_lung/lung_ct.mha"),
)  # fmt: skip
CROPS = (("MR", "breast/breast1_image.nrrd"), ("CT", "spine_ct/ct.nii.gz"))
"""Parts of a trunk without its outline: unknown, so they ask."""

LUNGS = {"ct_lung/lung_ct.mha": "ct_lung/lung_mask.mha"}
MANDIBLE = 7


def found(open_data, patterns):
    """Yield (modality, file relative to the data, image without any text) of every file."""
    root = open_data(".")
    for modality, pattern in patterns:
        paths = sorted(root.glob(pattern))
        assert paths, pattern  # a check on nothing fails
        for path in paths:
            image = read_image(path, modality=modality, frame=0 if "4d" in path.name else None)
            yield str(path.relative_to(root)), Image(image.voxels, image.geometry, modality)


def box(image: Image, label="structure") -> Segmentation:
    """A box in the middle with a name that says nothing."""
    mask = np.zeros(image.geometry.shape, bool)
    mask[tuple(slice(n // 3, n // 3 + max(1, n // 3)) for n in image.geometry.shape)] = True
    return Segmentation((Segment(label, mask),), image.geometry)


def segments(name: str, image: Image, open_data) -> Segmentation:
    """The lungs where the image shows nothing else to know it by, else `box`."""
    if name not in LUNGS:
        return box(image)
    mask = read_image(open_data(LUNGS[name]), modality="OT").scalars > 0
    return Segmentation((Segment("left lung", mask),), image.geometry)


def test_every_head_asks_and_no_trunk_does(open_data, capsys, attack):
    rows = []
    for truth, patterns in (("head or neck", HEADS), ("trunk", TRUNKS), ("part of a trunk", CROPS)):
        for name, image in found(open_data, patterns):
            signs = heads.look(image, segments(name, image, open_data))
            rows.append((name, truth, str(signs), "asks" if signs.may_show_face else "no head"))
    with capsys.disabled():
        print(f"\n{'file':48s} | {'truth':15s} | decision | signs (without tags and with labels that say nothing)")
        for name, truth, said, decision in rows:
            print(f"{name:48s} | {truth:15s} | {decision:8s} | {said}")
    wrong = [row for row in rows if row[1] != "part of a trunk" and (row[3] == "asks") != (row[1] == "head or neck")]
    asked = sum(row[3] == "asks" for row in rows)
    attack("heads without a known word passed", f"{asked} of {len(rows)} ask; {len(wrong)} wrong")
    assert len(rows) >= 190 and not wrong


def test_the_labels_of_a_real_trunk_make_nobody_ask(open_data):
    """The names of SOURCES.json, as TotalSegmentator and clinicians write them."""
    import json

    from MedFMLib.healthy.texts import identifying, unusual

    sources = {s["file"]: s.get("labels") or {} for s in json.loads(open_data("SOURCES.json").read_text())}
    names = [n for file in ("ct_torso/ct.nii.gz", "mr_torso/mr.nii.gz", "ct_chest/chest_ct.nii.gz", "dicom_seg")
             for n in sources[file].values()]  # fmt: skip
    assert len(names) > 80 and not [n for n in names if heads.mentions_head(n) or heads.is_of_brain(n)]
    assert not [n for n in names if unusual(n) or identifying(n)]


# -- the same images, changed ------------------------------------------------------------------------------


def mirrored(image: Image, axes, told: bool) -> Image:
    """The image with axes stored the other way round; `told` keeps the affine true, else the orientation is wrong."""
    affine = image.geometry.affine.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (image.geometry.shape[axis] - 1)
        affine[:3, axis] *= -1
    geometry = Geometry(image.geometry.shape, affine) if told else image.geometry
    return replace(image, voxels=np.flip(image.voxels, [axis + 1 for axis in axes]), geometry=geometry)


def turned(image: Image) -> Image:
    """The image with its axes in another order, and an affine that doesn't know it."""
    order, grid = (2, 0, 1), image.geometry
    affine = grid.affine.copy()
    affine[:3, :3] = np.diag(grid.spacing[list(order)])
    return replace(
        image,
        voxels=image.voxels.transpose(0, *(o + 1 for o in order)),
        geometry=Geometry([grid.shape[o] for o in order], affine),
    )


def cut(image: Image, start, stop) -> Image:
    """Part of the image; start and stop are fractions of its axes."""
    low = [int(a * n) for a, n in zip(start, image.geometry.shape, strict=True)]
    high = [max(int(b * n), a + 1) for a, b, n in zip(low, stop, image.geometry.shape, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return replace(image, voxels=image.voxels[:, *inside], geometry=image.geometry.crop(low, high))


def coarse(image: Image) -> Image:
    """The image with voxels of at least 4 mm."""
    steps = [max(1, round(4 / mm)) for mm in image.geometry.spacing]
    affine = image.geometry.affine.copy()
    affine[:3, :3] *= steps
    voxels = image.voxels[:, :: steps[0], :: steps[1], :: steps[2]]
    return replace(image, voxels=voxels, geometry=Geometry(voxels.shape[1:], affine))


def scaled(image: Image, factor: float, shift: float) -> Image:
    """The image with other values, such as an unsigned CT, or a normalised one."""
    return replace(image, voxels=image.voxels.astype(np.float32) * factor + shift)


SAFE = {
    "stored the other way round": lambda i: mirrored(i, (0, 1, 2), True),
    "mirrored": lambda i: mirrored(i, (0,), False),
    "upside down": lambda i: mirrored(i, (2,), False),
    "4 mm": coarse,
    "values 0…1": lambda i: scaled(i, 1 / max(1.0, float(np.ptp(i.voxels))), 0.0),
    "unsigned": lambda i: scaled(i, 1.0, 1024.0),
}
"""Changes that leave a trunk known; a head asks after each of them."""

UNSAFE = {
    "axes in another order": turned,
    "negative": lambda i: scaled(i, -1.0, 0.0),
    "upper half": lambda i: cut(i, (0, 0, 0.5), (1, 1, 1)),
    "lower half": lambda i: cut(i, (0, 0, 0), (1, 1, 0.5)),
    "front half": lambda i: cut(i, (0, 0.5, 0), (1, 1, 1)),
    "middle": lambda i: cut(i, (0.25, 0.25, 0.25), (0.75, 0.75, 0.75)),
    "spacing × 2": lambda i: replace(
        i, geometry=Geometry(i.geometry.shape, i.geometry.affine @ np.diag([2, 2, 2, 1.0]))
    ),
}
CHANGED_HEADS = (
    *HEADS[:2], ("MR", "brain_stroke/T1.nii.gz"), *HEADS[3:8], ("MR", "orientation/PIR.nii.gz"), ("MR", "dicom_mr_brain"),
    ("MR", "brain_labelmaps/synthseg_01.nii.gz"), ("CT", "openkbp/train/pt0[0-3]*_ct.nii.gz"),
)  # fmt: skip


@pytest.mark.parametrize("change", [*SAFE, *UNSAFE])
def test_a_changed_head_still_asks(change, open_data, attack):
    count, passed = 0, []
    for name, image in found(open_data, CHANGED_HEADS):
        if change == "lower half" and "openkbp" in name:  # neck and shoulders; see the test on chins
            continue
        made = (SAFE | UNSAFE)[change](image)
        count += 1
        if not heads.look(made, box(made)).may_show_face:
            passed.append(name)
    attack("passed", f"{count} heads, {len(passed)} passed")
    assert count >= 11 and not passed


@pytest.mark.parametrize("change", SAFE)
def test_a_changed_trunk_still_does_not_ask(change, open_data):
    for name, image in found(open_data, TRUNKS[:-1]):
        made = SAFE[change](image)
        signs = heads.look(made, box(made))
        assert not signs.may_show_face, (name, str(signs))


def test_no_slice_with_a_chin_counts_as_shoulders(open_data, attack):
    """Pieces of 4 slices around the lower end of the mandible, where the shoulders may be in the picture, too."""
    count, passed = 0, []
    for name, image in found(open_data, (("CT", "openkbp/*/*_ct.nii.gz"),)):
        labels = read_image(open_data(name.replace("_ct", "_labels")), modality="OT").scalars
        heights = np.flatnonzero((labels == MANDIBLE).any(axis=(0, 1)))
        grid = image.geometry
        assert grid.axis_codes[2] == "S"
        for start in range(int(heights[0]), min(int(heights[0]) + 16, grid.shape[2] - 3), 4):
            piece = replace(
                image, voxels=image.voxels[..., start : start + 4],
                geometry=grid.crop((0, 0, start), (*grid.shape[:2], start + 4)),
            )  # fmt: skip
            count += 1
            if not heads.look(piece, box(piece)).may_show_face:
                passed.append((name, start))
    attack("passed", f"{count} pieces with a chin, {len(passed)} passed")
    assert count > 200 and not passed


@pytest.mark.slow
def test_no_single_slice_of_a_head_counts_as_a_trunk(open_data, attack):
    """Whatever part of a head is cut out along its axis."""
    whole = [h for h in HEADS if "openkbp" not in h[1] and "hippocampus" not in h[1]]
    count, passed = 0, []
    for name, image in found(open_data, (*whole, ("CT", "openkbp/train/*_ct.nii.gz"))):
        volume = outline.averaged(image)
        slices = {n: outline.outline_of(volume, n) for n in range(volume.values.shape[2])}
        if "openkbp" in name:  # from the lower end of the mandible upwards; shoulders below it are a trunk
            labels = read_image(open_data(name.replace("_ct", "_labels")), modality="OT").scalars
            lowest = np.flatnonzero((labels == MANDIBLE).any(axis=(0, 1)))[0] * image.geometry.spacing[2]
            slices = {n: s for n, s in slices.items() if n * volume.spacing[2] >= lowest}
        count += len(slices)
        passed += [(name, n) for n, s in slices.items() if not heads.no_trunk(s)]
    attack("passed", f"{count} slices, {len(passed)} passed")
    assert count > 2500 and not passed


# -- texts and labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["HEADNECK", "SINUS", "IAC", "HEAD", "BRAIN", "ORBIT", "NECK", "WHOLEBODY", "SCHAEDEL", "MANDIBLE"]
)
def test_a_header_that_names_a_part_of_the_head_asks(value, attack):
    from support.phantoms import torso

    image, segmentation = torso()
    assert not heads.look(image, segmentation).may_show_face
    assert heads.look(replace(image, facts={"BodyPartExamined": value}), segmentation).may_show_face
    assert heads.look(image, segmentation, [f"CT {value} W/O CONTRAST"]).may_show_face
    attack("HEADNECK, SINUS, IAC passed", "asks")


@pytest.mark.parametrize(
    "label", ["Gehirn", "parotid_gland_left", "face", "skull", "eyes", "Lamina cribrosa nasal", "left optic nerve"]
)
def test_a_label_of_a_head_in_other_words_asks(label, attack):
    from support.phantoms import torso

    image, segmentation = torso()
    named = Segmentation(
        (replace(segmentation.segments[0], label=label), *segmentation.segments[1:]), segmentation.geometry
    )
    assert heads.look(image, named).may_show_face
    attack("passed unless in a list of 10", "asks")


@pytest.mark.parametrize(
    "label", ["left femoral head", "heart ventricle left", "coronary sinus", "facet joint", "pancreas head"]
)
def test_a_trunk_with_a_similar_word_does_not_ask(label):
    from support.phantoms import torso

    image, segmentation = torso()
    named = Segmentation(
        (replace(segmentation.segments[0], label=label), *segmentation.segments[1:]), segmentation.geometry
    )
    assert not heads.look(image, named).may_show_face


def test_a_ring_of_bone_in_a_wide_outline_asks(attack):
    from support.phantoms import torso

    image, segmentation = torso()
    values = image.voxels.copy()
    index = np.stack(np.meshgrid(*map(np.arange, image.geometry.shape), indexing="ij"), axis=-1)
    radius = np.linalg.norm((image.geometry.to_world(index) - image.geometry.center)[..., :2], axis=-1)
    values[0][(radius > 50) & (radius < 58)] = 900
    assert heads.look(replace(image, voxels=values), segmentation).may_show_face
    attack("passed", "asks")


@pytest.mark.parametrize(("title", "about", "label"), [
    ("Miller torso", "", "liver"), ("torso, 3 May", "", "liver"), ("torso of DOE^JANE", "", "liver"),
    ("torso 12.3.61", "", "liver"), ("adult torso", "given by Anna Miller", "liver"),
    ("adult torso", "from 2019-11-04", "liver"), ("adult torso", "MRN 4-711-008", "liver"),
    ("adult torso", "", "Miller's liver"), ("adult torso", "", "liver 1961"), ("adult torso", "mail a@b.org", "liver"),
])  # fmt: skip
def test_texts_of_a_case_that_may_name_somebody_stop_it(title, about, label, tmp_path, attack):
    from support.phantoms import torso

    image, segmentation = torso()
    named = Segmentation(
        (replace(segmentation.segments[0], label=label), *segmentation.segments[1:]), segmentation.geometry
    )
    library = HealthyLibrary(tmp_path)
    with pytest.raises(InputError, match=r"without names or dates|may identify a person"):
        library.add(image, named, title, about=about)
    assert not library.entries() and not list(tmp_path.iterdir())
    attack("stored, unless the title had a year", "asks")


# -- what is left of a head -----------------------------------------------------------------------------------


def test_a_label_brain_over_the_whole_head_keeps_no_face(open_data, attack):
    image = read_image(open_data("brain_t1/t1_head.nii.gz"), modality="MR")
    for threshold, name in ((10, "whole head"), (60, "what is bright")):
        mask = image.scalars > threshold
        with pytest.raises(InputError, match="more than a brain"):
            cleaned(image, Segmentation((Segment("brain", mask),), image.geometry), "case", Consent(text=True))
        attack("kept with its face", f"{name}: refused")


def test_a_brain_that_is_segmented_is_cut_out_and_a_stripped_one_stays(open_data):
    import SimpleITK as sitk

    image = read_image(open_data("brain_t1/t1_stripped.nii.gz"), modality="MR")
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(open_data("brain_t1/t1_stripped_aseg.nii.gz")))).transpose(
        2, 1, 0
    )
    brain = Segmentation((Segment("brain", labels > 0),), image.geometry)
    assert "already limited to the brain" in str(cleaned(image, brain, "case", Consent(text=True))[2])
    with pytest.raises(InputError, match="not certain that the image shows no face"):
        cleaned(
            replace(image, name="image"), box(image), "case", Consent(text=True)
        )  # nothing tells that it is stripped


@pytest.mark.parametrize("part", ["front", "back"])
def test_a_face_named_brain_in_a_whole_head_is_refused(part, open_data, attack):
    image = read_image(open_data("brain_t1/t1_head.nii.gz"), modality="MR")
    along = image.geometry.axis_codes.index("A")
    place = np.arange(image.geometry.shape[along]) / image.geometry.shape[along]
    inside = (place > 0.7 if part == "front" else place < 0.3).reshape(
        [-1 if axis == along else 1 for axis in range(3)]
    )
    named = Segmentation((Segment("brain", (image.scalars > 20) & inside),), image.geometry)
    with pytest.raises(InputError, match="are the surface of the head"):
        cleaned(image, named, "case", Consent(text=True))
    attack("everything else was removed", "refused")


def test_a_face_named_brain_at_the_edge_of_the_picture_is_refused(open_data, attack):
    image = read_image(open_data("brain_t1/t1_head.nii.gz"), modality="MR")
    front = image.geometry.axis_codes.index("A")
    low, high = [0.0] * 3, [1.0] * 3
    low[front] = 0.7
    face = cut(image, low, high)
    with pytest.raises(InputError, match="more than a brain"):
        cleaned(face, Segmentation((Segment("brain", face.scalars > 20),), face.geometry), "case", Consent(text=True))
    attack("kept as a stripped brain", "refused")
