"""What every architecture must keep: one suite over everything that the registry finds.

A new file in MedFMLib/models brings its own `random_checkpoint`, and arrives tested. A model that runs elsewhere has no
checkpoint; its builder stands in `ELSEWHERE`.
"""

import contextlib

import numpy as np
import pytest
from support.phantoms import ct_phantom

pytest.importorskip("torch")

from support.fake_endpoint import folder_of_one
from support.random_tiny import build

from MedFMLib.core.domain import ImageDomain
from MedFMLib.core.prompts import Points
from MedFMLib.core.request import Request, SliceChoice
from MedFMLib.core.slice_prompts import place
from MedFMLib.core.terminology import normalize
from MedFMLib.core.view import make_view
from MedFMLib.engine import Engine
from MedFMLib.errors import Cancelled
from MedFMLib.execution import serialization
from MedFMLib.healthy import references
from MedFMLib.healthy.library import shipped
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.family import FamilyTraits
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import (
    Callbacks,
    Explains,
    KnowsDomain,
    Locates,
    Outlines,
    Samples,
    Segments,
    Writes,
    WritesMany,
)
from MedFMLib.storage.model_card import ABILITIES

ELSEWHERE = {"openai_api": folder_of_one}
"""Families without weights of their own → builder of a model folder."""

MORE = {"paligemma, quantized, with an adapter": lambda root: build(root, quantized=True)}
"""Further kinds of checkpoints of a family."""

BUILDERS = {
    **{name: getattr(family, "random_checkpoint", None) for name, family in registry.architectures().items()},
    **ELSEWHERE,
    **MORE,
}
PROTOCOLS = dict(zip(ABILITIES, (Writes, Segments, Locates, Outlines, Explains), strict=True))
SEEING = {"segments": "segment", "locates": "locate"}


def seeing(card, model):
    """The abilities that find structures in pictures, of those that the card promises."""
    return [getattr(model, name) for ability, name in SEEING.items() if ability in card.abilities]


def marked(image):
    """The image with a point in its middle."""
    return image, place([Points([image.geometry.center])], image.geometry)


def test_what_is_outlined_is_one_mask_a_structure_within_the_range(loaded):
    card, model, _ = loaded
    if "outlines" not in card.abilities:
        pytest.skip("its card does not promise that it outlines")
    image, one = ct_phantom(), Points([ct_phantom().geometry.center], label="one")
    marks = place([one, Points(np.add(one.inside, (20, 0, 0)), label="two")], image.geometry, first=9, last=13)
    found = model.outline(image, marks)
    assert set(found) == {"one", "two"}
    for mask in found.values():
        assert mask.shape == image.geometry.shape
        assert mask.dtype == bool
        assert not mask[:, :, :9].any()
        assert not mask[:, :, 14:].any()


def test_every_architecture_brings_a_small_checkpoint_and_its_traits():
    families = registry.architectures()
    assert len(families) >= 6
    assert [name for name, builder in BUILDERS.items() if builder is None] == []
    assert all(isinstance(family.TRAITS, FamilyTraits) for family in families.values())


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def loaded(request, tmp_path_factory):
    folder = BUILDERS[request.param](tmp_path_factory.mktemp(request.param) / "model")
    card = registry.card(str(folder))
    engine = Engine()
    return card, engine.model(card, "", "", NoProgress()), engine


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


def test_many_questions_at_once_get_the_answers_they_get_alone(loaded, views):
    _, model, _ = loaded
    if not isinstance(model, WritesMany):
        pytest.skip("it answers one question at a time")
    asked = [(view, text) for view in views for text in ("what is this?", "is there a liver?")]
    together = model.write_many([v for v, _ in asked], [t for _, t in asked], max_tokens=6)
    assert together == [model.write([view], text, max_tokens=6) for view, text in asked]


def test_the_same_question_gets_the_same_answer(loaded, views):
    card, model, _ = loaded
    if "writes" not in card.abilities:
        pytest.skip("its card does not promise that it writes")
    first, again = (model.write(views[: model.max_views], "what is this?", max_tokens=6) for _ in range(2))
    assert first == again


@contextlib.contextmanager
def writing(model, text):
    """Let a language model write this text instead of what its random weights would."""
    import torch

    tokenizer = model.processor.tokenizer
    words = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    end = torch.tensor([[tokenizer.eos_token_id]])

    def generate(input_ids, streamer=None, **_):
        answer = torch.cat([words, end], 1).expand(len(input_ids), -1)
        if streamer is not None:
            streamer.put(input_ids)
            for token in answer[0]:
                streamer.put(token[None])
            streamer.end()
        return torch.cat([input_ids, answer], 1)

    inner = model.model
    inner.generate = generate
    try:
        yield
    finally:
        del inner.generate


def test_structures_that_are_found_have_asked_labels_boxes_inside_and_masks(loaded, views):
    """Random weights find nothing, so a language model is made to write an answer of its family's own form."""
    card, model, _ = loaded
    if not seeing(card, model):
        pytest.skip("its card promises no ability that finds structures")
    labels = list(card.labels_for("CT") or ("liver",))
    answer = getattr(registry.architecture(card.architecture), "object_answer", None)
    for ability in seeing(card, model):
        masks = ability.__name__ == "segment"
        with writing(model, answer(labels[0], masks)) if answer else contextlib.nullcontext():
            seen = ability(views, labels)
        assert len(seen) == len(views)
        assert sum(map(len, seen)) >= len(views)  # something is found in each view
        for found in (o for objects in seen for o in objects):
            assert found.label in labels
            y0, x0, y1, x1 = found.box
            assert 0 <= y0 < y1 <= 1
            assert 0 <= x0 < x1 <= 1
            if masks:
                assert found.mask.ndim == 2 and min(found.mask.shape) >= 2
                assert 0 <= found.mask.min() <= found.mask.max() <= 1
        for text in (answer("a structure nobody asked for", masks), "nothing of the kind") if answer else ():
            with writing(model, text):
                assert not any(ability(views, labels))


def test_streamed_pieces_joined_are_the_answer(loaded, views):
    card, model, _ = loaded
    if "writes" not in card.abilities:
        pytest.skip("its card does not promise that it writes")
    shown = views[: model.max_views]

    def streamed():
        pieces = []
        answer = model.write(shown, "what is this?", max_tokens=12, callbacks=Callbacks(on_text=pieces.append))
        return "".join(pieces), answer

    joined, answer = streamed()
    assert joined.strip() == answer
    if hasattr(model, "processor"):  # a language model of ours
        with writing(model, "The liver is visible, and the spleen is not."):
            joined, answer = streamed()
        assert joined.strip() == answer == "The liver is visible, and the spleen is not."


def test_every_ability_can_be_cancelled_before_it_starts(loaded, views):
    card, model, _ = loaded
    stop = Callbacks(cancelled=lambda: True)
    if "writes" in card.abilities:
        with pytest.raises(Cancelled):
            model.write(views[:1], "what?", callbacks=stop)
    if "outlines" in card.abilities:
        with pytest.raises(Cancelled):
            model.outline(*marked(ct_phantom()), callbacks=stop)
    for ability in seeing(card, model):
        with pytest.raises(Cancelled):
            ability(views, list(card.labels_for("CT") or ("liver",)), callbacks=stop)


def test_sizes_are_known_without_loading(loaded):
    card, _, _ = loaded
    if card.endpoint:
        pytest.skip("it runs elsewhere")
    family = registry.architecture(card.architecture)
    if not hasattr(family, "stats"):
        pytest.skip("its family gives no sizes")
    sizes = family.stats(card)
    assert 0 < sizes.quantized_bytes < sizes.dense_bytes
    assert sizes.parameters > 0


@pytest.mark.parametrize("task", sorted(registry.tasks()))
def test_every_task_runs_and_its_response_travels(loaded, task):
    card, _, engine = loaded
    if lacking := set(registry.tasks()[task].needs) - set(card.abilities):
        pytest.skip(f"its card does not promise that it {' and '.join(lacking)}")
    known = {label for entry in shipped().entries() for label in entry.labels}
    if task == "compare" and card.labels_for("CT") and not known & set(card.labels_for("CT")):
        pytest.skip("it segments nothing that the healthy cases have")
    request = Request(
        task,
        ct_phantom(),
        labels=() if card.labels_for("CT") else ("liver",),
        references=references(ct_phantom(), cases=[(shipped(), e) for e in shipped().entries()])
        if task == "compare"
        else (),
        question="what?" if task != "report" or "explains" in card.abilities else "",
        model=card.id,
        slices=SliceChoice("axial", 4, 8, 4),
        max_tokens=4,
        prompts=[Points([ct_phantom().geometry.to_world((48, 40, 6))])] if task == "outline" else (),
    )
    response = engine.run(serialization.loads(serialization.dumps(request)))
    assert response.provenance.task == task
    assert response.provenance.prompts or not registry.task(task).needs
    assert response.provenance.slices
    assert serialization.dumps(serialization.loads(serialization.dumps(response))) == serialization.dumps(response)


def test_samples_are_as_many_as_asked_for_and_leave_the_answer_as_it_was(loaded, views):
    card, model, _ = loaded
    if not isinstance(model, Samples):
        pytest.skip("it draws no samples")
    shown = views[: model.max_views]
    before = model.write(shown, "what is this?", max_tokens=4)
    drawn = model.sample(shown, "what is this?", 3, temperature=2.0, max_tokens=4)
    assert len(drawn) == 3
    assert model.write(shown, "what is this?", max_tokens=4) == before
    if not card.endpoint:  # there, the dice are somebody else's
        assert model.sample(shown, "what is this?", 3, temperature=2.0, max_tokens=4) == drawn
        assert len(set(model.sample(shown, "what is this?", 8, temperature=3.0, max_tokens=6))) > 1
    with pytest.raises(Cancelled):
        model.sample(shown, "what?", 2, callbacks=Callbacks(cancelled=lambda: True))


def test_an_answer_is_scored_by_what_is_shown_and_its_attention_is_a_map_of_each_picture(loaded, views):
    card, model, _ = loaded
    if "explains" not in card.abilities:
        pytest.skip("its card does not promise that it explains")
    shown = views[: model.max_views]
    other = make_view(ct_phantom(), "coronal", 40)
    scores = model.score([shown, shown, [other] * len(shown)], "what is this?", "the liver")
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert scores[0] != pytest.approx(scores[2], abs=1e-4)
    assert all(score < 0 for score in scores)
    maps = model.attention(shown, "what is this?", "the liver")
    assert len(maps) == len(shown)
    for found in maps:
        assert found.ndim == 2 and found.dtype == np.float32 and (found >= 0).all()
        assert found.max() > found.min()
    again = model.score([shown], "what is this?", "the liver")  # the attention left the model as it was
    assert again[0] == pytest.approx(scores[0], abs=1e-4)
    with pytest.raises(Cancelled):
        model.score([shown], "what?", "yes", callbacks=Callbacks(cancelled=lambda: True))


def test_a_model_that_knows_its_domain_says_so_the_same_way_each_time(loaded):
    card, model, _ = loaded
    if not isinstance(model, KnowsDomain):
        pytest.skip("it does not know its domain")
    first, again = (model.domain(ct_phantom()) for _ in range(2))
    assert isinstance(first, ImageDomain) and first == again
    assert 0 <= first.chance <= 1
    assert first.known or first.reason.strip()  # a refusal has its reason
    known = {normalize(label) for labels in card.labels.values() for label in labels}
    assert {normalize(part) for part in first.parts_outside} <= known
