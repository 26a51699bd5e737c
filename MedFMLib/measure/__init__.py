"""Numbers from geometry, never from a model: of every segment, of two beside each other, and tables of them.

basic   volume, extents, intensity, side: made with every segmentation
shape   diameters, surface: what a report and an export measure besides
full    all of it, for one segmentation
pairs   overlap and distance of two segments
"""

from .basic import HU, as_table, body_midline, measure, plain, side_of
from .full import EVERYDAY, measure_fully
from .pairs import SegmentPair, compare

__all__ = [
    "EVERYDAY", "HU", "SegmentPair", "as_table", "body_midline", "compare", "measure", "measure_fully", "plain", "side_of",
]  # fmt: skip
