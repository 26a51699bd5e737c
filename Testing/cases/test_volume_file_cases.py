"""NIfTI, NRRD, MetaImage and MGH files with unusual headers, and names, against nibabel."""

from __future__ import annotations

import gzip
import json
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from MedFMLib.core.geometry import lps_from_ras
from MedFMLib.errors import InputError
from MedFMLib.files import output_name, read_image

X, Y, Z = np.meshgrid(np.arange(30), np.arange(24), np.arange(12), indexing="ij")
VALUES = (X * 7 + Y * 13 + Z * 29 + 400 * (((X - 15) / 12) ** 2 + ((Y - 12) / 9) ** 2 < 1)).astype(np.int16)
AFFINE = np.array([[-2, 0, 0, 30], [0, 2, 0, -20], [0, 0, 4, -25], [0, 0, 0, 1.0]])


def turned(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    turn = np.array([[1, 0, 0, 0], [0, np.cos(a), -np.sin(a), 0], [0, np.sin(a), np.cos(a), 0], [0, 0, 0, 1]])
    made = turn @ AFFINE
    made[:3, 3] += (5, 7, 9)
    return made


def nifti(path, values=VALUES, sform=AFFINE, qform=AFFINE, codes=(1, 1), kind=nibabel.Nifti1Image):
    image = kind(values, AFFINE)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    nibabel.save(image, path)
    return path


def corners_apart(affine, other) -> float:
    ends = np.array([[i, j, k, 1] for i in (0, 29) for j in (0, 23) for k in (0, 11)])
    return float(np.linalg.norm(((affine - other) @ ends.T)[:3], axis=0).max())


def sheared(step=1.3) -> np.ndarray:
    made = AFFINE.copy()
    made[1, 2] = step
    return made


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 1)], ids=["scanner", "aligned", "MNI"])
def test_two_transforms_are_placed_as_itk_does_and_noted_in_mm(codes, tmp_path, table):
    path = nifti(tmp_path / "x.nii.gz", sform=turned(20), codes=codes)
    image = read_image(path)
    picture = sitk.ReadImage(str(path))
    theirs = np.eye(4)
    theirs[:3, :3] = np.array(picture.GetDirection()).reshape(3, 3) * np.array(picture.GetSpacing())
    theirs[:3, 3] = picture.GetOrigin()
    np.testing.assert_allclose(image.geometry.affine, lps_from_ras(theirs), atol=1e-4)
    right = corners_apart(turned(20), AFFINE)
    (note,) = image.notes
    table(f"{right:.3g} mm apart", "nibabel's two affines", note[60:110])
    assert f"{right:.3g} mm apart" in note


@pytest.mark.parametrize("codes", [(1, 0), (0, 1)], ids=["sform", "qform"])
def test_one_transform_is_enough(codes, tmp_path, table):
    path = nifti(tmp_path / "x.nii.gz", sform=turned(20), qform=turned(20), codes=codes)
    image, right = read_image(path), nibabel.load(path).affine
    table(
        "0 mm off, no note",
        "nibabel",
        f"{corners_apart(image.geometry.affine, right):.2g} mm off, {len(image.notes)} notes",
    )
    np.testing.assert_allclose(image.geometry.affine, right, atol=1e-3)
    assert not image.notes


def test_a_sheared_sform_is_read_with_its_shear(tmp_path, table):
    path = nifti(tmp_path / "x.nii.gz", sform=sheared(), codes=(1, 0))
    image, right = read_image(path), nibabel.load(path).affine
    table("0 mm off", "nibabel", f"{corners_apart(image.geometry.affine, right):.2g} mm off")
    np.testing.assert_allclose(image.geometry.affine, right, atol=1e-5)
    np.testing.assert_array_equal(image.scalars, VALUES)


def test_no_transform_means_no_side(tmp_path, table):
    image = read_image(nifti(tmp_path / "x.nii.gz", codes=(0, 0)))
    assert not image.geometry.oriented and "no side is stated" in image.notes[0]
    from MedFMLib.core.findings import Segment, Segmentation
    from MedFMLib.measure import measure_fully

    mask = np.zeros(image.geometry.shape, bool)
    mask[3:9, 4:9, 2:6] = True
    names = {m.name for m in measure_fully(Segmentation((Segment("x", mask),), image.geometry), image)}
    table(
        "no side, no position",
        "codes 0 and 0",
        f"side {'in' if 'side' in names else 'not in'} {len(names)} measurements",
    )
    assert "volume" in names and not names & {"side", "position", "extent left-right", "centroid R"}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_before_anything_is_guessed(suffix, value, tmp_path, table):
    values = VALUES.astype(np.float32)
    values[3, 4, 5] = value
    path = tmp_path / f"x{suffix}"
    if "nii" in suffix:
        nifti(path, values)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values.T), str(path))
    with pytest.raises(InputError, match="has 1 voxels that are NaN or infinite"):
        read_image(path)
    table("refused", f"{value} in {suffix}", "refused")


def test_nifti2_mgz_upper_case_and_wrong_endings_are_read(tmp_path, table):
    files = {"NIfTI-2": nifti(tmp_path / "two.nii.gz", kind=nibabel.Nifti2Image), "upper case": tmp_path / "UPPER.NII"}
    nibabel.save(nibabel.MGHImage(VALUES.astype(np.int32), AFFINE), tmp_path / "fs.mgz")
    files["MGZ"] = tmp_path / "fs.mgz"
    plain = nifti(tmp_path / "x.nii").read_bytes()
    (tmp_path / "UPPER.NII").write_bytes(plain)
    files["compressed .nii"], files["plain .nii.gz"] = tmp_path / "c.nii", tmp_path / "p.nii.gz"
    files["compressed .nii"].write_bytes(gzip.compress(plain))
    files["plain .nii.gz"].write_bytes(plain)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "x.nii")), str(tmp_path / "x.mha"))
    files["UPPER.MHA"] = (tmp_path / "x.mha").rename(tmp_path / "UPPER.MHA")
    nibabel.save(nibabel.Nifti1Pair(VALUES, AFFINE), tmp_path / "pair.img")
    files["pair .img"], files["pair .hdr"] = tmp_path / "pair.img", tmp_path / "pair.hdr"
    for kind, path in files.items():
        image = read_image(path)
        np.testing.assert_array_equal(image.scalars, VALUES)
        np.testing.assert_allclose(image.geometry.affine, AFFINE, atol=1e-4)
        table("0 off", f"nibabel, {kind}", "0 off")


@pytest.mark.parametrize(
    ("slope", "intercept"), [(np.nan, np.nan), (0, 5), (2.0, -100.0), (np.nan, 3), (np.inf, 0), (-1, 2000)]
)
def test_values_are_scaled_as_the_standard_says(slope, intercept, tmp_path, table):
    path = nifti(tmp_path / "x.nii", codes=(0, 1))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<2f", raw, 112, slope, intercept)
    path.write_bytes(raw)
    image, right = read_image(path), np.asarray(nibabel.load(path).dataobj)
    table(
        f"{right.min():g} … {right.max():g}",
        f"nibabel, slope {slope}",
        f"{image.scalars.min():g} … {image.scalars.max():g}",
    )
    np.testing.assert_allclose(image.scalars, right, atol=1e-3)


def test_a_compressed_file_beside_an_uncompressed_one_of_the_same_name_is_itself(tmp_path, table):
    nifti(tmp_path / "x.nii", VALUES)
    nifti(tmp_path / "x.nii.gz", VALUES + 7)
    ours = [int((read_image(tmp_path / name).scalars - VALUES).mean()) for name in ("x.nii", "x.nii.gz")]
    table("0 and 7", "nibabel", f"{ours[0]} and {ours[1]}")
    assert ours == [0, 7]


def test_complex_values_are_one_sentence(tmp_path, table):
    nifti(tmp_path / "c.nii.gz", VALUES.astype(np.complex64))
    with pytest.raises(InputError, match="complex values; convert it to magnitudes"):
        read_image(tmp_path / "c.nii.gz")
    table("one sentence", "datatype 32", "one sentence")


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_type_of_value_is_exact(kind, tmp_path, table):
    values = (VALUES % 100).astype(kind)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE, dtype=kind), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii.gz").scalars, values)
    table("exact", f"nibabel, {kind}", "exact")


def test_a_sequence_of_slicer_has_frames(tmp_path, table):
    """The layout of a .seq.nrrd: the list of volumes is the first axis."""
    frames = [VALUES, VALUES + 5, VALUES * 2]
    header = (
        "NRRD0005\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: 3 30 24 12\n"
        "space directions: none (2,0,0) (0,-2,0) (0,0,4)\nkinds: list domain domain domain\nendian: little\nencoding: raw\n"
        "space origin: (-30,20,-25)\naxis 0 index type:=numeric\n\n"
    )
    body = np.stack(frames).transpose(3, 2, 1, 0).astype("<i2").tobytes()
    (tmp_path / "x.seq.nrrd").write_bytes(header.encode() + body)
    with pytest.raises(InputError, match="4D with 3 frames; choose one with --frame 0 to 2"):
        read_image(tmp_path / "x.seq.nrrd")
    for number, right in enumerate(frames):
        image = read_image(tmp_path / "x.seq.nrrd", frame=number)
        np.testing.assert_array_equal(image.scalars, right)
        np.testing.assert_allclose(image.geometry.affine, AFFINE)
    assert output_name(tmp_path / "x.seq.nrrd") == "x"
    table("3 frames", "NRRD's definition", "3 frames")


def test_a_gantry_tilt_in_nifti_is_noted_if_the_two_transforms_differ(tmp_path, table):
    image = read_image(nifti(tmp_path / "tilt.nii.gz", sform=sheared()))
    right = corners_apart(sheared(), nibabel.load(tmp_path / "tilt.nii.gz").get_qform())
    table(f"{right:.3g} mm", "nibabel's two affines", image.notes[0][60:110])
    assert f"up to {right:.3g} mm apart" in image.notes[0]


def test_links_into_a_store_keep_their_own_names(tmp_path, table):
    store = nifti(tmp_path / "MD5E-s5021--0f3c1d.nii.gz")
    names = []
    for name in ("sub-01_ct.nii.gz", "sub-02_ct.nii.gz"):
        (tmp_path / name).symlink_to(store.name)
        names.append(output_name(tmp_path / name))
        assert read_image(tmp_path / name).name == names[-1]
    (tmp_path / "gone.nii.gz").symlink_to("nowhere.nii.gz")
    with pytest.raises(InputError, match="is a link to 'nowhere.nii.gz', which isn't here"):
        read_image(tmp_path / "gone.nii.gz")
    table("sub-01_ct, sub-02_ct", "what was typed", ", ".join(names))
    assert names == ["sub-01_ct", "sub-02_ct"]


def test_warnings_of_itk_are_notes_of_the_image(tmp_path, capfd, table):
    """ITK warns of the scales of this sform; the note says what that means, in mm, and nothing is printed."""
    from MedFMLib.files.sitk import collected_warnings

    scaled = AFFINE.copy()
    scaled[:3, :3] *= 1.5
    path = nifti(tmp_path / "x.nii.gz", sform=scaled)
    capfd.readouterr()
    with collected_warnings() as warned:
        sitk.ReadImage(str(path))
    (note,) = read_image(path).notes
    apart = corners_apart(scaled, nibabel.load(path).get_qform())
    table("a warning; a note in mm; nothing on stderr", "ITK, nibabel", f"{warned[0][-35:]}; {note[60:85]}")
    assert "unexpected scales" in warned[0] and f"{apart:.3g} mm apart" in note
    assert not capfd.readouterr().err


def test_other_warnings_are_passed_on_in_words(tmp_path, monkeypatch, table):
    import itertools

    from MedFMLib.files import volumes

    path = nifti(tmp_path / "x.nii.gz")
    said = itertools.repeat("The file has an odd byte.")

    def warn(file):
        collected[0].append(next(said))
        return sitk.ReadImage(str(file))

    collected = []
    real = volumes.collected_warnings

    def spy():
        manager = real()
        enter = manager.__enter__

        class Watched:
            def __enter__(self):
                collected.insert(0, enter())
                return collected[0]

            def __exit__(self, *error):
                return manager.__exit__(*error)

        return Watched()

    monkeypatch.setattr(volumes, "collected_warnings", spy)
    monkeypatch.setattr(volumes, "read_picture", warn)
    assert read_image(path).notes == ("ITK on 'x.nii.gz': The file has an odd byte.",)
    table("the warning's words", "ITK's logger", "the warning's words")


def test_images_of_other_libraries_are_taken(tmp_path, table):
    path = nifti(tmp_path / "x.nii.gz")
    loaded, picture = nibabel.load(path), sitk.ReadImage(str(path))
    for source in (loaded, picture, (VALUES, AFFINE), path, str(path), read_image(path)):
        image = read_image(source, modality="MR")
        np.testing.assert_array_equal(image.scalars, VALUES)
        np.testing.assert_allclose(image.geometry.affine, AFFINE, atol=1e-4)
        table("0 off", type(source).__name__, "0 off")
    wrong_sources = (
        (VALUES, r"got numpy.ndarray of shape \(30, 24, 12\)"),
        (7, "got int"),
        ((1, 2, 3), "got tuple of 3 items"),
    )
    for wrong, said in wrong_sources:
        with pytest.raises(InputError, match=said):
            read_image(wrong)


def test_results_as_json_are_valid_json(tmp_path, table):
    from MedFMLib.core.findings import Segment, Segmentation
    from MedFMLib.measure import measure_fully

    image = read_image(nifti(tmp_path / "x.nii.gz"))
    mask = np.zeros(image.geometry.shape, bool)
    mask[3, 4, 5] = True
    values = [vars(m) for m in measure_fully(Segmentation((Segment("x", mask),), image.geometry), image)]
    text = json.dumps(values, allow_nan=False)
    table("no NaN", "json.dumps(allow_nan=False)", f"{len(text)} characters")
