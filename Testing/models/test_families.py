"""Gemma 3, Qwen-VL and LLaVA on very small random models of the real classes with real processors."""

import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom

pytest.importorskip("torch")

from support import random_families

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request, SliceChoice
from MedFMLib.core.view import make_view
from MedFMLib.engine import Engine, load_model
from MedFMLib.errors import Cancelled, InputError, ModelError
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import Callbacks, ChoosesSlices, Locates, Segments, Writes
from MedFMLib.models import qwen_vl
from MedFMLib.models.generation import chat

BUILDERS = {
    "gemma3": random_families.gemma3,
    "qwen2_vl": lambda root: random_families.qwen_vl(root, "qwen2_vl"),
    "qwen2_5_vl": lambda root: random_families.qwen_vl(root, "qwen2_5_vl"),
    "qwen3_vl": lambda root: random_families.qwen_vl(root, "qwen3_vl"),
    "llava": random_families.llava,
    "llava_next": lambda root: random_families.llava(root, "llava_next"),
}
ROOT = Path(__file__).resolve().parents[2]
QWENS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
INSTRUCTION = (
    "You are asked about medical images for research, not for diagnosis. "
    "Answer from the images only, and say so when they do not show what is asked."
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {kind: make(root / kind) for kind, make in BUILDERS.items()}


def load(folder, adapter="", precision="fp32"):
    return load_model(registry.card(str(folder)), adapter, precision, NoProgress())


@pytest.fixture(scope="module")
def models(folders):
    return {kind: load(folder) for kind, folder in folders.items()}


@pytest.fixture(params=sorted(BUILDERS))
def kind(request):
    return request.param


@pytest.fixture
def model(models, kind):
    return models[kind]


@pytest.fixture(scope="module")
def views():
    image = ct_phantom()
    return [make_view(image, "axial", n) for n in (4, 12, 20)]


@pytest.fixture
def copy(folders, kind, tmp_path):
    folder = tmp_path / kind
    shutil.copytree(folders[kind], folder)
    (folder / "medfm-card.json").unlink(missing_ok=True)
    return folder


def read_back(model, views, question, history=()):
    """(what the model reads, its tokens as text, its inputs)"""
    prompt = model._render(model.conversation(len(views), question, history))
    inputs = model._inputs(prompt, model.pictures(views))
    return prompt, model.processor.tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=False), inputs


# -- the prompt ----------------------------------------------------------------------------------------


def test_gemma_reads_numbered_slices_and_the_question_word_for_word(models, views):
    picture = "\n\n<start_of_image>" + "<image_soft_token>" * 4 + "<end_of_image>\n\n"
    prompt, text, _ = read_back(models["gemma3"], views, "5 mm lesion?")
    assert text == (
        f"<bos><start_of_turn>user\n{INSTRUCTION}\n\n{picture}SLICE 1{picture}SLICE 2{picture}SLICE 3\n\n5 mm lesion?"
        "<end_of_turn>\n<start_of_turn>model\n"
    )
    assert prompt == text.replace(picture, "<start_of_image>")


def test_gemma_reads_earlier_turns_after_the_pictures(models, views):
    picture = "\n\n<start_of_image>" + "<image_soft_token>" * 4 + "<end_of_image>\n\n"
    _, text, _ = read_back(models["gemma3"], views[:1], "which plane?", [("what is this?", "a CT")])
    assert text == (
        f"<bos><start_of_turn>user\n{INSTRUCTION}\n\n{picture}SLICE 1\n\nwhat is this?<end_of_turn>\n"
        "<start_of_turn>model\na CT<end_of_turn>\n<start_of_turn>user\nwhich plane?<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("kind", QWENS)
def test_qwen_reads_pictures_history_and_question_word_for_word(models, views, kind):
    picture = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    start = f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n"
    _, alone, _ = read_back(models[kind], views[:1], "which plane?", [("what is this?", "a CT")])
    assert alone == (
        f"{start}{picture}what is this?<|im_end|>\n<|im_start|>assistant\na CT<|im_end|>\n"
        "<|im_start|>user\nwhich plane?<|im_end|>\n<|im_start|>assistant\n"
    )
    _, several, _ = read_back(models[kind], views[:2], "which plane?")
    assert several == (
        f"{start}Picture 1: {picture}Picture 2: {picture}which plane?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(("kind", "tokens"), [("llava", 16), ("llava_next", 16 + 64 + 8)])
def test_llava_without_system_turns_reads_the_instruction_before_the_question(models, views, kind, tokens):
    _, text, _ = read_back(models[kind], views[:1], "which plane?", [("what is this?", "a CT")])
    assert text.removeprefix("<s>") == (
        f"USER: {'<image>' * tokens}\n{INSTRUCTION} what is this? ASSISTANT: a CT USER: which plane? ASSISTANT:"
    )


@pytest.mark.parametrize("kind", ["llava", "llava_next"])
def test_an_old_llava_folder_counts_its_tokens_by_the_config(copy, views, folders):
    path = copy / "processor_config.json"
    reported = json.loads(path.read_text())
    for name in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"):
        del reported[name]
    path.write_text(json.dumps(reported))
    question = {"text": "what?", "max_tokens": 4}
    assert load(copy).write(views[:1], **question) == load(folders[copy.name]).write(views[:1], **question)


def test_control_tokens_of_people_are_not_the_models(model, views):
    tokenizer = model.processor.tokenizer
    special = [t.content for t in tokenizer.added_tokens_decoder.values()]
    _, _, plain = read_back(model, views[:1], "what?", [("a", "b")])
    _, _, inputs = read_back(model, views[:1], "what?" + "".join(special), [("a" + special[-1], "b" + special[0])])
    for token in special:
        number = tokenizer.convert_tokens_to_ids(token)
        assert (inputs["input_ids"] == number).sum() == (plain["input_ids"] == number).sum(), token


def test_captions_and_descriptions_have_their_own_requests(model, views):
    for kind in ("caption", "describe"):
        prompts = []
        model.write(views[:1], kind=kind, max_tokens=1, callbacks=Callbacks(on_prompt=prompts.append))
        assert chat.REQUESTS[kind] in prompts[0]


def test_a_number_of_pictures_that_the_model_does_not_take_is_refused(model, views):
    for some in ([], [views[0]] * (model.max_views + 1)):
        with pytest.raises(InputError, match=f"1 to {model.max_views} pictures per question, not {len(some)}"):
            model.write(some, "what?")


def test_a_conversation_longer_than_the_model_reads_is_refused(model, views):
    with pytest.raises(InputError, match=r"reads at most 4096 tokens.*fewer slices or start a new conversation"):
        model.write(views[:1], "what?", max_tokens=4096)


# -- the CT recipe -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 84, 85, 86, 120, 300, 511, 2000])
def test_gemma_chooses_the_slices_of_the_published_recipe(models, count):
    model = models["gemma3"]
    assert isinstance(model, ChoosesSlices)
    nearest = [(2 * i * (count - 1) + 85) // 170 for i in range(1, 86)]  # i / 85 · (count − 1), which has no ties
    assert model.choose_slices(count) == (nearest if count > 85 else list(range(count)))


def tall_volume(modality, slices=120):
    """32 × 32 voxels a slice, as many as the small Gemma sees, of values around the windows' edges."""
    geometry = Geometry((32, 32, slices), affine(np.diag([-1.0, -1.0, 1.0]), (10.0, 10.0, 2.0)))
    values = np.random.default_rng(0).integers(-1200, 1200, (1, 32, 32, slices)).astype(np.int16)
    return Image(values, geometry, modality, "tall")


def shown(monkeypatch, folder, request):
    """(pictures, prompt, response) of a question through everything."""
    seen = []
    inputs = chat.ChatModel._inputs

    def spy(self, prompt, pictures):
        made = inputs(self, prompt, pictures)
        seen.append((pictures, prompt, made))
        return made

    monkeypatch.setattr(chat.ChatModel, "_inputs", spy)
    response = Engine().run(request)
    return seen, response


def test_gemma_is_shown_a_ct_as_the_recipe_says_to_the_pixel(folders, monkeypatch):
    image = tall_volume("CT")
    request = Request("ask", image, question="what?", model=str(folders["gemma3"]), precision="fp32", max_tokens=1)
    ((pictures, prompt, inputs),), response = shown(monkeypatch, folders["gemma3"], request)
    numbers = [(2 * i * 119 + 85) // 170 for i in range(1, 86)]
    assert response.provenance.slices == tuple(f"axial slice {n}" for n in numbers)
    assert prompt.count("<start_of_image>SLICE ") == 85
    assert "<start_of_image>SLICE 85\n\nwhat?<end_of_turn>" in prompt
    level = {}  # exact, ties to even
    for low, high in ((-1024, 1024), (-135, 215), (0, 80)):
        for value in range(-1200, 1200):
            level[low, value] = round(Fraction(min(max(value, low), high) - low, high - low) * 255)
    for place in (0, 40, 84):
        upright = image.voxels[0, :, :, numbers[place]].T  # this grid's rows and columns run as in a picture
        expected = [[[level[low, int(v)] for low in (-1024, -135, 0)] for v in row] for row in upright]
        np.testing.assert_array_equal(pictures[place], expected)
        normal = np.moveaxis(np.array(expected), -1, 0) / 127.5 - 1
        np.testing.assert_allclose(inputs["pixel_values"][place].numpy(), normal, atol=1e-6)


def test_gemma_is_shown_mr_in_grey_with_the_same_layout(folders, monkeypatch):
    request = Request("ask", tall_volume("MR"), question="what?", model=str(folders["gemma3"]), precision="fp32",
                      slices=SliceChoice("axial", 10, 109), max_tokens=1)  # fmt: skip
    ((pictures, prompt, _),), response = shown(monkeypatch, folders["gemma3"], request)
    assert response.provenance.slices == tuple(f"axial slice {10 + round(i / 85 * 99)}" for i in range(1, 86))
    assert prompt.count("<start_of_image>SLICE ") == 85
    assert all((picture[..., 0] == picture[..., 1]).all() for picture in pictures)
    assert pictures[0].min() == 0
    assert pictures[0].max() == 255


def test_one_slice_that_is_asked_for_is_the_only_one_shown(folders, monkeypatch):
    request = Request("ask", tall_volume("CT"), question="what?", model=str(folders["gemma3"]), precision="fp32",
                      slices=SliceChoice("axial", 7, 7), max_tokens=1)  # fmt: skip
    ((pictures, _, _),), response = shown(monkeypatch, folders["gemma3"], request)
    assert (len(pictures), response.provenance.slices) == (1, ("axial slice 7",))


def test_llava_is_asked_slice_by_slice_and_remembers(folders, monkeypatch):
    request = Request("ask", tall_volume("CT"), question="what?", model=str(folders["llava"]), precision="fp32",
                      history=(("which plane?", "axial"),), max_tokens=1)  # fmt: skip
    seen, response = shown(monkeypatch, folders["llava"], request)
    assert [len(pictures) for pictures, _, _ in seen] == [1, 1, 1]
    assert all("which plane? ASSISTANT: axial" in prompt for _, prompt, _ in seen)
    assert not any("earlier ones" in note for note in response.provenance.notes)


def test_a_tower_that_looks_in_batches_sees_the_same(folders):
    import torch

    tower = load(folders["gemma3"]).model.model.vision_tower
    first = next(module for module in tower.modules() if isinstance(module, torch.nn.Conv2d))
    sizes = []
    first.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    pixels = torch.randn(10, 3, 32, 32)
    with torch.inference_mode():
        apart = tower(pixel_values=pixels, return_dict=True).last_hidden_state
        del tower.forward
        together = tower(pixel_values=pixels, return_dict=True).last_hidden_state
    assert sizes == [4, 4, 2, 10]
    np.testing.assert_allclose(apart.numpy(), together.numpy(), atol=1e-5)


# -- boxes ---------------------------------------------------------------------------------------------

BOX = (0.2, 0.1, 0.8, 0.5)  # y0 x0 y1 x1 of 100 200 500 800 in thousandths


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ('[{"bbox_2d": [100, 200, 500, 800], "label": "liver"}]', [BOX]),
        ('```json\n[\n\t{"bbox_2d": [100, 200, 500, 800], "label": "Liver"}\n]\n```', [BOX]),
        ('{"bbox_2d": [100, 200, 500, 800]}', [BOX]),
        ('[{"bbox_2d": [100, 200, 500, 800], "label": "spleen"}]', []),
        ('[{"bbox_2d": [100, 200, 500, 800], "label": "liver"}, {"bbox_2d": [0, 0, 1000, 1000]}]', [BOX, (0, 0, 1, 1)]),
        ("Liver <box>[[100, 200, 500, 800]]</box>", [BOX]),
        ("Liver <box>[[100, 200, 500, 800], [0, 0, 1000, 1000]]</box>", [BOX, (0, 0, 1, 1)]),
        ("liver(100,200),(500,800)", [BOX]),
        ("[]", []),
        ("The liver is not visible.", []),
        ('[{"bbox_2d": [100, 200, 500, 80', []),  # cut off
        ('[{"bbox_2d": [500, 200, 100, 800], "label": "liver"}]', []),  # right of its right edge
        ('[{"bbox_2d": [100, 200, 500, 1001], "label": "liver"}]', []),  # outside
        ('[{"bbox_2d": [100, 200, 100, 800], "label": "liver"}]', []),  # no area
        ('[{"bbox_2d": [100, 200, 500], "label": "liver"}]', []),
        ('[{"bbox_2d": ["100", "200", "500", "800"], "label": "liver"}]', []),
        ('[{"bbox_2d": [true, 200, 500, 800], "label": "liver"}]', []),
        ('[{"bbox_2d": [NaN, 200, 500, 800], "label": "liver"}]', []),
        ('[{"box": [100, 200, 500, 800], "label": "liver"}]', []),
        ("<box>[100, 200, 500, 800]</box>", []),
        ("<box>[[100, 200, 500, 800]", []),
        ("[100, 200, 500, 800]", []),
    ],
)
def test_boxes_are_read_strictly(text, boxes):
    assert qwen_vl.parse_boxes(text, "liver", 1000) == [pytest.approx(box) for box in boxes]


@pytest.mark.parametrize(("kind", "scale"), [("qwen2_vl", 1000), ("qwen2_5_vl", 56), ("qwen3_vl", 1000)])
def test_positions_are_pixels_in_qwen_2_5_and_thousandths_in_the_others(models, views, monkeypatch, kind, scale):
    model, asked = models[kind], []

    def say(self, turns, some, max_tokens, callbacks, on_text=None):
        asked.append((len(some), turns[-1]["content"][-1]["text"]))
        return json.dumps([{"bbox_2d": [scale // 4, 0, scale // 2, scale], "label": "liver"}])

    monkeypatch.setattr(chat.ChatModel, "_say", say)
    fractions = []
    seen = model.locate(views, ["liver", "spleen"], callbacks=Callbacks(on_fraction=fractions.append))
    for objects in seen:
        (found,) = objects
        assert found.label == "liver"
        assert found.mask is None
        assert found.box == pytest.approx((0, 0.25, 1, 0.5))
    question = "Locate the liver in this image. Answer with its bounding boxes as JSON, "
    assert asked[0] == (1, question + '[{"bbox_2d": [x1, y1, x2, y2], "label": "liver"}], or [] if it is not there.')
    assert len(asked) == 6
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_boxes_of_a_model_that_writes_nonsense_are_none(models, views):
    assert models["qwen3_vl"].locate(views[:1], ["liver"]) == [[]]


@pytest.mark.parametrize(
    ("wanted", "step", "least", "most", "side"),
    [
        (896, 28, 3136, 12845056, 896),
        (448, 32, 65536, 16777216, 448),
        (896, 28, 3136, 602112, 756),  # the folder's own upper limit
        (56, 28, 200704, 1003520, 448),  # and its lower one
        (450, 28, 3136, 12845056, 448),
        (10, 28, 1, 10**7, 28),
    ],
)
def test_a_side_is_one_that_the_processor_keeps(wanted, step, least, most, side):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    assert qwen_vl.fitting_side(wanted, step, least, most) == side
    assert smart_resize(side, side, step, least, most) == (side, side)


@pytest.mark.parametrize("kind", QWENS)
def test_a_folder_without_a_card_gets_large_pictures_alone_and_smaller_ones_together(folders, kind, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folders[kind], folder)
    (folder / "medfm-card.json").unlink()
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"shortest_edge": 784, "longest_edge": 10**7}}))
    model = load(folder)
    assert (model.side(1), model.side(2), model.max_views) == (896, 448, 32)
    assert model.choose_slices(20) == list(range(20))
    assert model.choose_slices(100) == [round(i / 32 * 99) for i in range(1, 33)]


# -- writing -------------------------------------------------------------------------------------------


def test_families_promise_what_they_can(models, folders, kind):
    card, model = registry.card(str(folders[kind])), models[kind]
    assert isinstance(model, Writes)
    assert not isinstance(model, Segments)
    assert isinstance(model, Locates) == ("locates" in card.abilities) == (kind in QWENS)


def test_answers_are_streamed_as_they_are_returned_and_depend_on_the_picture(model, views):
    pieces = []
    question = {"text": "is the liver visible?", "max_tokens": 12}
    answer = model.write(views[:1], **question, callbacks=Callbacks(on_text=pieces.append))
    assert answer
    assert "".join(pieces).strip() == answer == model.write(views[:1], **question)
    others = [model.write([view], **question) for view in views[1:]]
    assert any(other != answer for other in others)


def test_a_cancel_takes_effect_within_one_token_and_while_pictures_are_encoded(model, views):
    passes = 0

    def count(*_):
        nonlocal passes
        passes += 1

    hook = model.model.get_output_embeddings().register_forward_hook(count)
    try:
        with pytest.raises(Cancelled):
            model.write(views[:1], "what?", max_tokens=50, callbacks=Callbacks(cancelled=lambda: passes >= 1))
        assert passes == 1
        model.image_cache.drop()  # else nothing of the pictures is read any more
        asked = 0

        def cancelled():
            nonlocal asked
            asked += 1
            return asked > 3

        with pytest.raises(Cancelled):
            model.write(views[:1], "what?", max_tokens=50, callbacks=Callbacks(cancelled=cancelled))
        assert (passes, asked) == (1, 4)
    finally:
        hook.remove()
    assert model.write(views[:1], "what?", max_tokens=2) == model.write(views[:1], "what?", max_tokens=2)


# -- precisions and adapters ---------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "layer"), [("nf4", "Linear4bit"), ("int8", "Linear8bitLt")])
def test_the_text_model_is_quantized_and_what_sees_is_not(folders, kind, views, precision, layer):
    model = load(folders[kind], precision=precision)
    names = [name for name, module in model.model.named_modules() if type(module).__name__ == layer]
    assert len(names) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in names)
    assert any(name.startswith(model.vision) for name, _ in model.model.named_modules())
    assert isinstance(model.write(views[:1], "what?", max_tokens=3), str)


def test_quantizing_what_must_not_be_is_noticed(folders):
    model = load(folders["gemma3"], precision="nf4").model
    with pytest.raises(ModelError, match=r"14 layers that must not be, such as model\.language_model\..*choose bf16"):
        chat.check_quantized(model, ["model.language_model"])
    with pytest.raises(ModelError, match="no layer was; choose bf16"):
        chat.check_quantized(load(folders["gemma3"]).model, [])


def test_bf16_answers_too(folders, kind, views):
    model = load(folders[kind], precision="bf16")
    assert model.facts.precision == "bf16"
    assert isinstance(model.write(views[:1], "what?", max_tokens=3), str)


def test_sizes_count_what_sees_as_dense(folders, kind):
    card = registry.card(str(folders[kind]))
    sizes = registry.architecture(card.architecture).stats(card)
    assert sizes.parameters == card.parameters > 0
    quantized = [layer.name for layer in sizes.layers if layer.held == "nf4"]
    assert len(quantized) == 7
    assert all("language_model" in name for name in quantized)


@pytest.mark.parametrize("precision", ["nf4", "bf16", "fp32"])
def test_adapters_switch_without_reloading_and_answer_like_freshly_loaded_ones(folders, kind, views, precision):
    questions = ["what is this?", "which plane?", "is the liver visible?"]
    answers = lambda model: [model.write(views[:1], text=q, max_tokens=8) for q in questions]  # noqa: E731
    fresh = {name: answers(load(folders[kind], name, precision)) for name in ("", "first", "second")}
    assert len({tuple(a) for a in fresh.values()}) == 3
    model = load(folders[kind], "", precision)
    for name in ("first", "second", "", "second", "first", ""):
        model.use_adapter(name)
        assert answers(model) == fresh[name], name
        assert model.facts.adapter == name
        assert len(model.facts.adapter_hash) == (64 if name else 0)
    model.use_adapter("automatic")
    assert (model.facts.adapter, answers(model)) == ("", fresh[""])


def test_an_unknown_adapter_is_refused_with_those_there_are(folders, kind):
    with pytest.raises(ModelError, match="no adapter 'nope'; there is first, second"):
        load(folders[kind], "nope")


def test_a_folder_that_is_quantized_already_is_held_as_it_is_or_dense(copy, kind, views):
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    plan = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    quantized = AutoModelForImageTextToText.from_pretrained(copy, quantization_config=plan)
    parameters = registry.card(str(copy)).parameters
    (copy / "model.safetensors").unlink()
    quantized.save_pretrained(copy)
    card = registry.card(str(copy))
    assert (card.precisions, card.parameters) == (("nf4", "bf16", "fp32"), parameters)
    for precision in ("nf4", "bf16"):
        model = load(copy, "first", precision)
        assert model.facts.precision.startswith("nf4 weights in")


def test_loading_and_answering_open_no_connection(folders):
    code = f"""
import socket
def refuse(*_): raise AssertionError("a connection was opened")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "Testing")!r}]
from support.phantoms import ct_phantom
from MedFMLib.engine import Engine
from MedFMLib.core.request import Request, SliceChoice
for folder in {[str(folder) for folder in folders.values()]!r}:
    request = Request("ask", ct_phantom(), question="what?", slices=SliceChoice("axial", 3, 3), model=folder, max_tokens=2)
    print("answered", len(Engine().run(request).answers))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["answered", "1"] * len(folders), done.stderr


# -- bad folders ---------------------------------------------------------------------------------------


def sentence(folder):
    with pytest.raises(ModelError) as caught:
        load(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_missing_shard_is_named(copy):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert sentence(copy) == f"The model folder '{copy.name}' lacks model-2.safetensors; copy the model again."


def test_a_missing_tokenizer_is_named(copy):
    for path in copy.glob("*tokenizer*"):
        path.unlink()
    assert sentence(copy) == f"The tokenizer of {copy.name} is missing; copy the whole model again."


def test_a_missing_image_processor_is_named(copy):
    for path in copy.glob("*processor*"):
        path.unlink()
    assert f"tokenizer or image processor of {copy.name} is missing or damaged" in sentence(copy)


def test_a_missing_chat_template_is_named(copy):
    for path in copy.glob("chat_template*"):
        path.unlink()
    assert sentence(copy) == f"{copy.name} came without a chat template; copy its chat_template.jinja too."


TEXT_ONLY = "{% for turn in messages %}{{ turn['role'] + ': ' + turn['content'][-1]['text'] }}{% endfor %}"


@pytest.mark.parametrize("template", [TEXT_ONLY, "{{ raise_exception('no') }}", "{{ messages[0]['content'] + 1 }}"])
def test_a_chat_template_without_a_place_for_pictures_is_refused(copy, template):
    (copy / "chat_template.jinja").write_text(template)
    assert f"The chat template of {copy.name} inserts no picture; copy" in sentence(copy)


def test_missing_weights_are_named(copy):
    from safetensors.torch import load_file, save_file

    path = copy / "model.safetensors"
    gone = next(name for name in load_file(path) if name.endswith("q_proj.weight"))
    tensors = {name: value for name, value in load_file(path).items() if name != gone}
    save_file(tensors, path, metadata={"format": "pt"})
    assert "lack 1 tensors, such as" in sentence(copy)


def test_a_card_that_names_the_wrong_family_is_refused(folders, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(folders["qwen3_vl"], folder)
    card = json.loads((folder / "medfm-card.json").read_text()) | {"architecture": "llava", "id": str(folder)}
    (folder / "medfm-card.json").write_text(json.dumps(card))
    assert "is a model of type 'qwen3_vl', not llava or llava_next; correct 'architecture'" in sentence(folder)


def test_gemma_is_shown_a_real_ct_series_as_the_recipe_says(models, open_data):
    """Stored numbers of the DICOM files → HU → three windows, as the notebook computes them, pixel by pixel."""
    import pydicom

    from MedFMLib.files import read_image

    folder = open_data("dicom_ct_chest")
    image = read_image(folder)
    series = sorted((pydicom.dcmread(path) for path in folder.glob("*.dcm")), key=lambda s: s.ImagePositionPatient[2])
    assert models["gemma3"].choose_slices(len(series)) == list(range(len(series)))
    for number, instance in enumerate(series):
        hu = instance.pixel_array.astype(np.float32) * float(instance.RescaleSlope) + float(instance.RescaleIntercept)
        wanted = np.stack(
            [
                np.round((np.clip(hu, low, high).astype(np.float32) - low) / (high - low) * 255.0).astype(np.uint8)
                for low, high in ((-1024, 1024), (-135, 215), (0, 80))
            ],
            axis=-1,
        )
        view = make_view(image, "axial", number)
        np.testing.assert_array_equal(view.pixels, wanted)
        np.testing.assert_array_equal(view.square(len(wanted)), wanted)
