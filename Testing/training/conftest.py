"""A phantom that needs no data, and the open data folder for the tests that do."""

import numpy as np
import pytest

from MedFMLib.training.embedded import labels
from MedFMLib.training.embedded.sources import Subject


@pytest.fixture
def data(open_data):
    """The folder of open images; its tests are skipped by name where the training data are absent."""
    for needed in ("brain_labelmaps", "ct_torso", "mr_torso", "ct_chest"):
        folder = open_data(needed).parent
    return folder


@pytest.fixture
def torso():
    """A box of tissue in RAS order with a liver on the patient's right, a spleen on the left, and a spine behind."""
    values = np.zeros((60, 50, 40), np.uint16)
    values[4:56, 4:46, :] = 903
    values[34:52, 18:40, 10:30] = 5  # large x is the patient's right
    values[8:18, 12:24, 12:26] = 1
    values[26:34, 6:14, :] = 29
    table = labels.part_table(labels.TOTALSEGMENTATOR_CT, "torso tissue")
    parts = table[values]
    hu = np.select([values == 0, values == 903, values == 29], [-1000.0, -80.0, 300.0], 60.0).astype(np.float32)
    return Subject("ct_torso", "torso", "CT", values, parts, np.array([3.0, 3.0, 3.0]), hu,
                   labels.TORSO_STRUCTURES, labels.HEAD_STRUCTURES)  # fmt: skip
