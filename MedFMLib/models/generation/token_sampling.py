"""Choose the next token: greedily, or sampled by probability with a fixed seed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

SEED = 20_261


@dataclass(frozen=True)
class SamplingMethod:
    """A method of choosing tokens.

    Args:
        temperature: 0 for greedy decoding; 1 for the model's own probabilities; above 1 for flatter ones.
        number: number of the sampled answer; part of the seed.
    """

    temperature: float = 0.0
    number: int = 0

    @property
    def options(self) -> dict:
        """Options of transformers' `generate`; no token is excluded, so that answer frequencies are the model's own."""
        if not self.temperature:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}

    @contextmanager
    def seeded(self):
        """Use a fixed torch seed inside the block; the global random state is restored after it."""
        import torch

        if not self.temperature:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(SEED + self.number)
            yield


GREEDY = SamplingMethod()
