"""How the next word is chosen: the likeliest, or drawn at random by likelihood, the same draws each time. Knows torch's dice."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

SEED = 20_261


@dataclass(frozen=True)
class SamplingMethod:
    """A way to choose words.

    Args:
        temperature: 0 for the likeliest; 1 for as likely as the model says; above that more freely.
        number: which of the draws.
    """

    temperature: float = 0.0
    number: int = 0

    @property
    def options(self) -> dict:
        """For transformers' `generate`; no word is left out, so that shares of answers are the model's own."""
        if not self.temperature:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}

    @contextmanager
    def seeded(self):
        """Within the block, torch's dice are the draw's own; everybody else's are untouched."""
        import torch

        if not self.temperature:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(SEED + self.number)
            yield


GREEDY = SamplingMethod()
