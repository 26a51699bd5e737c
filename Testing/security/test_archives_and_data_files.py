"""Archives that leave their folder or inflate without end, and headers that read other files of this computer."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedFMLib.batch import scenes
from MedFMLib.batch.cases import SeriesChoice
from MedFMLib.batch.plan import CaseOptions, step_from
from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.storage.archives import ArchiveLimits, unpacked

SCENE = '<MRML version="Slicer5"></MRML>'


def read_scene(path: Path):
    """Read a scene as `medfm batch` does."""
    return scenes.from_file(path, (step_from("segment"),), CaseOptions(), SeriesChoice(), lambda text: None)


def archive(path: Path, entries: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    """A zip with any names; those in `links` are marked as symbolic links."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return path


def everything(folder: Path) -> dict[Path, bytes]:
    """All files below a folder and their content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


@pytest.mark.parametrize("name", ["../victim.txt", "s/../../victim.txt", "{root}/victim.txt", "C:/victim.txt", "..\\victim.txt",
                                  "~/victim.txt", "s/\x01.txt"])  # fmt: skip
def test_a_scene_archive_writes_nothing_outside(name, tmp_path, attack):
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "in" / "evil.mrb", {"s/s.mrml": SCENE.encode(), name.format(root=tmp_path): b"yours"})
    before = everything(tmp_path)
    with pytest.raises(InputError, match="outside of its folder"):
        read_scene(path)
    assert everything(tmp_path) == before
    attack("wrote or replaced any file", "refused, nothing written")


def test_a_scene_archive_can_not_write_through_a_link(tmp_path, attack):
    entries = {"s/s.mrml": SCENE.encode(), "s/out": str(tmp_path).encode(), "s/out/victim.txt": b"yours"}
    path = archive(tmp_path / "evil.mrb", entries, links=("s/out",))
    with pytest.raises(InputError, match="has a link or a device"):
        read_scene(path)
    assert not (tmp_path / "victim.txt").exists()
    attack("wrote through the link", "refused, nothing written")


def test_an_archive_that_inflates_is_refused_before_it_does(tmp_path, attack):
    path = tmp_path / "bomb.mrb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made, made.open("s/s.mrml", "w") as entry:
        for _ in range(128):
            entry.write(b"\0" * (1 << 20))
    with pytest.raises(InputError, match="would inflate"), unpacked(path, ArchiveLimits(ratio=100)):
        pass
    with pytest.raises(InputError, match="would inflate to"), unpacked(path, ArchiveLimits(ratio=10**9, total=1 << 20)):
        pass
    attack("inflated to 12.9 GB", "refused by its ratio and size")


def test_an_archive_that_lies_about_its_size_is_stopped(tmp_path, attack):
    path = archive(tmp_path / "liar.mrb", {"s/s.mrml": b"x" * 5000})
    raw = path.read_bytes()
    path.write_bytes(raw.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(InputError):
        read_scene(path)
    attack("trusted", "refused when more comes out")


@pytest.mark.parametrize("entries", [[f"s/{n}" for n in range(300)], ["s/a", "S/A"]], ids=["many", "same name"])
def test_too_many_entries_and_two_of_one_name_are_refused(entries, tmp_path, attack):
    path = archive(tmp_path / "x.mrb", dict.fromkeys(entries, b""))
    with pytest.raises(InputError, match="entries|same name"), unpacked(path, ArchiveLimits(entries=200)):
        pass
    attack("unpacked", "refused")


def test_a_scene_that_is_no_zip_is_one_sentence(tmp_path, attack):
    (tmp_path / "x.mrb").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    with pytest.raises(InputError, match="no zip archive, or damaged"):
        read_scene(tmp_path / "x.mrb")
    attack("-", "one sentence")


@pytest.mark.parametrize("value", ["/etc/passwd", "../secret.raw", "file:///etc/passwd", "%2e%2e/secret.raw"])
def test_a_scene_reads_no_file_elsewhere(value, tmp_path, attack):
    (tmp_path / "secret.raw").write_bytes(b"secret" * 1000)
    (tmp_path / "s").mkdir()
    text = f'<MRML><VolumeArchetypeStorage id="v" fileName="{value}" ></VolumeArchetypeStorage></MRML>'
    (tmp_path / "s" / "s.mrml").write_text(text)
    with pytest.raises(InputError, match="doesn't lie with the scene"):
        read_scene(tmp_path / "s" / "s.mrml")
    attack("read as voxels", "refused")


def test_a_scene_without_end_of_entities_is_refused(tmp_path, attack):
    (tmp_path / "s.mrml").write_text('<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><MRML>&b;</MRML>')
    with pytest.raises(InputError, match="XML entities"):
        read_scene(tmp_path / "s.mrml")
    attack("-", "refused")


HEADER = {
    ".nhdr": "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10 10 10\nencoding: raw\ndata file: {}\n\n",
    ".nrrd": "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 10 10 10\nencoding: raw\ndatafile: {}\n\n",
    ".mhd": "ObjectType = Image\nNDims = 3\nDimSize = 10 10 10\nElementType = MET_UCHAR\nElementDataFile = {}\n",
    ".mha": "ObjectType = Image\nNDims = 3\nDimSize = 10 10 10\nElementType = MET_UCHAR\nElementDataFile = {}\n",
}


ELSEWHERE = ("/etc/passwd", "../secret.raw", "sub/../../secret.raw", "LIST\n/etc/passwd", "../secret%d.raw 1 1 1")


@pytest.mark.parametrize("suffix", HEADER)
@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_header_reads_no_file_elsewhere(suffix, value, tmp_path, attack):
    for name in ("secret.raw", "secret1.raw"):
        (tmp_path / name).write_bytes(bytes(1000))
    (tmp_path / "s").mkdir()
    path = tmp_path / "s" / f"x{suffix}"
    path.write_text(HEADER[suffix].format(value))
    with pytest.raises(InputError, match="outside of its folder"):
        read_image(path)
    attack("read as voxels", "refused")


@pytest.mark.parametrize("suffix", HEADER)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_data_file_is_a_regular_file(suffix, kind, tmp_path, attack):
    target = tmp_path / "x.raw"
    target.symlink_to("/etc/passwd") if kind == "link" else os.mkfifo(target)
    path = tmp_path / f"x{suffix}"
    path.write_text(HEADER[suffix].format("x.raw"))
    with pytest.raises(InputError, match="link or no regular file"):
        read_image(path)
    attack("read, or waited for ever", "refused at once")


def test_a_pipe_is_no_image(tmp_path, attack):
    os.mkfifo(tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read_image(tmp_path / "x.nii.gz")
    attack("waited for ever", "refused at once")


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_an_honest_data_file_beside_its_header_is_read(suffix, tmp_path):
    values = np.arange(1000, dtype=np.uint8).reshape(10, 10, 10)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"x{suffix}"))
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}", modality="MR").scalars, values.transpose(2, 1, 0))


def test_a_model_folder_takes_no_file_from_elsewhere(tmp_path, attack):
    from MedFMLib.model_store import files

    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"x")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="LICENSE in 'model' is a link to a file elsewhere"):
        files.wanted_files(folder)
    attack("imported, and exported again", "refused")


def test_a_folder_of_the_hubs_cache_may_link_to_its_blobs(tmp_path):
    from MedFMLib.model_store import files

    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "0f3c").write_bytes(b"x")
    (cache / "snapshots" / "main").mkdir(parents=True)
    (cache / "snapshots" / "main" / "model.safetensors").symlink_to("../../blobs/0f3c")
    assert list(files.wanted_files(cache / "snapshots" / "main")) == ["model.safetensors"]


def test_an_honest_scene_archive_is_read(tmp_path):
    pytest.importorskip("vtk")
    from support.phantoms import ct_phantom

    from MedFMLib.scene.session import SceneSession

    session = SceneSession()
    session.add_volume(ct_phantom())
    path = session.save(tmp_path / "ünïcode scene.mrb")
    cases, images = read_scene(path)
    assert len(cases) == 1 and np.array_equal(next(iter(images.values())).scalars, ct_phantom().scalars)
