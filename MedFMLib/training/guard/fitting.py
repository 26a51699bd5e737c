"""Train the two intent models: a linear one on hashed n-grams, and a convolution over static vectors of word pieces."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...guard import clauses
from ...guard.features import ngrams
from ...guard.intent_model import HEADS, WIDTHS, IntentModel, weighted
from ...guard.intents import LANGUAGES, PERMITTED, WITHHELD
from ...storage import resources
from .lines import Item

BUCKETS = 2**17
"""Of the hashed n-grams."""

URGENT_SHARE = 0.3
"""Largest share of emergencies in the weight of a language."""

LEAST_MASS = 0.03
"""Share of the weight below which a language gets more of it."""

RARE = 3
"""Smallest number of texts with an n-gram that the linear model learns."""

ABSENT = ("denied", "past", "other")
ALPHABETS = ((0x61, 0x7B), (0x627, 0x64B), (0x905, 0x93A), (0x4E00, 0x9FA5))
"""First letter, and one past the last, of the scripts that the models are trained on."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Args:
        rounds: of the linear model, each over all texts.
        decay: L2 penalty of the linear model.
        epochs: of the convolution.
        batch: texts that the convolution is trained on at once.
        hidden: filters of each width of the convolution.
        dropout: of the convolution's output.
        augment: share of misspelt and joined copies, relative to the texts.
        seed: of all chance.
    """

    rounds: int = 32
    decay: float = 2e-6
    epochs: int = 5
    batch: int = 256
    hidden: int = 64
    dropout: float = 0.5
    augment: float = 0.7
    seed: int = 0


@dataclass(frozen=True)
class Vectors:
    """Static vectors of word pieces.

    Args:
        pieces: their texts.
        score: log-probability of each.
        values: (pieces, size), int8.
        scale: of each row.
    """

    pieces: tuple[str, ...]
    score: np.ndarray
    values: np.ndarray
    scale: np.ndarray


def load_vectors(folder: Path) -> Vectors:
    """Read the static vectors of `e5_static`; pieces are joined that differ in capitals and accents only.

    Raises:
        InputError: if the folder lacks them.
    """
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        table = np.load(folder / "vectors_int8.npz")
    except OSError as error:
        raise InputError(f"The static vectors can't be read from {folder} ({error}); give --vectors FOLDER.") from error
    names, scores = vocabulary["pieces"], next(v for k, v in vocabulary.items() if k not in ("pieces", "special"))
    kept: dict[str, int] = {}
    for row, (name, score) in enumerate(zip(names, scores, strict=True)):
        plain = clauses.normalize(name)
        if (
            plain
            and "\n" not in plain
            and row > 3
            and any(c.isalnum() for c in plain)
            and (
                plain not in kept or (name != plain) < (names[kept[plain]] != plain) or score > scores[kept[plain]] + 1
            )
        ):
            kept[plain] = row
    rows = np.array(list(kept.values()))
    return Vectors(
        tuple(kept), np.array([scores[r] for r in rows], np.float16), table["q"][rows], table["scale"][rows].reshape(-1)
    )


def train(items: Sequence[Item], vectors: Vectors, settings: Settings | None = None) -> dict[str, np.ndarray]:
    """Return the tensors of both models.

    Args:
        items: to train on.
        vectors: of word pieces.
        settings: the usual ones by default.
    """
    settings = settings or Settings()
    items = augmented(items, settings)
    texts = [clauses.words(clauses.normalize(item.text)) for item in items]
    pairs = [(text, item) for text, item in zip(texts, items, strict=True) if text]
    texts, items = [text for text, _ in pairs], [item for _, item in pairs]
    targets, weights = _targets(items)
    tensors = _linear(texts, targets, weights, settings)
    tensors |= {
        "pieces.text": np.frombuffer("\n".join(vectors.pieces).encode(), np.uint8),
        "pieces.score": vectors.score,
        "pieces.vector": vectors.values,
        "pieces.scale": vectors.scale.astype(np.float16),
    }
    return tensors | _convolution(texts, targets, weights, tensors, settings)


def augmented(items: Sequence[Item], settings: Settings) -> list[Item]:
    """Return the items with misspelt copies, pairs, and texts that mean nothing.

    Of a pair the stricter one decides; signs that are denied, past or another's leave a permitted question permitted.
    Texts without meaning are out of scope: without them, the models guess of unknown words what is frequent in training.

    Args:
        items: the texts.
        settings: how many, and the chance.
    """
    chance, made = random.Random(settings.seed), list(items)
    whole = [item for item in items if item.status]
    permitted = [item for item in whole if item.expected == "allow" and item.status == "none"]
    strict = [item for item in whole if item.expected != "allow" and item.author != "clinc"]
    absent = [item for item in whole if item.status in ABSENT and item.intent == "health"]
    idle = [item for item in permitted if item.intent == "small_talk" and len(item.text.split()) > 3]
    swaps = load_swaps()
    same: dict[str, list[Item]] = {}
    for item in permitted:
        same.setdefault(item.language, []).append(item)
    for _ in range(int(settings.augment * len(items))):
        kind = chance.random()
        one = chance.choice(items)
        if kind < 0.25:
            made.append(_changed(one, swapped(one, swaps, chance), one.weight))
        elif kind < 0.45:
            made.append(_changed(one, misspelt(one.text, chance), one.weight))
        elif kind < 0.65:
            other = chance.choice(strict)
            mild = chance.choice(same.get(other.language, permitted))
            made.append(_changed(other, _paired(other.text, mild.text, chance), 0.5 * other.weight))
        elif kind < 0.8 and absent:
            other = chance.choice(absent)
            mild = chance.choice(same.get(other.language, permitted))
            text = _paired(other.text, mild.text, chance)
            made.append(Item(text, mild.language, mild.intent, other.status, mild.author, 0.7))
        elif kind < 0.92 and idle:
            other = chance.choice(idle)
            mild = chance.choice(same.get(other.language, permitted) if chance.random() < 0.7 else strict)
            made.append(_changed(mild, f"{other.text}{chance.choice((', ', '. ', ' '))}{mild.text}", 0.7 * mild.weight))
        else:
            made.append(Item(scrambled(one.text, chance), "other", "out_of_scope", "none", one.author, 0.5))
    return made


def load_swaps() -> dict[str, list[tuple[re.Pattern, list[str]]]]:
    """Return, for each language, the patterns of words that may be exchanged for one another, with the words."""
    content = resources.load_json("training", "guard", "swaps.json")
    found = {}
    for language, groups in content.items():
        if language != "about":
            found[language] = [(_any_of(names, language), names) for names in groups.values()]
    return found


def _any_of(names: Sequence[str], language: str) -> re.Pattern:
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(longest_first if language == "zh" else rf"(?<!\w)(?:{longest_first})(?!\w)", re.IGNORECASE)


def swapped(item: Item, swaps: Mapping[str, Sequence[tuple[re.Pattern, list[str]]]], chance: random.Random) -> str:
    """Return an item's text with organs, illnesses, medicines and persons exchanged.

    Emergencies keep theirs: a pain in the chest is one, a pain in the knee is none.

    Args:
        item: the text.
        swaps: what `load_swaps` returns.
        chance: source of chance.
    """
    text = item.text
    for pattern, names in swaps.get(item.language, ()) if item.expected != "escalate" else ():
        text = pattern.sub(lambda _, names=names: chance.choice(names), text)
    return text


def scrambled(text: str, chance: random.Random) -> str:
    """Return the text with each letter replaced by another of its script.

    Args:
        text: the text.
        chance: source of chance.
    """
    made = []
    for letter in text[:60].lower():
        first = next((start for start, end in ALPHABETS if start <= ord(letter) < end), 0)
        end = next((end for start, end in ALPHABETS if start == first), 0)
        made.append(chr(chance.randrange(first, end)) if first else letter)
    return "".join(made)


def _paired(one: str, other: str, chance: random.Random) -> str:
    pair = [one, other]
    chance.shuffle(pair)
    return chance.choice((". ", " ", "? ", ", ", ", but ", " and ")).join(pair)


def misspelt(text: str, chance: random.Random) -> str:
    """Return the text with one or two letters swapped, omitted, doubled or changed.

    Args:
        text: the text.
        chance: source of chance.
    """
    for _ in range(chance.choice((1, 1, 2))):
        if len(text) < 5:
            return text
        n, kind = chance.randrange(1, len(text) - 2), chance.randrange(4)
        if not text[n : n + 2].isalpha():
            continue
        if kind == 0:
            text = text[:n] + text[n + 1] + text[n] + text[n + 2 :]
        elif kind == 1:
            text = text[:n] + text[n + 1 :]
        elif kind == 2:
            text = text[:n] + text[n] + text[n:]
        else:
            text = text[:n] + chance.choice("aeioustrn") + text[n + 1 :]
    return text


def _changed(item: Item, text: str, weight: float) -> Item:
    return Item(text, item.language, item.intent, item.status, item.author, weight)


def _targets(items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each head, −1 if unknown, and the weights, in which no class is drowned by the others."""
    labels = np.array(
        [
            [
                HEADS["intent"].index(item.intent),
                HEADS["kind"].index(item.kind) if item.kind else -1,
                HEADS["status"].index(item.status) if item.status else -1,
                HEADS["language"].index(item.language),
            ]
            for item in items
        ]
    )
    weights = np.array([item.weight for item in items], np.float32)
    mass = np.bincount(labels[:, 0], weights, len(HEADS["intent"]))
    weights *= (mass.mean() / np.maximum(mass, 1))[labels[:, 0]] ** 0.5
    urgent = labels[:, 0] >= len(PERMITTED) + len(WITHHELD)
    for language in range(len(LANGUAGES)):  # else a language with many lines on emergencies would be a sign of one
        mine = labels[:, 3] == language
        one, other = weights[mine & urgent].sum(), weights[mine & ~urgent].sum()
        if one > URGENT_SHARE * (one + other) > 0:
            weights[mine & urgent] *= URGENT_SHARE / (1 - URGENT_SHARE) * other / one
        if one + other > 0:  # a language with few lines must be learned, too
            weights[mine] *= max(1.0, (LEAST_MASS * weights.sum() / weights[mine].sum()) ** 0.5)
    return labels, weights / weights.mean()


def _linear(
    texts: Sequence[Sequence[str]], targets: np.ndarray, weights: np.ndarray, settings: Settings
) -> dict[str, np.ndarray]:
    """Return the tensors of the linear model, trained by Adam on all texts at once."""
    from scipy import sparse

    seen = [ngrams(text, BUCKETS)[0] for text in texts]
    count = np.bincount(np.concatenate(seen), minlength=BUCKETS)
    idf = np.minimum(np.round(16 * (np.log((1 + len(texts)) / (1 + count)) + 1)), 255).astype(np.uint8)
    idf[count < RARE] = 0  # what is rare teaches nothing, and would only make the vectors of new texts smaller
    rows = [weighted(text, idf.astype(np.float32) / 16) for text in texts]
    starts = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    matrix = sparse.csr_matrix(
        (np.concatenate([v for _, v in rows]), np.concatenate([i for i, _ in rows]), starts), (len(texts), BUCKETS)
    )
    used = np.flatnonzero(count >= RARE)
    matrix = matrix[:, used].tocsr()
    back = matrix.T.tocsr()
    sizes = [len(classes) for classes in HEADS.values()]
    wanted, known = _one_hot(targets, sizes)
    weight, bias = np.zeros((len(used), sum(sizes)), np.float32), np.zeros(sum(sizes), np.float32)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    ends = np.cumsum(sizes)[:-1]
    for step in range(1, settings.rounds + 1):
        logits = matrix @ weight + bias
        parts = [_softmax(part) for part in np.split(logits, ends, 1)]
        error = (np.concatenate(parts, 1) - wanted) * known * weights[:, None] / len(texts)
        gradient = back @ error + settings.decay * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        rate = 0.3 * (1 - step / (settings.rounds + 1))
        weight -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-7)
        bias -= rate * 2 * error.sum(0)
    scale = np.abs(weight).max(0) / 127 + 1e-9
    table = np.zeros((BUCKETS, sum(sizes)), np.int8)
    table[used] = np.round(weight / scale)
    return {
        "linear.idf": idf,
        "linear.weight": table,
        "linear.scale": scale.astype(np.float32),
        "linear.bias": bias.astype(np.float32),
    }


def _one_hot(targets: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    wanted, known = [], []
    for head, size in enumerate(sizes):
        classes = targets[:, head]
        wanted.append(np.eye(size, dtype=np.float32)[np.maximum(classes, 0)])
        known.append(np.repeat((classes >= 0).astype(np.float32)[:, None], size, 1))
    return np.concatenate(wanted, 1), np.concatenate(known, 1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    made = np.exp(logits - logits.max(1, keepdims=True))
    return made / made.sum(1, keepdims=True)


def _convolution(
    texts: Sequence[Sequence[str]], targets: np.ndarray, weights: np.ndarray, tensors: dict, settings: Settings
) -> dict[str, np.ndarray]:
    """Return the tensors of the convolution, trained with torch; the vectors stay as they are."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(settings.seed)
    sizes = [len(classes) for classes in HEADS.values()]
    blank = {f"convolution.{w}.{p}": np.zeros(1) for w in WIDTHS for p in ("weight", "bias")}
    reader = IntentModel(tensors | blank | {"output.weight": np.zeros(1), "output.bias": np.zeros(1)})
    ids = [reader.pieces.ids(text)[:40] for text in texts]
    table = torch.from_numpy(
        tensors["pieces.vector"].astype(np.float32) * tensors["pieces.scale"].astype(np.float32)[:, None]
    )
    table = torch.cat([table, torch.zeros(1, table.shape[1])])
    kept = np.array([n for n, some in enumerate(ids) if some])
    padded = torch.full((len(ids), 40), len(table) - 1)
    for n, some in enumerate(ids):
        padded[n, : len(some)] = torch.tensor(some, dtype=torch.long)
    lengths = torch.tensor([max(WIDTHS[-1], len(some)) for some in ids])
    size = table.shape[1]
    layers = nn.ModuleList([nn.Linear(size * width, settings.hidden) for width in WIDTHS])
    output = nn.Linear(size + settings.hidden * len(WIDTHS), sum(sizes))
    learned = [*layers.parameters(), *output.parameters()]
    batches = max(1, len(kept) // settings.batch)
    optimizer = torch.optim.AdamW(learned, lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=settings.epochs * (batches + 1))
    order = np.random.default_rng(settings.seed)
    goal, share = torch.from_numpy(targets), torch.from_numpy(weights)
    for _ in range(settings.epochs):
        shuffled = order.permutation(kept)
        shuffled = shuffled[np.argsort(lengths.numpy()[shuffled] + order.random(len(kept)) * 4)]
        groups = np.array_split(shuffled, batches)
        order.shuffle(groups)
        for group in groups:
            length = lengths[group]
            longest = int(length.max())
            rows = padded[group, :longest].clone()
            rows[(torch.rand(rows.shape) < 0.08) & (rows < len(table) - 1)] = len(table) - 1
            found = table[rows]
            hidden = [found.sum(1) / length.sqrt()[:, None]]
            for width, layer in zip(WIDTHS, layers, strict=True):
                windows = torch.cat([found[:, n : longest - width + n + 1] for n in range(width)], 2)
                made = functional.relu(layer(windows))
                outside = torch.arange(made.shape[1])[None] > (length - width)[:, None]
                hidden.append(made.masked_fill(outside[:, :, None], 0).amax(1))
            logits = output(functional.dropout(torch.cat(hidden, 1), settings.dropout, True))
            losses = [
                functional.cross_entropy(part, goal[group, head], ignore_index=-1, reduction="none")
                for head, part in enumerate(torch.split(logits, sizes, 1))
            ]
            loss = (sum(losses) * share[group]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    made = {}
    for width, layer in zip(WIDTHS, layers, strict=True):
        made[f"convolution.{width}.weight"] = layer.weight.detach().numpy().T.astype(np.float16, order="C")
        made[f"convolution.{width}.bias"] = layer.bias.detach().numpy().astype(np.float32)
    made["output.weight"] = output.weight.detach().numpy().T.astype(np.float16, order="C")
    made["output.bias"] = output.bias.detach().numpy().astype(np.float32)
    return made
