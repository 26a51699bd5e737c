"""Write a `Response` into the scene as nodes, atomically, next to the volume they belong to.

Existing nodes are only added to: a conversation table gets rows, a given segmentation gets segments. If
anything fails, new nodes, rows and segments are removed again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from ..core.findings import Answer, Boxes, Comparison, Saliency, Segment, Segmentation
from ..core.request import Response
from ..errors import InputError, MedFMError, OutputError
from ..files.writing import terminology_tag
from ..measure import EVERYDAY, as_table
from .nodes import KIND, VOLUME_ROLE, find
from .reading import DICOM_MODALITY, index_to_ras, to_vtk, world_from_parent
from .reports import KINDS, texts_of

SEGMENTATION_ROLE = "MedFM.Segmentation"
PROVENANCE = "MedFM.Provenance"
ENCLOSING_OPACITY = 0.3
"""3D opacity of a segment that encloses all others, such as the brain around its parts, which it would hide otherwise."""

CONVERSATION = "conversation"
SALIENCY = "saliency"
REFERENCE = "healthy-reference"
SALIENCY_FROM = 26
"""Saliency levels below this (of 255) are transparent, so that the image shows."""

CONVERSATION_COLUMNS = ("question", "answer", "seen on", "model", "time")


@dataclass
class WrittenNodes:
    """The nodes created for a response; None or empty where it has nothing of the kind."""

    response: Response
    segmentation: object = None
    labelmap: object = None
    measurements: object = None
    conversation: object = None
    texts: list = field(default_factory=list)
    boxes: list = field(default_factory=list)
    saliencies: list = field(default_factory=list)
    reference: object = None
    comparison: object = None
    differences: object = None
    report_text: object = None
    report_html: object = None


class _Changes:
    """Changes made to the scene, so that they can be undone."""

    def __init__(self, scene):
        self.scene, self._undo = scene, []

    def add(self, class_name: str, name: str):
        node = self.scene.AddNewNodeByClass(class_name, self.scene.GenerateUniqueName(name))
        self.on_failure(lambda: self._remove(node))
        return node

    def _remove(self, node) -> None:
        for n in reversed(range(node.GetNumberOfDisplayNodes() if hasattr(node, "GetNumberOfDisplayNodes") else 0)):
            if (display := node.GetNthDisplayNode(n)) is not None:
                self.scene.RemoveNode(display)
        if hasattr(node, "GetStorageNode") and node.GetStorageNode() is not None:
            self.scene.RemoveNode(node.GetStorageNode())
        hierarchy = subject_hierarchy(self.scene)
        if item := hierarchy.GetItemByDataNode(node):
            hierarchy.RemoveItem(item, False, False)  # remove neither data nodes nor children
        self.scene.RemoveNode(node)

    def on_failure(self, undo) -> None:
        self._undo.append(undo)

    def roll_back(self) -> None:
        while self._undo:
            self._undo.pop()()


def write_response(
    scene,
    volume,
    response: Response,
    *,
    segmentation=None,
    labelmap: bool = False,
    surface: bool = False,
    answers: bool = True,
) -> WrittenNodes:
    """Write all results of a response into the scene.

    Args:
        scene: the volume's MRML scene.
        volume: the volume node that the job used.
        response: the results.
        segmentation: an existing segmentation node to add to; a new one by default.
        labelmap: whether to add a labelmap volume node (where segments overlap, later ones replace earlier ones).
        surface: whether to compute closed surfaces, shown in 3D views.
        answers: whether to write questions with their answers; what a patient asks is not kept.

    Raises:
        InputError: if the volume is no longer in the scene; nothing was written.
        OutputError: if something could not be written; the scene is unchanged.
    """
    if volume is None or scene is None or volume.GetScene() is not scene:
        raise InputError(
            "The volume was removed from the scene while the job ran, so nothing was written; load it and run again."
        )
    changes = _Changes(scene)
    try:
        kept = response if answers else replace(response, findings=_without_answers(response))
        return replace(_write(changes, volume, kept, segmentation, labelmap, surface), response=response)
    except Exception as error:
        changes.roll_back()
        if isinstance(error, MedFMError):
            raise
        raise OutputError(
            f"The results could not be written into the scene ({error}); the scene is unchanged."
        ) from error


def _without_answers(response: Response) -> tuple:
    return tuple(finding for finding in response.findings if not isinstance(finding, Answer))


def _write(changes: _Changes, volume, response: Response, target, labelmap: bool, surface: bool) -> WrittenNodes:
    written = WrittenNodes(response)
    name = volume.GetName() or "volume"
    if response.segmentation is not None:
        written.segmentation = _segmentation(changes, volume, response.segmentation, target, f"{name} segmentation")
        _annotate(changes.scene, written.segmentation, volume, response, "segmentation")
        if labelmap:
            written.labelmap = _labelmap(changes, volume, response.segmentation, f"{name} labels")
            _annotate(changes.scene, written.labelmap, volume, response, "labelmap")
        if surface:
            written.segmentation.CreateClosedSurfaceRepresentation()
    if response.measurements:
        written.measurements = _table(
            changes, f"{name} measurements", *as_table(response.measurements, EVERYDAY, reasons=True)
        )
        _annotate(changes.scene, written.measurements, volume, response, "measurements")
        if written.segmentation is not None:
            written.measurements.SetNodeReferenceID(SEGMENTATION_ROLE, written.segmentation.GetID())
    for answer in response.answers:
        seen = ", ".join(map(str, answer.evidence)) or "no slices"
        text = f"Q: {answer.question}\nA: {answer.text}\nSeen on: {seen}\n"
        if answer.reliability is not None:
            text += "".join(
                f"{line}\n" for line in (f"The model said: {answer.reliability.said}", *answer.reliability.notes)
            )
        node = _text(changes, f"{name} answer", text)
        _annotate(changes.scene, node, volume, response, "answer")
        written.texts.append(node)
        written.conversation = _converse(changes, volume, answer, response, f"{name} conversation")
    if response.report is not None:
        nodes = {}
        for kind, text in texts_of(response.report, response.report.kept).items():
            nodes[kind] = _text(changes, f"{name} {KINDS[kind]}", text)
            _annotate(changes.scene, nodes[kind], volume, response, kind)
        written.report_text, written.report_html = nodes["report"], nodes["report-html"]
    if response.comparison is not None:
        _compare(changes, volume, response, written, name)
    for saliency in response.saliencies:
        node = _saliency(changes, volume, saliency, f"{name} saliency ({saliency.method})")
        _annotate(changes.scene, node, volume, response, SALIENCY)
        written.saliencies.append(node)
    for finding in response.findings:
        if isinstance(finding, Boxes):
            for box in finding.boxes:
                curve = changes.add("vtkMRMLMarkupsClosedCurveNode", box.label)
                curve.SetCurveTypeToLinear()
                for corner in box.corners:
                    curve.AddControlPointWorld(*corner)
                _annotate(changes.scene, curve, volume, response, "box")
                written.boxes.append(curve)
    return written


def _annotate(scene, node, volume, response: Response, kind: str) -> None:
    """Set the node's reference to the volume, its provenance, and its place next to the volume in the subject hierarchy."""
    node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID())
    node.SetAttribute(KIND, kind)
    node.SetAttribute(PROVENANCE, json.dumps(asdict(response.provenance)))
    hierarchy = subject_hierarchy(scene)
    item = hierarchy.GetItemByDataNode(node)
    parent = hierarchy.GetItemParent(_item(hierarchy, volume))
    if item:
        hierarchy.SetItemParent(item, parent)
    else:  # outside of Slicer the item does not exist yet
        hierarchy.CreateItem(parent, node)


def subject_hierarchy(scene):
    """Return the scene's subject hierarchy node, created if there is none."""
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def _item(hierarchy, node) -> int:
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def _placement(volume, geometry) -> tuple[np.ndarray, object]:
    """Return (4×4 index → RAS, parent transform node) that place a result at the volume's present position.

    If the volume still has the grid's shape, the result follows the volume, including transforms changed since the job
    started; otherwise it stays at the world position of the job's image.
    """
    data = volume.GetImageData()
    if data is not None and tuple(data.GetDimensions()) == geometry.shape:
        return index_to_ras(volume, data), volume.GetParentTransformNode()
    return geometry.affine, None


def _oriented_image(segment: Segment, affine: np.ndarray):
    """Convert a segment's mask to vtkOrientedImageData of 0 and 1, cropped to its bounding box."""
    import slicer
    from vtkmodules.util.numpy_support import numpy_to_vtk

    start, mask = segment.cropped
    data = slicer.vtkOrientedImageData()
    data.SetExtent(*[v for low, n in zip(start, mask.shape, strict=True) for v in (low, low + n - 1)])
    scalars = numpy_to_vtk(mask.ravel(order="F"), deep=True)
    scalars.SetName("ImageScalars")
    data.GetPointData().SetScalars(scalars)
    data.SetImageToWorldMatrix(to_vtk(affine))
    return data


def _segmentation(changes: _Changes, volume, finding: Segmentation, target, name: str):
    affine, transform = _placement(volume, finding.geometry)
    if target is None:
        node = changes.add("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        if transform is not None:
            node.SetAndObserveTransformNodeID(transform.GetID())
        # after the transform: the reference grid is stored in the segmentation's own space
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    else:
        node = target
        affine = (
            np.linalg.inv(world_from_parent(node)) @ (world_from_parent(volume) if transform else np.eye(4)) @ affine
        )
    modifying = node.StartModify()  # one event for all segments, not one for each: views and tables update once
    try:
        ids = [_add_segment(changes, node, segment, affine) for segment in finding.segments]
    finally:
        node.EndModify(modifying)
    if target is None and (outer := _enclosing(finding.segments)) is not None:
        node.GetDisplayNode().SetSegmentOpacity3D(ids[outer], ENCLOSING_OPACITY)
    return node


def _enclosing(segments: tuple[Segment, ...]) -> int | None:
    """Return the number of the segment whose bounding box contains, within 3 voxels, all others (at least two), or None."""
    starts = np.array([s.cropped[0] for s in segments]).reshape(-1, 3)
    stops = starts + np.array([s.cropped[1].shape for s in segments]).reshape(-1, 3)
    for n in range(len(segments) if len(segments) > 2 else 0):
        if (starts[n] <= starts + 3).all() and (stops[n] >= stops - 3).all():
            return n
    return None


def _add_segment(changes: _Changes, node, segment: Segment, affine: np.ndarray) -> str:
    import slicer

    made = slicer.vtkSegment()
    made.SetName(segment.label)
    made.SetColor(*segment.color)
    made.SetTag("MedFM.Source", "MedFM")
    if tag := terminology_tag(segment):
        made.SetTag(made.GetTerminologyEntryTagName(), tag)
    made.AddRepresentation("Binary labelmap", _oriented_image(segment, affine))
    segments = node.GetSegmentation()
    segment_id = segments.GenerateUniqueSegmentID(segment.label.replace(" ", "_"))
    if not segments.AddSegment(made, segment_id):
        raise OutputError(f"Slicer refused the segment '{segment.label}'; the scene is unchanged.")
    changes.on_failure(lambda: segments.RemoveSegment(segment_id))
    return segment_id


def _labelmap(changes: _Changes, volume, finding: Segmentation, name: str):
    import vtk
    from vtkmodules.util.numpy_support import numpy_to_vtk

    affine, transform = _placement(volume, finding.geometry)
    labels = np.zeros(finding.geometry.shape, np.int16)
    for value, segment in enumerate(finding.segments, start=1):
        labels[segment.mask] = value
    data = vtk.vtkImageData()
    data.SetDimensions(*labels.shape)
    data.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(labels.transpose(2, 1, 0)).ravel(), deep=True))
    node = changes.add("vtkMRMLLabelMapVolumeNode", name)
    node.SetIJKToRASMatrix(to_vtk(affine))
    node.SetAndObserveImageData(data)
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    colors = changes.add("vtkMRMLColorTableNode", f"{name} colors")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(len(finding.segments) + 1)
    colors.SetColor(0, "background", 0, 0, 0, 0)
    for value, segment in enumerate(finding.segments, start=1):
        colors.SetColor(value, segment.label, *segment.color, 1.0)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    return node


def _compare(changes: _Changes, volume, response: Response, written: WrittenNodes, name: str) -> None:
    """Add the reference as a volume aligned to the level of the patient's image, and the comparison as text."""
    from ..healthy.section import section

    comparison: Comparison = response.comparison
    transform = changes.add("vtkMRMLLinearTransformNode", f"{comparison.title} placed next to {name}")
    transform.SetMatrixTransformToParent(to_vtk(comparison.placement))
    kind = "GENERATED, NOT A PERSON" if comparison.generated else "Healthy reference"
    node = _scalar_volume(
        changes, comparison.image.scalars, comparison.image.geometry.affine, f"{kind}: {comparison.title}"
    )
    node.SetAndObserveTransformNodeID(transform.GetID())
    node.SetAttribute(DICOM_MODALITY, comparison.image.modality)
    node.CreateDefaultDisplayNodes()
    words = section(comparison)
    text = _text(changes, f"{name} comparison", "\n".join(words.paragraphs))
    made = [(node, REFERENCE), (text, "comparison"), (transform, "placement")]
    if words.rows:
        written.differences = _table(changes, f"{name} differences", list(words.columns), [list(r) for r in words.rows])
        made.append((written.differences, "differences"))
    for thing, what in made:
        _annotate(changes.scene, thing, volume, response, what)
    written.reference, written.comparison = node, text


def _scalar_volume(changes: _Changes, values: np.ndarray, affine: np.ndarray, name: str):
    """Add a scalar volume node of (I, J, K) values."""
    import vtk
    from vtkmodules.util.numpy_support import numpy_to_vtk

    data = vtk.vtkImageData()
    data.SetDimensions(*values.shape)
    data.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values.transpose(2, 1, 0)).ravel(), deep=True))
    node = changes.add("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(to_vtk(affine))
    node.SetAndObserveImageData(data)
    return node


def _saliency(changes: _Changes, volume, finding: Saliency, name: str):
    """Add a coloured scalar volume next to the volume it explains; 0…255 represents 0…1."""
    from ..reports.saliency import color_table

    transform = volume.GetParentTransformNode()
    affine = np.linalg.inv(world_from_parent(volume)) @ finding.geometry.affine
    node = _scalar_volume(changes, finding.levels, affine, name)
    if transform is not None:
        node.SetAndObserveTransformNodeID(transform.GetID())
    colors = changes.add("vtkMRMLColorTableNode", f"{name} colors")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(256)
    for value, color in enumerate(color_table() / 255):
        colors.SetColor(value, f"{value / 255:.2f}", *map(float, color), 1.0)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(colors.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 255)
    display.SetThreshold(SALIENCY_FROM, 255)
    display.ApplyThresholdOn()
    return node


def _table(changes: _Changes, name: str, titles: list[str], rows: list[list[str]]):
    import vtk

    node = changes.add("vtkMRMLTableNode", name)
    for column, title in enumerate(titles):
        cells = [row[column] for row in rows]
        numeric = bool(cells) and all(_is_number(cell) for cell in cells)
        array = vtk.vtkDoubleArray() if numeric else vtk.vtkStringArray()
        array.SetName(title)
        for cell in cells:
            array.InsertNextValue(float(cell) if numeric else cell)
        node.AddColumn(array)
    return node


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(changes: _Changes, name: str, text: str):
    node = changes.add("vtkMRMLTextNode", name)
    node.SetText(text)
    node.SetForceCreateStorageNode(True)
    return node


def _converse(changes: _Changes, volume, answer: Answer, response: Response, name: str):
    """Append a row to the volume's conversation table."""
    scene = changes.scene
    node = find(scene, volume, CONVERSATION)
    if node is None:
        node = _table(changes, name, list(CONVERSATION_COLUMNS), [])
        _annotate(scene, node, volume, response, CONVERSATION)
    row = node.AddEmptyRow()
    changes.on_failure(lambda: node.RemoveRow(row))
    cells = (
        answer.question,
        answer.text,
        ", ".join(map(str, answer.evidence)),
        response.provenance.model,
        response.provenance.started,
    )
    for column, cell in enumerate(cells):
        node.SetCellText(row, column, cell)
    return node
