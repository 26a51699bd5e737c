"""Compute measurements from geometry, never from a model: of each segment, of pairs of segments, and tables of them.

```
basic   volume, extents, intensity, side: computed with every segmentation
shape   diameters, surface: additional measurements of reports and exports
full    all measurements of one segmentation
pairs   overlap and distance of two segments
```
"""

from .basic import HU, as_table, body_midline, measure, plain, side_of
from .full import EVERYDAY, measure_fully
from .pairs import SegmentPair, compare

__all__ = [
    "EVERYDAY", "HU", "SegmentPair", "as_table", "body_midline", "compare", "measure", "measure_fully", "plain", "side_of",
]  # fmt: skip
