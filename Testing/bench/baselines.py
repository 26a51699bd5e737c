"""Engines of other projects as baselines: each runs in a separate Python and gets commands line by line.

Run by `decode.py`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

PROMPT = 300


class Baseline:
    """An engine in another Python.

    Raises:
        OSError: there is no such Python. ValueError: it lacks a package, or the like.
    """

    def __init__(self, python: str, name: str, layers: int):
        command = [python, "-W", "ignore", __file__, name, str(layers)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)  # fmt: skip
        said = deque(maxlen=1)
        reader = threading.Thread(target=lambda: said.extend(self.process.stderr), daemon=True)
        reader.start()
        if not any(line == "ready\n" for line in self.process.stdout):
            reader.join()
            raise ValueError(said[-1].strip() if said else "it ended without a word")

    def turn(self, steps: int) -> tuple[float, float, float]:
        return tuple(self._ask(["turn", steps]))

    def answer(self, tokens: int) -> float:
        return self._ask(["answer", tokens])

    def _ask(self, what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def llama(layers: int):
    """In the other Python: (forget all, read or write tokens) of llama.cpp."""
    import gguf
    import numpy as np
    from decode import SHAPE
    from gguf.quants import quantize
    from llama_cpp import Llama as Engine

    kind, sizes = gguf.GGMLQuantizationType.Q4_0, SHAPE
    with tempfile.TemporaryDirectory() as folder:
        path, random = f"{folder}/model.gguf", np.random.default_rng(0)
        out = gguf.GGUFWriter(path, "llama")
        width, inner, head = sizes["hidden_size"], sizes["intermediate_size"], sizes["head_dim"]
        out.add_context_length(4096)
        out.add_embedding_length(width)
        out.add_block_count(layers)
        out.add_feed_forward_length(inner)
        out.add_head_count(8)
        out.add_head_count_kv(4)
        out.add_key_length(head)
        out.add_value_length(head)
        out.add_rope_dimension_count(head)
        out.add_layer_norm_rms_eps(1e-6)
        out.add_vocab_size(sizes["vocab_size"])
        out.add_tokenizer_model("no_vocab")
        out.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)

        def add(name, rows, columns, kind=kind):
            weight = random.standard_normal((rows, columns), dtype=np.float32) * 0.02
            out.add_tensor(name, quantize(weight, kind), raw_dtype=kind)

        add("token_embd.weight", sizes["vocab_size"], width)
        add("output.weight", sizes["vocab_size"], width)
        ones = np.ones(width, np.float32)
        out.add_tensor("output_norm.weight", ones)
        for n in range(layers):
            for name, rows, columns in (
                ("attn_q", 8 * head, width), ("attn_k", 4 * head, width), ("attn_v", 4 * head, width),
                ("attn_output", width, 8 * head), ("ffn_gate", inner, width), ("ffn_up", inner, width),
                ("ffn_down", width, inner),
            ):  # fmt: skip
                add(f"blk.{n}.{name}.weight", rows, columns)
            out.add_tensor(f"blk.{n}.attn_norm.weight", ones)
            out.add_tensor(f"blk.{n}.ffn_norm.weight", ones)
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        engine = Engine(
            path, n_ctx=1024, n_threads=os.cpu_count(), n_threads_batch=os.cpu_count(), n_batch=512, verbose=False
        )
    return engine.reset, engine.eval


def openvino(layers: int):
    """In the other Python: (forget all, read or write tokens) of OpenVINO, with a model that optimum exports and nncf packs."""
    import nncf
    import numpy as np
    import openvino as ov
    from decode import build
    from optimum.exporters.openvino import export_from_model

    with tempfile.TemporaryDirectory() as folder:
        export_from_model(
            build(layers, outliers=False).float(), folder, task="text-generation-with-past", stateful=True
        )
        whole = ov.Core().read_model(f"{folder}/openvino_model.xml")
        head = whole.output("logits").node.input_value(0).node  # of the last word alone, as OpenVINO GenAI has it
        last = ov.opset13.slice(head.input_value(0), [-1], [np.iinfo(np.int64).max], [1], [1])
        head.input(0).replace_source_output(last.output(0))
        whole.validate_nodes_and_infer_types()
        packed = nncf.compress_weights(
            whole, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=64, ratio=1.0, all_layers=True
        )
        request = ov.Core().compile_model(packed, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    past = 0

    def forget() -> None:
        nonlocal past
        request.reset_state()
        past = 0

    def read(tokens) -> None:
        nonlocal past
        place = np.arange(past, past + len(tokens))[None]
        past += len(tokens)
        request.infer({"input_ids": np.array([tokens]), "attention_mask": np.ones((1, past), np.int64), "position_ids": place,
                       "beam_idx": np.zeros(1, np.int32)}, share_outputs=True)  # fmt: skip

    return forget, read


BASELINES = {"llama.cpp Q4_0": llama, "OpenVINO int4": openvino}


def serve(name: str, layers: int) -> None:
    """In the other Python: make the model, then answer lines."""
    forget, read = BASELINES[name](layers)
    print("ready", flush=True)
    for line in sys.stdin:
        what, number = json.loads(line)
        forget()
        started = time.perf_counter()
        read(list(range(100, 100 + PROMPT)))
        prefill, took, cpu = time.perf_counter() - started, [], []
        for n in range(number):
            begun, busy = time.perf_counter(), time.process_time()
            read([n + 500])
            took.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - busy)
        whole = time.perf_counter() - started
        print(
            json.dumps([prefill, statistics.median(took), statistics.median(cpu)] if what == "turn" else whole),
            flush=True,
        )


def baselines(pythons: dict[str, str], layers: int) -> dict[str, Baseline]:
    """Those that can be run; of the others it says why not."""
    found = {}
    for name, python in pythons.items():
        if not python:
            print(f"{name} is left out: no Python that has it was named (--{BASELINES[name].__name__}).")
            continue
        try:
            found[name] = Baseline(python, name, layers)
        except (OSError, ValueError) as error:
            print(f"{name} is left out: {python} can't run it ({error}).")
    return found


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
    serve(sys.argv[1], int(sys.argv[2]))
