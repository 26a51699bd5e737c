"""Stage 3: train a LoRA adapter of the quantized vision tower with its own mask network, for one kind of image.

    python -m MedFMLib.training.embedded.train_adapter brain-mr --data DIR --work DIR --minutes 30

Depends on pictures and parts; no text: an adapter of the vision tower segments, the bare base answers. The tower is the
shipped one, NF4 with double quantization, so that an adapter compensates for the quantization. Logs to
`adapter-NAME.jsonl`, stores `adapter-NAME.pt` and continues from it, writes `adapters/NAME/` in the work folder.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import labels
from .mask_losses import part_weights
from .optimizing import Log, MovingAverage, ProcessGroup, learning_rate, run_team, save_checkpoint
from .samples import Background, Painter, head_maps, picture_batches
from .sources import teacher_subject
from .tiny import ModelShape, make_model, make_tokenizer, mask_network
from .train_vision_tower import eye_losses

VISION = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class Specialty:
    """Purpose of an adapter.

    Args:
        parts: names of its classes; 0 is everything else.
        structures: see `mask_head.MaskHead`.
        pairs: see `mask_head.MaskHead`.
        focus: see `mask_head.MaskHead`.
        labels: modality → structures for which it is chosen.
        about: one sentence for users.
        inside: how to find its region in a larger volume, see `paligemma.PaliGemma`.
        closer: see `mask_head.MaskHead`.
    """

    parts: tuple[str, ...]
    structures: dict[str, tuple[int, ...]]
    pairs: tuple[tuple[int, int], ...]
    focus: tuple[int, ...]
    labels: dict[str, tuple[str, ...]]
    about: str
    inside: dict | None = None
    closer: tuple[int, ...] = ()


def _own(names) -> dict[str, tuple[int, ...]]:
    return {name: labels.STRUCTURES[name] for name in names}


FOCUS = labels.STRUCTURES["brain"]

SPECIALTIES = {
    "brain-mr": Specialty(
        labels.PARTS, _own(labels.HEAD_STRUCTURES), labels.PAIRS, FOCUS, {"MR": labels.HEAD_STRUCTURES},
        "27 structures of the brain in MR of any contrast, with or without skull", closer=labels.DEEP,
    ),
}  # fmt: skip


def painter_of(name: str, work: Path, pretrained: Path | None, data: Path, size: int) -> Painter:
    """Return the training pictures of an adapter.

    Args:
        name: of the adapter.
        work: work folder.
        pretrained: folder with the teacher's weights, or None.
        data: the data folder.
        size: pixels per side.
    """
    real = teacher_subject(data, work, pretrained)
    return Painter(head_maps(data) + ([real] if real else []), size, zooms=0.8, deep=0.65)


def quantized_tower_model(work: Path):
    """Return a PaliGemma whose vision tower is that of `eyes.pt` after NF4, unpacked; its text model is unused."""
    import torch

    from .ship import quantized

    eyes = torch.load(work / "eyes.pt", weights_only=True)["average"]
    tokenizer = make_tokenizer()
    model = make_model(ModelShape(), tokenizer)
    model.model.vision_tower.load_state_dict(
        {n.removeprefix("tower."): v for n, v in eyes.items() if n.startswith("tower.")}
    )
    folder = work / "tower-only"
    model.save_pretrained(folder)
    unpacked = quantized(folder).dequantize(torch.float32).to(torch.float32)
    shutil.rmtree(folder)
    unpacked.set_attn_implementation("eager")
    return unpacked


def lora_config(rank: int):
    """Return adapters on every linear layer of the vision tower."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=rf".*vision_tower.*\.({'|'.join(VISION)})",
        task_type="CAUSAL_LM",
    )


def train(name: str, data: Path, work: Path, pretrained: Path | None, minutes: float, batch: int, rank_of_lora: int,
          top: float, seed: int, rank: int = 0, processes: int = 1) -> None:  # fmt: skip
    """Train for some minutes (0: not at all), then write the adapter's folder.

    Args:
        name: of the adapter.
        data: the data folder.
        work: work folder.
        pretrained: folder with the teacher's weights, or None.
        minutes: duration.
        batch: pictures per step and process.
        rank_of_lora: of the LoRA.
        top: highest learning rate.
        seed: of the samples.
        rank: number of this process.
        processes: number of processes.
    """
    import torch
    from peft import get_peft_model
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    shape, special = ModelShape(), SPECIALTIES[name]
    adapted = get_peft_model(quantized_tower_model(work), lora_config(rank_of_lora))
    tower = adapted.get_base_model().model.vision_tower
    masks = mask_network(shape, len(special.parts))
    eyes = torch.load(work / "eyes.pt", weights_only=True)["average"]
    start = {n.removeprefix("masks."): v for n, v in eyes.items() if n.startswith("masks.")}
    now = masks.state_dict()
    masks.load_state_dict({n: v if v.shape == now[n].shape else now[n] for n, v in start.items()})
    modules = nn.ModuleDict({"tower": tower, "masks": masks})
    lora = [p for p in tower.parameters() if p.requires_grad]
    rest = list(masks.parameters())
    optimizer = torch.optim.AdamW([{"params": lora}, {"params": rest}], weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint, step = work / f"adapter-{name}.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(state["now"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    average = MovingAverage(modules, 0.995)
    if checkpoint.exists():
        average.state = state["average"]
    weights = part_weights(special.parts)
    make = partial(painter_of, name, work, pretrained)
    batches = Background(
        partial(picture_batches, data, shape.image, batch, seed * 100 + rank, step * batch, make), ahead=4
    )
    team, log = ProcessGroup(work, rank, processes), Log(work / f"adapter-{name}.jsonl", 25, step, batch * processes)
    choose, began, fraction, sums = random.Random(seed + step), time.time(), float(minutes <= 0), 0.0

    def save() -> None:
        save_checkpoint(checkpoint, {"now": modules.state_dict(), "average": average.state, "step": step,
                                     "optimizer": optimizer.state_dict()})  # fmt: skip

    def dice() -> dict:
        nonlocal sums
        if step % 100:
            return {}
        table = {n: round(float(a / b), 3) for n, (a, b) in zip(special.parts, sums, strict=True) if b > 0}
        sums = 0.0
        return {"dice": table}

    while fraction < 1:
        phase = (choose.randrange(2), choose.randrange(2))
        found, overlap = eye_losses(tower, masks, None, next(batches), shape, weights, phase, special.pairs)
        found["total"].backward()
        fraction = team.average([*lora, *rest], (time.time() - began) / (60 * minutes))
        for group, share in zip(optimizer.param_groups, (0.5, 1.0), strict=True):
            group["lr"] = share * learning_rate(fraction, 0.04, top)
        torch.nn.utils.clip_grad_norm_([*lora, *rest], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if rank > 0:
            continue
        average.update()
        sums = sums + overlap
        log.add(step, found, dice)
        if step % 100 == 0:
            save()
    batches.close()
    if rank == 0:
        save()
        modules.load_state_dict(average.state)
        write(name, adapted, masks, work / "adapters" / name, step * batch * processes)


def write(name: str, adapted, masks, folder: Path, pictures: int) -> None:
    """Write the adapter in PEFT's layout, weights in float16, with its mask head.

    Args:
        name: of the adapter.
        adapted: the PEFT model.
        masks: its mask network.
        folder: destination, replaced if it exists.
        pictures: number of training pictures.
    """
    from safetensors.torch import load_file, save_file

    from ...models.masks.mask_head import MaskHead

    special = SPECIALTIES[name]
    shutil.rmtree(folder, ignore_errors=True)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "medfm-tiny/base"  # the shipped base, not a folder of the training machine
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {n: v.half().contiguous() for n, v in load_file(folder / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    facts = {
        "about": special.about,
        "labels": {m: list(names) for m, names in special.labels.items()},
        "pictures": pictures,
    }
    facts |= {"inside": special.inside} if special.inside else {}
    MaskHead(masks.eval().folded(), special.structures, special.pairs, special.focus, closer=special.closer,
             facts=facts).save(folder)  # fmt: skip


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SPECIALTIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pretrained", type=Path, help="weights of the teacher, for brain-mr")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=16, help="pictures per step and process")
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=3)
    o = parser.parse_args()
    run_team(
        train,
        o.work,
        o.processes,
        o.name,
        o.data,
        o.work,
        o.pretrained,
        o.minutes,
        o.batch,
        o.lora_rank,
        o.rate,
        o.seed,
    )


if __name__ == "__main__":
    main()
