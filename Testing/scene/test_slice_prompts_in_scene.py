"""Markups give the position of a structure under any parent transform; a stopped job leaves the scene unchanged."""

import numpy as np
import pytest
from scene.test_scene import nested_transforms, oblique_volume  # noqa: F401 - a fixture
from support.phantoms import ct_phantom
from support.scripted_model import engine

import MedFMLib as medfm
from MedFMLib.core.prompts import Points
from MedFMLib.core.slice_prompts import place
from MedFMLib.core.view import display_axes
from MedFMLib.errors import Cancelled, InputError
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import Callbacks, LoadedFacts
from MedFMLib.scene import read_image, read_prompts
from MedFMLib.scene.reading import segment_mask


class MarkedVoxels:
    """Draws exactly the voxels whose centres were marked inside; looks at every slice."""

    facts = LoadedFacts("scripted-revision", "fp32")

    def outline(self, image, marks, *, callbacks=Callbacks()):
        callbacks.on_prompt(str(marks))
        found = {label: np.zeros(image.geometry.shape, bool) for label in marks.structures}
        for number in range(marks.first, marks.last + 1):
            if callbacks.cancelled():
                raise Cancelled
            callbacks.on_fraction(number / (marks.last + 1))
            for label, structure in marks.structures.items():
                for mark in (m for m in structure if m.number == number):
                    for place_ in np.rint(mark.points[mark.inside]).astype(int):
                        index = [number] * 3
                        for (axis, flipped), along in zip(
                            display_axes(image.geometry, marks.plane), place_, strict=True
                        ):
                            index[axis] = image.geometry.shape[axis] - 1 - along if flipped else along
                        found[label][tuple(index)] = True
        return found


@pytest.fixture
def console(monkeypatch):
    monkeypatch.setattr(
        "MedFMLib.api._engine", engine(MarkedVoxels(), monkeypatch, abilities=("outlines",), title="Marker")
    )


def markups(scene, kind, name, positions, transform=None, labels=()):
    """Control points at world positions, under a transform if one is given."""
    node = scene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", name)
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    for position in positions:
        n = node.AddControlPoint(0, 0, 0)
        node.SetNthControlPointPositionWorld(n, *position)
    for n, label in enumerate(labels):
        node.SetNthControlPointLabel(n, label)
    return node


def test_a_point_under_other_transforms_than_the_volume_draws_the_voxel_it_is_in(oblique_volume, scene, console):  # noqa: F811
    node, _, world = oblique_volume
    other, _ = nested_transforms(scene)
    voxels = [(7, 30, 4), (20, 9, 4), (33, 11, 15)]
    points = markups(scene, "Fiducial", "spots", world.to_world(np.add(voxels, 0.3)), other, ("a", "-b", "c"))
    local = [0.0, 0.0, 0.0]
    points.GetNthControlPointPosition(0, local)
    assert not np.allclose(local, world.to_world(voxels[0]), atol=5)  # the transform does something
    written = medfm.segment(node, points=points)
    mask, _ = segment_mask(written.segmentation, written.segmentation.GetSegmentation().GetNthSegmentID(0))
    found = sorted(tuple(int(v) for v in i) for i in np.argwhere(written.response.segmentation["spots"].mask))
    assert found == [voxels[0], voxels[2]]  # the second lies outside of the structure
    assert mask.sum() == 2


def test_two_lists_are_two_structures_and_one_name_joins_them(oblique_volume, scene, console):  # noqa: F811
    node, _, world = oblique_volume
    lists = [markups(scene, "Fiducial", n, [world.to_world(v)]) for n, v in (("a", (7, 30, 4)), ("b", (20, 9, 4)))]
    assert [s.label for s in medfm.segment(node, points=lists).response.segmentation.segments] == ["a", "b"]
    (joined,) = medfm.segment(node, "liver", points=lists).response.segmentation.segments
    assert joined.label == "liver"
    assert joined.mask.sum() == 2


def test_lines_and_curves_are_boxes_and_strokes(oblique_volume, scene):  # noqa: F811
    node, _, world = oblique_volume
    image, other = read_image(node), nested_transforms(scene)[0]
    corners = world.to_world([[5, 6, 7], [15, 18, 7]])
    line = markups(scene, "Line", "lesion", corners, other)
    (mark,) = place(read_prompts([line]), image.geometry, plane="axial").structures["lesion"]
    assert mark.number == 7
    assert sorted((mark.box[2] - mark.box[0], mark.box[3] - mark.box[1])) == pytest.approx([10, 12], abs=1e-3)
    ring = world.to_world([[20 + 6 * np.cos(a), 18 + 6 * np.sin(a), 7] for a in np.linspace(0, 6, 12)])
    closed = markups(scene, "ClosedCurve", "lesion", ring, other)
    (mark,) = place(read_prompts([closed]), image.geometry, plane="axial").structures["lesion"]
    assert mark.box[2] - mark.box[0] == pytest.approx(12, abs=0.6)
    stroke = markups(scene, "Curve", "- fat", world.to_world([[5, 6, 7], [9, 9, 7], [15, 8, 7]]), other)
    (prompt,) = read_prompts([stroke])
    assert (prompt.label, prompt.inside, prompt.around) == ("fat", False, False)
    assert len(prompt.path) > 3  # the curve as it is drawn, not its control points
    with pytest.raises(InputError, match="The curve 'lone' has fewer than 2 placed points"):
        read_prompts([markups(scene, "Curve", "lone", ring[:1])])


def test_a_point_outside_of_the_volume_and_a_bent_transform_are_one_sentence(oblique_volume, scene, console):  # noqa: F811
    node, _, world = oblique_volume
    far = markups(scene, "Fiducial", "far", [world.to_world((90, 9, 9))])
    with pytest.raises(InputError, match=r"^The point at R, A, S = .* mm lies outside of the volume; move it"):
        medfm.segment(node, points=far)
    bent = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    far.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(InputError, match="lies under the non-linear transform 'bent'; harden the transform first"):
        read_prompts([far])


class StopsAt(NoProgress):
    """A person who cancels when so much is done."""

    def __init__(self, when):
        self.when, self.done = when, 0.0

    def fraction(self, value):
        self.done = value

    def cancelled(self):
        return self.done >= self.when


def test_a_cancelled_propagation_leaves_the_scene_as_it_was(session, scene, console):
    image = ct_phantom()
    node = session.add_volume(image)
    points = markups(scene, "Fiducial", "spot", [image.geometry.center])
    medfm.segment(node, points=points)
    before = [(n.GetID(), n.GetMTime()) for n in nodes(scene)]
    stop = StopsAt(0.5)
    with pytest.raises(Cancelled):
        medfm.segment(node, points=points, progress=stop)
    assert 0.5 <= stop.done < 0.9  # it was under way
    assert [(n.GetID(), n.GetMTime()) for n in nodes(scene)] == before


def nodes(scene):
    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]


def test_values_and_nodes_may_be_mixed(session, scene, console):
    image = ct_phantom()
    node = session.add_volume(image)
    listed = markups(scene, "Fiducial", "a", [image.geometry.center])
    written = medfm.segment(node, points=[listed, Points([image.geometry.to_world((20, 30, 5))], label="b")])
    assert {s.label for s in written.response.segmentation.segments} == {"a", "b"}
