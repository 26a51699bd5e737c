"""Replacements for quantized layers on a CPU: their products, their limits, and the choice among them."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import bitsandbytes as bnb
import torch
from support import random_families
from support.phantoms import ct_phantom

from MedFMLib.core.view import make_view
from MedFMLib.errors import ModelError
from MedFMLib.models.cpu import attention, engines, kernels
from MedFMLib.models.cpu.engines import LayerTiming
from MedFMLib.models.cpu.linears import DynamicLinear, PackedEmbedding, PackedLinear


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(engines.VARIABLE, raising=False)


def loaded_kernels(instructions=""):
    try:
        return kernels.load(instructions)
    except kernels.KernelsUnavailable as error:
        pytest.skip(str(error))


def weight(rows=96, columns=256, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05


def nf4(dense, bias=None):
    made = bnb.nn.Linear4bit(dense.shape[1], dense.shape[0], bias=bias is not None, compute_dtype=torch.bfloat16,
                             compress_statistics=True, quant_type="nf4")  # fmt: skip
    made.weight = bnb.nn.Params4bit(dense.bfloat16(), requires_grad=False, quant_type="nf4", compress_statistics=True)
    if bias is not None:
        made.bias = torch.nn.Parameter(bias, requires_grad=False)
    return made.to("cpu").eval()


def activations(rows, columns=256, outliers=False):
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    if outliers:
        x[:, [3, 70, 71]] *= 100
    return x.bfloat16()


def far(y, exact, scale=None):
    scale = exact if scale is None else scale
    return float((y.float() - exact).norm() / scale.norm())


# -- what is multiplied ----------------------------------------------------------------------------------


@pytest.mark.parametrize("instructions", ["", "avx2"])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 13, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_packed_weights_multiply_as_bitsandbytes_unpacks_them(monkeypatch, instructions, rows, dtype):
    some = loaded_kernels(instructions)
    monkeypatch.setattr(kernels, "load", lambda: some)
    linear = nf4(weight(), bias=torch.linspace(-0.2, 0.2, 96))
    dense = bnb.functional.dequantize_4bit(linear.weight.data, linear.weight.quant_state).float()
    made = engines.packed(linear)
    assert made.bits == 4
    x = activations(rows).to(dtype)
    y = made(x)
    assert y.dtype == dtype
    assert far(y.float() - torch.linspace(-0.2, 0.2, 96), x.float() @ dense.T) < 0.02
    assert far(made.columns(torch.arange(256))[:, :96].T, dense) < 0.01


@pytest.mark.parametrize("instructions", ["", "avx2"])
@pytest.mark.parametrize("shape", [(96, 256), (100, 200), (5, 64), (33, 4304)])
def test_dense_weights_of_any_width_are_packed_to_8_bits(instructions, shape):
    dense = weight(*shape)
    made = PackedLinear.from_weight(dense, None, torch.bfloat16, loaded_kernels(instructions))
    for rows in (1, 20):
        x = activations(rows, shape[1]).float()
        assert far(made(x), x @ dense.T) < 0.012
    assert far(made.rows(torch.tensor([4, 0])), dense[[4, 0]]) < 0.01


@pytest.mark.parametrize("name", ["packed", "int8", "bf16"])
def test_rows_that_are_no_whole_blocks_are_unpacked_right(name):
    loaded_kernels()
    linear, x = nf4(weight(40, 80)), activations(5, 80)
    assert far(engines.dense(linear).float(), weight(40, 80)) < 0.12  # bitsandbytes is wrong by more than 1 here
    assert far(engines.ENGINES[name](linear)(x), x.float() @ engines.dense(linear).float().T) < 0.03


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("name", ["packed", "int8"])
def test_outliers_do_not_drown_the_others(name, rows):
    loaded_kernels()
    dense = weight()
    dense[:, [3, 70, 71]] /= 100  # so that the result hangs on the other columns
    linear = nf4(dense)
    exact = engines.dense(linear).float()
    x = activations(rows, outliers=True)
    calm = activations(rows).float() @ exact.T
    assert far(engines.ENGINES[name](linear)(x), x.float() @ exact.T, calm) < (0.02 if name == "packed" else 0.1)
    step = x.float().abs().max() / 127
    per_tensor = (x.float() / step).round() * step  # what the check must be able to see
    assert far(per_tensor @ exact.T, x.float() @ exact.T, calm) > 0.3


def test_int8_bitsandbytes_weights_stay_what_they_are():
    some = loaded_kernels()
    dense = weight()
    linear = bnb.nn.Linear8bitLt(256, 96, bias=False, has_fp16_weights=False)
    linear.weight = bnb.nn.Int8Params(dense.half(), requires_grad=False, has_fp16_weights=False)
    linear = linear.to("cpu").eval()
    made = PackedLinear.from_weight(engines.dense(linear), None, torch.bfloat16, some)
    assert far(engines.dense(linear).float(), dense) < 0.02
    assert far(made(activations(7)), activations(7).float() @ dense.T) < 0.03


def test_a_table_that_shares_the_heads_bytes_looks_up_the_same_words():
    head = PackedLinear.from_weight(weight(50, 64), None, torch.bfloat16, loaded_kernels())
    table = PackedEmbedding(head, torch.bfloat16, 8.0)
    words = torch.tensor([[49, 0, 7], [7, 1, 2]])
    assert far(table(words), weight(50, 64)[words] * 8) < 0.01
    assert not list(table.parameters())


def test_nothing_is_learned_through_stand_ins():
    made = DynamicLinear(weight(), None, torch.bfloat16)
    with pytest.raises(ModelError, match="loaded for inference"):
        made(activations(2).requires_grad_())


def test_threads_that_multiply_at_the_same_time_do_not_disturb_each_other():
    import threading

    made = PackedLinear.from_weight(weight(512, 512), None, torch.bfloat16, loaded_kernels())
    xs = [activations(rows, 512) for rows in (1, 2, 30, 64)]
    alone = [made(x) for x in xs]
    wrong = []

    def work(x, expected):
        wrong.extend(n for n in range(50) if not torch.equal(made(x), expected))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("masked", [False, True])
def test_one_token_attends_as_with_torch(masked):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    module = torch.nn.Module()
    module.num_key_value_groups = 2
    query, key, value = torch.randn(2, 8, 1, 32), torch.randn(2, 4, 21, 32), torch.randn(2, 4, 21, 32)
    mask = (torch.arange(21) > 5)[None, None, None] if masked else None
    ours, _ = attention.attend(module, query, key, value, mask, scaling=0.3)
    theirs, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


# -- a model with adapters -------------------------------------------------------------------------------


def tiny(seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=32, vocab_size=320)  # fmt: skip
    model = LlamaForCausalLM(config).bfloat16().eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and path != "lm_head":
            engines._put(model, path, nf4(module.weight.data.float()))
    return model


def words(model):
    with torch.inference_mode():
        return model(torch.arange(40)[None]).logits.float()


@pytest.mark.parametrize("engine", ["packed", "int8"])
def test_a_model_keeps_its_answers_and_its_adapters_switch(engine, tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model

    from MedFMLib.models.runtime import adapters

    loaded_kernels()
    folders = {}
    for name, seed in (("one", 1), ("two", 2)):
        asked = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], lora_alpha=64, init_lora_weights=False)
        base = tiny()
        torch.manual_seed(seed)
        get_peft_model(base, asked).save_pretrained(tmp_path / name)
        folders[name] = tmp_path / name

    plain = engines.ENGINES["bf16"]
    exact = tiny()
    for path, layer in engines._layers(exact).items():
        engines._put(exact, path, plain(layer))
    monkeypatch.setenv(engines.VARIABLE, engine)
    fast = tiny()
    assert engines.speed_up(fast, "nf4", least=0) == f"nf4 ({engines.TITLES[engine]}) on the CPU"
    expected = {"": words(exact)}
    bare = words(fast)
    assert far(bare, expected[""]) < 0.05
    for name, folder in folders.items():
        exact = adapters.attach_adapter(exact, folder, name)
        fast = adapters.attach_adapter(fast, folder, name)
        adapters.switch_adapter(exact, name)
        expected[name] = words(exact)
    for name in ("one", "two", "", "one"):
        adapters.switch_adapter(fast, name)
        assert far(words(fast), expected[name]) < 0.05, name
    adapters.switch_adapter(fast, "")
    assert torch.equal(words(fast), bare)
    assert far(expected["one"], expected["two"]) > 0.1


@pytest.mark.parametrize("engine", ["packed", "int8"])
@pytest.mark.parametrize("kind", ["gemma3", "qwen_vl", "llava"])
def test_families_load_with_stand_ins_and_answer(kind, engine, tmp_path, monkeypatch):
    from MedFMLib.engine import load_model
    from MedFMLib.interfaces import registry
    from MedFMLib.interfaces.jobs import NoProgress
    from MedFMLib.models.runtime import precision

    loaded_kernels()
    monkeypatch.setattr(engines, "LARGE", 0)
    monkeypatch.setattr(engines.speed_up, "__defaults__", (0,))
    monkeypatch.setattr(precision, "LARGE_TABLE", 0)
    monkeypatch.setenv(engines.VARIABLE, engine)
    folder = getattr(random_families, kind)(tmp_path / kind)
    model = load_model(registry.card(str(folder)), "", "nf4", NoProgress())
    assert model.facts.precision == f"nf4 ({engines.TITLES[engine]}) on the CPU"
    kinds = {type(module).__name__ for module in model.model.modules()}
    assert not kinds & {"Linear4bit"}
    assert ("PackedEmbedding" in kinds) == (
        kind == "gemma3" and engine == "packed"
    )  # the only one that shares its table
    model.write([make_view(ct_phantom(), "axial", 8)], "what?", max_tokens=4)


def test_a_prompt_is_continued_as_the_same_layers_do_without_the_cache(monkeypatch):
    loaded_kernels()
    monkeypatch.setenv(engines.VARIABLE, "packed")
    model = tiny()
    engines.speed_up(model, "nf4", least=0)
    ids = torch.arange(30)[None]
    with torch.inference_mode():
        written = model.generate(input_ids=ids, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
        scores = model(written[:, :-1]).logits[0, 29:].float()
    chosen = scores.gather(1, written[0, 30:, None]).flatten()
    assert (scores.max(1).values - chosen < 0.1 * scores.std()).all()


# -- the choice ------------------------------------------------------------------------------------------


def test_small_models_and_dense_ones_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(engines, "probe", lambda *_: pytest.fail("was probed"))
    model = tiny()
    assert engines.speed_up(model, "nf4") == "nf4"
    assert engines.speed_up(torch.nn.Linear(4, 4), "bf16", least=0) == "bf16"


def test_never_one_that_is_slower_than_bf16_or_errs_or_does_not_fit():
    ways = {
        "packed": LayerTiming(1.0, 0.2),
        "int8": LayerTiming(3.0, 0.01),
        "loaded": LayerTiming(9.0, 0.0),
        "bf16": LayerTiming(2.0, 0.0),
    }
    assert engines.choose(ways) == "bf16"
    assert engines.choose(ways, lambda name: name != "bf16") == "int8"
    assert engines.choose(ways | {"packed": LayerTiming(1.0, 0.01)}) == "packed"
    assert engines.choose({}) == "loaded"


def test_the_probe_measures_all_engines_and_is_saved(monkeypatch, tmp_path):
    linear = nf4(weight(256, 256))
    found = engines.measured_once(linear)
    assert {"loaded", "bf16", "int8"} <= set(found)
    assert all(way.error < 0.03 and way.seconds > 0 for way in found.values())
    monkeypatch.setattr(engines, "probe", lambda *_: pytest.fail("was probed again"))
    assert engines.measured_once(linear) == found
    (file,) = tmp_path.rglob("cpu_engines.json")
    (key,) = json.loads(file.read_text())
    assert torch.__version__ in key


def test_a_damaged_memory_of_the_probe_is_made_anew(tmp_path):
    file = engines.paths.cache() / "cpu_engines.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert engines.measured_once(nf4(weight(64, 64)))


def test_without_llvmlite_torchs_own_product_is_left(monkeypatch):
    def missing():
        raise kernels.KernelsUnavailable("the package llvmlite is missing")

    monkeypatch.setattr(kernels, "load", missing)
    linear = nf4(weight())
    assert set(engines.probe(linear)) == {"int8", "loaded", "bf16"}
    monkeypatch.setenv(engines.VARIABLE, "packed")
    with pytest.raises(
        ModelError, match=r"is 'packed', which is not available on this machine: .*llvmlite is missing; unset it"
    ):
        engines.speed_up(tiny(), "nf4", least=0)


def test_a_torch_that_lost_its_quantized_product_is_no_candidate(monkeypatch):
    def gone(*_):
        raise AttributeError("linear_prepack")

    monkeypatch.setattr("MedFMLib.models.cpu.engines.DynamicLinear", gone)
    assert "int8" not in engines.probe(nf4(weight()))


def test_an_unknown_engine_is_refused_with_the_known_ones(monkeypatch):
    monkeypatch.setenv(engines.VARIABLE, "fast")
    with pytest.raises(ModelError, match="is 'fast'; choose auto, packed, int8, loaded, bf16, or unset it"):
        engines.speed_up(tiny(), "nf4", least=0)


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ({"avx2", "fma", "f16c", "avx512vnni", "avx512bw", "avx512vl"}, "avx512vnni"),
        ({"avx2", "fma", "f16c", "avx512vnni"}, "avx2"),
        ({"avx2", "fma", "f16c", "avxvnni"}, "avxvnni"),
        ({"avx2"}, ""),
        (set(), ""),
    ],
)
def test_the_best_instructions_of_a_cpu_are_used(features, name):
    assert kernels.instruction_set(dict.fromkeys(features, True)) == name
