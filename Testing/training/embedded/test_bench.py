"""The benchmark counts correctly, reports what it could not measure, and never shows the model its training slices."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.view import SeenObject
from MedFMLib.measure import overlap as overlap_measures
from MedFMLib.training.embedded import (
    bench_answers,
    bench_masks,
    bench_measures,
    bench_tiny,
    labels,
    meshnet,
)
from MedFMLib.training.embedded.bench_page import gallery, page
from MedFMLib.training.embedded.bench_runtime import LoadedModel, file_sizes, with_other_base
from MedFMLib.training.embedded.bench_tables import BenchSection, Failure, Figure, SlicePicture, Table, as_text
from MedFMLib.training.embedded.cases import NEVER, BenchCase, Images, probes, resampled
from MedFMLib.training.embedded.questions import REFUSAL, QuestionExchange
from MedFMLib.training.embedded.sources import HELD_OUT_MAPS, head_neck_files

THALAMI = [labels.part_number(f"{side} thalamus") for side in ("left", "right")]


def _image(shape, mm=(1.0, 1.0, 1.0), values=None):
    voxels = np.zeros(shape, np.float32) if values is None else values
    return Image(voxels[None], Geometry(shape, np.diag([*mm, 1.0])), "MR", "phantom")


@pytest.fixture
def case():
    """A head with a thalamus on each side, 20 mm apart, the bright right one twice as long."""
    parts = np.full((40, 24, 24), labels.part_number("head tissue"), np.uint8)
    parts[4:12, 8:16, 8:16] = THALAMI[0]  # small x is the patient's left
    parts[28:36, 4:20, 8:16] = THALAMI[1]
    rng = np.random.default_rng(1)
    values = (np.where(parts == THALAMI[1], 200, parts * 3) + rng.normal(0, 2, parts.shape)).astype(np.float32)
    image = _image(parts.shape, values=values)
    return BenchCase("phantom", "a phantom", NEVER, image, parts, "head", ("left thalamus", "right thalamus"), ("liver",),
                {"axial": [12], "sagittal": [8]})  # fmt: skip


class Truthful:
    """Draws the truth of one case, mirrored if asked to; answers everything with one word."""

    head = SimpleNamespace(structures={"left thalamus": (), "right thalamus": (), "hippocampus": ()})

    def __init__(self, case, word="no"):
        self.case, self.word, self.asked, self.used = case, word, [], []

    def use_adapter(self, name):
        self.used.append(name)

    def segment_volume(self, image, names):
        masks = {name: labels.structure_mask(self.case.parts, name) for name in names if name in labels.STRUCTURES}
        return {name: mask for name, mask in masks.items() if mask.any()}

    def segment(self, views, names):
        return [[SeenObject(name, (0.0, 0.0, 1.0, 1.0), np.ones((64, 64), bool)) for name in names] for _ in views]

    def write(self, views, text=""):
        self.asked.append((views[0], text))
        return self.word


# -- arithmetic ----------------------------------------------------------------------------------


def test_dice_is_nothing_where_there_is_nothing():
    full, half, empty = np.ones(4, bool), np.array([1, 1, 0, 0], bool), np.zeros(4, bool)
    assert overlap_measures.dice(half, full) == pytest.approx(2 / 3)
    assert overlap_measures.dice(empty, full) == 0
    assert overlap_measures.dice(empty, empty) is None


def test_surface_distances_are_in_mm_of_each_axis():
    truth, found = np.zeros((30, 20, 20), bool), np.zeros((30, 20, 20), bool)
    truth[10, 5:15, 5:15] = True
    found[13, 5:15, 5:15] = True
    mean, high = overlap_measures.surface_distances(found, truth, (2.0, 1.0, 1.0))
    assert mean == pytest.approx(6.0, abs=1e-4)
    assert high == pytest.approx(6.0, abs=1e-4)
    assert overlap_measures.surface_distances(truth, truth, (2, 1, 1)) == (0, 0)
    assert overlap_measures.surface_distances(np.zeros_like(truth), truth, (2, 1, 1)) is None


def test_the_95th_percentile_takes_the_worse_direction():
    truth = np.zeros((60, 12, 12), bool)
    truth[2:10, 2:10, 2:10] = True
    found = truth.copy()
    found[40:48, 2:10, 2:10] = True  # a second island that truth doesn't have
    mean, high = overlap_measures.surface_distances(found, truth, (1, 1, 1))
    assert high > 30
    assert mean < high


def test_mirrored_share_counts_structures_with_a_side_alone():
    truth = np.array([*THALAMI, labels.part_number("brainstem"), 0], np.uint8)
    found = np.array([THALAMI[1], THALAMI[1], 0, 0], np.uint8)
    assert bench_measures.mirrored_share(found, truth) == 0.5


def test_unlabelled_voxels_count_for_nothing():
    truth = np.array([THALAMI[0], labels.UNKNOWN_PART], np.uint8)
    found = np.array([THALAMI[0], THALAMI[0]], np.uint8)
    assert bench_measures.part_dice(found, truth, labels.BRAIN_PARTS) == {"left thalamus": 1.0}


def test_intervals():
    assert bench_measures.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert bench_measures.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert bench_measures.wilson(0, 0) == (0.0, 1.0)
    assert bench_measures.bootstrap([0.7] * 9) == pytest.approx((0.7, 0.7))
    low, high = bench_measures.bootstrap([0.2, 0.9, 0.6, 0.4])
    assert 0.2 <= low < 0.525 < high <= 0.9


def test_peak_memory_sees_what_is_held():
    with bench_measures.PeakMemory() as small:
        pass
    with bench_measures.PeakMemory() as large:
        held = np.ones(40_000_000)
        for _ in range(20):
            held += 1
    assert large.megabytes > small.megabytes + 200


# -- images --------------------------------------------------------------------------------------


def test_resampling_keeps_place_and_volume(case):
    thick = resampled(case, "thick", (1, 1, 4))
    assert thick.image.geometry.shape == (40, 24, 6)
    old, new = (c.image.geometry for c in (case, thick))
    for name in ("left thalamus", "right thalamus"):
        a, b = (np.argwhere(labels.structure_mask(c.parts, name)) for c in (case, thick))
        assert old.to_world(a.mean(0)) == pytest.approx(new.to_world(b.mean(0)), abs=0.6)
    values = case.image.scalars[:, :, :4].mean(2)
    assert thick.image.scalars[:, :, 0] == pytest.approx(values, abs=1e-3)


def test_absent_folders_are_named(tmp_path, case):
    (tmp_path / "model" / "base").mkdir(parents=True)
    result = bench_tiny.run(tmp_path, tmp_path / "out", True, tmp_path / "model", tmp_path,
                            open_=lambda folder, precision: LoadedModel(Truthful(case), ()))  # fmt: skip
    said = "\n".join(result["absent"])
    for heading in ("brain t1", "invariance", "hippocampus", "MeshNet", "questions"):
        assert heading in said
    assert "Research use only" in bench_tiny.format_tables(result)
    assert "Research use only" in (tmp_path / "out" / "bench-tiny.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "bench-tiny.json").read_text()) == result


def test_head_necks_are_patients_whom_training_left_out(data):
    cases = Images(data).head_necks
    trained = {file.name.split("_")[0] for file in head_neck_files(data)}
    assert len(cases) == 10 and len(trained) == 58
    assert not trained & {case.name for case in cases}
    assert all((case.values == number).any() for case in cases for number in case.numbers.values())


def test_synthetic_heads_are_held_out_and_seeded(data):
    first, second = (Images(data, quick=True).heads[0] for _ in range(2))
    assert first.name.split(",")[0] in HELD_OUT_MAPS
    assert np.array_equal(first.image.voxels, second.image.voxels)
    white, csf = (
        labels.structure_mask(first.parts, n) for n in ("left cerebral white matter", "left lateral ventricle")
    )
    assert first.image.scalars[white].mean() > 2 * first.image.scalars[csf].mean()


# -- masks ---------------------------------------------------------------------------------------


def test_the_truth_scores_one_and_its_mirror_is_confused(case):
    images = SimpleNamespace(t1=case)
    section = bench_masks.brain(
        images, LoadedModel(Truthful(case), (bench_masks.BRAIN,)), bench_masks.MeshNetBaseline(None)
    )
    table, facts = section.tables
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.columns[1:3] == ("Dice, brain-mr", "Dice, bare base")
    assert rows["left thalamus"] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert rows["left hippocampus"] == [None] * 5  # the head can't draw it, which is no zero
    assert facts.rows[0][2] == 0.0
    swapped = case.parts.copy()
    swapped[case.parts == THALAMI[0]], swapped[case.parts == THALAMI[1]] = THALAMI[1], THALAMI[0]
    other = Truthful(SimpleNamespace(parts=swapped))
    assert (
        bench_masks.brain(images, LoadedModel(other, ()), bench_masks.MeshNetBaseline(None)).tables[1].rows[0][2] == 1.0
    )


def test_worst_slices_are_found_once_a_structure(case):
    found = case.parts.copy()
    found[:, :, 9][found[:, :, 9] == THALAMI[1]] = 0
    worst = bench_masks.worst_slices(case, found, case.parts, bench_masks.BRAIN_VALUES)
    assert [f.structure for f in worst] == ["right thalamus", "left thalamus"]
    assert (worst[0].shot.plane, worst[0].shot.number, worst[0].dice) == ("axial", 9, 0.0)
    assert worst[1].dice == 1.0


def test_the_gallery_shows_many_structures_and_cases():
    failures = [Failure(0.01 * n, f"case {n % 2}", f"structure {n % 5}", None) for n in range(40)]
    chosen = gallery(failures)
    assert [f.structure for f in chosen] == [f"structure {n}" for n in range(5)]
    assert gallery(failures, per_structure=99, per_case=2, most=3) == failures[:3]


# -- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "truth", "answer", "points"),
    [
        ("plane", "axial", "axial", 1),
        ("plane", "axial", "coronal", 0),
        ("modality", "MR", "mr", 1),
        ("visible structures", "liver, spleen", "liver, spleen", 1),
        ("visible structures", "liver, spleen", "liver", 2 / 3),
        ("visible structures", "liver, spleen", "brain", 0),
        ("visible structures", "liver, spleen", "", 0),
    ],
)
def test_words_are_right_or_wrong_and_lists_count_by_f1(kind, truth, answer, points):
    assert bench_answers.points(QuestionExchange("", truth, kind), answer) == pytest.approx(points)


def test_questions_are_seeded_and_never_asked_twice_about_a_slice(case):
    first, second = (bench_answers.choose_questions([case], 6) for _ in range(2))
    assert [e for _, e in first] == [e for _, e in second]
    assert {"plane", "presence", bench_answers.UNSEEN} <= {e.kind for _, e in first}
    asked = [(id(p), e.kind, e.prompt) for p, e in first]
    assert len(asked) == len(set(asked))


def test_sagittal_probes_ask_nothing_that_has_a_side(data, case):
    images = Images(data, quick=True)
    for probe, exchange in bench_answers.choose_questions([*images.heads, case], 12):
        if probe.view.plane == "sagittal":
            assert all(name not in exchange.prompt for name in labels.STRUCTURES if labels.other_side(name))


def test_without_pictures_nothing_of_the_slice_is_shown_and_a_wording_is_asked_once(case):
    (axial,) = (p for p in probes(case) if p.view.plane == "axial")
    asked, runtime = (
        [(axial, QuestionExchange("answer en which plane is this?", "axial", "plane"))] * 3,
        Truthful(case, "axial"),
    )
    assert bench_answers.answer_all(runtime, asked, with_picture=False) == ["axial"] * 3
    ((view, text),) = runtime.asked
    assert text == "which plane is this?"
    assert np.unique(view.square(64)).tolist() == [128]


def test_refusing_what_has_an_answer_is_counted(case):
    probe = probes(case)[0]
    exchanges = [
        (probe, QuestionExchange("answer en a", "axial", "plane")),
        (probe, QuestionExchange("answer en b", "axial", "plane")),
        (probe, QuestionExchange("answer en c", REFUSAL, "refusal")),
    ]
    table = bench_answers.table(
        bench_answers.AnswerSet(exchanges, {"as shipped": ["axial", REFUSAL, REFUSAL]}), "as shipped"
    )
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["plane"] == [2, 0.5, pytest.approx((0.0945, 0.9055), abs=1e-3), 0.5]
    assert rows["refusal"][1] == 1.0
    assert rows["refusal"][-1] is None


# -- files and words -----------------------------------------------------------------------------


def test_another_base_keeps_heads_and_adapters(tmp_path):
    for path in ("shipped/base/a", "shipped/adapters/one/b", "shipped/mask_head/c", "plain/base/d"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("x" * 1000)
    with with_other_base(tmp_path / "shipped", tmp_path / "plain") as folder:
        assert (folder / "base" / "d").exists() and not (folder / "base" / "a").exists()
        assert (folder / "adapters" / "one" / "b").exists() and (folder / "mask_head" / "c").exists()
    sizes = file_sizes(tmp_path / "shipped")
    assert sizes["adapter one"] == pytest.approx(0.001)
    assert sizes["total"] == pytest.approx(0.003)


def test_tables_are_aligned_and_say_what_was_not_measured():
    table = Table(
        "Title", "about", ("structure", "Dice", "surface, mm"), [["liver", 0.5, None], ["mean", (0.25, 1.0), 2.0]]
    )
    lines = as_text(table).splitlines()
    assert lines[3].split() == ["liver", "0.500", "–"]
    assert lines[4].split() == ["mean", "0.250", "…", "1.000", "2.00"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_the_page_is_self_contained(case):
    shot = SlicePicture(case.image, "axial", 12, "ours", {"left thalamus": (THALAMI[0],)}, None, case.parts)
    table = Table("Masks <b>", "about", ("a", "b"), [["x", 1.0]])
    section = BenchSection([table], [Figure("Pictures", "", (shot.bare("plain"), shot))],
                      [Failure(0.2, "phantom", "left thalamus", shot)], {"Dice": 0.5})  # fmt: skip
    html = page(
        [("Brain", section)],
        [(shot, "which plane?", "axial", "<coronal>")],
        ["a baseline: none"],
        "2026-01-01",
        "medfm x",
        3,
    )
    assert html.count("data:image/png;base64,") == 6
    assert "Masks &lt;b&gt;" in html and "&lt;coronal&gt;" in html and "Not measured: a baseline: none" in html
    assert "http" not in html.replace("http-equiv", "")


# -- the baseline --------------------------------------------------------------------------------


def test_the_conformed_grid_is_lia_at_1_mm_and_comes_back():
    values = np.zeros((20, 30, 24), np.float32)
    values[15:18, 4:8, 20:22] = 5  # right, back, top
    voxels, grid = meshnet.conformed(_image(values.shape, (1.0, 1.0, 1.0), values))
    assert grid.axis_codes == "LIA"
    assert voxels.shape == (20, 24, 30)
    assert np.argwhere(voxels > 0.5).min(0).tolist() == [2, 2, 4]
    back = meshnet._to_grid((voxels > 0.5).astype(np.uint8), grid, Geometry(values.shape, np.eye(4)))
    assert np.array_equal(back > 0, values > 0)


def test_slabs_give_what_one_convolution_gives():
    import torch

    x, weight, bias = torch.randn(1, 3, 60, 9, 8), torch.randn(4, 3, 3, 3, 3) / 9, torch.randn(4)
    whole = torch.nn.functional.elu(torch.nn.functional.conv3d(x, weight, bias, padding=4, dilation=4))
    assert torch.allclose(meshnet._by_slabs(x, weight, bias, 4), whole, atol=1e-5)


def test_every_class_of_the_rival_is_comparable():
    assert len(meshnet.MERGED) == 15
    assert {part for name in meshnet.MERGED for part in meshnet.merged_parts(name)} == set(labels.BRAIN_PARTS)


def test_the_teacher_takes_sides_from_symmetry_and_doubts_what_its_mirror_denies():
    numbers = {name: n for n, (name, _) in enumerate(meshnet.CLASSES)}
    truth = np.zeros((41, 30, 36), np.uint8)  # L, I, A; symmetric about the first index 22
    truth[8:37, 4:26, 4:32] = numbers["cerebral white matter"]
    truth[11:16, 10:18, 10:20] = truth[29:34, 10:18, 10:20] = numbers["thalamus"]
    truth[21:24, 12:16, 12:18] = numbers["third ventricle"]
    affine = np.array([[-1.0, 0, 0, 40], [0, 0, 1, 0], [0, -1, 0, 29], [0, 0, 0, 1]])
    image = Image((truth > 0).astype(np.float32)[None], Geometry(truth.shape, affine), "MR", "phantom")

    class Net:
        calls = 0

        def classes(self, voxels):
            Net.calls += 1
            found = truth.copy() if Net.calls == 1 else truth[::-1].copy()
            if Net.calls == 1:
                found[30, 12, 12] = numbers["pallidum"]
            return found

    parts = meshnet.teacher_parts(image, Net())
    assert parts[13, 14, 15] == THALAMI[1]  # small first index: the patient's right
    assert parts[31, 14, 15] == THALAMI[0]
    assert parts[22, 14, 15] == labels.part_number("third ventricle")
    assert parts[30, 12, 12] == labels.UNKNOWN_PART
    assert parts[22, 6, 6] == labels.UNKNOWN_PART  # white matter on the plane itself
    assert parts[0, 0, 0] == labels.part_number("background")
