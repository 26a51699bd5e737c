"""How MedFM's nodes are known in a scene: attributes that say what they are and which volume they belong to."""

from __future__ import annotations

VOLUME_ROLE = "MedFM.Volume"
KIND = "MedFM.Kind"


def find(scene, volume, kind: str):
    """The newest node of a kind (attribute `MedFM.Kind`) that belongs to a volume, or None."""
    found = None
    for n in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(n)
        if node.GetAttribute(KIND) == kind and node.GetNodeReferenceID(VOLUME_ROLE) == volume.GetID():
            found = node
    return found
