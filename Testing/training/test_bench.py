"""The bench counts rightly, says what it could not measure, and never shows the model its own training slices."""

import json

import numpy as np
import pytest

from MedFMLib.training import bench_tiny, labels
from MedFMLib.training.baselines import MeanShapes
from MedFMLib.training.cases import find_cases, probes
from MedFMLib.training.questions import Exchange
from MedFMLib.training.sources import HELD_OUT_SLICES


def test_dice_is_pooled_over_slices_before_dividing():
    overlap = bench_tiny._Overlap()
    full, half, empty = np.ones(4, bool), np.array([1, 1, 0, 0], bool), np.zeros(4, bool)
    overlap.add("case", "axial", "liver", half, full, full)
    overlap.add("case", "axial", "liver", full, empty, full)
    table = overlap.table()
    assert table["case"]["liver"] == pytest.approx(2 * 2 / (2 + 4 + 4), abs=1e-3)
    assert table["case, axial"]["mean"] == table["case"]["liver"]


def test_unlabelled_voxels_count_for_nothing():
    overlap = bench_tiny._Overlap()
    known = np.array([1, 1, 0, 0], bool)
    overlap.add("case", "axial", "liver", np.ones(4, bool), known, known)
    assert overlap.table()["case"]["liver"] == 1.0


@pytest.mark.parametrize(
    ("kind", "truth", "answer", "points"),
    [
        ("plane", "axial", "axial", 1),
        ("plane", "axial", "coronal", 0),
        ("modality", "MR", "mr", 1),
        ("visible structures", "liver, spleen", "liver, spleen", 1),
        ("visible structures", "liver, spleen", "liver", 2 / 3),
        ("visible structures", "liver, spleen", "brain", 0),
    ],
)
def test_words_are_right_or_wrong_and_lists_count_by_f1(kind, truth, answer, points):
    assert bench_tiny._right(Exchange("", truth, kind), answer) == pytest.approx(points)


def test_absent_folders_are_named(tmp_path):
    cases, absent = find_cases(tmp_path)
    assert cases == []
    assert len(absent) == 6
    assert any("real t1" in sentence for sentence in absent)


def test_tables_show_the_model_beside_what_needs_none():
    result = {
        "images": {"case": {"about": "a phantom", "slices": 3}},
        "dice": {"mean shape": {"case": {"liver": 0.4, "mean": 0.4}}, "nf4": {"case": {"liver": 0.8, "mean": 0.8}}},
        "answers": {
            "majority": {"plane": {"accuracy": 0.5, "count": 4}},
            "nf4": {"plane": {"accuracy": 1.0, "count": 4}},
        },
        "speed": {"nf4": {"load_seconds": 1.0, "seconds_per_slice": 0.1, "seconds_per_answer": 0.2}},
        "absent": ["ct torso: no such folder"],
        "seconds": 3.0,
        "date": "2026-01-01",
    }
    text = bench_tiny.format_tables(json.loads(json.dumps(result)))
    assert "0.400       0.800" in text
    assert "0.500       1.000" in text
    assert "Not measured: ct torso: no such folder" in text


def test_torso_probes_are_held_out_slices_only(data):
    cases, _ = find_cases(data)
    for case in cases:
        if case.name.replace(" ", "_") not in HELD_OUT_SLICES:
            continue
        n = case.image.geometry.shape[2]
        allowed = {k for start, stop in HELD_OUT_SLICES[case.name.replace(" ", "_")] for k in range(start, stop)}
        upward = case.image.geometry.affine[2, 2] > 0
        assert {k if upward else n - 1 - k for k in case.slices["axial"]} <= allowed
        assert set(case.slices) == {"axial"}


def test_sagittal_probes_ask_nothing_that_has_a_side(data):
    cases, _ = find_cases(data, quick=True)
    sagittal = [p for c in cases if c.parts is not None for p in probes(c) if p.view.plane == "sagittal"]
    assert sagittal
    for probe in sagittal:
        assert all(labels.other_side(n) is None for n in (*probe.scene.visible, *probe.scene.missing))


def test_the_mean_shape_of_one_subject_is_that_subject(torso, monkeypatch, tmp_path):
    monkeypatch.setattr("MedFMLib.training.baselines.head_maps", lambda data: [])
    monkeypatch.setattr("MedFMLib.training.baselines.torso_subjects", lambda data: [torso])
    mask = MeanShapes(tmp_path).mask("torso", "axial", 0.5, "liver")
    assert mask[:, :32].sum() > 10 * max(1, mask[:, 32:].sum())  # the patient's right is the picture's left
