"""Meaning, agreement, calibration and the blind control: arithmetic with known results, no model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.phantoms import ct_phantom

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import ReliabilityChoice
from MedFMLib.core.view import make_view
from MedFMLib.errors import InputError
from MedFMLib.reliability import agree, blind, calibration, controls, expected_error, fit, same, stands, words

SAME = (
    ("yes", "Yes."),
    ("yes", "Yes, the liver is visible."),
    ("no", "No, it is not visible"),
    ("axial", "The plane is axial."),
    ("2", "two"),
    ("liver, spleen, stomach", "spleen, stomach and liver"),
    ("about the same size", "no, about the same size"),
    ("the left kidney", "left kidneys"),
    ("cannot be answered from this image", "I can't tell from the picture."),
)
OTHER = (
    ("yes", "no"),
    ("left", "right"),
    ("2", "3"),
    ("axial", "coronal"),
    ("liver", "liver, spleen, stomach, aorta"),
    ("liver, spleen, stomach, aorta", "liver"),
    ("the liver is not visible", "the liver is visible"),
    ("yes", "cannot be answered from this image"),
    ("yes, the liver", "no, the liver"),
    ("yes", "liver"),
)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_answers_that_say_the_same_are_one_whichever_comes_first(one, other):
    assert same(one, other) and same(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_answers_that_say_something_else_are_two_whichever_comes_first(one, other):
    assert not same(one, other) and not same(other, one)


def test_agreement_is_the_share_that_means_what_the_answer_means():
    found = agree("yes", ["yes", "Yes, it is.", "no", "yes"])
    assert found.share == 0.75
    assert found.clusters == (("yes", 3), ("no", 1))
    assert 0 < found.entropy < 1
    assert agree("no", ["yes"] * 5).share == 0
    assert agree("no", ["yes"] * 5).entropy == 0


def test_a_calibration_rises_and_its_chances_are_nearer_to_the_truth_than_the_agreement():
    rng = np.random.default_rng(4)
    agreement = rng.integers(1, 11, 4000) / 10
    right = rng.random(4000) < agreement**3  # overconfident
    curve, least = fit(agreement[:2000], right[:2000])
    assert (np.diff(np.array(curve), axis=0) >= 0).all()
    chances = np.interp(agreement[2000:], *zip(*curve, strict=True))
    assert expected_error(chances, right[2000:]) < 0.05 < 0.15 < expected_error(agreement[2000:], right[2000:])
    assert right[2000:][chances >= least].mean() > 0.85 > right.mean()


def test_few_answers_are_no_calibration():
    with pytest.raises(InputError, match="at least 20 answers, not 3"):
        fit([1, 1, 1], [1, 0, 1])


def test_a_calibration_is_read_back_and_a_damaged_one_is_refused(tmp_path):
    made = calibration.Calibration("m", 10, 1.0, ((0.2, 0.3), (1.0, 0.9)), 0.8, 50, 0.6, data="d")
    path = made.save(tmp_path / "deep" / "m.json")
    assert calibration.Calibration.load(path) == made
    assert made.confidence(0.6) == pytest.approx(0.6)
    content = json.loads(path.read_text())
    for wrong in ({**content, "curve": [[0.2, 0.9], [1.0, 0.3]]}, {**content, "more": 1}, {**content, "curve": []}, []):
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match="make it again"):
            calibration.Calibration.load(path)


def test_a_persons_own_calibration_comes_before_the_one_that_ships(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = calibration.Calibration("medfm-tiny", 5, 1.0, ((0.0, 0.1), (1.0, 0.2)), 0.2, 50, 0.6)
    shipped = calibration.known("medfm-tiny")
    assert shipped is not None and shipped != own
    own.save(calibration.own_file("medfm-tiny"))
    assert calibration.known("medfm-tiny") == own
    assert calibration.known("nobody/knows-it") is None
    assert calibration.own_file("../../etc/passwd").parent == calibration.own_file("x").parent


def test_controls_hold_nothing_of_the_image():
    view = make_view(ct_phantom(), "axial", 12)
    shown = controls([view])
    assert set(shown) == {"grey", "shuffled"}
    (grey,), (mixed,) = shown.values()
    assert (grey.pixels == blind.GREY).all()
    assert sorted(mixed.pixels.ravel()) == sorted(view.pixels.ravel())
    assert (mixed.pixels != view.pixels).mean() > 0.3
    assert grey.number == mixed.number == view.number


@pytest.mark.parametrize("flip", [1, -1])
def test_another_image_is_shown_at_the_same_height_whichever_way_it_is_stored(flip):
    image = ct_phantom()
    affine = image.geometry.affine.copy()
    voxels = image.voxels
    if flip < 0:
        affine[:, 3] += affine[:, 2] * (image.geometry.shape[2] - 1)
        affine[:, 2] *= -1
        voxels = voxels[..., ::-1]
    other = Image(voxels, Geometry(image.geometry.shape, affine), "CT")
    view = make_view(image, "axial", 5)
    swapped = controls([view], other)["another image"][0]
    assert swapped.number == (5 if flip > 0 else 18)
    np.testing.assert_array_equal(swapped.pixels, view.pixels)


def test_an_answer_stands_only_if_every_control_says_the_same_and_as_likely():
    assert stands("axial", ["axial", "Axial."]) == "stands"
    assert stands("axial", ["axial", "coronal"]) == "changed"
    assert stands("axial", []) == "changed"
    assert stands("yes", ["yes", "yes"], [0.0, 0.001]) == "stands"
    assert stands("yes", ["yes", "yes"], [0.0, 0.5]) == "changed"  # the same by chance
    assert stands("cannot be answered from this image", ["yes"]) == "refused"


def test_the_cost_is_said_before():
    assert words(ReliabilityChoice()) == ""
    assert words(ReliabilityChoice(5)) == "at most 5 × the time of an answer"
    assert words(ReliabilityChoice(5, blind=True), 2.0) == "at most 9 × the time of an answer, here 18 s"


@pytest.mark.parametrize("wrong", [{"samples": 1}, {"samples": 65}, {"temperature": -1}, {"threshold": 1.5}])
def test_a_choice_out_of_bounds_is_refused(wrong):
    with pytest.raises(InputError):
        ReliabilityChoice(**wrong)
