"""Write a DICOM Key Object Selection of the instances in the report's pictures.

Source: PS3.16 TID 2010, with highdicom.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.findings import Code, KeyImage
from ..core.geometry import Geometry
from ..errors import InputError
from .source import Source, concept, equipment_of_document, highdicom, identify


def key_objects(pictures: Sequence[KeyImage], geometry: Geometry, source: Source):
    """Return a Key Object Selection dataset of the instances that pictures show.

    Args:
        pictures: key images of the report.
        geometry: the volume's grid; a picture in another plane than the series' references the instance at its middle.
        source: the series.

    Raises:
        InputError: if there is no picture.
    """
    hd = highdicom()
    numbers = sorted({_slice_of(picture, geometry) for picture in pictures})
    if not numbers:
        raise InputError("The report has no key image, so there is nothing to select.")
    slices = [source.slices[min(n, len(source.slices) - 1)] for n in numbers]
    chosen = list({s.instance: s.header for s in slices}.values())
    captions = "; ".join(picture.caption for picture in pictures)
    content = hd.ko.KeyObjectSelection(
        document_title=concept(Code("113000", "DCM", "Of Interest")),
        referenced_objects=chosen,
        description=f"Key images of a MedFM draft, not verified: {captions}"[:1024],
    )
    made = hd.ko.KeyObjectSelectionDocument(
        evidence=chosen, content=content, **equipment_of_document(3, "MedFM key images")
    )
    for item in made.ContentSequence:
        for image in item.get("ReferencedSOPSequence", ()):
            frames = [s.frame for s in slices if s.frame and s.instance == str(image.ReferencedSOPInstanceUID)]
            if frames:
                image.ReferencedFrameNumber = frames
    return identify(made, source)


def _slice_of(picture: KeyImage, geometry: Geometry) -> int:
    if geometry.is_picture:
        return picture.slice.number
    index = geometry.to_index(picture.slice.center)
    return int(min(max(round(float(index[2])), 0), geometry.shape[2] - 1))
