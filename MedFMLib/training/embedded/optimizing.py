"""What every training stage shares: learning rates, optimizers, averaging over processes and over time, logs, checkpoints.

Knows torch; nothing of models, data or losses. Several single-threaded processes that average their gradients once a step
are used rather than threads: on a machine that also does other things, threads that wait for each other hundreds of times
a step were measured up to ten times slower.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path


def learning_rate(fraction: float, warm: float, top: float, bottom: float = 0.02) -> float:
    """Linear warm-up over the fraction `warm`, then a cosine down to `bottom` × `top`."""
    if fraction < warm:
        return top * fraction / warm
    along = min(1.0, (fraction - warm) / (1 - warm))
    return top * (bottom + (1 - bottom) * 0.5 * (1 + math.cos(math.pi * along)))


def make_optimizers(named) -> list:
    """Muon (Jordan et al., 2024) for the matrices inside transformer layers, AdamW for everything else."""
    import torch

    inner = [p for n, p in named if p.ndim == 2 and ".layers." in n and p.requires_grad]
    inside = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in inside and p.requires_grad]
    made = [torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))]
    if inner:
        made.append(torch.optim.Muon(inner, lr=1e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"))
    return made


def set_learning_rate(optimizers: list, rate: float) -> None:
    """The same rate everywhere; Muon's is scaled to AdamW's step size."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


class ProcessGroup:
    """Averages gradients, and one number, over the processes that train together.

    Args:
        work: folder in which the processes find each other. rank, processes: which one, of how many.
    """

    def __init__(self, work: Path, rank: int, processes: int):
        import torch.distributed as distributed

        self.processes, self._distributed = processes, distributed
        if processes > 1:
            place = f"file://{(work / 'rendezvous').resolve()}"
            distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=processes)

    def average(self, parameters: list, number: float) -> float:
        """Average `.grad` of the parameters in place; returns the average of `number`."""
        import torch

        if self.processes == 1:
            return number
        for p in parameters:  # a batch may not touch all of them
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([*(p.grad.flatten() for p in parameters), torch.tensor([number])])
        self._distributed.all_reduce(flat)
        flat /= self.processes
        begin = 0
        for p in parameters:
            p.grad.copy_(flat[begin : begin + p.numel()].view_as(p))
            begin += p.numel()
        return float(flat[-1])


class MovingAverage:
    """Keeps a moving average of a module's floating-point state, so that a checkpoint is good at any time.

    Args:
        modules: a module. kept: how much stays at each step, once enough steps have passed.
    """

    def __init__(self, modules, kept: float = 0.998):
        self.modules, self.kept, self.steps = modules, kept, 0
        self.state = {n: v.detach().clone() for n, v in modules.state_dict().items()}

    def update(self) -> None:
        """Take the present state in."""
        import torch

        self.steps += 1
        kept = min(self.kept, self.steps / (self.steps + 10))
        with torch.no_grad():
            for name, value in self.modules.state_dict().items():
                if value.is_floating_point():
                    self.state[name].lerp_(value, 1 - kept)
                else:
                    self.state[name].copy_(value)


class Log:
    """Means of named losses, one JSON line every `every` steps."""

    def __init__(self, path: Path, every: int, step: int, samples_per_step: int):
        self._file, self._every, self._first, self._samples = path.open("a"), every, step, samples_per_step
        self._began, self._sums, self._count = time.time(), {}, 0

    def add(self, step: int, losses: dict, more: Callable[[], dict] = dict) -> None:
        """Count the losses of a step; `more` adds to the line when one is written."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach() if hasattr(value, "detach") else value)
        self._count += 1
        if step % self._every:
            return
        seconds = time.time() - self._began
        line = {"step": step, "samples": step * self._samples, "seconds": round(seconds, 1),
                "per_second": round((step - self._first) * self._samples / seconds, 1)}  # fmt: skip
        line |= {n: round(v / self._count, 4) for n, v in self._sums.items()} | more()
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._sums, self._count = {}, 0


def save_checkpoint(path: Path, state: dict) -> None:
    """Write beside the target first, so that a killed training leaves the last one whole."""
    import torch

    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def run_team(train: Callable, work: Path, processes: int, *arguments) -> None:
    """`train(*arguments, rank, processes)` in `processes` processes.

    Raises:
        RuntimeError: if one of them fails.
    """
    (work / "rendezvous").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    team = [context.Process(target=train, args=(*arguments, rank, processes)) for rank in range(processes)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    if any(process.exitcode for process in team):
        raise RuntimeError("Training ended with an error; see the messages above.")
