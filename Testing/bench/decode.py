"""How fast a large model answers on this CPU, engine by engine, and how far each is from bf16.

    python Testing/bench/decode.py [--rounds 5] [--layers 8] [--slow] [--simulate avx2]
                                   [--llama /venv/bin/python] [--openvino /venv/bin/python]

The model is MedGemma-4B's text shape with random weights (hidden 2560, feed-forward 10240, 8 and 4 heads of 256, 32,000
words), in NF4 as it ships. Engines take turns: in every round each reads a prompt of 300 tokens and writes a few; medians
are printed, with the minimum and the CPU time, which reveal a busy machine. Baselines run the same shape in a process of
their own, in the same turns: `--llama` names a Python that has llama-cpp-python and gguf (Q4_0), `--openvino` one that has
optimum-intel, nncf and openvino (int4 with zero points, groups of 64, embedding and head included). One that is not named or
can't be run is left out by name. `--slow` adds bitsandbytes without AVX512-BF16.

Errors are those of all logits of 48 tokens: against bf16 with the original weights, and against bf16 with the same NF4 weights;
on plain weights, and on weights with activation outliers planted (60 × in 6 channels before every projection).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from baselines import BASELINES, PROMPT, baselines

SHAPE = {"hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
         "vocab_size": 32000, "max_position_embeddings": 4096}  # fmt: skip
STEPS, ANSWER, REPORT = 8, 60, 200
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def build(layers: int, outliers: bool):
    """A random model in bf16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **SHAPE)).eval()
    torch.set_default_dtype(torch.float32)
    if outliers:
        some = torch.tensor([7, 300, 811, 1500, 1501, 2222])
        with torch.no_grad():
            for layer in model.model.layers:
                for norm, after in (
                    (layer.input_layernorm, [getattr(layer.self_attn, f"{n}_proj") for n in "qkv"]),
                    (layer.post_attention_layernorm, [layer.mlp.gate_proj, layer.mlp.up_proj]),
                ):
                    norm.weight[some] *= 60
                    for linear in after:
                        linear.weight[:, some] /= 60
                layer.mlp.up_proj.weight[some] *= 60
                layer.mlp.down_proj.weight[:, some] /= 60
    return model.requires_grad_(False)


def linears(model):
    """Path → linear layer, the head excepted."""
    import torch

    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}


def quantized(linear):
    """A bitsandbytes NF4 layer."""
    import bitsandbytes as bnb
    import torch

    made = bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias=False, compute_dtype=torch.bfloat16,
                             compress_statistics=True, quant_type="nf4", device="meta")  # fmt: skip
    made.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
    return made.to("cpu").eval()


def stand_in(base, layers):
    """A model with `base`'s embeddings and norms and other linear layers."""
    import torch

    with torch.device("meta"):
        model = type(base)(base.config).eval()
    for (path, module), (_, ours) in zip(list(base.named_modules()), list(model.named_modules()), strict=True):
        if path in layers or isinstance(module, torch.nn.Linear):
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, layers.get(path, module))
            continue
        for name, parameter in module.named_parameters(recurse=False):
            setattr(ours, name, parameter)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(ours, name, buffer)
    return model


def engines(base, slow: bool) -> dict:
    """Name → model; the one from bitsandbytes last, since it repacks its weights when it first answers."""
    import copy

    from MedFMLib.models.cpu import engines as cpu_engines
    from MedFMLib.models.cpu import linears as cpu_linears

    stored = {path: quantized(linear) for path, linear in linears(base).items()}
    models = {"bf16": base}
    for name in ("bf16", "int8", "packed"):
        models[f"NF4 {name}"] = stand_in(
            base, {path: cpu_engines.ENGINES[name](layer) for path, layer in stored.items()}
        )
    for name in ("int8", "packed"):
        model = models[f"NF4 {name}"]
        head = base.lm_head
        model.lm_head = (
            cpu_engines.packed(head)
            if name == "packed"
            else cpu_linears.DynamicLinear(head.weight, None, head.weight.dtype)
        )
        model.config = copy.deepcopy(base.config)
        for module in model.modules():
            if hasattr(module, "config"):
                module.config = model.config
        cpu_engines.attention.use(model)
        if name == "packed":
            cpu_engines.attention.alone(model)
    if slow:
        models["NF4 loaded, no AVX512-BF16"] = stand_in(base, copy.deepcopy(stored))
        for layer in linears(models["NF4 loaded, no AVX512-BF16"]).values():
            layer.support_avx512bf16_for_cpu = False
    models["NF4 loaded"] = stand_in(base, stored)
    return models


def with_lora(model):
    """Return the same layers with random LoRA, r = 16, on all projections, attached as `adapters.attach_adapter` does."""
    import torch
    from peft import LoraConfig, get_peft_model

    from MedFMLib.models.cpu import adapters
    from MedFMLib.models.cpu import engines as cpu_engines

    shell = stand_in(model, linears(model) | {"lm_head": model.lm_head})
    shell.config = model.config
    for module in shell.modules():
        if hasattr(module, "config"):
            module.config = model.config
    if model._forward_pre_hooks:
        cpu_engines.attention.alone(shell)
    made = get_peft_model(shell, LoraConfig(r=16, lora_alpha=32, target_modules=PROJECTIONS, init_lora_weights=False))
    torch.manual_seed(1)
    adapters.use(made)
    return made.eval().requires_grad_(False)


class Torch:
    """An engine in this process."""

    def __init__(self, model):
        self.model = model

    def turn(self, steps: int) -> tuple[float, float, float]:
        """(seconds for the prompt, seconds a token, CPU seconds a token)."""
        import torch

        ids = torch.arange(PROMPT)[None] + 100
        with torch.inference_mode():
            started = time.perf_counter()
            out = self.model(ids, use_cache=True, logits_to_keep=1)
            prefill = time.perf_counter() - started
            cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
            took, cpu = [], []
            for _ in range(steps):
                started, busy = time.perf_counter(), time.process_time()
                out = self.model(token, past_key_values=cache, use_cache=True)
                token = out.logits[:, -1:].argmax(-1)
                took.append(time.perf_counter() - started)
                cpu.append(time.process_time() - busy)
        return prefill, statistics.median(took), statistics.median(cpu)

    def answer(self, tokens: int) -> float:
        """Seconds of `generate` for a whole answer."""
        import torch

        ids = torch.arange(PROMPT)[None] + 100
        with torch.inference_mode():
            started = time.perf_counter()
            self.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                                do_sample=False, pad_token_id=0)  # fmt: skip
            return time.perf_counter() - started

    def logits(self):
        """(48, words) float32."""
        import torch

        torch.manual_seed(2)
        with torch.inference_mode():
            return self.model(torch.randint(0, SHAPE["vocab_size"], (1, 48))).logits[0].float()


def errors(layers: int, outliers: bool) -> dict[str, str]:
    """Engine → its two errors and how often its best word is that of bf16."""
    base = build(layers, outliers)
    models = engines(base, slow=False)
    logits = {name: Torch(model).logits() for name, model in models.items()}
    reported = {}
    for name, ours in logits.items():
        parts = []
        for other in ("bf16", "NF4 bf16"):
            exact = logits[other]
            same = (ours.argmax(-1) == exact.argmax(-1)).float().mean()
            parts.append(f"{float((ours - exact).norm() / exact.norm()):6.2%} ({float(same):4.0%})")
        reported[name] = "  ".join(parts)
    return reported


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--llama", default="")
    parser.add_argument("--openvino", default="")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--only", default="", help="run only engines with this in their names")
    parser.add_argument("--no-errors", action="store_true")
    parser.add_argument("--simulate", default="", help="avx2: kernels for a CPU without AVX-512")
    options = parser.parse_args()
    import functools

    from MedFMLib.models.cpu import kernels
    from MedFMLib.models.runtime import checkpoint

    checkpoint.quiet_bitsandbytes()
    if options.simulate:
        kernels.load = functools.partial(kernels.load, options.simulate)
    base = build(options.layers, outliers=False)
    models = engines(base, options.slow)
    models["NF4 packed + LoRA"] = with_lora(models["NF4 packed"])
    models["NF4 int8 + LoRA"] = with_lora(models["NF4 int8"])
    runs = {name: Torch(model) for name, model in models.items() if options.only in name}
    runs |= baselines({"llama.cpp Q4_0": options.llama, "OpenVINO int4": options.openvino}, options.layers)
    times: dict[str, list] = {name: [] for name in runs}
    for round_number in range(options.rounds + 1):  # the first warms up
        for name in list(runs) if round_number % 2 else list(runs)[::-1]:
            took = runs[name].turn(STEPS)
            if round_number:
                times[name].append(took)
    print(
        f"{options.layers} layers, prompt of {PROMPT}, medians of {options.rounds} rounds; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'engine':28s} prefill s (min)   ms/token (min)  CPU ms/token  {ANSWER} tok   {REPORT} tok  bf16/it")
    first = None
    for name, rows in times.items():
        prefill, token, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        least, fastest, _ = (min(column) for column in zip(*rows, strict=True))
        answer, report = prefill + ANSWER * token, prefill + REPORT * token
        first = first or answer
        print(f"{name:28s} {prefill:6.2f} ({least:5.2f})   {token * 1e3:6.1f} ({fastest * 1e3:5.1f})   {cpu * 1e3:8.1f}"
              f"   {answer:6.2f} s  {report:6.2f} s   {first / answer:5.2f}")  # fmt: skip
    whole = {name: [] for name in runs if "packed" in name or name in BASELINES}
    for _ in range(3):
        for name, seconds in whole.items():
            seconds.append(runs[name].answer(ANSWER))
    print(f"whole answers of {ANSWER} tokens through generate (median of 3, minimum):")
    for name, seconds in whole.items():
        print(f"{name:28s} {statistics.median(seconds):6.2f} s ({min(seconds):5.2f})")
    if options.no_errors:
        return
    del models, runs, base
    for kind in (False, True):
        what = "outliers planted" if kind else "plain weights"
        print(f"error of logits, {what}: against bf16, against bf16 of NF4 (same best word)")
        for name, reported in errors(min(options.layers, 4), kind).items():
            print(f"{name:28s} {reported}")


if __name__ == "__main__":
    main()
