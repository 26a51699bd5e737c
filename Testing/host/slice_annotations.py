"""The texts in the corners of slice views, as Slicer's module DataProbe writes them: with its faults.

As `DataProbeLib/SliceViewAnnotations.py` of Slicer 5.12: switching them off and updating removes the observers and returns, so
that the texts stay; and switching them on and updating adds no observers for views that it knows already.
"""

from __future__ import annotations

import slicer
import vtk


class SliceAnnotations:
    """What `slicer.modules.DataProbeInstance.infoWidget.sliceAnnotations` is.

    Args:
        layout_manager: finds the slice views.
    """

    def __init__(self, layout_manager):
        self.sliceViewAnnotationsEnabled = True
        self.layoutManager, self.sliceViewNames, self._tags = layout_manager, [], []
        self.createCornerAnnotations()

    def createCornerAnnotations(self) -> None:
        """Observe every slice view, and write its corners."""
        self.sliceViewNames = list(self.layoutManager.sliceViewNames())
        for name in self.sliceViewNames:
            logic = self.layoutManager.sliceWidget(name).sliceLogic()
            tag = logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_, name=name: self.makeAnnotationText(name))
            self._tags.append((logic, tag))
            self.makeAnnotationText(name)

    def updateSliceViewFromGUI(self) -> None:
        """Follow the check box."""
        if not self.sliceViewAnnotationsEnabled:
            self.removeObservers()
            return
        if not self.sliceViewNames:
            self.createCornerAnnotations()
        for name in self.sliceViewNames:
            self.makeAnnotationText(name)

    def makeAnnotationText(self, name: str) -> None:
        """Write the name of the background volume into a view."""
        widget = self.layoutManager.sliceWidget(name)
        volume = slicer.mrmlScene.GetNodeByID(widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() or "")
        widget.sliceView().cornerAnnotation().SetText(0, f"B: {volume.GetName()}" if volume is not None else "")

    def removeObservers(self) -> None:
        """Stop observing."""
        for logic, tag in self._tags:
            logic.RemoveObserver(tag)
        self._tags = []
