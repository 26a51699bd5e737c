"""What a model made of pictures is kept, so that the next question about them pays for its own words only.

Knows tensors and keys; no architecture. Two things are kept apart, the least recently used leaving first:

* what the vision tower made of the pictures: stays right when an adapter of the text model is switched;
* keys and values of the conversation up to its last picture, of one adapter: valid for models whose text is read causally,
  where nothing before a word depends on what comes after it. (PaliGemma reads pictures and question together, so only the
  first can be kept for it.)
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
"""Of all that is kept by one model."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the first tokens of a conversation.

    Args:
        tokens: how many. past: a transformers `Cache`. position_shift: Qwen's, between token and rotary positions, or None.
    """

    tokens: int
    past: Any
    position_shift: Any = None

    def fresh(self):
        """A copy of `past` to go on with; what is kept stays as it is."""
        return copy.deepcopy(self.past)


class PrefixCache:
    """A bounded store; what was not used for longest leaves first.

    Args:
        most: bytes of everything that is kept.

    `hits`, `misses` and `reused` bytes are counted from the start.
    """

    def __init__(self, most: int = MOST_BYTES):
        self.most = most
        self._things: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.hits = self.misses = self.reused = 0

    def get(self, key: Hashable):
        """What is kept under a key, or None."""
        if key not in self._things:
            self.misses += 1
            return None
        self.hits += 1
        self._things.move_to_end(key)
        thing, size = self._things[key]
        self.reused += size
        return thing

    def put(self, key: Hashable, thing) -> None:
        """Keep something; nothing is kept that is larger than all that may be."""
        size = byte_size(thing)
        if size > self.most:
            return
        self._things[key] = (thing, size)
        self._things.move_to_end(key)
        while self.bytes > self.most:
            self._things.popitem(last=False)

    def drop(self) -> None:
        """Forget everything."""
        self._things.clear()

    @property
    def bytes(self) -> int:
        """Held now."""
        return sum(size for _, size in self._things.values())

    def __len__(self) -> int:
        return len(self._things)


def byte_size(thing) -> int:
    """Bytes of all tensors in something made of tensors, lists, dicts and objects with attributes."""
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
    """Names the content of uint8 pictures; shapes count."""
    sha = hashlib.blake2b(digest_size=20)
    for picture in pictures:
        sha.update(repr(picture.shape).encode())
        sha.update(np.ascontiguousarray(picture))
    return sha.hexdigest()


def cache_features(core, store: PrefixCache, key: Callable[[], Hashable | None]) -> None:
    """Let `core.get_image_features` look into the store first.

    Args:
        key: asked at each call; None: neither look nor keep.
    """
    make = core.get_image_features

    @functools.wraps(make)  # transformers looks at its parameters
    def features(*arguments, **options):
        name = key()
        found = store.get(name) if name is not None else None
        if found is None:
            found = make(*arguments, **options)
            if name is not None:
                store.put(name, found)
        return found

    core.get_image_features = features
