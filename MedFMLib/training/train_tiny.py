"""Stage 2: the whole model learns to write boxes, masks and answers; its checkpoint can be shipped at any time.

    python -m MedFMLib.training.train_tiny --data DIR --work DIR --minutes 60 --processes 2

Starts from `eyes.pt` (train_eyes) and `mask_codec/` (train_codec) in the work folder, and goes on from `base.pt` if that is
there. Knows batches and losses; what is in them is `exchanges`' affair. Logs to `base.jsonl`. Moving averages of the
weights are kept, so that a checkpoint is good without waiting for the learning rate to come down.

Several single-threaded processes that average their gradients once a step are used rather than threads: on a machine that
also does other things, threads that wait for each other hundreds of times a step were measured up to ten times slower.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .exchanges import Batch, exchange_batches
from .samples import Background
from .tiny import READING_LAYER, Shape, cell_parts, make_model, make_tokenizer, normalise, training_heads
from .train_eyes import dense_loss, learning_rate, make_optimizers, part_weights, set_learning_rate

AVERAGE = 0.995
"""How much of the moving average of the weights stays at each step."""

ALONE = 0.5
"""Share of the training during which the vision tower learns from the dense head alone."""

THROUGH = 0.2
"""Share of the texts' gradient that reaches the vision tower after that."""


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """What counts as right beside the exact location or mask token: the nearer, the more.

    Args:
        first_location, first_code: token numbers of `<loc0000>` and `<seg000>`.
        locations: (1024, 1024), codes: (128, 128); rows sum to 1.
    """

    first_location: int
    first_code: int
    locations: object
    codes: object

    @classmethod
    def make(cls, tokenizer, codebook, width: float = 0.8, sharpness: float = 18.0) -> SoftTargets:
        """
        Args:
            codebook: (128, D) of the codec.
            width: standard deviation of a location, in steps of `objects.STEP` tokens.
            sharpness: of mask codes, in units of the mean squared distance between codes.
        """
        import torch

        from .objects import STEP

        places = torch.arange(1024.0)
        used = (places % STEP == 0) | (places == 1023)
        near = torch.exp(-0.5 * ((places[:, None] - places[None]) / (STEP * width)) ** 2) * used[None]
        distance = torch.cdist(codebook.float(), codebook.float()) ** 2
        codes = torch.softmax(-distance / distance.mean() * sharpness * 2, 1)
        first = tokenizer.convert_tokens_to_ids(["<loc0000>", "<seg000>"])
        return cls(first[0], first[1], near / near.sum(1, keepdim=True), codes)

    def loss(self, logits, targets) -> dict[str, object]:
        """Mean cross-entropies of (N, V) scores against (N,) tokens: `locations`, `codes`, `words`, and hits of each."""
        import torch.nn.functional as F

        logp = F.log_softmax(logits.float(), -1)
        best = logp.detach().argmax(-1)
        result = {}
        for name, first, table in (
            ("locations", self.first_location, self.locations),
            ("codes", self.first_code, self.codes),
        ):
            here = (targets >= first) & (targets < first + len(table))
            if here.any():
                goal = table[targets[here] - first]
                result[name] = -(goal * logp[here][:, first : first + len(table)]).sum(-1).mean()
                result[name + "_hit"] = (best[here] == targets[here]).float().mean()
                if name == "locations":
                    result["locations_off"] = (best[here] - targets[here]).abs().clamp(max=1023).float().mean()
        first = min(self.first_location, self.first_code)
        words = targets < first
        result["words"] = F.nll_loss(logp[words], targets[words])
        result["words_hit"] = (best[words] == targets[words]).float().mean()
        return result


def text_losses(model, features, text: dict, soft: SoftTargets, reader=None) -> dict:
    """Losses of one batch of texts given (B, patches, width) projected picture features.

    With a `reader` (see `tiny.reading_head`) also how well asked names know, half-way through the layers, where their
    structure is: without this, the link between names and places takes many times longer to form.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    ids, kinds, mask = (torch.as_tensor(text[k]) for k in ("input_ids", "token_type_ids", "attention_mask"))
    reading = reader is not None and "row" in text
    out = model.model(
        input_ids=ids,
        token_type_ids=kinds,
        attention_mask=mask,
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=features)},
        use_cache=False,
        output_hidden_states=reading,
    )
    predicted = ((kinds == 1) & (mask == 1))[:, 1:]
    result = soft.loss(model.lm_head(out.last_hidden_state[:, :-1][predicted]), ids[:, 1:][predicted])
    if reading:
        hidden = out.hidden_states[READING_LAYER]
        result |= _reading_losses(reader(hidden[torch.as_tensor(text["row"]), torch.as_tensor(text["place"])]), text)
    return result


def _reading_losses(read, text: dict) -> dict:
    import torch
    import torch.nn.functional as F

    seen, box, shape = (torch.as_tensor(text[k]) for k in ("seen", "box", "shape"))
    read, there = read.float(), seen > 0
    result = {"reading_seen": F.binary_cross_entropy_with_logits(read[:, 0], seen)}
    if there.any():
        result["reading_box"] = (read[there, 1:5].sigmoid() - box[there]).abs().mean()
        result["reading_shape"] = F.binary_cross_entropy_with_logits(read[there, 5:], shape[there])
    return result


def _place_loss(scores):
    """Mean cross-entropy of (B, n × n, 2 × n) scores against the row and the column of every patch."""
    import torch
    import torch.nn.functional as F

    n = scores.shape[-1] // 2
    rows, columns = (
        a.flatten().expand(len(scores), -1) for a in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    )
    scores = scores.float()
    by_row = F.cross_entropy(scores[..., :n].flatten(0, 1), rows.flatten())
    return by_row + F.cross_entropy(scores[..., n:].flatten(0, 1), columns.flatten())


def losses(model, heads, batch: Batch, shape: Shape, soft: SoftTargets, weights, through: float = 1.0) -> dict:
    """All losses of a batch; `total` is what is minimised.

    Args:
        heads: see `tiny.training_heads`; None for the texts alone.
        through: share of the texts' gradient that reaches the vision tower. A text model that knows nothing yet sends
            noise, which was measured to undo what the tower had learned (dense loss 0.65 → 0.73 in 100 steps).
    """
    import torch

    reader = heads["reader"] if heads is not None else None
    with torch.autocast("cpu", torch.bfloat16):
        seen = model.model.vision_tower(normalise(torch.from_numpy(batch.pixels))).last_hidden_state
        features = model.model.multi_modal_projector(seen * through + seen.detach() * (1 - through))
        objects = _mean(
            [text_losses(model, features[torch.from_numpy(of)], text, soft, reader) for of, text in batch.objects]
        )
        words = _mean([text_losses(model, features[torch.from_numpy(of)], text, soft) for of, text in batch.words])
        result = {**objects, "answers": words["words"], "answers_hit": words["words_hit"]}
        total = objects["words"] + objects.get("locations", 0) + objects.get("codes", 0) + words["words"]
        if heads is not None:
            result["dense"] = dense_loss(
                heads["dense"](seen), cell_parts(torch.from_numpy(batch.parts), shape), weights
            )
            result["place"] = _place_loss(heads["place"](seen))
            total = total + result["dense"] + 0.3 * result["place"]
            total = total + sum(objects.get(f"reading_{n}", 0) * w for n, w in (("seen", 1), ("box", 10), ("shape", 1)))
    result["total"] = total
    return result


def _mean(groups: list[dict]) -> dict:
    """Mean of each loss over the groups that have it."""
    names = {name for group in groups for name in group}
    return {name: sum(g[name] for g in groups if name in g) / sum(name in g for g in groups) for name in sorted(names)}


class Averaging:
    """Averages gradients, and one number, over the processes that train together.

    Args:
        work: folder in which the processes find each other. rank, processes: which one, of how many.
    """

    def __init__(self, work: Path, rank: int, processes: int):
        import torch.distributed as distributed

        self.processes = processes
        self._distributed = distributed
        if processes > 1:
            place = f"file://{(work / 'rendezvous').resolve()}"
            distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=processes)

    def average(self, parameters: list, number: float) -> float:
        """Average `.grad` of the parameters in place; returns the average of `number`."""
        import torch

        if self.processes == 1:
            return number
        for p in parameters:  # a batch may not touch all of them
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([*(p.grad.flatten() for p in parameters), torch.tensor([number])])
        self._distributed.all_reduce(flat)
        flat /= self.processes
        begin = 0
        for p in parameters:
            p.grad.copy_(flat[begin : begin + p.numel()].view_as(p))
            begin += p.numel()
        return float(flat[-1])


def train(data: Path, work: Path, minutes: float, batch: int = 20, top: float = 1.5e-3, seed: int = 2,
          rank: int = 0, processes: int = 1, alone: float = ALONE) -> Path:  # fmt: skip
    """Train for `minutes` and return `base.pt` (model, average, heads, optimizers, step).

    Args:
        batch: pictures per step and process.
        alone: share of the time in which the vision tower learns from its own heads only.
    """
    import torch

    from ..models.parts.mask_codec import MaskCodec

    torch.set_num_threads(1 if processes > 1 else 2)
    torch.manual_seed(seed)
    shape, tokenizer = Shape(), make_tokenizer()
    codec = MaskCodec.load(work / "mask_codec")
    model = make_model(shape, tokenizer, codec.codebook)
    heads = training_heads(shape)
    model.set_attn_implementation("eager")  # half the time of the fused one, forward and backward, on a CPU
    named = [*model.named_parameters(), *((f"heads.{n}", p) for n, p in heads.named_parameters())]
    optimizers = make_optimizers(named)
    checkpoint, step = work / "base.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        added = heads.load_state_dict(state["heads"], strict=False).missing_keys
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            if not added:  # a checkpoint from before a head existed goes on with fresh momentum
                optimizer.load_state_dict(saved)
        step, average = state["step"], state["average"]
    else:
        eyes = torch.load(work / "eyes.pt", weights_only=True)
        model.model.vision_tower.load_state_dict(eyes["tower"])
        heads["dense"].load_state_dict(eyes["head"])
        average = {n: p.detach().clone() for n, p in model.named_parameters()}
    soft, weights = SoftTargets.make(tokenizer, codec.codebook), part_weights()
    batches = Background(partial(exchange_batches, data, work / "mask_codec", tokenizer, shape.image, shape.image_tokens,
                                 batch, seed * 100 + rank, step * batch))  # fmt: skip
    parameters = [p for _, p in named if p.requires_grad]
    together = Averaging(work, rank, processes)
    log, began, first, sums, count, fraction = (work / "base.jsonl").open("a"), time.time(), step, {}, 0, 0.0
    while fraction < 1:
        found = losses(model, heads, next(batches), shape, soft, weights, 0.0 if fraction < alone else THROUGH)
        found["total"].backward()
        fraction = together.average(parameters, (time.time() - began) / (60 * minutes))
        set_learning_rate(optimizers, learning_rate(fraction, 0.02, top))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if rank > 0:
            continue
        with torch.no_grad():
            keep = min(AVERAGE, step / (step + 10))
            for name, parameter in model.named_parameters():
                average[name].lerp_(parameter, 1 - keep)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        count += 1
        if step % 25 == 0:
            seconds = time.time() - began
            line = {"step": step, "samples": step * batch * processes, "seconds": round(seconds, 1),
                    "per_second": round((step - first) * batch * processes / seconds, 1)}  # fmt: skip
            log.write(json.dumps(line | {n: round(v / count, 4) for n, v in sums.items()}) + "\n")
            log.flush()
            sums, count = {}, 0
        if step % 100 == 0:
            _save(checkpoint, model, heads, optimizers, average, step)
    if rank == 0:
        _save(checkpoint, model, heads, optimizers, average, step)
    batches.close()
    return checkpoint


def _save(path: Path, model, heads, optimizers, average, step: int) -> None:
    import torch

    state = {"model": model.state_dict(), "heads": heads.state_dict(), "average": average, "step": step,
             "optimizers": [o.state_dict() for o in optimizers]}  # fmt: skip
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=20, help="pictures per step and process")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--alone", type=float, default=ALONE, help="share of the time before texts teach the eyes")
    parser.add_argument("--processes", type=int, default=2)
    o = parser.parse_args()
    (o.work / "rendezvous").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    arguments = (o.data, o.work, o.minutes, o.batch, o.rate, o.seed)
    team = [context.Process(target=train, args=(*arguments, r, o.processes, o.alone)) for r in range(o.processes)]
    for process in team:
        process.start()
    for process in team:
        process.join()


if __name__ == "__main__":
    main()
