"""Boxes and masks of structures: rounded outwards, unchanged after a round trip, absent where nothing is certain."""

import numpy as np
import pytest

from MedFMLib.training.embedded import labels
from MedFMLib.training.embedded.direct import paste
from MedFMLib.training.embedded.objects import STEP, find, snapped, survey


@pytest.fixture
def parts():
    """160×160 with a round liver, a tiny spleen of 9 pixels and a sliver of stomach of 5."""
    y, x = np.mgrid[:160, :160]
    picture = np.full((160, 160), labels.part_number("torso tissue"), np.uint8)
    picture[(y - 70) ** 2 + (x - 50) ** 2 < 30**2] = labels.part_number("liver")
    picture[20:23, 120:123] = labels.part_number("spleen")
    picture[100, 100:105] = labels.part_number("stomach")
    return picture


def test_a_box_snaps_outwards_to_the_positions_that_training_uses(parts):
    y0, x0, y1, x1 = find(parts, "liver").box
    tokens = np.array([y0, x0, y1, x1]) * 1023
    assert np.allclose(tokens, tokens.round())
    assert (tokens.round() % STEP == 0).all()
    assert 41 / 160 - STEP / 1023 <= y0 <= 41 / 160
    assert 100 / 160 <= y1 <= 100 / 160 + STEP / 1023


def test_snapping_reaches_the_last_token():
    assert snapped(1.0, True) == 1.0
    assert snapped(0.0, False) == 0.0


def test_a_mask_pasted_back_into_its_box_is_the_structure(parts):
    liver = find(parts, "liver")
    truth = labels.structure_mask(parts, "liver")
    again = paste(liver.mask.astype(np.float32), liver.box, 160)
    assert 2 * (again & truth).sum() / (again.sum() + truth.sum()) > 0.97


def test_what_is_barely_visible_is_neither_visible_nor_missing(parts):
    visible, missing = survey(parts, ("liver", "spleen", "stomach", "aorta"))
    assert list(visible) == ["liver"]
    assert "spleen" not in missing  # 9 pixels: too small to ask for, too large to deny
    assert {"stomach", "aorta"} <= set(missing)


def test_a_structure_that_the_source_does_not_label_is_never_called_missing(parts):
    parts[parts == labels.part_number("torso tissue")] = labels.UNKNOWN_PART
    _, missing = survey(parts, ("liver", "aorta"), ("brain",))
    assert set(missing) == {"aorta", "brain"}
