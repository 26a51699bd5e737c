"""Read the texts that came with a volume node, which may tell the part of the body. Knows MRML, and Slicer's DICOM database."""

from __future__ import annotations

TAGS = (
    "0018,0015",  # BodyPartExamined
    "0008,1030",  # StudyDescription
    "0008,103e",  # SeriesDescription
    "0018,1030",  # ProtocolName
    "0032,1060",  # RequestedProcedureDescription
    "0040,0254",  # PerformedProcedureStepDescription
)
INSTANCES = "DICOM.instanceUIDs"
"""Attribute of a volume node, or of its series in the subject hierarchy, set by Slicer's DICOM module."""


def words_of_node(node) -> tuple[str, ...]:
    """Return the texts of a volume node about what it shows: its name, the names of its study and series, and header fields.

    Args:
        node: volume node.
    """
    import slicer

    found = [node.GetName() or ""]
    uids = node.GetAttribute(INSTANCES) or ""
    scene = node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene) if scene is not None else None
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    while item and item != hierarchy.GetSceneItemID():
        found.append(hierarchy.GetItemName(item))
        uids = uids or hierarchy.GetItemAttribute(item, INSTANCES)
        item = hierarchy.GetItemParent(item)
    database = getattr(slicer, "dicomDatabase", None)
    if database is not None and uids.strip():
        found += [database.instanceValue(uids.split()[0], tag) for tag in TAGS]
    return tuple(dict.fromkeys(text for text in found if text))
