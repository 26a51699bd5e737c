"""Mark and find MedFM's nodes in a scene with attributes for their kind and the volume they belong to."""

from __future__ import annotations

VOLUME_ROLE = "MedFM.Volume"
KIND = "MedFM.Kind"


def find(scene, volume, kind: str):
    """Return the newest node of a kind that belongs to a volume, or None.

    Args:
        scene: the MRML scene.
        volume: the volume node.
        kind: value of the node's attribute `MedFM.Kind`.
    """
    found = None
    for n in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(n)
        if node.GetAttribute(KIND) == kind and node.GetNodeReferenceID(VOLUME_ROLE) == volume.GetID():
            found = node
    return found
