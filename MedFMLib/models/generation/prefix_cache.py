"""Cache a model's encoding of pictures, so that another question about them processes only its own words.

Knows tensors and keys; no architecture. Two kinds of entries, the least recently used dropped first:

* features of the vision tower: stay valid when an adapter of the text model is switched;
* keys and values of the conversation up to its last picture, of one adapter: valid for models with causal attention,
  where nothing before a word depends on what comes after it. (PaliGemma attends to pictures and question
  bidirectionally, so only the first kind can be cached for it.)
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_BYTES = 2_000_000_000
"""Largest size of one model's cache."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the first tokens of a conversation.

    Args:
        tokens: number of tokens.
        past: a transformers `Cache`.
        position_shift: Qwen's difference between token and rotary positions, or None.
    """

    tokens: int
    past: Any
    position_shift: Any = None

    def fresh(self):
        """Return a copy of `past` to continue with; the cached one stays unchanged."""
        return copy.deepcopy(self.past)


class PrefixCache:
    """A cache of limited size that drops the least recently used entries first.

    Args:
        most: largest total size, bytes.

    `hits`, `misses` and `reused` bytes are counted from the start.
    """

    def __init__(self, most: int = MOST_BYTES):
        self.most = most
        self._things: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.hits = self.misses = self.reused = 0

    def get(self, key: Hashable):
        """Return the entry of a key, or None."""
        if key not in self._things:
            self.misses += 1
            return None
        self.hits += 1
        self._things.move_to_end(key)
        thing, size = self._things[key]
        self.reused += size
        return thing

    def put(self, key: Hashable, thing) -> None:
        """Add an entry, unless it is larger than the cache.

        Args:
            key: its key.
            thing: tensors, or lists, dicts and objects with tensors.
        """
        size = byte_size(thing)
        if size > self.most:
            return
        self._things[key] = (thing, size)
        self._things.move_to_end(key)
        while self.bytes > self.most:
            self._things.popitem(last=False)

    def drop(self) -> None:
        """Clear the cache."""
        self._things.clear()

    @property
    def bytes(self) -> int:
        """Current size, bytes."""
        return sum(size for _, size in self._things.values())

    def __len__(self) -> int:
        return len(self._things)


def byte_size(thing) -> int:
    """Return the bytes of all tensors in nested lists, dicts and objects with attributes."""
    import torch

    seen: set[int] = set()

    def count(part) -> int:
        if id(part) in seen:
            return 0
        seen.add(id(part))
        if isinstance(part, torch.Tensor):
            return part.numel() * part.element_size()
        if isinstance(part, dict):
            return sum(map(count, part.values()))
        if isinstance(part, list | tuple):
            return sum(map(count, part))
        if hasattr(part, "__dict__") and not isinstance(part, type | torch.nn.Module):
            return sum(map(count, vars(part).values()))
        return 0

    return count(thing)


def digest(pictures: Sequence[np.ndarray]) -> str:
    """Return a hash of the content of uint8 pictures, including their shapes."""
    sha = hashlib.blake2b(digest_size=20)
    for picture in pictures:
        sha.update(repr(picture.shape).encode())
        sha.update(np.ascontiguousarray(picture))
    return sha.hexdigest()


def cache_features(core, store: PrefixCache, key: Callable[[], Hashable | None]) -> None:
    """Let `core.get_image_features` use a cache.

    Args:
        core: the module with `get_image_features`.
        store: the cache.
        key: called at each use; None bypasses the cache.
    """
    make = core.get_image_features

    @functools.wraps(make)  # transformers inspects its parameters
    def features(*arguments, **options):
        name = key()
        found = store.get(name) if name is not None else None
        if found is None:
            found = make(*arguments, **options)
            if name is not None:
                store.put(name, found)
        return found

    core.get_image_features = features
