"""Limit slice and 3D views to one patient's volume and to structures with a name for patients.

Knows MRML nodes and views. What is allowed is listed, and everything else goes: layers, volumes in lists, markups, models, color
legends, segments, texts in corners, keys. Every change is recorded as an attribute of the node, so that `open` undoes it after
a crash, a reload, or in a scene that was saved meanwhile, too.
"""

from __future__ import annotations

import json

import slicer
import vtk
from MedFMLib.patient.glossary import glossary
from MedFMLib.scene.nodes import KIND, VOLUME_ROLE

SHUT = "MedFMShut"
LAYERS, SEGMENTS = "MedFMShutLayers", "MedFMShutSegments"
"""Attributes with the layers that a slice view had, and with the segments that were visible, as JSON."""

PICTURES = ("vtkMRMLVolumeDisplayNode", "vtkMRMLVolumeRenderingDisplayNode")
"""How a volume itself is drawn; color legends and others have texts."""

REFERENCE, SEGMENTATION, TOUCHED = "healthy-reference", "segmentation", "patient-touch"
"""Kinds of MedFM's nodes that a patient may see."""

KEY_EVENTS = ("KeyPressEvent", "KeyReleaseEvent", "CharEvent")
FIRST = 1000.0
"""Priority of an observer that comes before those of Slicer."""

CORNERS = 8


class ViewLimits:
    """What the views may show while a patient uses them."""

    def __init__(self):
        self._volume, self._observed = None, {}

    def close(self, volume) -> None:
        """Limit the views; may be called repeatedly, also for what was added meanwhile.

        Args:
            volume: the patient's volume node; None if there is none, then the views are empty.
        """
        self._volume = volume if volume is not None and volume.GetScene() is not None else None
        self._hide_displays()
        self._hide_volumes()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if composite.GetAttribute(LAYERS) is None:
                composite.SetAttribute(LAYERS, json.dumps([get() for get, _ in _layers(composite)]))
                for _, put in _layers(composite):
                    put(None)
                composite.SetBackgroundVolumeID(self._id())
            self._limit_layers(composite)
            self._observe(composite, vtk.vtkCommand.ModifiedEvent, lambda *_, node=composite: self._limit_layers(node))
        for view in _views():
            for event in KEY_EVENTS:
                self._block(view.interactor(), event)
        for corner in _corners():
            _clear(corner)
            self._observe(corner, vtk.vtkCommand.ModifiedEvent, lambda *_, corner=corner: _clear(corner))

    def open(self) -> None:
        """Restore every node that has a record of a change."""
        self.stop()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            recorded = composite.GetAttribute(LAYERS)
            composite.RemoveAttribute(LAYERS)
            for (_, put), node_id in zip(_layers(composite), _list(recorded), strict=False):
                put(node_id if node_id and slicer.mrmlScene.GetNodeByID(node_id) is not None else None)
        for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode"):
            if node.GetAttribute(SHUT):
                node.RemoveAttribute(SHUT)
                node.SetHideFromEditors(False)
        for display in slicer.util.getNodesByClass("vtkMRMLDisplayNode"):
            if display.GetAttribute(SHUT):
                display.RemoveAttribute(SHUT)
                display.SetVisibility(True)
            for segment in _list(display.GetAttribute(SEGMENTS)):
                display.SetSegmentVisibility(segment, True)
            display.RemoveAttribute(SEGMENTS)

    def stop(self) -> None:
        """Stop observing; what was hidden stays hidden."""
        for thing, tag in self._observed.values():
            thing.RemoveObserver(tag)
        self._observed.clear()

    # -- implementation ---------------------------------------------------------------------------------

    def _allows(self, node) -> bool:
        """Return whether a volume is the patient's, or the healthy one that it is compared with."""
        if node is None or self._volume is None:
            return False
        return node is self._volume or (node.GetAttribute(KIND) == REFERENCE and self._belongs(node))

    def _id(self) -> str | None:
        """Return the ID of the patient's volume, if it is in the scene."""
        return self._volume.GetID() if self._volume is not None and self._volume.GetScene() is not None else None

    def _belongs(self, node) -> bool:
        return self._volume is not None and node.GetNodeReferenceID(VOLUME_ROLE) == self._volume.GetID()

    def _limit_layers(self, composite) -> None:
        """Remove volumes of others from a slice view, however they came there."""
        instead = self._id()
        for number, (get, put) in enumerate(_layers(composite)):
            if get() and not self._allows(slicer.mrmlScene.GetNodeByID(get())):
                put(instead if number == 0 else None)

    def _hide_volumes(self) -> None:
        """Take volumes of others out of the lists that people choose from."""
        for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode"):
            if not self._allows(node) and not node.GetHideFromEditors():
                node.SetAttribute(SHUT, "1")
                node.SetHideFromEditors(True)

    def _hide_displays(self) -> None:
        for display in slicer.util.getNodesByClass("vtkMRMLDisplayNode"):
            shown = display.GetDisplayableNode()
            if shown is None or slicer.vtkMRMLSliceLogic.IsSliceModelNode(shown):
                continue  # the slices that 3D views show
            if (
                display.IsA("vtkMRMLSegmentationDisplayNode")
                and shown.GetAttribute(KIND) == SEGMENTATION
                and self._belongs(shown)
            ):
                _hide_segments(display, shown.GetSegmentation())
            elif shown.GetAttribute(KIND) == TOUCHED and self._belongs(shown):
                continue  # the surface of what the patient touches
            elif display.GetVisibility() and not (any(map(display.IsA, PICTURES)) and self._allows(shown)):
                display.SetAttribute(SHUT, "1")
                display.SetVisibility(False)

    def _block(self, interactor, event: str) -> None:
        """Stop an event before any observer of Slicer gets it."""
        key = (id(interactor), event)
        if key not in self._observed:
            tag = interactor.AddObserver(
                event, lambda caller, _: caller.GetCommand(self._observed[key][1]).SetAbortFlag(1), FIRST
            )
            self._observed[key] = (interactor, tag)

    def _observe(self, thing, event: int, slot) -> None:
        key = (id(thing), event)
        if key not in self._observed:
            self._observed[key] = (thing, thing.AddObserver(event, slot))


def _layers(composite) -> tuple:
    """Return (getter, setter) of the background, foreground and label of a slice view."""
    return (
        (composite.GetBackgroundVolumeID, composite.SetBackgroundVolumeID),
        (composite.GetForegroundVolumeID, composite.SetForegroundVolumeID),
        (composite.GetLabelVolumeID, composite.SetLabelVolumeID),
    )


def _hide_segments(display, segmentation) -> None:
    """Hide segments that the patients' glossary has no name for."""
    words, hidden = glossary(), _list(display.GetAttribute(SEGMENTS))
    for number in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegmentID(number)
        if not words.knows(segmentation.GetNthSegment(number).GetName()) and display.GetSegmentVisibility(segment):
            display.SetSegmentVisibility(segment, False)
            hidden.append(segment)
    if hidden:
        display.SetAttribute(SEGMENTS, json.dumps(hidden))


def _list(text: str | None) -> list:
    """Return a recorded list; [] if there is none or somebody changed it."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [item for item in found if item is None or isinstance(item, str)] if isinstance(found, list) else []


def _views() -> list:
    layout = slicer.app.layoutManager()
    if layout is None:
        return []
    slices = [layout.sliceWidget(name).sliceView() for name in layout.sliceViewNames()]
    return [*slices, *(layout.threeDWidget(n).threeDView() for n in range(layout.threeDViewCount))]


def _corners() -> list:
    """Return the texts in the corners of the views, which name the volume, or its patient, study and series."""
    return [view.cornerAnnotation() for view in _views()]


def _clear(corner) -> None:
    """Empty the corners; setting a text calls observers, so only one that isn't empty is set."""
    for number in range(CORNERS):
        if corner.GetText(number):
            corner.SetText(number, "")
