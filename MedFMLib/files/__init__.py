"""Images in and results out of files. Knows formats; nothing of models or MRML.

`read_image` takes NIfTI, NRRD, MetaImage, a DICOM file or a DICOM folder; `writing` has what goes out.
"""

from .reading import output_name, read_image
from .writing import write_bytes, write_segmentation, write_text

__all__ = ["output_name", "read_image", "write_bytes", "write_segmentation", "write_text"]
