"""The tiny random SAM 2 of the family's own file, by short names."""

from MedFMLib.models.sam2 import RANDOM_SIZE as SIZE
from MedFMLib.models.sam2 import random_checkpoint as sam2
from MedFMLib.models.sam2 import random_config as config

__all__ = ["SIZE", "config", "sam2"]
