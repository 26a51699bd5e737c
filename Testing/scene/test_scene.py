"""Nodes to values and back on real MRML: results have the right position, and nothing else is changed."""

from dataclasses import replace

import numpy as np
import pytest
from support.phantoms import affine, oblique_geometry, rotation, sphere

from MedFMLib.core.findings import (
    Answer,
    Boxes,
    Comparison,
    Difference,
    LocatedBox,
    MatchedSlice,
    Report,
    ReportSection,
    Saliency,
    Segment,
    Segmentation,
    SliceReference,
)
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Provenance, Response
from MedFMLib.core.terminology import structure
from MedFMLib.core.view import make_view
from MedFMLib.errors import InputError, OutputError
from MedFMLib.measure import measure
from MedFMLib.scene import read_image, read_prompts, write_response
from MedFMLib.scene.reading import copy_segmentation, segment_mask, to_vtk, world_from_parent
from MedFMLib.scene.writing import KIND, VOLUME_ROLE, find, subject_hierarchy


def segment(label, mask):
    known = structure(label)
    return Segment(known.label, mask, known.color, known.category, known.code, known.side)


def response_with(*findings):
    return Response(tuple(findings), Provenance("segment", "medfm-tiny", "abc", "nf4", prompts=("segment liver",)))


def nested_transforms(scene):
    """(transform to hang a volume under, its 4×4 to the world)."""
    outer = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "outer")
    inner = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "inner")
    a = affine(rotation(5, 30, -12), origin=(11, -40, 7))
    b = affine(rotation(-25, 3, 8), origin=(-3, 2, 60))
    outer.SetMatrixTransformToParent(to_vtk(a))
    inner.SetMatrixTransformToParent(to_vtk(b))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    return inner, a @ b


@pytest.fixture
def oblique_volume(session):
    """(node, local geometry, world geometry) of an oblique, flipped, anisotropic volume under two transforms."""
    geometry = oblique_geometry()
    values = np.random.default_rng(0).normal(100, 20, geometry.shape).astype(np.float32)
    node = session.add_volume(Image(values[None], geometry, "MR", "head"))
    transform, matrix = nested_transforms(session.scene)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node, geometry, geometry.transformed(matrix)


def centroid_in_world(node, segment_id):
    mask, local = segment_mask(node, segment_id)
    matrix = world_from_parent(node) @ local
    return Geometry(mask.shape, matrix).to_world(np.argwhere(mask).mean(axis=0))


def test_an_oblique_volume_under_two_transforms_is_read_at_its_place_in_the_world(oblique_volume):
    node, _, world = oblique_volume
    image = read_image(node)
    assert image.geometry.shape == world.shape
    np.testing.assert_allclose(image.geometry.affine, world.affine, atol=1e-6)
    index = (3, 30, 11)
    assert image.scalars[index] == node.GetImageData().GetScalarComponentAsDouble(*index, 0)


def test_a_segment_lands_within_half_a_voxel_of_where_it_was_found(oblique_volume, scene):
    node, _, world = oblique_volume
    image = read_image(node)
    target = world.to_world((25, 12, 8))
    mask = sphere(world, target, 9.0)
    written = write_response(scene, node, response_with(Segmentation((segment("liver", mask),), image.geometry)))
    segment_id = written.segmentation.GetSegmentation().GetNthSegmentID(0)
    found = centroid_in_world(written.segmentation, segment_id)
    expected = world.to_world(np.argwhere(mask).mean(axis=0))
    assert np.linalg.norm(found - expected) < 0.5 * world.spacing.min()
    # the same voxels, not just the same middle
    stored, local = segment_mask(written.segmentation, segment_id)
    points = Geometry(stored.shape, world_from_parent(written.segmentation) @ local).to_world(np.argwhere(stored))
    back = np.rint(world.to_index(points)).astype(int)
    again = np.zeros_like(mask)
    again[tuple(back.T)] = True
    assert np.array_equal(again, mask)


def test_a_segment_follows_the_volume_when_its_transform_was_moved_meanwhile(oblique_volume, scene):
    node, _, world = oblique_volume
    image = read_image(node)
    mask = sphere(world, world.to_world((20, 18, 10)), 8.0)
    node.GetParentTransformNode().SetMatrixTransformToParent(to_vtk(affine(origin=(100, 0, 0))))
    written = write_response(scene, node, response_with(Segmentation((segment("liver", mask),), image.geometry)))
    now = read_image(node).geometry
    found = centroid_in_world(written.segmentation, "liver")
    np.testing.assert_allclose(found, now.to_world(np.argwhere(mask).mean(axis=0)), atol=0.01)
    assert np.linalg.norm(found - world.to_world(np.argwhere(mask).mean(axis=0))) > 10


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_every_flip_is_read_and_written_at_its_place(session, flips):
    geometry = Geometry((12, 14, 10), affine(np.diag(flips), (1, 2, 3), (5, 6, 7)))
    values = np.arange(12 * 14 * 10, dtype=np.int16).reshape(geometry.shape)
    node = session.add_volume(Image(values[None], geometry, "MR", "v"))
    image = read_image(node)
    assert np.array_equal(image.scalars, values)
    mask = np.zeros(geometry.shape, bool)
    mask[2, 3, 4] = True
    written = write_response(
        session.scene, node, response_with(Segmentation((segment("brain", mask),), image.geometry))
    )
    np.testing.assert_allclose(centroid_in_world(written.segmentation, "brain"), geometry.to_world((2, 3, 4)))


def test_existing_segments_are_bit_identical_after_adding_to_their_node(oblique_volume, scene):
    node, _, _ = oblique_volume
    geometry = read_image(node).geometry
    rng = np.random.default_rng(1)
    first = [segment("liver", rng.random(geometry.shape) > 0.5), segment("spleen", rng.random(geometry.shape) > 0.7)]
    written = write_response(scene, node, response_with(Segmentation(tuple(first), geometry)))
    target = written.segmentation
    before = {i: segment_mask(target, i)[0].tobytes() for i in ("liver", "spleen")}
    names = {i: target.GetSegmentation().GetSegment(i).GetName() for i in before}
    write_response(
        scene, node, response_with(Segmentation((segment("liver", rng.random(geometry.shape) > 0.2),), geometry)),
        segmentation=target,
    )  # fmt: skip
    assert target.GetSegmentation().GetNumberOfSegments() == 3
    assert {i: segment_mask(target, i)[0].tobytes() for i in before} == before
    assert {i: target.GetSegmentation().GetSegment(i).GetName() for i in before} == names


def test_overlapping_segments_are_both_whole(session):
    geometry = oblique_geometry()
    node = session.add_volume(Image(np.random.default_rng(0).random((1, *geometry.shape)), geometry, "MR", "v"))
    whole = sphere(geometry, geometry.center, 14)
    part = sphere(geometry, geometry.center, 6)
    written = write_response(
        session.scene,
        node,
        response_with(Segmentation((segment("brain", whole), segment("brainstem", part)), geometry)),
    )
    for name, mask in (("brain", whole), ("brainstem", part)):
        assert segment_mask(written.segmentation, name)[0].sum() == mask.sum()


def test_a_structure_around_all_others_is_translucent_in_3d(session):
    geometry = oblique_geometry()
    node = session.add_volume(Image(np.random.default_rng(0).random((1, *geometry.shape)), geometry, "MR", "v"))
    parts = [sphere(geometry, geometry.center + np.array((dx, 0, 0)), 5) for dx in (-6, 6)]
    segments = (segment("left thalamus", parts[0]), segment("brain", sphere(geometry, geometry.center, 15)),
                segment("right thalamus", parts[1]))  # fmt: skip
    written = write_response(session.scene, node, response_with(Segmentation(segments, geometry)))
    display = written.segmentation.GetDisplayNode()
    assert display.GetSegmentOpacity3D("brain") < 0.5
    assert display.GetSegmentOpacity3D("left_thalamus") == 1.0
    side_by_side = write_response(
        session.scene, node, response_with(Segmentation((segments[0], segments[2]), geometry))
    )
    assert side_by_side.segmentation.GetDisplayNode().GetSegmentOpacity3D("left_thalamus") == 1.0


def test_parents_references_and_terminology_are_set(oblique_volume, scene):
    node, _, _ = oblique_volume
    hierarchy = subject_hierarchy(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, node)
    geometry = read_image(node).geometry
    mask = sphere(geometry, geometry.center, 8)
    segmentation = Segmentation((segment("left kidney", mask),), geometry)
    image = read_image(node)
    written = write_response(scene, node, response_with(segmentation, *measure(segmentation, image)), labelmap=True)
    for new in (written.segmentation, written.labelmap, written.measurements):
        assert new.GetNodeReferenceID(VOLUME_ROLE) == node.GetID()
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(new)) == study
        assert '"medfm-tiny"' in new.GetAttribute("MedFM.Provenance")
    assert written.segmentation.GetNodeReference("referenceImageGeometryRef") is node
    assert written.segmentation.GetParentTransformNode() is node.GetParentTransformNode()
    made = written.segmentation.GetSegmentation().GetSegment("left_kidney")
    assert made.GetName() == "left kidney"
    np.testing.assert_allclose(made.GetColor(), structure("left kidney").color, atol=1e-6)
    entry = made.GetTerminology().split("~")
    assert entry[2] == "SCT^64033007^Kidney"
    assert entry[3] == "SCT^7771000^Left"


def test_a_labelmap_lies_on_the_volume_and_names_its_labels(oblique_volume, scene):
    node, _, world = oblique_volume
    mask = sphere(world, world.center, 10)
    geometry = read_image(node).geometry
    written = write_response(
        scene, node, response_with(Segmentation((segment("liver", mask),), geometry)), labelmap=True
    )
    from vtkmodules.util.numpy_support import vtk_to_numpy

    data = written.labelmap.GetImageData()
    values = vtk_to_numpy(data.GetPointData().GetScalars()).reshape(data.GetDimensions()[::-1]).transpose(2, 1, 0)
    assert np.array_equal(values == 1, mask)
    assert written.labelmap.GetParentTransformNode() is node.GetParentTransformNode()
    assert written.labelmap.GetDisplayNode().GetColorNode().GetColorName(1) == "liver"


def test_answers_become_a_text_and_rows_of_one_conversation(oblique_volume, scene):
    node, _, _ = oblique_volume
    where = SliceReference("axial", 7, (0.0, 1.0, 2.0))
    first = write_response(scene, node, response_with(Answer("What is this?", "MR", (where,))))
    second = write_response(scene, node, response_with(Answer("Which plane?", "axial", (where,))))
    table = second.conversation
    assert table is first.conversation
    assert [table.GetCellText(r, 1) for r in range(table.GetNumberOfRows())] == ["MR", "axial"]
    assert table.GetCellText(0, 2) == "axial slice 7"
    assert "MR" in first.texts[0].GetText()
    assert find(scene, node, "conversation") is table


def test_a_report_becomes_text_and_page_and_boxes_become_closed_curves(oblique_volume, scene):
    node, _, _ = oblique_volume
    corners = ((0.0, 0.0, 0.0), (10.0, 0.0, 0.0), (10.0, 5.0, 0.0), (0.0, 5.0, 0.0))
    boxes = Boxes((LocatedBox("liver", SliceReference("axial", 1, (0.0, 0.0, 0.0)), corners),))
    report = Report("Draft", (ReportSection("Findings", ("None.",)),), (), "FINDINGS\nNone.", "<html>ü</html>")
    written = write_response(scene, node, response_with(report, boxes))
    assert written.report_text.GetText().startswith("FINDINGS")
    assert written.report_html.GetText() == "<html>ü</html>"
    position = [0.0] * 3
    written.boxes[0].GetNthControlPointPositionWorld(2, position)
    np.testing.assert_allclose(position, corners[2])


def contents(scene):
    return {scene.GetNthNode(n).GetID(): scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}


def test_a_failed_write_leaves_the_scene_as_it_was(oblique_volume, scene, monkeypatch):
    node, _, _ = oblique_volume
    geometry = read_image(node).geometry
    mask = sphere(geometry, geometry.center, 8)
    segmentation = Segmentation((segment("liver", mask),), geometry)
    target = write_response(scene, node, response_with(segmentation, Answer("Q", "A"))).segmentation
    subject_hierarchy(scene)
    before = contents(scene)
    rows = find(scene, node, "conversation").GetNumberOfRows()
    items = subject_hierarchy(scene).GetNumberOfItems()

    def broken(*_):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("MedFMLib.scene.writing._text", broken)
    with pytest.raises(OutputError, match="disk on fire.*unchanged"):
        write_response(
            scene, node, response_with(segmentation, *measure(segmentation, read_image(node)), Answer("Q2", "A2")),
            segmentation=target, labelmap=True,
        )  # fmt: skip
    assert contents(scene) == before
    assert target.GetSegmentation().GetNumberOfSegments() == 1
    assert find(scene, node, "conversation").GetNumberOfRows() == rows
    assert subject_hierarchy(scene).GetNumberOfItems() == items


def test_a_write_that_fails_after_the_conversation_grew_takes_the_row_back(oblique_volume, scene):
    node, _, _ = oblique_volume
    write_response(scene, node, response_with(Answer("Q", "A")))
    rows = find(scene, node, "conversation").GetNumberOfRows()
    # a curve can't have a corner of two numbers, so the write fails at its very end
    bad = Boxes((LocatedBox("liver", SliceReference("axial", 1, (0.0, 0.0, 0.0)), ((0.0, 0.0),)),))
    before = contents(scene)
    with pytest.raises(OutputError):
        write_response(scene, node, response_with(Answer("Q2", "A2"), bad))
    assert find(scene, node, "conversation").GetNumberOfRows() == rows
    assert contents(scene) == before


def test_a_volume_that_was_removed_meanwhile_gets_nothing(oblique_volume, scene):
    node, _, _ = oblique_volume
    geometry = read_image(node).geometry
    scene.RemoveNode(node)
    before = contents(scene)
    with pytest.raises(InputError, match="removed from the scene"):
        write_response(scene, node, response_with(Segmentation((), geometry)))
    assert contents(scene) == before


def test_voxels_outlive_their_node(session):
    geometry = oblique_geometry()
    values = np.random.default_rng(3).random(geometry.shape).astype(np.float32)
    node = session.add_volume(Image(values[None], geometry, "MR", "v"))
    image = read_image(node)
    session.scene.RemoveNode(node)
    session.scene.Clear()
    del node
    assert np.array_equal(image.scalars, values)


def test_a_frame_of_a_sequence_is_read_and_one_must_be_chosen(session):
    geometry = oblique_geometry((16, 16, 9))
    sequence = session.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "perfusion")
    for n in range(3):
        frame = session.add_volume(Image(np.full((1, *geometry.shape), n + 1.0), geometry, "MR", f"f{n}"))
        sequence.SetDataNodeAtValue(frame, str(n))
    assert read_image(sequence, frame=2).scalars.max() == 3
    with pytest.raises(InputError, match="sequence of 3 frames; choose one from 0 to 2"):
        read_image(sequence)
    with pytest.raises(InputError, match="3 frames"):
        read_image(sequence, frame=3)


def test_bad_nodes_each_get_their_sentence(session):
    scene = session.scene
    with pytest.raises(InputError, match="No volume is chosen"):
        read_image(None)
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(InputError, match="'empty' is empty"):
        read_image(empty)
    with pytest.raises(InputError, match="is a labelmap"):
        read_image(scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels"))
    with pytest.raises(InputError, match="not a scalar volume"):
        read_image(scene.AddNewNodeByClass("vtkMRMLTextNode", "text"))
    import vtk

    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    data = vtk.vtkImageData()
    data.SetDimensions(9, 9, 9)
    data.AllocateScalars(vtk.VTK_FLOAT, 3)
    colour.SetAndObserveImageData(data)
    with pytest.raises(InputError, match="3 values per voxel"):
        read_image(colour)


def test_a_colour_volume_is_a_picture_without_a_place(session):
    import vtk
    from vtkmodules.util.numpy_support import numpy_to_vtk

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    data = vtk.vtkImageData()
    data.SetDimensions(30, 20, 1)
    data.GetPointData().SetScalars(numpy_to_vtk(pixels.reshape(-1, 3), deep=True))
    node = session.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    node.SetAndObserveImageData(data)
    image = read_image(node)
    assert image.is_picture and image.is_colour and not image.geometry.metric
    assert np.array_equal(make_view(image, "picture", 0).pixels, pixels)


def test_a_radiograph_in_the_scene_is_a_picture_shown_in_its_window(session):
    values = np.arange(600, dtype=np.int16).reshape(1, 30, 20, 1)
    node = session.add_volume(Image(values, Geometry((30, 20, 1), np.diag([-1.0, -1, 1, 1])), "CR", "chest"))
    image = read_image(node)
    assert image.is_picture and image.modality == "CR"
    assert make_view(image, "picture", 0).pixels.max() == 255


def test_a_volume_under_a_nonlinear_transform_is_refused_with_the_next_step(session):
    geometry = oblique_geometry()
    node = session.add_volume(Image(np.random.default_rng(0).random((1, *geometry.shape)), geometry, "MR", "v"))
    warp = session.scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    node.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match="harden"):
        read_image(node)


def test_the_modality_comes_from_dicom_then_from_the_voxels(session):
    geometry = oblique_geometry()
    node = session.add_volume(Image(np.full((1, *geometry.shape), 5.0), geometry, "CT", "v"))
    assert read_image(node).modality == "CT"
    assert "modality_guessed" not in read_image(node).facts
    node.RemoveAttribute("DICOM.Modality")
    assert read_image(node).modality == "MR"
    assert read_image(node).facts["modality_guessed"] == "yes"
    hierarchy = subject_hierarchy(session.scene)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "CT")
    assert read_image(node).modality == "CT"


def test_points_rois_and_segments_are_read_in_world_coordinates(oblique_volume, scene):
    node, _, world = oblique_volume
    transform = node.GetParentTransformNode()
    matrix = world_from_parent(node)
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clicks")
    points.AddControlPoint(1.0, 2.0, 3.0)
    points.SetAndObserveTransformNodeID(transform.GetID())
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "roi")
    roi.SetCenter(4.0, 5.0, 6.0)
    roi.SetSize(10.0, 20.0, 30.0)
    roi.SetAndObserveTransformNodeID(transform.GetID())
    geometry = read_image(node).geometry
    mask = sphere(geometry, geometry.center, 7)
    segmentation = write_response(
        scene, node, response_with(Segmentation((segment("liver", mask),), geometry))
    ).segmentation
    clicks, box, region = read_prompts([points, roi, (segmentation, "liver")])
    np.testing.assert_allclose(clicks.inside[0], (matrix @ (1, 2, 3, 1))[:3], atol=1e-5)
    np.testing.assert_allclose(box.center, (matrix @ (4, 5, 6, 1))[:3], atol=1e-5)
    np.testing.assert_allclose(box.size, (10, 20, 30), atol=1e-5)
    np.testing.assert_allclose(box.axes, matrix[:3, :3], atol=1e-5)
    assert region.mask.sum() == mask.sum()
    np.testing.assert_allclose(region.geometry.to_world(np.argwhere(region.mask)).mean(axis=0), world.center, atol=2.0)


def test_unplaced_points_empty_segments_and_other_nodes_are_refused(session):
    scene = session.scene
    with pytest.raises(InputError, match="no placed points"):
        read_prompts([scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "none")])
    with pytest.raises(InputError, match="neither a point list"):
        read_prompts([scene.AddNewNodeByClass("vtkMRMLTextNode", "text")])
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "s")
    with pytest.raises(InputError, match="has no segment 'x'"):
        read_prompts([(segmentation, "x")])
    segmentation.GetSegmentation().AddEmptySegment("e", "empty one")
    with pytest.raises(InputError, match="'empty one' is empty"):
        read_prompts([(segmentation, "e")])


def test_a_scene_saved_as_mrb_comes_back_whole(session, oblique_volume, tmp_path):
    from MedFMLib.scene.session import SceneSession

    node, _, _ = oblique_volume
    geometry = read_image(node).geometry
    mask = sphere(geometry, geometry.center, 9)
    segmentation = Segmentation((segment("left kidney", mask),), geometry)
    response = response_with(segmentation, *measure(segmentation, read_image(node)), Answer("Größe?", "5 cm"))
    write_response(session.scene, node, response)
    path = session.save(tmp_path / "ünïcode scene.mrb")
    again = SceneSession()
    assert again.scene.ReadFromMRB(str(path))
    restored = again.scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert segment_mask(restored, "left_kidney")[0].sum() == mask.sum()
    volume = again.scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
    image, loaded = read_image(node), read_image(volume)
    index = np.array((5, 20, 13))  # compared in the world: Slicer turns left-handed grids when it loads them
    there = tuple(np.rint(loaded.geometry.to_index(geometry.to_world(index))).astype(int))
    assert loaded.scalars[there] == image.scalars[tuple(index)]
    assert restored.GetNodeReference(VOLUME_ROLE) is volume
    assert "Größe?" in again.scene.GetFirstNodeByClass("vtkMRMLTextNode").GetText()
    kinds = {again.scene.GetNthNode(n).GetAttribute(KIND) for n in range(again.scene.GetNumberOfNodes())}
    assert {"segmentation", "measurements", "conversation", "answer"} <= kinds


def test_a_saliency_becomes_a_volume_in_colours_at_its_place_in_the_world(session, oblique_volume):
    node, _, world = oblique_volume
    start, stop = (0, 0, 4), (*world.shape[:2], 9)
    levels = np.zeros((*world.shape[:2], 5), np.uint8)
    levels[7, 11, 3] = 255
    saliency = Saliency("What?", "a liver", "attention", levels, world.crop(start, stop))
    written = write_response(session.scene, node, response_with(saliency))
    (made,) = written.saliencies
    image = read_image(made)
    assert image.geometry.matches(saliency.geometry)
    assert np.argwhere(image.scalars).tolist() == [[7, 11, 3]]
    assert made.GetAttribute(KIND) == "saliency"
    assert made.GetNodeReferenceID(VOLUME_ROLE) == node.GetID()
    display = made.GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() > 0
    assert display.GetColorNode().GetNumberOfColors() == 256


def test_a_segmentation_node_is_read_back_on_its_volume_whatever_the_transforms(session, oblique_volume):
    node, geometry, world = oblique_volume
    masks = {"liver": sphere(geometry, geometry.center, 9), "spleen": sphere(geometry, geometry.center + 12, 6)}
    written = write_response(
        session.scene, node, response_with(Segmentation(tuple(segment(n, m) for n, m in masks.items()), world))
    )
    held = copy_segmentation(written.segmentation)
    read = held.on(read_image(node).geometry)
    assert [s.label for s in read.segments] == list(masks)
    for label, mask in masks.items():
        np.testing.assert_array_equal(read[label].mask, mask)
    with pytest.raises(InputError, match="another grid"):
        held.on(geometry)


def test_a_reference_is_put_at_the_persons_level_and_named_for_what_it_is(session, oblique_volume):
    node, _, _ = oblique_volume
    other = Image(
        np.arange(60, dtype=np.int16).reshape(1, 5, 4, 3), Geometry((5, 4, 3), affine(spacing=(2, 3, 4))), "MR"
    )
    placement = affine(spacing=(1, 1, 1.25), origin=(5, -7, 30))
    seen = SliceReference("axial", 1, (0.0, 0.0, 0.0))
    for generated, words in ((True, "GENERATED, NOT A PERSON: a head"), (False, "Healthy reference: a head")):
        found = Comparison(
            "id", "a head", generated, other, placement, (MatchedSlice(seen, seen, b"png"),), notes=("mind",)
        )
        written = write_response(session.scene, node, response_with(found))
        assert written.reference.GetName().startswith(words)
        image = read_image(written.reference)
        np.testing.assert_allclose(image.geometry.affine, placement @ other.geometry.affine, atol=1e-6)
        np.testing.assert_array_equal(image.voxels, other.voxels)
        assert find(session.scene, node, "healthy-reference") is written.reference
        assert "mind" in find(session.scene, node, "comparison").GetText()
        assert written.differences is None
    sized = replace(found, differences=(Difference("liver", "volume", "mL", 1800.0, 1, 1500.0),))
    written = write_response(session.scene, node, response_with(sized))
    assert written.differences.GetCellText(0, 0) == "liver"
