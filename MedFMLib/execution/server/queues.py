"""Take turns: keys with each other, and the programs of one key with each other. Knows nothing of threads or limits."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sized
from typing import Protocol

from .accounts import Client


class Waiting(Protocol):
    """What can wait: it belongs to a client."""

    client: Client


class FairQueue:
    """Waiting jobs. A key with a thousand of them, under whatever names, delays another key's job by one job.

    Not thread-safe; names without a job take no memory.
    """

    def __init__(self):
        # whose turn is next comes first, in both
        self._keys: OrderedDict[str, OrderedDict[str, deque]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(self.of_key, self._keys))

    @property
    def keys(self) -> int:
        """Number of keys with waiting jobs."""
        return len(self._keys)

    def of_key(self, key: str) -> int:
        """Return how many jobs of a key wait."""
        return sum(map(len, self._keys.get(key, {}).values()))

    def push(self, record: Waiting) -> None:
        """Add a job."""
        names = self._keys.setdefault(record.client.key, OrderedDict())
        names.setdefault(record.client.name, deque()).append(record)

    def pop(self) -> Waiting | None:
        """Take the job whose turn it is; None if none waits."""
        if not self._keys:
            return None
        key, names = next(iter(self._keys.items()))
        name, queue = next(iter(names.items()))
        record = queue.popleft()
        self._keys.move_to_end(key)
        names.move_to_end(name)
        self._drop_empty(key, name)
        return record

    def remove(self, record: Waiting) -> bool:
        """Remove a job; return whether it was there."""
        key, name = record.client
        queue = self._keys.get(key, {}).get(name)
        if not queue or record not in queue:
            return False
        queue.remove(record)
        self._drop_empty(key, name)
        return True

    def ahead(self, record: Waiting) -> int | None:
        """Return how many waiting jobs come before one; None if it does not wait."""
        key, name = record.client
        names = self._keys.get(key, OrderedDict())
        queue = names.get(name, ())
        if record not in queue:
            return None
        own = _turns_before(names, name, queue.index(record))
        sizes = OrderedDict((other, range(self.of_key(other))) for other in self._keys)
        return _turns_before(sizes, key, own)

    def _drop_empty(self, key: str, name: str) -> None:
        names = self._keys[key]
        if not names[name]:
            del names[name]
        if not names:
            del self._keys[key]


def _turns_before(queues: OrderedDict[str, Sized], mine: str, place: int) -> int:
    """Return how many are taken before the one at a place of my queue, if the queues take turns."""
    before, passed = place, False
    for name, queue in queues.items():
        passed = passed or name == mine
        if name != mine:
            before += min(len(queue), place + (not passed))
    return before
