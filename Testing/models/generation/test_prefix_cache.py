"""Follow-up questions: the same answers as without the image cache, reading only their own words; the cache is limited."""

import numpy as np
import pytest
from support.phantoms import ct_phantom

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from support import random_families  # noqa: E402

from MedFMLib.core.request import Request, SliceChoice  # noqa: E402
from MedFMLib.core.view import make_view  # noqa: E402
from MedFMLib.engine import Engine, load_model  # noqa: E402
from MedFMLib.interfaces import registry  # noqa: E402
from MedFMLib.interfaces.jobs import NoProgress  # noqa: E402
from MedFMLib.models.generation.prefix_cache import PrefixCache, byte_size, digest  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
BUILDERS = {
    "gemma3": random_families.gemma3,
    "qwen2_vl": lambda root: random_families.qwen_vl(root, "qwen2_vl"),
    "qwen2_5_vl": lambda root: random_families.qwen_vl(root, "qwen2_5_vl"),
    "qwen3_vl": lambda root: random_families.qwen_vl(root, "qwen3_vl"),
    "llava": random_families.llava,
}
QUESTIONS = ("which plane is this?", "is the liver visible?", "what is bright and what is dark in this picture?")


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def folder(request, tmp_path_factory):
    return BUILDERS[request.param](tmp_path_factory.mktemp("cache_bytes") / request.param)


@pytest.fixture
def model(folder):
    return load_model(registry.card(str(folder)), "", "fp32", NoProgress())


@pytest.fixture(scope="module")
def views():
    image = ct_phantom()
    return [make_view(image, "axial", n) for n in (4, 12, 20)]


def plainly(model, views, question, most=12):
    """What `generate` itself answers, with nothing kept."""
    prompt = model._render(model.conversation(len(views), question))
    inputs = model._inputs(prompt, model.pictures(views))
    model._pictures = ""
    with torch.inference_mode():
        output = model.model.generate(**inputs, max_new_tokens=most, do_sample=False)
    return model.processor.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def count_reads(model, monkeypatch):
    """Tokens of each pass through the text model."""
    seen = []
    core = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    text = core.model.language_model
    hook = text.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    monkeypatch.setattr(model, "_unhook", hook.remove, raising=False)
    return seen


def test_answers_are_those_of_generate_itself(model, views):
    some = views[: min(2, model.max_views)]
    for question in (*QUESTIONS, QUESTIONS[0]):
        assert model.write(some, question, max_tokens=12) == plainly(model, some, question)


def test_a_follow_up_reads_only_its_own_words(model, views, monkeypatch):
    some = views[: min(2, model.max_views)]
    seen = count_reads(model, monkeypatch)
    model.write(some, QUESTIONS[0], max_tokens=2)
    first = seen.copy()
    model.write(some, QUESTIONS[1], max_tokens=2)
    assert first[0] not in seen[len(first) :]
    assert model.image_cache.hits == 1


def test_other_pictures_are_looked_at_anew(model, views):
    answers = [model.write([view], QUESTIONS[2], max_tokens=12) for view in views]
    assert answers == [plainly(model, [view], QUESTIONS[2]) for view in views]
    assert model.image_cache.hits == 0


def test_an_adapter_of_the_text_keeps_what_the_tower_saw_but_no_keys_and_values(model, views):
    bare = model.write(views[:1], QUESTIONS[2], max_tokens=12)
    looked = []
    core = model.model.model
    tower = getattr(core, "visual", None) or core.vision_tower
    tower.register_forward_pre_hook(lambda *_: looked.append(1))
    model.use_adapter("second")
    other = model.write(views[:1], QUESTIONS[2], max_tokens=12)
    assert looked == []
    assert other == plainly(model, views[:1], QUESTIONS[2])
    model.use_adapter("")
    assert model.write(views[:1], QUESTIONS[2], max_tokens=12) == bare


def test_what_is_kept_can_be_dropped_and_is_bounded(model, views):
    model.write(views[:1], QUESTIONS[0], max_tokens=2)
    one = model.image_cache.bytes
    assert one > 0
    model.image_cache.most = one + one // 2
    model.write(views[1:2], QUESTIONS[0], max_tokens=2)
    assert 0 < model.image_cache.bytes <= model.image_cache.most
    model.image_cache.drop()
    assert model.image_cache.bytes == len(model.image_cache) == 0


def test_the_store_lets_the_least_used_go():
    store = PrefixCache(most=100)
    for name in "abc":
        store.put(name, torch.zeros(10, dtype=torch.float32))
    assert store.get("a") is None
    assert store.get("b") is not None
    store.put("d", torch.zeros(10))
    assert store.get("c") is None
    store.put("huge", torch.zeros(1000))
    assert store.get("huge") is None
    assert store.bytes == 80


def test_sizes_count_every_tensor_once():
    tensor = torch.zeros(3, 4)

    class Thing:
        def __init__(self):
            self.held = [tensor, {"again": tensor, "more": torch.zeros(2, dtype=torch.uint8)}]

    assert byte_size(Thing()) == 48 + 2


def test_pictures_are_distinguished():
    zero, one = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    names = {digest([zero]), digest([one]), digest([zero, one]), digest([one, zero]), digest([zero.reshape(2, 8, 3)])}
    assert len(names) == 5
    assert digest([zero.copy()]) == digest([zero])


def test_an_answer_says_how_much_was_used_again_and_a_person_can_drop_it(folder):
    engine, image = Engine(), ct_phantom()

    def ask(question):
        asked = Request("ask", image, question=question, model=str(folder), precision="fp32", max_tokens=4,
                        slices=SliceChoice("axial", 4, 4))  # fmt: skip
        return engine.run(asked).provenance

    assert engine.cache_bytes() == engine.clear_cache() == 0  # nothing is loaded yet
    assert (ask(QUESTIONS[0]).reused, ask(QUESTIONS[0]).reuse == "") == (0, False)
    again = ask(QUESTIONS[1])
    assert again.reused > 0
    assert again.reuse.endswith(" MB of cached image data from an earlier question were reused.")
    held = engine.cache_bytes()
    assert held >= again.reused
    assert engine.clear_cache() == held
    assert engine.cache_bytes() == 0
    assert ask(QUESTIONS[1]).reused == 0
