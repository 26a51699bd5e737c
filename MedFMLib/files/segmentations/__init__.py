"""Read segmentations onto the grid of an image. Knows the formats of segmentations; no models or MRML.

```
placing              one label grid on another: the rule for files, scenes and training data
found                segments as files describe them → `Segmentation`
label_volumes        label maps, probability maps, .seg.nrrd; label_names and slicer_header: what names their values
dicom_segmentations  DICOM SEG: binary, fractional, label map
structure_sets       RTSTRUCT
label_folders        where label files lie: one file a label, nnU-Net
reading              all of it: `read_segmentation`
```
"""

from .label_folders import LabelledImage, is_label_file, labelled_images
from .placing import Fit, Placed, fit_grids, place_labels
from .reading import read_segmentation

__all__ = [
    "Fit", "LabelledImage", "Placed", "fit_grids", "is_label_file", "labelled_images", "place_labels", "read_segmentation",
]  # fmt: skip
