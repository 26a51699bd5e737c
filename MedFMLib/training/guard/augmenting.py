"""Make more texts of the written ones: misspelt, with words exchanged, without accents, in pairs, and without meaning."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from ...guard import clauses
from ...storage import resources
from .lines import Item

ABSENT = ("denied", "past", "other")
ALPHABETS = ((0x61, 0x7B), (0x627, 0x64B), (0x905, 0x93A), (0x4E00, 0x9FA5))
"""First letter, and one past the last, of the scripts that the models are trained on."""

UNACCENTED = 0.25
"""Share of the texts in languages with accents that lose them, as people type on phones."""


def augmented(items: Sequence[Item], share: float, seed: int) -> list[Item]:
    """Return the items with misspelt copies, pairs, and texts that mean nothing.

    Of a pair the stricter one decides; signs that are denied, past or another's leave a permitted question permitted.
    Texts without meaning are out of scope: without them, the models guess of unknown words what is frequent in training.

    Args:
        items: the texts.
        share: number of copies, relative to the texts.
        seed: of all chance.
    """
    chance, made = random.Random(seed), list(items)
    whole = [item for item in items if item.status]
    permitted = [item for item in whole if item.expected == "allow" and item.status == "none"]
    strict = [item for item in whole if item.expected != "allow" and item.author != "clinc"]
    absent = [item for item in whole if item.status in ABSENT and item.intent == "health"]
    idle = [item for item in permitted if item.intent == "small_talk" and len(item.text.split()) > 3]
    swaps = load_swaps()
    same: dict[str, list[Item]] = {}
    for item in permitted:
        same.setdefault(item.language, []).append(item)
    for _ in range(int(share * len(items))):
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
    return [_without_accents(item, chance) for item in made]


def _without_accents(item: Item, chance: random.Random) -> Item:
    plain = clauses.fold(clauses.soften(item.text)) if chance.random() < UNACCENTED else item.text
    return _changed(item, plain, item.weight)


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
