"""Convert volume, markups and segment nodes to `Image` and `Prompt`s in world RAS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..core.findings import Segment, Segmentation
from ..core.geometry import PICTURE, BoxedMask, Geometry
from ..core.image import MODALITIES, Image, check_finite, guess_modality
from ..core.prompts import Box, Points, Prompt, Region, Scribble
from ..core.terminology import structure
from ..errors import InputError
from ..files.dicom.series import PROJECTIONS
from ..files.names import PICTURE_SUFFIXES
from ..files.segmentations.placing import place_labels

DICOM_MODALITY = "DICOM.Modality"
"""Subject hierarchy attribute set by Slicer's DICOM browser."""

OUTSIDE = ("-", "\u2212")
"""A control point whose label, or a curve whose name, starts with a minus sign lies outside of the structure."""


def read_image(node, *, frame: int | None = None, modality: str = "") -> Image:
    """Return the voxels of a volume node on its grid in world RAS.

    The voxels are shared with the node, not copied, so this takes milliseconds whatever the size; they stay valid
    if the node is deleted.

    Args:
        node: scalar or colour volume node, or a sequence node of such volumes. A radiograph, ultrasound or colour
            picture has no place in a patient: its pixels are read as they are, and no mm and no side is known.
        frame: which frame of a sequence, from 0.
        modality: overrides the DICOM modality and the guess.

    Raises:
        InputError: no node, empty, vectors that are no colours, a labelmap, a sequence without frame, or a non-linear
            parent transform.
    """
    if node is None:
        raise InputError("No volume is chosen; load one and choose it.")
    placed = node
    if node.IsA("vtkMRMLSequenceNode"):
        node, placed = _frame(node, frame)
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"'{node.GetName()}' is not a scalar volume; choose an image volume.")
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"'{node.GetName()}' is a labelmap, not an image; choose the image it belongs to.")
    data = node.GetImageData()
    scalars = data.GetPointData().GetScalars() if data is not None else None
    if scalars is None or data.GetNumberOfPoints() == 0:
        raise InputError(f"The volume '{node.GetName()}' is empty; load its image again.")
    channels = scalars.GetNumberOfComponents()
    voxels = _array(data, scalars)
    stated = _modality(placed)
    affine = world_from_parent(placed) @ index_to_ras(node, data)
    if channels in (3, 4) and voxels.dtype == np.uint8:
        return _picture(node, voxels[:3], affine, modality or stated)
    if channels != 1:
        raise InputError(
            f"'{node.GetName()}' has {channels} values per voxel (vectors, or colours of more than 8 bits); convert it with the "
            "module Vector to Scalar Volume first."
        )
    if _has_no_place(node, stated, data):
        return _picture(node, voxels, affine, modality or stated)
    values, facts = voxels[0], {}
    check_finite(values, node.GetName() or "volume")
    modality = modality or stated
    if not modality:
        modality, facts = guess_modality(values), {"modality_guessed": "yes"}
    geometry = Geometry(values.shape, affine)
    return Image(voxels, geometry, modality, node.GetName() or "volume", facts)


def _frame(sequence, frame: int | None):
    """Return (data node of the frame, node whose transform places it)."""
    count = sequence.GetNumberOfDataNodes()
    if frame is None or not 0 <= frame < count:
        raise InputError(f"'{sequence.GetName()}' is a sequence of {count} frames; choose one from 0 to {count - 1}.")
    node = sequence.GetNthDataNode(frame)
    scene = sequence.GetScene()
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") if scene else 0):
        proxy = scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode").GetProxyNode(sequence)
        if proxy is not None:
            return node, proxy
    return node, node


def _array(data, scalars) -> np.ndarray:
    """Return a (C, I, J, K) view of the scalars."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    columns, rows, slices = data.GetDimensions()
    return vtk_to_numpy(scalars).reshape(slices, rows, columns, -1).transpose(3, 2, 1, 0)


def _has_no_place(node, modality: str, data) -> bool:
    """Return whether a scalar volume is a picture: a projection or ultrasound picture, or loaded from a picture file."""
    if modality in ("CR", "US") and data.GetDimensions()[2] == 1:
        return True
    storage = node.GetStorageNode() if hasattr(node, "GetStorageNode") else None
    file = (storage.GetFileName() or "") if storage is not None else ""
    return file.lower().endswith(PICTURE_SUFFIXES)


def _picture(node, voxels: np.ndarray, affine: np.ndarray, modality: str) -> Image:
    """Return a volume node's pixels as pictures without a place in a patient, k from picture to picture.

    The grid keeps the node's place in the scene, so that results land on it there; it means nothing in a patient.
    """
    display = None
    if voxels.shape[0] == 1 and voxels.dtype != np.uint8:
        low, high = _shown_range(node, voxels)
        display = np.rint(np.clip((voxels - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    geometry = Geometry(voxels.shape[1:], affine, space=PICTURE, metric=False)
    return Image(voxels, geometry, modality or "OT", node.GetName() or "picture", display=display)


def _shown_range(node, voxels: np.ndarray) -> tuple[float, float]:
    """Return the darkest and brightest value of the node's window in Slicer, else those of the pixels."""
    shown = node.GetDisplayNode() if hasattr(node, "GetDisplayNode") else None
    if shown is not None and hasattr(shown, "GetWindow") and shown.GetWindow() > 0:
        return shown.GetLevel() - shown.GetWindow() / 2, shown.GetLevel() + shown.GetWindow() / 2
    return float(voxels.min()), float(voxels.max())


def index_to_ras(node, data) -> np.ndarray:
    """Return the 4×4 transform from array index to the node's own RAS, including an extent that starts elsewhere than 0.

    Args:
        node: volume node.
        data: its vtkImageData.
    """
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine = to_numpy(matrix)
    start = np.array(data.GetExtent()[::2], dtype=float)
    affine[:3, 3] += affine[:3, :3] @ start
    return affine


def _modality(node) -> str:
    """Return the DICOM modality from the subject hierarchy, '' if unknown."""
    scene = node.GetScene()
    hierarchy = (
        scene.GetSubjectHierarchyNode() if scene is not None and hasattr(scene, "GetSubjectHierarchyNode") else None
    )
    if hierarchy is None and scene is not None:
        hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    stated = node.GetAttribute(DICOM_MODALITY) or ""
    if hierarchy is not None and not stated:
        item = hierarchy.GetItemByDataNode(node)
        stated = hierarchy.GetItemAttribute(item, DICOM_MODALITY) if item else ""
    return stated if stated in MODALITIES else PROJECTIONS.get(stated, "")


def to_numpy(matrix) -> np.ndarray:
    """Convert a vtkMatrix4x4 to (4, 4) float64."""
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def to_vtk(affine: np.ndarray):
    """Convert (4, 4) to a vtkMatrix4x4."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    for r in range(4):
        for c in range(4):
            matrix.SetElement(r, c, float(affine[r, c]))
    return matrix


def world_from_parent(node) -> np.ndarray:
    """Return the 4×4 transform from RAS inside the node's parent transforms to world RAS.

    Raises:
        InputError: if one of the transforms is not linear.
    """
    import vtk

    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise InputError(
            f"'{node.GetName()}' lies under the non-linear transform '{transform.GetName()}'; harden the transform first "
            "(Data module, right click on the transform)."
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return to_numpy(matrix)


def read_prompts(nodes: Iterable) -> tuple[Prompt, ...]:
    """Return the prompts placed in the scene, in world RAS.

    Args:
        nodes: point lists, ROIs, lines (a box's diagonal), curves (strokes; a closed one represents the box around it),
            or (segmentation node, segment ID) pairs. See `OUTSIDE` for points outside of the structure.

    Raises:
        InputError: for another kind of node, an empty list or segment, or a non-linear parent transform.
    """
    prompts: list[Prompt] = []
    for node in nodes:
        if isinstance(node, tuple):
            prompts.append(_region(*node))
        elif node.IsA("vtkMRMLMarkupsROINode"):
            prompts.append(_box(node))
        elif node.IsA("vtkMRMLMarkupsFiducialNode"):
            prompts.append(_points(node))
        elif node.IsA("vtkMRMLMarkupsCurveNode") or node.IsA("vtkMRMLMarkupsLineNode"):
            prompts.append(_stroke(node))
        else:
            raise InputError(
                f"'{node.GetName()}' is neither a point list, an ROI, a line, a curve nor a segment; choose one of those."
            )
    return tuple(prompts)


def _placed(node, what: str, least: int = 1) -> dict[int, np.ndarray]:
    """Return a mapping from number to world RAS mm of a markup's placed control points."""
    world_from_parent(node)  # a non-linear transform would move points, but no voxels
    positions = {}
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == node.PositionDefined:
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, position)
            positions[n] = np.array(position)
    if len(positions) < least:
        few = "no placed points; place one" if least == 1 else f"fewer than {least} placed points; place them"
        raise InputError(f"The {what} '{node.GetName()}' has {few} in a slice view.")
    return positions


def _points(node) -> Points:
    placed = _placed(node, "point list")
    outside = {n for n in placed if (node.GetNthControlPointLabel(n) or "").strip().startswith(OUTSIDE)}
    return Points(
        [placed[n] for n in placed if n not in outside], [placed[n] for n in sorted(outside)], node.GetName() or ""
    )


def _stroke(node) -> Scribble:
    """Return a line's ends, or the points of the curve displayed between its control points."""
    line, name = node.IsA("vtkMRMLMarkupsLineNode"), node.GetName() or ""
    path = list(_placed(node, "line" if line else "curve", 2).values())
    curve = None if line else node.GetCurvePointsWorld()
    if curve is not None and curve.GetNumberOfPoints() > 1:
        path = [curve.GetPoint(n) for n in range(curve.GetNumberOfPoints())]
    closed = line or node.IsA("vtkMRMLMarkupsClosedCurveNode")
    return Scribble(
        np.array(path), inside=not name.startswith(OUTSIDE), label=name.lstrip("".join(OUTSIDE)).strip(), around=closed
    )


def _box(node) -> Box:
    import vtk

    center = [0.0, 0.0, 0.0]
    node.GetCenterWorld(center)
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(node.GetObjectToWorldMatrix())
    axes = to_numpy(matrix)[:3, :3]
    scale = np.linalg.norm(axes, axis=0)
    size = np.array(node.GetSize()) * scale
    if not (size > 0).all():
        raise InputError(f"The ROI '{node.GetName()}' has no extent; draw it larger.")
    return Box(np.array(center), size, axes / scale, node.GetName() or "")


def _region(segmentation, segment_id: str) -> Region:
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise InputError(f"'{segmentation.GetName()}' has no segment '{segment_id}'; choose one of its segments.")
    mask, affine = segment_mask(segmentation, segment_id)
    if not mask.any():
        raise InputError(f"The segment '{segment.GetName()}' is empty; draw it or choose another.")
    return Region(mask, Geometry(mask.shape, world_from_parent(segmentation) @ affine), segment.GetName())


@dataclass(frozen=True, eq=False)
class SegmentationCopy:
    """A copy of a segmentation node's content, taken quickly on the GUI thread for use on another thread.

    Args:
        parts: (name, colour, labels as an array, the segment's value in it, its 4×4 index → world RAS mm).
    """

    parts: tuple[tuple[str, tuple[float, float, float], np.ndarray, int, np.ndarray], ...]

    def on(self, geometry: Geometry) -> Segmentation:
        """Return the segments on a volume's grid.

        Raises:
            InputError: if a segment lies on another grid, or voxels of it outside of the volume.
        """
        found = []
        for name, color, labels, value, affine in self.parts:
            placed = place_labels(
                labels == value, Geometry(labels.shape, affine), geometry, f"The segment '{name}'",
                "segment this volume first.",
            )  # fmt: skip
            inside = BoxedMask.of(placed.labels, geometry.shape, placed.start)
            known = structure(name)
            found.append(Segment(known.label, inside, color, known.category, known.code, known.side))
        return Segmentation(tuple(found), geometry)


def copy_segmentation(node) -> SegmentationCopy:
    """Copy the segments of a segmentation node that have voxels; segments that share an array are copied once."""
    import vtk

    segments, copies, parts = node.GetSegmentation(), {}, []
    for number in range(segments.GetNumberOfSegments()):
        segment = segments.GetNthSegment(number)
        data = node.GetBinaryLabelmapInternalRepresentation(segments.GetNthSegmentID(number))
        if data is None or data.GetNumberOfPoints() == 0:
            continue
        if data not in copies:
            matrix = vtk.vtkMatrix4x4()
            data.GetImageToWorldMatrix(matrix)
            affine = to_numpy(matrix)
            affine[:3, 3] += affine[:3, :3] @ np.array(data.GetExtent()[::2], dtype=float)
            copies[data] = (_array(data, data.GetPointData().GetScalars())[0].copy(), world_from_parent(node) @ affine)
        labels, affine = copies[data]
        parts.append((segment.GetName(), tuple(segment.GetColor()), labels, segment.GetLabelValue(), affine))
    return SegmentationCopy(tuple(parts))


def segment_mask(segmentation, segment_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ((I, J, K) bool, 4×4 index → the segmentation's own RAS) of one segment's labelmap.

    Args:
        segmentation: segmentation node.
        segment_id: ID of the segment.
    """
    import vtk

    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    data = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    if data is None or data.GetNumberOfPoints() == 0:
        return np.zeros((1, 1, 1), dtype=bool), np.eye(4)
    values = _array(data, data.GetPointData().GetScalars())[0]
    matrix = vtk.vtkMatrix4x4()
    data.GetImageToWorldMatrix(matrix)
    affine = to_numpy(matrix)
    affine[:3, 3] += affine[:3, :3] @ np.array(data.GetExtent()[::2], dtype=float)
    return values == segment.GetLabelValue(), affine
