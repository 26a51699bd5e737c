"""Stage 4: quantize the base and write the folder that ships.

    python -m MedFMLib.training.embedded.ship --work DIR --output Resources/models/medfm-tiny

Depends on checkpoints and the folder's layout; trains nothing:

    base/            PaliGemma, linear layers in NF4 (double quantization) except those in `KEPT`, tokenizer, processor
    mask_head/       the network that segments with the bare base
    adapters/NAME/   LoRA of the vision tower, trained on that quantized tower, with its own mask head, or a network for
                     whole volumes, or both
    mask_codec/      codec for the mask tokens
    labels.json      structures and example questions
    curves.png       learning curves

The base is saved before an adapter is attached: afterwards its keys contain the adapter's layer names. Everything is
written
to a temporary folder first and moved in one step.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from ...storage import resources
from .labels import LABELS, PAIRS, STRUCTURES
from .questions import WORDINGS
from .tiny import ModelShape, make_model, make_processor, make_tokenizer, mask_network

KEPT = r".*(multi_modal_projector|language_model.*self_attn).*"
"""Layers that are not quantized: the smallest share of the text model that made the answers agree (docs/decisions/0008)."""

WHOLE = ("base", "mask_head", "adapters", "mask_codec")


def write_dense(work: Path, folder: Path):
    """Save the averaged weights of `base.pt` as an unquantized transformers folder, and return the model.

    Args:
        work: work folder.
        folder: destination.

    Raises:
        RuntimeError: if the checkpoint is of another shape.
    """
    import torch

    tokenizer = make_tokenizer()
    model = make_model(ModelShape(), tokenizer)
    average = torch.load(work / "base.pt", weights_only=True)["average"]
    state = {n.removeprefix("model."): v for n, v in average.items() if n.startswith("model.")}
    missing = model.load_state_dict(state, strict=False).missing_keys
    if set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"base.pt lacks {sorted(missing)[:3]}; it belongs to another shape of the model.")
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    make_processor(ModelShape(), tokenizer).save_pretrained(folder)
    return model.eval()


def write_mask_head(work: Path, folder: Path) -> None:
    """Write the mask head of the bare base, from `eyes.pt`.

    Args:
        work: work folder.
        folder: destination.
    """
    import torch

    from ...models.masks.mask_head import MaskHead

    state = torch.load(work / "eyes.pt", weights_only=True)
    network = mask_network(ModelShape())
    network.load_state_dict(
        {n.removeprefix("masks."): v for n, v in state["average"].items() if n.startswith("masks.")}
    )
    facts = {"about": "everything that the base was trained to draw", "steps": state["step"]}
    MaskHead(network.eval().folded(), STRUCTURES, PAIRS, STRUCTURES["brain"], facts=facts).save(folder)


def write_unquantized(work: Path, folder: Path) -> None:
    """Write a complete model folder before quantization, with which `bench_tiny --unquantized` measures the cost of NF4.

    Args:
        work: work folder.
        folder: destination, replaced if it exists.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_dense(work, folder / "base")
    write_mask_head(work, folder / "mask_head")
    shutil.copytree(work / "mask_codec", folder / "mask_codec")
    if (work / "adapters").is_dir():
        shutil.copytree(work / "adapters", folder / "adapters")


def quantized(folder: Path):
    """Load a dense folder with its linear layers as NF4, double-quantized; those in `KEPT` and all others stay float32."""
    import torch
    from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["lm_head", KEPT],
    )
    return PaliGemmaForConditionalGeneration.from_pretrained(
        folder, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    )


def write_base(work: Path, folder: Path) -> None:
    """Write the quantized base, with the weights that `align` trained after quantization; unpacked weights as float16.

    Args:
        work: work folder.
        folder: destination.

    Raises:
        KeyError: if `aligned.safetensors` belongs to another model.
    """
    import torch
    from safetensors.torch import load_file, save_file

    model = quantized(work / "unquantized" / "base")
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in load_file(work / "aligned.safetensors").items():
            weights[name].copy_(value)
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    halves = {n: v.half() for n, v in tensors.items() if v.dtype == torch.float32 and ".weight." not in n}
    save_file(tensors | halves, file, metadata={"format": "pt"})


def write_labels(folder: Path) -> None:
    """Write `labels.json`: names by modality, and an example of every kind of question."""
    content = {
        "labels": {modality: list(names) for modality, names in LABELS.items()},
        "questions": {kind: words[0] for kind, words in WORDINGS.items()},
    }
    (folder / "labels.json").write_text(json.dumps(content, indent=1) + "\n")


def ship(work: Path, output: Path) -> None:
    """Quantize, and replace the weights in a model folder.

    Args:
        work: work folder.
        output: the model folder.
    """
    from .curves import plot_curves
    from .ship_volumes import write_volume_heads

    fresh = work / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    write_unquantized(work, work / "unquantized")
    write_base(work, fresh / "base")
    make_processor(ModelShape()).save_pretrained(fresh / "base")
    for name in WHOLE[1:]:
        if (work / "unquantized" / name).is_dir():
            shutil.copytree(work / "unquantized" / name, fresh / name)
    write_volume_heads(work, fresh / "adapters")
    output.mkdir(parents=True, exist_ok=True)
    for name in WHOLE:
        if not (fresh / name).is_dir():
            continue
        staged, old = output / f".{name}.new", output / f".{name}.old"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(fresh / name, staged)
        for file in staged.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        if (output / name).exists():
            (output / name).rename(old)
        staged.rename(output / name)
        shutil.rmtree(old, ignore_errors=True)
    write_labels(output)
    if output.resolve() != resources.path("models", "medfm-tiny").resolve():  # so that `--model` accepts the folder
        card = resources.load_json("zoo", "medfm-tiny.json") | {"id": str(output.resolve()), "weights": ""}
        (output / "medfm-card.json").write_text(json.dumps(card, indent=1) + "\n")
    plot_curves(work, output / "curves.png")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--work", "--output"):
        parser.add_argument(name, type=Path, required=True)
    o = parser.parse_args()
    ship(o.work, o.output)


if __name__ == "__main__":
    main()
