"""Compute measurements from geometry, never from a model: of each segment, of pairs of segments, and tables of them.

```
basic         volume, extents, intensity, side: computed with every segmentation
shape         diameters, surface: additional measurements of reports and exports
full          all measurements of one segmentation
midsagittal   the plane between left and right, with its uncertainty
plausibility  rules of anatomy: which outlines can't be right
edges         outlines that the edge of the image cuts
shown         tables of measurements, marks and sentences on outlines that failed a rule
pairs         overlap and distance of two segments
```
"""

from ..core.measurements import plain
from .basic import HU, measure, side_of
from .full import EVERYDAY, measure_fully
from .midsagittal import MidsagittalPlane, plane_from_image
from .pairs import SegmentPair, compare
from .plausibility import OutlineVerdict, check_outlines
from .shown import as_table, interval_text, remarks

__all__ = [
    "EVERYDAY", "HU", "MidsagittalPlane", "OutlineVerdict", "SegmentPair", "as_table", "check_outlines", "compare",
    "interval_text", "measure", "measure_fully", "plain", "plane_from_image", "remarks", "side_of",
]  # fmt: skip
