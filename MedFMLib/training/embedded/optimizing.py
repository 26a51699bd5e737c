"""Share what every training stage needs.

Learning rates, optimizers, averaging over processes and time, logs, checkpoints.

Depends on torch; no models, data or losses. Several single-threaded processes that average their gradients once per
step
are used rather than threads: on a machine that also does other work, threads that synchronize hundreds of times
per step were measured up to ten times slower.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path


def learning_rate(fraction: float, warm: float, top: float, bottom: float = 0.02) -> float:
    """Return a linear warm-up, then a cosine decay to `bottom` × `top`.

    Args:
        fraction: of the training, 0…1.
        warm: fraction of the warm-up.
        top: highest rate.
        bottom: final rate as a fraction of `top`.
    """
    if fraction < warm:
        return top * fraction / warm
    along = min(1.0, (fraction - warm) / (1 - warm))
    return top * (bottom + (1 - bottom) * 0.5 * (1 + math.cos(math.pi * along)))


def make_optimizers(named) -> list:
    """Return Muon (Jordan et al., 2024) for the matrices inside transformer layers, AdamW for everything else."""
    import torch

    inner = [p for n, p in named if p.ndim == 2 and ".layers." in n and p.requires_grad]
    inside = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in inside and p.requires_grad]
    made = [torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))]
    if inner:
        made.append(torch.optim.Muon(inner, lr=1e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"))
    return made


def make_convolution_optimizers(network) -> list:
    """Return Muon for the kernels of three-dimensional convolutions, as matrices of a row per filter; AdamW for the rest."""
    import torch

    kernels = [p for n, p in network.named_parameters() if p.ndim == 5 and not n.startswith("score")]
    inside = {id(p) for p in kernels}
    rest = [p for p in network.parameters() if id(p) not in inside]
    return [torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98)), _kernel_muon()(kernels)]


def _kernel_muon():
    import torch

    class KernelMuon(torch.optim.Optimizer):
        """Muon (Jordan et al., 2024) for convolution kernels: momentum whose matrix is made orthogonal before the step."""

        def __init__(self, parameters, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.01):
            super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    kept = self.state[p].setdefault("momentum", torch.zeros_like(p.grad))
                    kept.lerp_(p.grad, 1 - group["momentum"])
                    step = orthogonal(p.grad.lerp(kept, group["momentum"]).flatten(1))
                    scale = 0.2 * max(step.shape) ** 0.5  # the size of AdamW's steps (Liu et al., Moonlight, 2025)
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(step.view_as(p), alpha=-group["lr"] * scale)

    return KernelMuon


def orthogonal(matrix, rounds: int = 5):
    """Return about the nearest matrix with orthonormal rows or columns, by Newton and Schulz's iteration (Jordan et al., 2024).

    Args:
        matrix: (M, N).
        rounds: of the iteration.
    """
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def set_learning_rate(optimizers: list, rate: float) -> None:
    """Set the same rate in all optimizers; Muon's is scaled to AdamW's step size.

    Args:
        optimizers: the optimizers.
        rate: learning rate.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


class ProcessGroup:
    """Averages gradients, and one number, over the processes of a training.

    Args:
        work: folder in which the processes find each other.
        rank: number of this process.
        processes: number of processes.
    """

    def __init__(self, work: Path, rank: int, processes: int):
        import torch.distributed as distributed

        self.processes, self._distributed = processes, distributed
        if processes > 1:
            place = f"file://{(work / 'rendezvous').resolve()}"
            distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=processes)

    def average(self, parameters: list, number: float) -> float:
        """Average `.grad` of the parameters in place, and return the average of a number.

        Args:
            parameters: all trained parameters.
            number: to average.
        """
        import torch

        if self.processes == 1:
            return number
        for p in parameters:  # a batch may leave some without a gradient
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
    """A moving average of a module's floating-point state, so that a checkpoint is usable at any time.

    Args:
        modules: a module.
        kept: decay per step, after enough steps.
    """

    def __init__(self, modules, kept: float = 0.998):
        self.modules, self.kept, self.steps = modules, kept, 0
        self.state = {n: v.detach().clone() for n, v in modules.state_dict().items()}

    def update(self) -> None:
        """Add the present state."""
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
    """Means of named losses, one JSON line every `every` steps.

    Args:
        path: the file, appended to.
        every: steps per line.
        step: first step.
        samples_per_step: over all processes.
    """

    def __init__(self, path: Path, every: int, step: int, samples_per_step: int):
        self._file, self._every, self._first, self._samples = path.open("a"), every, step, samples_per_step
        self._began, self._sums, self._count = time.time(), {}, 0

    def add(self, step: int, losses: dict, more: Callable[[], dict] = dict) -> None:
        """Add the losses of a step.

        Args:
            step: its number.
            losses: by name.
            more: called when a line is written; adds to it.
        """
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
    """Write a checkpoint to a temporary file, then move it, so that a killed training leaves the previous one intact.

    Args:
        path: the checkpoint.
        state: for `torch.save`.
    """
    import torch

    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def run_team(train: Callable, work: Path, processes: int, *arguments) -> None:
    """Run `train(*arguments, rank, processes)` in several processes.

    Args:
        train: the training function.
        work: work folder.
        processes: number of processes.
        *arguments: of the function.

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
