"""Write a DICOM Key Object Selection of the instances in the report's pictures.

Source: PS3.16 TID 2010, with highdicom.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.findings import Code, KeyImage
from ..core.geometry import Geometry
from ..errors import InputError
from .source import Source, concept, equipment_of_document, highdicom


def key_objects(pictures: Sequence[KeyImage], geometry: Geometry, source: Source):
    """Return a Key Object Selection dataset of the instances that pictures show.

    Args:
        pictures: key images of the report.
        geometry: the volume's grid; a picture in another plane than the series' references the instance at its middle.
        source: headers of the series.

    Raises:
        InputError: if there is no picture.
    """
    hd = highdicom()
    numbers = sorted({_slice_of(picture, geometry) for picture in pictures})
    if not numbers:
        raise InputError("The report has no key image, so there is nothing to select.")
    chosen = list({str(source.slice(n).SOPInstanceUID): source.slice(n) for n in numbers}.values())
    captions = "; ".join(picture.caption for picture in pictures)
    content = hd.ko.KeyObjectSelection(
        document_title=concept(Code("113000", "DCM", "Of Interest")),
        referenced_objects=chosen,
        description=f"Key images of a MedFM draft, not verified: {captions}"[:1024],
    )
    return hd.ko.KeyObjectSelectionDocument(
        evidence=chosen, content=content, **equipment_of_document(3, "MedFM key images")
    )


def _slice_of(picture: KeyImage, geometry: Geometry) -> int:
    index = geometry.to_index(picture.slice.center)
    return int(min(max(round(float(index[2])), 0), geometry.shape[2] - 1))
