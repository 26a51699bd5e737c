"""Read images from files and write results to files. Knows file formats; no models or MRML.

`read_image` takes NIfTI, NRRD, MetaImage, a DICOM file or a DICOM folder; `writing` has the output formats.
"""

from .names import output_name
from .reading import read_image
from .writing import write_bytes, write_segmentation, write_text

__all__ = ["output_name", "read_image", "write_bytes", "write_segmentation", "write_text"]
