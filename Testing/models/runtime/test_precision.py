"""Precision plans, int8 rows, and the quantized copy: what is quantized, its error, and faults."""

import json
import os
import subprocess
import sys
import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from support import random_families  # noqa: E402

from MedFMLib.engine import load_model  # noqa: E402
from MedFMLib.errors import Cancelled, ModelError, OutputError  # noqa: E402
from MedFMLib.interfaces import registry  # noqa: E402
from MedFMLib.interfaces.jobs import NoProgress  # noqa: E402
from MedFMLib.models.runtime import checkpoint, int8_rows, precision, quantized_copy  # noqa: E402
from MedFMLib.storage import paths  # noqa: E402

KEEP = {"gemma3": ("model.vision_tower",), "qwen2_5_vl": ("model.visual",), "llava": ("model.vision_tower",)}
BUILDERS = {
    "gemma3": random_families.gemma3,
    "qwen2_5_vl": lambda root: random_families.qwen_vl(root, "qwen2_5_vl"),
    "llava": random_families.llava,
}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def large_tables(monkeypatch):
    monkeypatch.setattr(precision, "LARGE_TABLE", 1000)  # the test models' tables count as large


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def family(request, tmp_path_factory):
    """(kind, class, dense folder, dense model)"""
    import transformers

    folder = BUILDERS[request.param](tmp_path_factory.mktemp("dense") / request.param)
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model_class = getattr(transformers, name)
    return request.param, model_class, folder, model_class.from_pretrained(folder, dtype=torch.float32).eval()


def loaded(family, how, tmp_path):
    kind, model_class, folder, _ = family
    copy = tmp_path / how
    quantized_copy.make(model_class, folder, copy, how, KEEP[kind])
    model = quantized_copy.load(model_class, copy, torch.device("cpu"), torch.float32)
    checkpoint.guard_4bit(model)
    return model, copy


def test_a_plan_tells_what_is_packed_and_why(family):
    kind, _, _, model = family
    plan = precision.plan(model, "nf4", KEEP[kind])
    linears = [path for path, held in plan.items() if held.precision == "nf4"]
    assert linears
    assert not any(path.startswith(KEEP[kind]) for path in linears)
    assert [h.precision for h in plan.values() if h.kind == "table"] == ["int8 rows"]
    assert all(held.precision == "dense" for held in plan.values() if held.kind in ("small", "kept"))
    assert {held.precision for held in precision.plan(model, "bf16").values()} == {"dense"}
    assert all(held.why for held in plan.values())


def test_a_copy_computes_with_exactly_the_rounded_weights(family, tmp_path):
    """Dense layers with the rounded weights are the truth: nothing else may differ."""
    from safetensors.torch import load_file

    from MedFMLib.models.runtime.nf4 import unpack

    _, model_class, folder, _ = family
    model, copy = loaded(family, "nf4", tmp_path)
    checkpoint.train_guard_4bit(model)  # the fused 4-bit kernel computes in bfloat16
    stored = load_file(copy / "model-00001.safetensors")
    rounded = unpack(stored)
    for name in [n.removesuffix(".scale") for n in stored if n.endswith(".weight.scale")]:
        rounded[name] = rounded[name].float() * stored[f"{name}.scale"][:, None]
    truth = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    truth.load_state_dict({name: value.float() for name, value in rounded.items()}, strict=False)
    truth.tie_weights()
    numbers = torch.randint(10, 200, (2, 9), generator=torch.manual_seed(1))
    with torch.inference_mode():
        got, wanted = model(input_ids=numbers).logits, truth(input_ids=numbers).logits
    assert (got - wanted).norm() / wanted.norm() < 1e-4


def test_int8_stays_nearer_to_the_dense_model_than_nf4(family, tmp_path):
    numbers = torch.randint(10, 200, (2, 9), generator=torch.manual_seed(1))
    away = {}
    with torch.inference_mode():
        wanted = family[3](input_ids=numbers).logits
        for how in precision.PACKED:
            model, _ = loaded(family, how, tmp_path)
            away[how] = float((model(input_ids=numbers).logits - wanted).norm() / wanted.norm())
    assert away["int8"] < 0.1
    assert away["int8"] < away["nf4"]


def test_an_adapter_attaches_to_a_copy(family, tmp_path):
    from peft import LoraConfig, get_peft_model

    model, _ = loaded(family, "nf4", tmp_path)
    made = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    assert any(type(m).__module__.startswith("peft") and "Linear4bit" in type(m).__name__ for m in made.modules())
    made(input_ids=torch.tensor([[11, 12, 13]])).logits.sum().backward()
    assert all(
        p.grad is not None
        for n, p in made.named_parameters()
        if "lora_B" in n and "vision" not in n and "visual" not in n
    )


def test_rows_lose_less_than_half_a_step():
    weight = torch.randn(40, 64, generator=torch.manual_seed(0)) * torch.logspace(-3, 3, 40)[:, None]
    weight[7] = 0
    packed, scale = int8_rows.pack_rows(weight)
    assert (packed.float() * scale[:, None] - weight).abs().max(1).values.le(scale / 2 * 1.001).all()
    table = int8_rows.Int8Embedding(packed, scale, torch.float32, 8.0)
    assert torch.allclose(table(torch.tensor([3, 7])), packed[[3, 7]].float() * scale[[3, 7], None] * 8)
    head, x = int8_rows.Int8Head(packed, scale), torch.randn(2, 3, 64)
    wanted = x @ (packed.float() * scale[:, None]).T
    assert torch.allclose(head(x), wanted, rtol=1e-4)
    assert (head(x.bfloat16()).float() - wanted).norm() / wanted.norm() < 0.01


def test_the_second_load_takes_the_copy(family, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    card = registry.card(str(family[2]))
    first = load_model(card, "", "nf4", NoProgress())
    assert len(list((paths.cache() / "quantized").iterdir())) == 1
    monkeypatch.setattr(quantized_copy, "make", None)  # would fail if it were asked for
    second = load_model(card, "", "nf4", NoProgress())
    numbers = torch.tensor([[20, 30, 40]])
    with torch.inference_mode():
        assert torch.equal(first.model(input_ids=numbers).logits, second.model(input_ids=numbers).logits)


# -- what can go wrong ---------------------------------------------------------------------------


def test_a_damaged_copy_is_thrown_away_with_a_sentence(family, tmp_path):
    _, copy = loaded(family, "nf4", tmp_path)
    file = copy / "model-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    assert not quantized_copy.is_complete(copy, family[1])
    with pytest.raises(ModelError, match="damaged and is deleted"):
        quantized_copy.load(family[1], copy, torch.device("cpu"), torch.float32)
    assert not copy.exists()


def test_a_full_disk_leaves_nothing_behind(family, tmp_path, monkeypatch):
    import safetensors.torch

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OutputError, match="No space left on device; free space"):
        quantized_copy.make(family[1], family[2], tmp_path / "copy", "nf4", ())
    assert list(tmp_path.iterdir()) == []


def test_a_cancel_leaves_nothing_behind(family, tmp_path):
    def cancel(_):
        raise Cancelled

    with pytest.raises(Cancelled):
        quantized_copy.make(family[1], family[2], tmp_path / "copy", "nf4", (), cancel)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_are_distinguished_from_one_that_died(family, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lock = paths.cache() / "locks" / "copy.lock"
    lock.parent.mkdir(parents=True)
    hold = (
        f"import filelock; lock = filelock.FileLock({str(lock)!r}); lock.acquire(); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ModelError, match="Another process .* is quantizing this model right now; wait"):
            quantized_copy.make(family[1], family[2], copy, "nf4", ())
        other.kill()  # it had no time to clean up
    lock.with_name("copy.lock.pid").write_text(str(os.getpid()))  # a process that runs has the number of one that died
    quantized_copy.make(family[1], family[2], copy, "nf4", KEEP[family[0]])
    assert quantized_copy.is_complete(copy, family[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "copy"]


@pytest.mark.parametrize(
    ("how", "architecture", "target", "bf16", "says"),
    [
        ("fp16", "gemma3", "cuda", False, "overflows in fp16, and this device has no bf16"),
        ("fp16", "gemma3", "cuda", True, ""),
        ("fp16", "qwen_vl", "cuda", False, ""),
        ("fp16", "qwen_vl", "cpu", False, "several times slower than bf16"),
        ("bf16", "qwen_vl", "cuda", False, "older than Ampere"),
        ("bf16", "gemma3", "cpu", False, ""),
        ("nf4", "gemma3", "cuda", False, ""),
    ],
)
def test_what_a_device_cannot_hold_is_said(monkeypatch, how, architecture, target, bf16, says):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    card = types.SimpleNamespace(title="A model", architecture=architecture)
    sentence = precision.refusal(how, card, torch.device(target))
    assert says in sentence
    assert bool(sentence) == bool(says)


# -- the traps of bitsandbytes on a CPU ------------------------------------------------------------


def test_trap_no_network_at_import():
    """bitsandbytes asks a hub for kernels when it is imported, if a package for that is there: it must not get through."""
    script = (
        "import socket, sys\n"
        "def no(*_, **__): sys.exit('asked the network')\n"
        "socket.socket.connect = no; socket.getaddrinfo = no\n"
        "from MedFMLib.models.runtime import checkpoint\n"
        "checkpoint.need_bitsandbytes('nf4')\n"
        "import os; assert os.environ['HF_HUB_OFFLINE'] == '1'\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("width", [4304, 3420])
def test_trap_widths_of_vision_towers_run(width):
    """SigLIP so400m's 4304 and Qwen's 3420 are no multiples of what the fused kernel asks for."""
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(64, width, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    back = bnb.nn.Linear4bit(width, 64, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    model = torch.nn.Sequential(layer, back).eval()
    checkpoint.guard_4bit(model)
    with torch.inference_mode():
        assert model(torch.randn(2, 64)).shape == (2, 64)


def test_trap_training_after_inference_has_the_gradients_of_training_first(family, tmp_path):
    from peft import LoraConfig, get_peft_model

    def gradients(look_first):
        torch.manual_seed(3)
        model, _ = loaded(family, "nf4", tmp_path / str(look_first))
        checkpoint.train_guard_4bit(model)
        made = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
        numbers = torch.tensor([[21, 22, 23, 24, 25]])
        if look_first:
            made.eval()
            with torch.inference_mode():
                made(input_ids=numbers)
        made.train()
        made(input_ids=numbers, labels=numbers).loss.backward()
        return {n: p.grad for n, p in made.named_parameters() if p.grad is not None}

    first, after = gradients(False), gradients(True)
    assert first.keys() == after.keys() and first
    for name, gradient in first.items():
        assert torch.allclose(gradient, after[name], rtol=1e-4, atol=1e-6), name


def test_trap_the_skip_list_is_checked_after_loading(family, tmp_path):
    from MedFMLib.models.generation.chat import check_quantized

    model, _ = loaded(family, "nf4", tmp_path)
    check_quantized(model, KEEP[family[0]])
    with pytest.raises(ModelError, match="not quantized as planned"):
        check_quantized(model, ["model.language_model"])


def test_layers_that_may_be_exchanged_or_trained_do_not_settle(family, tmp_path):
    kind, model_class, folder, _ = family
    quantized_copy.make(model_class, folder, tmp_path / "copy", "nf4", KEEP[kind])
    for below in (0, 10**9):
        model = quantized_copy.load(model_class, tmp_path / "copy", torch.device("cpu"), torch.float32, below)
        layers = [m for m in model.modules() if type(m).__name__ == "Linear4bit" and m.support_avx512bf16_for_cpu]
        settled = [getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers]
        assert all(settled) if below else not any(settled)
