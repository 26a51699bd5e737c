"""Train the encoder: the lower layers stay as they were pretrained, the upper ones and the heads learn (torch)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...guard.encoder import END, EPSILON, HEADS, LONGEST, MATRICES, NORMS, START, joined, packed, unpacked
from ...guard.features import Pieces
from .pretrained import SPECIAL, Matrix, Pretrained

NUMBERS = {"start": 0, "end": 2}
"""Pieces of the vocabulary that begin and end a text."""

SCRIPTS = ("a-z\u00df-\u024f'", "\u0600-\u06ff", "\u3400-\u9fff", "\u0900-\u097f", "0-9")
"""Letters of pieces that may be kept though no text of the training has them."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Args:
        layers: of the pretrained transformer that are kept, the first ones.
        frozen: of these, the first ones that do not learn.
        pieces: size of the vocabulary that is kept.
        epochs: passes over all texts.
        batch: texts that are learned from at once.
        rate: largest rate of the layers; ten times as much for the heads.
        dropout: in the layers that learn.
        seed: of all chance.
    """

    layers: int = 6
    frozen: int = 3
    pieces: int = 18_300
    epochs: int = 3
    batch: int = 128
    rate: float = 4e-4
    dropout: float = 0.1
    seed: int = 0


def vocabulary(texts: Sequence[Sequence[str]], source: Pretrained, size: int) -> np.ndarray:
    """Return the numbers of the pieces that are kept: those of the texts, then the most frequent ones of the scripts.

    Args:
        texts: words of texts as people wrote them.
        source: the pretrained transformer.
        size: number of pieces.
    """
    import re

    letters = re.compile(f"▁?[{''.join(SCRIPTS)}]*")
    useful = [n for n in range(SPECIAL, len(source.pieces)) if letters.fullmatch(source.pieces[n])]
    every = Pieces({source.pieces[n]: (n, float(source.scores[n])) for n in useful})
    count = Counter(row for text in texts for row in every.ids(joined(text)))
    single = [n for n in useful if len(source.pieces[n].strip("▁")) <= 1 and (count[n] or source.pieces[n] < "\u3400")]
    chosen = dict.fromkeys([*NUMBERS.values(), *single])
    chosen |= dict.fromkeys(n for n, seen in count.most_common(size) if seen > 1)
    for n in sorted(useful, key=lambda n: -source.scores[n]):
        if len(chosen) >= size:
            break
        chosen.setdefault(n)
    return np.array(list(chosen)[:size])


def train(
    texts: Sequence[Sequence[str]],
    targets: np.ndarray,
    weights: np.ndarray,
    sizes: Sequence[int],
    source: Pretrained,
    kept: np.ndarray,
    settings: Settings,
) -> dict[str, np.ndarray]:
    """Return the tensors of the encoder, its vocabulary and its heads.

    Args:
        texts: softened words of each text.
        targets: (texts, heads) class of each head, −1 if unknown.
        weights: (texts,) of the loss.
        sizes: number of classes of each head.
        source: the pretrained transformer.
        kept: numbers of its pieces, as `vocabulary` returns.
        settings: of the training.
    """
    import torch
    from torch.nn import functional

    torch.manual_seed(settings.seed)
    words, names = source.words(kept), [source.pieces[n] for n in kept]
    pieces = Pieces({n: (row, float(source.scores[kept[row]])) for row, n in enumerate(names) if row > END})
    ids = [[START, *pieces.ids(joined(text))[: LONGEST - 2], END] for text in texts]
    table = torch.from_numpy(unpacked(words.codes, words.scale))
    place = torch.from_numpy(source.places[:LONGEST].copy())
    first = [torch.from_numpy(source.vector(f"emb.ln.{part}").copy()) for part in "wb"]
    layers = [_Layer(source.layer(n), settings.dropout) for n in range(settings.layers)]
    lower, upper = layers[: settings.frozen], torch.nn.ModuleList(layers[settings.frozen :])
    head = torch.nn.Linear(2 * source.size, sum(sizes))
    stored: list = [None] * len(ids)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for group in _groups(ids, 128):
            rows, there = _padded([ids[n] for n in group])
            x = functional.layer_norm(table[rows] + place[: rows.shape[1]], (source.size,), *first, EPSILON)
            for layer in lower:
                x = layer.eval()(x, there[:, None, None, :])
            for n, made in zip(group, x.to(torch.float16), strict=True):
                stored[n] = made[: len(ids[n])].clone()
    order = np.random.default_rng(settings.seed)
    steps = settings.epochs * len(_groups(ids, settings.batch))
    rates = (settings.rate, 10 * settings.rate)
    optimizer = torch.optim.AdamW(
        [{"params": list(upper.parameters())}, {"params": list(head.parameters())}], lr=settings.rate, weight_decay=0.02
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, list(rates), total_steps=steps + 1, pct_start=0.1)
    goal, share = torch.from_numpy(targets), torch.from_numpy(np.asarray(weights, np.float32))
    upper.train()
    for _ in range(settings.epochs):
        for group in _groups(ids, settings.batch, order):
            x, there = _together([stored[n] for n in group])
            with torch.autocast("cpu", torch.bfloat16):
                for layer in upper:
                    x = layer(x, there[:, None, None, :])
                logits = head(functional.dropout(_pooled(x, there), 0.2))
            losses = [
                functional.cross_entropy(part, goal[group, n], ignore_index=-1, reduction="none")
                for n, part in enumerate(torch.split(logits.float(), list(sizes), 1))
            ]
            loss = (sum(losses) * share[group]).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(upper.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    tensors = {
        "pieces.text": np.frombuffer("\n".join(names).encode(), np.uint8),
        "pieces.score": source.scores[kept].astype(np.float16),
        "pieces.codes": words.codes,
        "pieces.scale": words.scale,
        "encoder.place": source.places[:LONGEST].astype(np.float16),
        "encoder.first.weight": first[0].numpy().astype(np.float16),
        "encoder.first.bias": first[1].numpy().astype(np.float16),
        "output.weight": head.weight.detach().numpy().T.astype(np.float16, order="C"),
        "output.bias": head.bias.detach().numpy().astype(np.float32),
    }
    for n in range(settings.layers):
        tensors |= layers[n].tensors(f"encoder.{n}", source.layer(n) if n < settings.frozen else None)
    return tensors


def _pooled(x, there):
    import torch

    inside = there[:, :, None]
    mean = (x * inside).sum(1) / inside.sum(1)
    return torch.cat([mean, x.masked_fill(~inside, -1e4).amax(1)], 1)


def _padded(ids: Sequence[Sequence[int]]):
    """Return (texts, longest) rows and where they are."""
    import torch

    longest = max(map(len, ids))
    rows = torch.tensor([[*some, *[END] * (longest - len(some))] for some in ids])
    return rows, torch.arange(longest)[None] < torch.tensor([[len(some)] for some in ids])


def _together(stored: Sequence):
    """Return (texts, longest, size) of stored pieces, and where they are."""
    import torch

    x = torch.nn.utils.rnn.pad_sequence(list(stored), batch_first=True).float()
    return x, torch.arange(x.shape[1])[None] < torch.tensor([[len(some)] for some in stored])


def _groups(ids: Sequence[Sequence[int]], size: int, order: np.random.Generator | None = None) -> list[np.ndarray]:
    """Return groups of texts of similar length, shuffled if `order` is given."""
    lengths = np.array([len(some) for some in ids], float)
    if order is not None:
        lengths = lengths + 3 * order.random(len(ids))
    found = np.argsort(lengths, kind="stable")
    groups = [found[a:b] for a, b in pairwise([*range(0, len(found), size), len(found)])]
    if order is not None:
        order.shuffle(groups)
    return groups


def _Layer(weights: dict, dropout: float):
    import torch
    from torch.nn import functional

    class Layer(torch.nn.Module):
        """A layer of BERT with post-layer normalization, as `guard.encoder` computes it."""

        def __init__(self):
            super().__init__()
            for part in MATRICES:
                matrix, bias = weights[part]
                values = unpacked(matrix.codes, matrix.scale)
                linear = torch.nn.Linear(values.shape[1], values.shape[0])
                linear.weight.data.copy_(torch.from_numpy(values))
                linear.bias.data.copy_(torch.from_numpy(bias.copy()))
                self.add_module(part, linear)
            for part in NORMS:
                weight, bias = weights[part]
                norm = torch.nn.LayerNorm(len(weight), EPSILON)
                norm.weight.data.copy_(torch.from_numpy(weight.copy()))
                norm.bias.data.copy_(torch.from_numpy(bias.copy()))
                self.add_module(part, norm)

        def forward(self, x, there):
            def split(y):
                return y.view(*y.shape[:2], HEADS, -1).transpose(1, 2)

            mixed = functional.scaled_dot_product_attention(
                split(self.query(x)), split(self.key(x)), split(self.value(x)), attn_mask=there
            )
            made = self.out(mixed.transpose(1, 2).reshape(x.shape))
            x = self.attended(x + functional.dropout(made, dropout, self.training))
            made = self.down(functional.gelu(self.up(x), approximate="tanh"))
            return self.made(x + functional.dropout(made, dropout, self.training))

        def tensors(self, name: str, stored: dict | None) -> dict[str, np.ndarray]:
            """Return what `guard.encoder` reads; weights that did not change stay as they were stored.

            Args:
                name: of the layer.
                stored: the pretrained layer, if this one did not learn.
            """
            found = {}
            for part in MATRICES:
                linear = getattr(self, part)
                matrix = stored[part][0] if stored else Matrix(*packed(linear.weight.detach().numpy()))
                found |= {f"{name}.{part}.codes": matrix.codes, f"{name}.{part}.scale": matrix.scale}
                found[f"{name}.{part}.bias"] = linear.bias.detach().numpy().astype(np.float16)
            for part in NORMS:
                norm = getattr(self, part)
                found[f"{name}.{part}.weight"] = norm.weight.detach().numpy().astype(np.float16)
                found[f"{name}.{part}.bias"] = norm.bias.detach().numpy().astype(np.float16)
            return found

    return Layer()
