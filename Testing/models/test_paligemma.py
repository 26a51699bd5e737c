"""The PaliGemma runtime on a very small random model of the real classes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.phantoms import ct_phantom

from MedFMLib.core.view import make_view
from MedFMLib.engine import load_model
from MedFMLib.errors import Cancelled, InputError, ModelError
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import Callbacks, Locates, Segments, Writes
from MedFMLib.models.paligemma import PaliGemma
from MedFMLib.models.runtime.checkpoint import train_guard_4bit
from MedFMLib.storage import licence_acceptance

ROOT = Path(__file__).resolve().parents[2]


def load(folder, adapter="", precision=""):
    card = registry.card(str(folder))
    return load_model(card, adapter, precision or card.precisions[0], NoProgress())


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load(tiny_folder, "default")


@pytest.fixture(scope="module")
def views():
    image = ct_phantom()
    return [make_view(image, "axial", n) for n in (4, 12, 20)]


def test_it_has_the_abilities_its_card_promises(model):
    assert isinstance(model, Writes)
    assert isinstance(model, Segments)
    assert isinstance(model, Locates)


def test_provenance_knows_base_precision_and_adapter(model, tiny_folder):
    facts = model.facts
    assert (facts.precision, facts.adapter) == ("nf4 weights in fp32", "default")
    assert len(facts.revision) == len(facts.adapter_hash) == 64
    assert load(tiny_folder).facts.adapter == ""
    assert load(tiny_folder).facts.revision == facts.revision


def test_unpacked_weights_are_the_4_bit_values(tiny_folder, monkeypatch):
    unpacked = load(tiny_folder)
    monkeypatch.setattr("MedFMLib.models.runtime.loading.SMALL", 0)  # as if it were a large model
    packed = load(tiny_folder)
    names = [n for n, m in packed.model.named_modules() if type(m).__name__ == "Linear4bit"]
    assert any("vision_tower" in n for n in names)
    assert any("language_model" in n for n in names)
    from bitsandbytes.functional import dequantize_4bit

    layer = packed.model.get_submodule(names[-1])
    values = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    dense = unpacked.model.get_submodule(names[-1]).weight
    assert len(values.unique()) <= 16 * values.numel() / 64
    np.testing.assert_allclose(values.numpy(), dense.detach().numpy(), atol=1e-6)


def scores(model, view):
    """(vocabulary,) scores of the first token of an answer."""
    import torch

    inputs = model.processor(images=view.square(64), text="<image>answer en what?", return_tensors="pt")
    inputs.pop("labels", None)
    with torch.inference_mode():
        return model.model(**inputs).logits[0, -1].float().numpy()


def test_unpacked_and_packed_weights_score_alike(tiny_folder, views, monkeypatch):
    unpacked = scores(load(tiny_folder, "default"), views[0])
    bare = scores(load(tiny_folder), views[0])
    monkeypatch.setattr("MedFMLib.models.runtime.loading.SMALL", 0)
    packed = load(tiny_folder, "default")
    assert any(type(m).__name__ == "Linear4bit" for m in packed.model.modules())
    train_guard_4bit(packed.model)  # CPUs with AVX512-BF16 would compute packed layers in bfloat16
    difference = np.linalg.norm(scores(packed, views[0]) - unpacked) / np.linalg.norm(unpacked)
    assert difference < 1e-3
    assert np.linalg.norm(bare - unpacked) / np.linalg.norm(unpacked) > 0.01  # so that this test can fail


def test_answers_are_deterministic_and_streamed(model, views):
    pieces, prompts = [], []
    callbacks = Callbacks(on_prompt=prompts.append, on_text=pieces.append)
    first = model.write(views[:1], "which plane is this?", max_tokens=12, callbacks=callbacks)
    second = model.write(views[:1], "which plane is this?", max_tokens=12)
    assert first == second
    assert prompts == ["answer en which plane is this?"]
    assert "<eos>" not in first
    assert "".join(pieces)


def test_captions_use_their_own_prompts(model, views):
    prompts = []
    model.write(views[:1], kind="caption", max_tokens=3, callbacks=Callbacks(on_prompt=prompts.append))
    model.write(views[:1], kind="describe", max_tokens=3, callbacks=Callbacks(on_prompt=prompts.append))
    assert prompts == ["caption en", "describe en"]


def test_one_picture_per_question(model, views):
    with pytest.raises(InputError, match="one picture per question, not 3"):
        model.write(views, "what?")


def test_a_cancel_takes_effect_within_one_token(model, views):
    asked = 0

    def cancelled():
        nonlocal asked
        asked += 1
        return asked > 4

    with pytest.raises(Cancelled):
        model.write(views[:1], "what?", max_tokens=200, callbacks=Callbacks(cancelled=cancelled))
    assert asked == 5


def script(monkeypatch, answers):
    """Let the model 'write' given answers, through everything but its weights."""
    calls = []

    def generate(self, prompts, views, max_tokens, callbacks, on_text=None):
        calls.append((list(prompts), len(views)))
        return [answers[min(len(calls) - 1, len(answers) - 1)]] * len(views)

    monkeypatch.setattr(PaliGemma, "_generate", generate)
    return calls


def test_objects_become_boxes_and_masks_of_the_asked_labels(model, views, monkeypatch):
    codes = "".join(f"<seg{n:03d}>" for n in range(16))
    calls = script(monkeypatch, [
        f"<loc0100><loc0200><loc0500><loc0600>{codes} liver ; <loc0000><loc0000><loc0010><loc0010>{codes} unicorn ; <loc0001>",
    ])  # fmt: skip
    seen = model.segment(views, ["liver", "left lung"])
    assert calls == [(["segment liver ; left lung"] * 3, 3)]
    assert [[o.label for o in objects] for objects in seen] == [["liver"]] * 3
    (first,) = seen[0]
    np.testing.assert_allclose(first.box, np.array([100, 200, 500, 600]) / 1023)
    assert first.mask.shape == (64, 64)
    assert 0 <= first.mask.min() <= first.mask.max() <= 1


def test_boxes_need_no_mask_codes_and_masks_do(model, views, monkeypatch):
    script(monkeypatch, ["<loc0100><loc0200><loc0500><loc0600> liver"])
    assert model.locate(views[:1], ["liver"])[0][0].mask is None
    assert model.segment(views[:1], ["liver"]) == [[]]


def test_many_labels_are_asked_in_groups(model, views, monkeypatch):
    calls = script(monkeypatch, ["none"])
    fractions = []
    model.segment(views, [f"label {n}" for n in range(14)], callbacks=Callbacks(on_fraction=fractions.append))
    assert [prompts[0].count(";") + 1 for prompts, _ in calls] == [6, 6, 2]
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)


def test_generation_in_a_batch_gives_what_single_slices_give(tiny_folder, views):
    model = load(tiny_folder, "default", "fp32")
    prompt = "segment liver"
    together = model._generate([prompt] * 3, views, 20, Callbacks())
    alone = [model._generate([prompt], [view], 20, Callbacks())[0] for view in views]
    assert together == alone


def test_the_adapter_changes_the_answers(tiny_folder, views):
    bare = load(tiny_folder)._generate(["answer en what?"], views[:1], 16, Callbacks())
    adapted = load(tiny_folder, "default")._generate(["answer en what?"], views[:1], 16, Callbacks())
    assert bare != adapted


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "nf4"])
def test_a_dense_folder_loads_in_every_precision(dense_folder, precision, views):
    model = load(dense_folder, precision=precision)
    kinds = {type(m).__name__ for m in model.model.modules()}
    expected = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}.get(precision)
    assert (expected in kinds) if expected else not kinds & {"Linear4bit", "Linear8bitLt"}
    assert isinstance(model.write(views[:1], "what?", max_tokens=3), str)


def test_a_quantized_folder_can_be_held_dense_but_not_requantized(tiny_folder, views):
    dense = load(tiny_folder, "default", "fp32")
    assert not {"Linear4bit"} & {type(m).__name__ for m in dense.model.modules()}
    with pytest.raises(ModelError, match="stored as nf4"):
        load(tiny_folder, precision="int8")


# -- bad input ---------------------------------------------------------------------------------------


@pytest.fixture
def copy(tiny_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    card = json.loads((folder / "medfm-card.json").read_text())
    card["id"] = str(folder)
    (folder / "medfm-card.json").write_text(json.dumps(card))
    return folder


def test_a_pickled_checkpoint_is_refused(copy):
    (copy / "base" / "model.safetensors").unlink()
    (copy / "base" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match="pickled weights.*refused.*safetensors"):
        load(copy)


def test_missing_files_are_named(copy):
    (copy / "base" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \.safetensors weights"):
        load(copy)
    (copy / "base" / "config.json").unlink()
    with pytest.raises(ModelError, match="no config.json"):
        load(copy)


def test_a_missing_shard_is_named(copy):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (copy / "base" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks model-2\.safetensors"):
        load(copy)


def test_truncated_weights_are_refused(copy):
    path = copy / "base" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"model\.safetensors.*damaged"):
        load(copy)


def test_a_quantized_checkpoint_without_some_tensors_says_which(copy):
    from safetensors.torch import load_file, save_file

    path = copy / "base" / "model.safetensors"
    tensors = load_file(path)
    gone = next(name for name in tensors if name.endswith("q_proj.weight"))
    save_file({n: t for n, t in tensors.items() if not n.startswith(gone)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, such as .*q_proj\.weight"):
        load(copy)


def test_a_missing_tokenizer_is_named(copy):
    for path in (copy / "base").glob("*tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="tokenizer or image processor"):
        load(copy)


@pytest.mark.parametrize("precision", ["nf4", "fp32"])
def test_adapters_switch_without_reloading_and_answer_like_freshly_loaded_ones(copy, views, precision):
    import shutil

    shutil.copytree(copy / "adapters" / "default", copy / "adapters" / "other")
    path = copy / "adapters" / "other" / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({n: v * -2.0 for n, v in load_file(path).items()}, path, metadata={"format": "pt"})
    questions = ["what is this?", "which plane?", "is the liver visible?"]
    answers = lambda model: [model.write(views[:1], text=q, max_tokens=12) for q in questions]  # noqa: E731
    fresh = {name: answers(load(copy, name, precision)) for name in ("", "default", "other")}
    assert len({tuple(a) for a in fresh.values()}) == 3
    model = load(copy, "", precision)
    for name in ("default", "other", "", "other", "default", ""):
        model.use_adapter(name)
        assert answers(model) == fresh[name], name
        assert model.facts.adapter == name
        assert len(model.facts.adapter_hash) == (64 if name else 0)


def test_the_engine_switches_adapters_in_the_loaded_model(tiny_folder, monkeypatch):
    from MedFMLib.engine import Engine, load_model
    from MedFMLib.interfaces import registry

    loaded = []

    def load_once(*arguments):
        loaded.append(arguments)
        return load_model(*arguments)

    engine, card = Engine(load_once), registry.card(str(tiny_folder))
    first = engine.model(card, "default", "nf4", NoProgress())
    assert engine.model(card, "none", "nf4", NoProgress()) is first
    assert first.facts.adapter == ""
    assert engine.model(card, "", "nf4", NoProgress()) is first
    assert first.facts.adapter == "default"
    assert len(loaded) == 1
    with pytest.raises(ModelError, match="no adapter 'nope'"):
        engine.model(card, "nope", "nf4", NoProgress())
    assert engine.model(card, "default", "nf4", NoProgress()).facts.adapter == "default"


def test_automatic_takes_the_adapter_that_is_made_for_a_label(tiny_folder):
    from dataclasses import replace

    from MedFMLib.interfaces import registry
    from MedFMLib.models.runtime.adapters import Adapters

    card = replace(registry.card(str(tiny_folder)), adapter_labels={"default": {"CT": ("liver",)}})
    chosen = Adapters(card, None, None).choose(["left lung", "liver", "right lung"], "CT")
    assert chosen == {"": ["left lung", "right lung"], "default": ["liver"]}
    assert Adapters(card, None, None).choose(["liver"], "MR") == {"": ["liver"]}


def test_an_unknown_adapter_is_refused_with_those_there_are(tiny_folder):
    with pytest.raises(ModelError, match="no adapter 'nope'; there is default"):
        load(tiny_folder, "nope")


def edit_adapter(folder, change):
    from safetensors.torch import load_file, save_file

    path = folder / "adapters" / "default" / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def test_an_adapter_for_another_base_is_refused(copy):
    import torch

    edit_adapter(copy, lambda t: {n: (torch.zeros(4, 96) if n.endswith("lora_A.weight") else v) for n, v in t.items()})
    with pytest.raises(ModelError, match="another base: .* has width 64 here"):
        load(copy, "default")


def test_an_adapter_for_layers_that_are_not_there_is_refused(copy):
    edit_adapter(copy, lambda t: {n.replace("layers.0", "layers.9"): v for n, v in t.items()})
    with pytest.raises(ModelError, match="another base: this one has no layer"):
        load(copy, "default")


def test_an_adapter_with_broken_values_is_refused(copy):
    edit_adapter(copy, lambda t: {n: v * float("nan") for n, v in t.items()})
    with pytest.raises(ModelError, match="NaN or infinite"):
        load(copy, "default")


def test_a_pickled_adapter_is_refused(copy):
    adapter = copy / "adapters" / "default"
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled adapters are refused"):
        load(copy, "default")


def test_a_model_that_is_not_here_says_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    card = registry.card("google/paligemma2-3b-mix-448")
    licence_acceptance.accept(card)
    with pytest.raises(ModelError, match="not on this machine.*gated.*medfm models get google/paligemma2-3b-mix-448"):
        load_model(card, "", "nf4", NoProgress())


def test_the_published_size_of_paligemma_is_counted():
    card = registry.card("google/paligemma-3b-mix-224")
    sizes = registry.architecture("paligemma").stats(card)
    assert sizes.parameters == card.parameters == 2_923_466_480
    assert round(sizes.dense_bytes / 2**30, 4) == 5.4454
    assert sizes.quantized_bytes / 2**30 <= 1.65


def test_predicted_nf4_bytes_are_the_bytes_on_disk(tiny_folder):
    from safetensors.torch import load_file

    card = registry.card(str(tiny_folder))
    sizes = registry.architecture("paligemma").stats(card)
    tensors = load_file(tiny_folder / "base" / "model.safetensors")
    stored = sum(t.numel() * t.element_size() for name, t in tensors.items() if "quant_state" not in name)
    dense_part = sum(layer.dense_bytes for layer in sizes.layers if layer.held == "dense")
    quantized = sizes.quantized_bytes - dense_part
    stored_dense = sum(layer.parameters for layer in sizes.layers if layer.held == "dense") * 4  # this one is fp32
    assert stored - stored_dense == pytest.approx(quantized, rel=0.02)


def test_loading_and_answering_open_no_connection(tiny_folder):
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
slices = SliceChoice("axial", 3, 3)
request = Request("ask", ct_phantom(), question="what?", slices=slices, model={str(tiny_folder)!r}, max_tokens=3)
print("answered", len(Engine().run(request).answers))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "answered 1", done.stderr
