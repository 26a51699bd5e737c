"""Stage 2: train the text model to answer, and to write boxes and masks; the vision tower of stage 1 is frozen.

    python -m MedFMLib.training.embedded.train_tiny --data DIR --work DIR --minutes 60

Starts from `eyes.pt` (`train_vision_tower`) and `mask_codec/` (`train_codec`) in the work folder, and continues from
`base.pt` if it
exists. Depends on batches and losses; `exchanges` makes the batches. Logs to `base.jsonl`. Moving averages of the
weights are kept, so that a checkpoint is usable before the learning rate decays. The vision tower is
frozen, so that adapters and mask networks for it can be trained at the same time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .exchanges import Batch, exchange_batches
from .optimizing import (
    Log,
    MovingAverage,
    ProcessGroup,
    learning_rate,
    make_optimizers,
    run_team,
    save_checkpoint,
    set_learning_rate,
)
from .samples import Background
from .tiny import READING_LAYER, ModelShape, make_model, make_tokenizer, normalise, reading_head


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """Soft targets for location and mask tokens: tokens near the exact one get part of the probability.

    Args:
        first_location: token number of `<loc0000>`.
        first_code: token number of `<seg000>`.
        locations: (1024, 1024); rows sum to 1.
        codes: (128, 128); rows sum to 1.
    """

    first_location: int
    first_code: int
    locations: object
    codes: object

    @classmethod
    def make(cls, tokenizer, codebook, width: float = 0.8, sharpness: float = 18.0) -> SoftTargets:
        """Return the soft targets for a tokenizer and a codebook.

        Args:
            tokenizer: the embedded model's.
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
        """Return mean cross-entropies `locations`, `codes`, `words`, and hits of each.

        Args:
            logits: (N, V) scores.
            targets: (N,) tokens.
        """
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
    """Return the losses of one batch of texts.

    With a `reader` this includes auxiliary losses on the hidden states of requested names, at `READING_LAYER`, which
    must encode
    the structure's position: without them, the link between names and positions takes many times longer to learn.

    Args:
        model: the PaliGemma.
        features: (B, patches, width) projected picture features.
        text: token batch, see `exchanges.TextLayout.batch`.
        soft: soft targets.
        reader: see `tiny.reading_head`; None for no auxiliary losses.
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


def losses(model, reader, batch: Batch, soft: SoftTargets) -> dict:
    """Return all losses of a batch; `total` is minimised.

    Args:
        model: the PaliGemma.
        reader: see `tiny.reading_head`.
        batch: pictures and texts.
        soft: soft targets.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            seen = model.model.vision_tower(normalise(torch.from_numpy(batch.pixels))).last_hidden_state
        features = model.model.multi_modal_projector(seen)
        objects = _mean(
            [text_losses(model, features[torch.from_numpy(of)], text, soft, reader) for of, text in batch.objects]
        )
        words = _mean([text_losses(model, features[torch.from_numpy(of)], text, soft) for of, text in batch.words])
    result = {**objects, "answers": words["words"], "answers_hit": words["words_hit"]}
    total = words["words"] * 2 + objects.get("words", 0) + objects.get("locations", 0) + objects.get("codes", 0)
    result["total"] = total + sum(
        objects.get(f"reading_{name}", 0) * weight for name, weight in (("seen", 1), ("box", 10), ("shape", 1))
    )
    return {n: v if n == "total" else v.detach() for n, v in result.items()}


def _mean(groups: list[dict]) -> dict:
    """Return the mean of each loss over the groups that have it."""
    names = {name for group in groups for name in group}
    return {name: sum(g[name] for g in groups if name in g) / sum(name in g for g in groups) for name in sorted(names)}


def take_text(model, tokenizer, folder: Path) -> None:
    """Initialise from the text model of an earlier model folder; tokens of the same spelling keep their embedding.

    A token that the earlier tokenizer lacks starts as the mean of the earlier tokens of its text.

    Args:
        model: the new model, changed in place.
        tokenizer: of the new model.
        folder: transformers folder of the earlier model.
    """
    import torch
    from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration

    earlier, spelling = PaliGemmaForConditionalGeneration.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    state = {
        n: v
        for n, v in earlier.state_dict().items()
        if "vision_tower" not in n and v.shape == model.state_dict()[n].shape
    }
    old = earlier.get_input_embeddings().weight.detach()
    known = spelling.get_vocab()
    with torch.no_grad():
        table = model.get_input_embeddings().weight.detach().clone()
        for token, number in tokenizer.get_vocab().items():
            pieces = (
                [known[token]]
                if token in known
                else spelling.encode(tokenizer.decode([number]), add_special_tokens=False)
            )
            if pieces:
                table[number] = old[pieces].mean(0)
        state = {n: v for n, v in state.items() if "embed_tokens" not in n and "lm_head" not in n}
        model.load_state_dict(state, strict=False)
        model.get_input_embeddings().weight.copy_(table)


def train(data: Path, work: Path, minutes: float, batch: int, top: float, seed: int, start_from: Path | None,
          rank: int = 0, processes: int = 1) -> None:  # fmt: skip
    """Train for some minutes; `base.pt` has the model, its moving average and the reading head.

    Args:
        data: the data folder.
        work: work folder.
        minutes: duration.
        batch: pictures per step and process.
        top: highest learning rate.
        seed: of the samples.
        start_from: transformers folder of an earlier model, for its text model; or None.
        rank: number of this process.
        processes: number of processes.
    """
    import torch
    from torch import nn

    from ...models.masks.mask_codec import MaskCodec

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    shape, tokenizer = ModelShape(), make_tokenizer()
    codec = MaskCodec.load(work / "mask_codec")
    model = make_model(shape, tokenizer, codec.codebook)
    model.set_attn_implementation("eager")  # takes half the time of the fused attention, forward and backward, on a CPU
    checkpoint, step = work / "base.pt", 0
    if start_from is not None and not checkpoint.exists():
        take_text(model, tokenizer, start_from)
    modules = nn.ModuleDict({"model": model, "reader": reading_head(shape)})
    eyes = torch.load(work / "eyes.pt", weights_only=True)["average"]
    tower = {n.removeprefix("tower."): v for n, v in eyes.items() if n.startswith("tower.")}
    model.model.vision_tower.load_state_dict(tower)
    model.model.vision_tower.requires_grad_(False)
    optimizers = make_optimizers([(n, p) for n, p in modules.named_parameters() if p.requires_grad])
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    if state:
        modules.load_state_dict(state["now"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
    average = MovingAverage(modules, 0.995)
    if state:
        average.state = state["average"]
    soft = SoftTargets.make(tokenizer, codec.codebook)
    batches = Background(partial(exchange_batches, data, work / "mask_codec", tokenizer, shape.image, shape.image_tokens,
                                 batch, seed * 100 + rank, step * batch))  # fmt: skip
    parameters = [p for p in modules.parameters() if p.requires_grad]
    team, log = ProcessGroup(work, rank, processes), Log(work / "base.jsonl", 25, step, batch * processes)
    began, fraction = time.time(), 0.0

    def save() -> None:
        save_checkpoint(checkpoint, {"now": modules.state_dict(), "average": average.state, "step": step,
                                     "optimizers": [o.state_dict() for o in optimizers]})  # fmt: skip

    while fraction < 1:
        found = losses(model, modules["reader"], next(batches), soft)
        found["total"].backward()
        fraction = team.average(parameters, (time.time() - began) / (60 * minutes))
        set_learning_rate(optimizers, learning_rate(fraction, 0.02, top))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if rank > 0:
            continue
        average.update()
        log.add(step, found)
        if step % 100 == 0:
            save()
    if rank == 0:
        save()
    batches.close()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=32, help="pictures per step and process")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--start-from", type=Path, help="base/ of an earlier, unquantized model, for its text model")
    o = parser.parse_args()
    run_team(train, o.work, o.processes, o.data, o.work, o.minutes, o.batch, o.rate, o.seed, o.start_from)


if __name__ == "__main__":
    main()
