"""What every architecture must keep: one suite over everything that the registry finds.

A new file in MedFMLib/models adds a builder of a small random checkpoint to `BUILDERS`, and arrives tested.
"""

import pytest
from phantoms import ct_phantom

pytest.importorskip("torch")

import random_families
from random_tiny import build

from MedFMLib import registry, wire
from MedFMLib.engine import Engine
from MedFMLib.errors import Cancelled
from MedFMLib.model import ABILITIES, Locates, Segments, Watch, Writes
from MedFMLib.request import Request, SliceChoice
from MedFMLib.runner import Silent
from MedFMLib.view import make_view

BUILDERS = {
    "paligemma": lambda root: build(root, quantized=True),
    "gemma3": random_families.gemma3,
    "llava": random_families.llava,
    "qwen_vl": random_families.qwen_vl,
}
PROTOCOLS = dict(zip(ABILITIES, (Writes, Segments, Locates), strict=True))
SEEING = {"segments": "segment", "locates": "locate"}


def seeing(card, model):
    """The abilities that find structures in pictures, of those that the card promises."""
    return [getattr(model, name) for ability, name in SEEING.items() if ability in card.abilities]


def test_every_architecture_has_a_small_checkpoint_to_be_tested_with():
    assert set(BUILDERS) == set(registry.architectures())


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def loaded(request, tmp_path_factory):
    folder = BUILDERS[request.param](tmp_path_factory.mktemp(request.param) / "model")
    card = registry.card(str(folder))
    engine = Engine()
    return card, engine.model(card, "", "", Silent()), engine


@pytest.fixture(scope="module")
def views():
    image = ct_phantom()
    return [make_view(image, "axial", n) for n in (5, 15)]


def test_the_card_promises_what_the_model_can(loaded):
    card, model, _ = loaded
    for ability in card.abilities:
        assert isinstance(model, PROTOCOLS[ability])
    assert model.facts.precision
    assert len(model.facts.revision) >= 8


def test_the_same_question_gets_the_same_answer(loaded, views):
    _, model, _ = loaded
    first, again = (model.write(views[: model.max_views], "what is this?", max_tokens=6) for _ in range(2))
    assert first == again


def test_what_is_seen_is_one_list_a_view_with_asked_labels_and_boxes_inside(loaded, views):
    card, model, _ = loaded
    labels = list(card.labels_for("CT") or ("liver",))
    if not seeing(card, model):
        pytest.skip("its card promises no ability that finds structures")
    for ability in seeing(card, model):
        seen = ability(views, labels)
        assert len(seen) == len(views)
        for found in (o for objects in seen for o in objects):
            assert found.label in labels
            y0, x0, y1, x1 = found.box
            assert 0 <= y0 < y1 <= 1
            assert 0 <= x0 < x1 <= 1


def test_every_ability_can_be_cancelled_before_it_starts(loaded, views):
    card, model, _ = loaded
    stop = Watch(cancelled=lambda: True)
    with pytest.raises(Cancelled):
        model.write(views[:1], "what?", watch=stop)
    for ability in seeing(card, model):
        with pytest.raises(Cancelled):
            ability(views, list(card.labels_for("CT") or ("liver",)), watch=stop)


def test_sizes_are_known_without_loading(loaded):
    card, _, _ = loaded
    sizes = registry.architecture(card.architecture).stats(card)
    assert 0 < sizes.quantized_bytes < sizes.dense_bytes
    assert sizes.parameters > 0


@pytest.mark.parametrize("task", sorted(registry.tasks()))
def test_every_task_runs_and_its_response_travels(loaded, task):
    card, _, engine = loaded
    if lacking := set(registry.tasks()[task].needs) - set(card.abilities):
        pytest.skip(f"its card does not promise that it {' and '.join(lacking)}")
    request = Request(
        task, ct_phantom(), question="what?", model=card.id, slices=SliceChoice("axial", 4, 8, 4), max_tokens=4
    )
    response = engine.run(wire.loads(wire.dumps(request)))
    assert response.provenance.task == task
    assert response.provenance.prompts
    assert response.provenance.slices
    assert wire.dumps(wire.loads(wire.dumps(response))) == wire.dumps(response)
