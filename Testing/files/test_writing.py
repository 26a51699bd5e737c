"""Results to files: other programs can open them, and no file is left incomplete."""

import errno
import os

import numpy as np
import pytest
import SimpleITK as sitk
from support.phantoms import oblique_geometry, sphere

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.request import Provenance
from MedFMLib.core.terminology import structure
from MedFMLib.errors import OutputError
from MedFMLib.files import write_segmentation, write_text
from MedFMLib.files.sitk import geometry_of
from MedFMLib.files.writing import make_folder, pack_layers, replace_file


@pytest.fixture
def segmentation():
    geometry = oblique_geometry()
    shapes = [("brain", 14, (0, 0, 0)), ("brainstem", 6, (0, 0, 0)), ("left kidney", 4, (0, 0, 22))]
    segments = []
    for label, radius, offset in shapes:
        known = structure(label)
        mask = sphere(geometry, geometry.center + np.array(offset), radius)
        segments.append(Segment(label, mask, known.color, known.category, known.code, known.side))
    return Segmentation(tuple(segments), geometry)


def test_simpleitk_reads_the_grid_and_every_overlapping_segment(segmentation, tmp_path):
    path = write_segmentation(tmp_path / "s.seg.nrrd", segmentation, Provenance("segment", "m"))
    picture = sitk.ReadImage(str(path))
    assert geometry_of(picture).matches(segmentation.geometry)
    array = sitk.GetArrayFromImage(picture)
    array = array if array.ndim == 4 else array[..., None]
    for n, segment in enumerate(segmentation.segments):
        layer, value = int(picture.GetMetaData(f"Segment{n}_Layer")), int(picture.GetMetaData(f"Segment{n}_LabelValue"))
        assert np.array_equal(array[..., layer].transpose(2, 1, 0) == value, segment.mask)
        assert picture.GetMetaData(f"Segment{n}_Name") == segment.label
    assert '"model": "m"' in picture.GetMetaData("MedFM_Provenance")


def test_slicer_reads_names_colours_terminology_and_masks(segmentation, tmp_path):
    pytest.importorskip("slicer")
    import slicer

    from MedFMLib.scene.reading import segment_mask
    from MedFMLib.scene.session import SceneSession

    path = write_segmentation(tmp_path / "s.seg.nrrd", segmentation)
    session = SceneSession()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    session.scene.AddNode(storage)
    node = session.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    assert node.GetSegmentation().GetNumberOfSegments() == 3
    for n, segment in enumerate(segmentation.segments):
        read = node.GetSegmentation().GetNthSegment(n)
        assert read.GetName() == segment.label
        np.testing.assert_allclose(read.GetColor(), segment.color, atol=1e-3)
        assert segment.code.value in read.GetTerminology()
        mask, affine = segment_mask(node, node.GetSegmentation().GetNthSegmentID(n))
        assert mask.sum() == segment.mask.sum()
        world = (affine @ np.append(np.argwhere(mask).mean(axis=0), 1))[:3]
        expected = segmentation.geometry.to_world(np.argwhere(segment.mask).mean(axis=0))
        np.testing.assert_allclose(world, expected, atol=0.01)


def test_segments_that_do_not_overlap_share_a_layer(segmentation):
    layers, places = pack_layers(segmentation.segments, segmentation.geometry.shape)
    assert len(layers) == 2
    assert places == [(0, 1), (1, 1), (0, 2)]


def test_no_segments_make_an_empty_file(tmp_path):
    path = write_segmentation(tmp_path / "none.seg.nrrd", Segmentation((), oblique_geometry()))
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(path))).any()


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path):
    path = write_text(tmp_path / "report.txt", "old")

    def full(temporary):
        temporary.write_text("hal")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=r"report.txt' can't be written \(No space left on device\)"):
        replace_file(path, full)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.txt"]


def test_a_folder_that_can_not_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="choose another folder"):
        make_folder(tmp_path / "file" / "inside")
