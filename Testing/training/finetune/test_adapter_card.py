"""The adapter's card: known scores, planted safety drift that is found, and adapters that fail."""

import re

import numpy as np
import pytest
from support import finetune_phantoms

torch = pytest.importorskip("torch")
for needed in ("accelerate", "sacrebleu", "rouge_score", "matplotlib", "scipy"):
    pytest.importorskip(needed, reason="judging needs the extra train")

from MedFMLib.engine import load_model  # noqa: E402
from MedFMLib.errors import InputError, ModelError  # noqa: E402
from MedFMLib.interfaces import registry  # noqa: E402
from MedFMLib.interfaces.jobs import NoProgress  # noqa: E402
from MedFMLib.measure.overlap import box_iou, dice, surface_distances  # noqa: E402
from MedFMLib.model_store import adapters  # noqa: E402
from MedFMLib.storage import adapter_card, installed_models  # noqa: E402
from MedFMLib.training.data.dataset import Dataset  # noqa: E402
from MedFMLib.training.data.samples import PlacedStructure, Sample  # noqa: E402
from MedFMLib.training.finetune import evaluate, judging, making, safety, scores  # noqa: E402
from MedFMLib.training.finetune.settings import TrainingSettings  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


# -- scores ----------------------------------------------------------------------------------------


def test_words_are_compared_without_case_and_punctuation():
    assert scores.exact("Left.", "left") == 1 and scores.exact("left side", "left") == 0
    assert scores.token_f1("the left lung", "left lung") == pytest.approx(0.8)
    assert scores.token_f1("", "left") == 0 and scores.token_f1("", "") == 1


def test_bleu_and_rouge_are_those_of_the_libraries():
    same, other = ["the left lung is clear"], ["nothing of it here now"]
    assert scores.bleu(same, same) == pytest.approx(100) and scores.bleu(other, same) < 10
    assert scores.rouge_l(same, same) == pytest.approx(1) and scores.rouge_l(other, same) == 0


def test_an_interval_draws_patients_rather_than_answers():
    """Twenty answers of one patient say no more than one."""
    values, patients = [1.0] * 20 + [0.0] * 20, ["a"] * 20 + ["b"] * 20
    low, high = scores.interval(values, patients)
    assert (low, high) == (0, 1)
    alone = scores.interval(values, [str(n) for n in range(40)])
    assert 0.3 < alone[0] < 0.5 < alone[1] < 0.7


def test_masks_boxes_and_calibration_have_their_known_values():
    one, other = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    one[5:10, 5:10], other[5:10, 7:12] = True, True
    assert dice(one, other) == pytest.approx(0.6) and dice(one, one) == 1
    assert surface_distances(one, one, (1, 1)) == (0, 0)
    near, far = (surface_distances(one, other, (1, width))[0] for width in (1, 3))
    assert far == pytest.approx(3 * near, rel=0.5)
    assert surface_distances(one, np.zeros_like(one), (1, 1)) is None
    assert box_iou((0, 0, 1, 1), (0, 0.5, 1, 1)) == 0.5 and box_iou((0, 0, 0.1, 0.1), (0.5, 0.5, 1, 1)) == 0
    assert scores.calibration([0.9] * 10, [1.0] * 9 + [0.0])["error"] == pytest.approx(0)
    assert scores.calibration([0.9] * 10, [0.0] * 10)["error"] == pytest.approx(0.9)


class Draws:
    """Model that writes, boxes and segments what the test gives it."""

    max_views = 1

    def __init__(self, answer="left", seen=()):
        self.answer, self.seen = answer, list(seen)

    def write_many(self, views, texts, max_tokens=64):
        return [
            self.answer(view, text) if callable(self.answer) else self.answer
            for view, text in zip(views, texts, strict=True)
        ]

    def locate(self, views, labels):
        return [self.seen for _ in views]

    segment = locate


def test_masks_of_tokens_are_judged_where_the_labels_are(tmp_path):
    from PIL import Image

    from MedFMLib.core.view import SeenObject
    from MedFMLib.training.data.dataset import lines_digest

    labels = np.zeros((40, 20), np.uint8)
    labels[10:20, 5:15] = 1
    for folder, array in (("pictures", np.repeat(labels[..., None] * 200, 3, 2)), ("labels", labels)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "x.png")
    box = (10 / 40, (10 + 5) / 40, 20 / 40, (10 + 15) / 40)  # in the square, with ten columns of black on the left
    sample = Sample("x", "p", "liver ; spleen", "", "masks", "masks", (PlacedStructure("liver", 1, box),))
    dataset = Dataset(tmp_path, {}, {"test": (sample,)})
    right = SeenObject("liver", box, np.ones((64, 64), np.float32))
    (judged,) = evaluate.judge(Draws(seen=[right]), dataset, [sample])
    assert judged.score == 1 and judged.distance == 0
    (judged,) = evaluate.judge(Draws(seen=[]), dataset, [sample])
    assert judged.score == 0.5, "the spleen is rightly not there, the liver wrongly"
    boxes = Sample("x", "p", "liver ; spleen", "", "boxes", "boxes", sample.objects)
    (judged,) = evaluate.judge(Draws(seen=[SeenObject("liver", box)]), dataset, [boxes])
    assert judged.score == 1
    assert lines_digest({"train": (), "validation": (), "test": (sample,)}) != lines_digest(
        {"train": (), "validation": (), "test": (boxes,)}
    )


# -- safety and reliance ---------------------------------------------------------------------------


def test_the_set_asks_what_patients_must_not_learn_from_a_model():
    asked = safety.questions()
    kinds = {item.category for item in asked}
    assert len(asked) >= 80 and {"diagnosis", "prognosis", "treatment", "medication", "odds", "reassurance"} <= kinds
    assert sum(item.category.startswith("benign") for item in asked) >= 20


def test_unsafe_answers_that_grow_are_drift_and_those_that_were_there_are_not():
    bad, good = ["it is cancer"] * 40, ["left lung"] * 40
    assert safety.drift(good, bad, [], [])["unsafe"]
    assert not safety.drift(bad, bad, [], [])["unsafe"]
    assert not safety.drift(bad, good, [], [])["unsafe"]
    found = safety.drift(good, good, good, bad)
    assert found["unsafe"] and found["grown"] == ["held-out questions"]
    assert not safety.drift(good, [*good[:-1], "it is cancer"], [], [])["unsafe"], "one in forty may be chance"


def test_a_model_that_does_not_look_is_found_out(tmp_path):
    from MedFMLib.training.finetune import reliance

    dataset = Dataset.load(finetune_phantoms.build(tmp_path))
    samples = [s for s in dataset.samples["test"] if s.category == "side"]

    def looks(view, _):
        half = view.pixels.shape[1] // 2
        left, right = view.pixels[:, :half].mean(), view.pixels[:, half:].mean()
        return "left" if left > right else "right"

    blind = Draws(lambda view, text: "left")
    found = reliance.measure(blind, dataset, samples, evaluate.judge(blind, dataset, samples))
    assert not found["looks"] and found["without"]["changed"] == 0
    sees = Draws(looks)
    found = reliance.measure(sees, dataset, samples, evaluate.judge(sees, dataset, samples))
    assert found["with"] == 1 and found["looks"] and found["another's"]["lost"]["score"] > 0.2


# -- the card --------------------------------------------------------------------------------------


@pytest.fixture
def quick(dense_folder):
    return TrainingSettings(
        model=str(dense_folder),
        precision="fp32",
        compute="fp32",
        batch=8,
        accumulation=1,
        steps=60,
        epochs=1000,
        rate=1e-2,
        rank=16,
        targets="all",
        save_every=999,
        evaluate_every=999,
        most_validation=8,
        clip=5,
    )


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


@pytest.mark.usefixtures("own_models")
def test_an_adapter_is_trained_judged_and_used_at_once(quick, tmp_path, dense_folder):
    data = finetune_phantoms.build(tmp_path)
    card = making.finetune(
        data, tmp_path / "run", quick.with_(steps=12), name="squares", licence="CC0", most=20, precisions=()
    )
    folder = installed_models.adapter_folder("squares")
    assert card["folder"] == str(folder) and adapter_card.read(folder)["sha256"] == adapter_card.sha256(folder)
    assert card["data"]["sha256"] == Dataset.load(data).digest() and card["licence"] == "CC0"
    assert card["results"]["patients"] >= 2 and set(card["results"]["table"]["all"]) >= {
        "before",
        "after",
        "difference",
    }
    page = (folder / adapter_card.PAGE).read_text()
    assert page.count("data:image/png;base64") >= 3 and "http" not in page
    for path in folder.iterdir():
        content = re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", path.read_bytes())
        assert not re.search(rb"\bP\d\d\b", content), f"{path.name} names a patient"
        assert str(tmp_path).encode() not in content, f"{path.name} names a folder of this machine"
    assert adapters.facts("squares")["difference"].endswith("on held-out patients")
    model = load_model(registry.card(str(dense_folder)), "", "fp32", NoProgress())
    base = model.model
    if adapter_card.refusal(folder):
        adapter_card.accept(folder)
    model.use_adapter("squares")
    core = model.model.get_base_model()
    assert core is base and model.facts.adapter == "squares", "the base was not loaded again"
    with pytest.raises(InputError, match="An adapter 'squares' is already installed"):
        making.finetune(data, tmp_path / "again", quick, name="squares")


@pytest.mark.usefixtures("own_models")
def test_an_adapter_of_planted_harmful_answers_is_caught_by_its_card(quick, tmp_path, dense_folder):
    data = finetune_phantoms.build(tmp_path, harmful=True)
    card = making.finetune(data, tmp_path / "run", quick.with_(steps=120), name="harmful", most=20, precisions=())
    found = card["results"]["safety"]
    assert found["unsafe"] and found["parts"]["held-out questions"]["after"] > 0.6
    assert found["parts"]["patients' questions"]["after"] > found["parts"]["patients' questions"]["before"] + 0.5
    assert not card["verdict"]["offered"] and "what the guard withholds" in card["verdict"]["reasons"][0]
    with pytest.raises(ModelError, match="The adapter 'harmful' is not offered for use"):
        load_model(registry.card(str(dense_folder)), "harmful", "fp32", NoProgress())
    assert "not offered" in (installed_models.adapter_folder("harmful") / adapter_card.PAGE).read_text()


def test_a_worse_adapter_is_not_offered_and_an_even_one_is_said_to_be_so():
    def result(score, low, high):
        row = {"difference": {"score": score, "low": low, "high": high}}
        return {"table": {"all": row}, "safety": {"unsafe": False, "grown": [], "parts": {}}}

    assert not judging.verdict(result(-0.2, -0.3, -0.1))["offered"]
    even = judging.verdict(result(0.05, -0.02, 0.1))
    assert even["offered"] and not even["better"] and "No difference" in even["notes"][0]
    assert judging.verdict(result(0.2, 0.1, 0.3))["better"]
