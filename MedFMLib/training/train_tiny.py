"""Stage 2: the whole model learns to write boxes, masks and answers; its checkpoint can be shipped at any time.

    python -m MedFMLib.training.train_tiny --data DIR --work DIR --minutes 60

Starts from `eyes.pt` (train_eyes) and `mask_codec/` (train_codec) in the work folder, and goes on from `base.pt` if that is
there. Knows batches and losses; what is in them is `exchanges`' affair. Logs to `base.jsonl`. Moving averages of the
weights are kept, so that a checkpoint is good without waiting for the learning rate to come down.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .exchanges import Batch, exchange_batches
from .samples import Background
from .tiny import Shape, cell_parts, dense_head, make_model, make_tokenizer, normalise
from .train_eyes import dense_loss, learning_rate, make_optimizers, part_weights, set_learning_rate

AVERAGE = 0.995
"""How much of the moving average of the weights stays at each step."""


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
    def make(cls, tokenizer, codebook, width: float = 0.8, sharpness: float = 6.0) -> SoftTargets:
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
        for name, first, table in (("locations", self.first_location, self.locations), ("codes", self.first_code, self.codes)):
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


def text_losses(model, features, text: dict, soft: SoftTargets) -> dict:
    """Losses of one batch of texts given (B, patches, width) projected picture features."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    ids, kinds, mask = (torch.as_tensor(text[k]) for k in ("input_ids", "token_type_ids", "attention_mask"))
    hidden = model.model(
        input_ids=ids,
        token_type_ids=kinds,
        attention_mask=mask,
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=features)},
        use_cache=False,
    ).last_hidden_state
    predicted = ((kinds == 1) & (mask == 1))[:, 1:]
    return soft.loss(model.lm_head(hidden[:, :-1][predicted]), ids[:, 1:][predicted])


def losses(model, head, batch: Batch, shape: Shape, soft: SoftTargets, weights) -> dict:
    """All losses of a batch; `total` is what is minimised."""
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        seen = model.model.vision_tower(normalise(torch.from_numpy(batch.pixels))).last_hidden_state
        features = model.model.multi_modal_projector(seen)
        objects = text_losses(model, features, batch.objects, soft)
        words = text_losses(model, features[torch.from_numpy(batch.words_of)], batch.words, soft)
        result = {**objects, "answers": words["words"], "answers_hit": words["words_hit"]}
        total = objects["words"] + objects.get("locations", 0) + objects.get("codes", 0) + words["words"]
        if head is not None:
            result["dense"] = dense_loss(head(seen), cell_parts(torch.from_numpy(batch.parts), shape), weights)
            total = total + result["dense"]
    result["total"] = total
    return result


def train(data: Path, work: Path, minutes: float, batch: int = 48, top: float = 1.5e-3, seed: int = 2, threads: int = 2) -> Path:
    """Train for `minutes` and return `base.pt` (model, average, head, optimizers, step)."""
    import torch

    from ..models.mask_codec import MaskCodec

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    shape, tokenizer = Shape(), make_tokenizer()
    codec = MaskCodec.load(work / "mask_codec")
    model, head = make_model(shape, tokenizer, codec.codebook), dense_head(shape)
    named = [*model.named_parameters(), *((f"dense.{n}", p) for n, p in head.named_parameters())]
    optimizers = make_optimizers(named)
    checkpoint, step = work / "base.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, average = state["step"], state["average"]
    else:
        eyes = torch.load(work / "eyes.pt", weights_only=True)
        model.model.vision_tower.load_state_dict(eyes["tower"])
        head.load_state_dict(eyes["head"])
        average = {n: p.detach().clone() for n, p in model.named_parameters()}
    soft, weights = SoftTargets.make(tokenizer, codec.codebook), part_weights()
    batches = Background(
        partial(exchange_batches, data, work / "mask_codec", tokenizer, shape.image, shape.image_tokens, batch, seed, step * batch)
    )
    parameters = [p for _, p in named]
    log, began, first, sums, count = (work / "base.jsonl").open("a"), time.time(), step, {}, 0
    while (fraction := (time.time() - began) / (60 * minutes)) < 1:
        drawn = next(batches)
        set_learning_rate(optimizers, learning_rate(fraction, 0.02, top))
        found = losses(model, head, drawn, shape, soft, weights)
        found["total"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            keep = min(AVERAGE, step / (step + 10))
            for name, parameter in model.named_parameters():
                average[name].lerp_(parameter, 1 - keep)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        count += 1
        if step % 25 == 0:
            rate = (step - first) * batch / (time.time() - began)
            line = {"step": step, "samples": step * batch, "seconds": round(time.time() - began, 1), "per_second": round(rate, 1)}
            log.write(json.dumps(line | {n: round(v / count, 4) for n, v in sums.items()}) + "\n")
            log.flush()
            sums, count = {}, 0
        if step % 150 == 0:
            _save(checkpoint, model, head, optimizers, average, step)
    _save(checkpoint, model, head, optimizers, average, step)
    batches.close()
    return checkpoint


def _save(path: Path, model, head, optimizers, average, step: int) -> None:
    import torch

    state = {"model": model.state_dict(), "head": head.state_dict(), "average": average, "step": step,
             "optimizers": [o.state_dict() for o in optimizers]}  # fmt: skip
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    train(options.data, options.work, options.minutes, options.batch, options.rate, options.seed, options.threads)


if __name__ == "__main__":
    main()
