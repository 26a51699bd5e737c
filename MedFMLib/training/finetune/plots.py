"""Plot the steps that the clip monitor recorded. Knows matplotlib; no training."""

from __future__ import annotations

import math
from pathlib import Path

from ...errors import ModelError
from .monitor import ClipMonitor


def _figure(rows: int):
    try:
        import matplotlib
    except ImportError as error:
        raise ModelError(
            "Plots need the package matplotlib; install MedFM with its extra: pip install medfm[train]."
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(rows, 1, figsize=(8, 2.1 * rows), sharex=True, layout="constrained")


def plot_steps(clip_monitor: ClipMonitor, path: Path) -> None:
    """Plot loss, gradient norm with the clip, and relative size of the updates over steps, as a PNG.

    Args:
        clip_monitor: the steps.
        path: of the PNG file.
    """
    figure, axes = _figure(3)
    numbers = [s.step for s in clip_monitor.steps]
    axes[0].plot(numbers, [s.loss for s in clip_monitor.steps], linewidth=0.8)
    axes[0].set_ylabel("loss")
    axes[1].semilogy(numbers, [max(s.norm, 1e-12) for s in clip_monitor.steps], linewidth=0.8, label="before clipping")
    if clip_monitor.steps and clip_monitor.steps[-1].clip:
        axes[1].axhline(clip_monitor.steps[-1].clip, color="tab:red", linewidth=0.8, label="clip")
    axes[1].axhline(
        clip_monitor.suggested_clip or 1, color="tab:green", linestyle=":", linewidth=0.8, label="suggested"
    )
    axes[1].legend(fontsize=7, frameon=False)
    axes[1].set_ylabel("gradient norm")
    moved = [
        s.update / s.weight if s.update and s.weight else math.nan for s in clip_monitor.steps
    ]  # the first has rate 0
    axes[2].semilogy(numbers, moved, linewidth=0.8)
    axes[2].set_ylabel("update / weight")
    axes[2].set_xlabel("step")
    figure.suptitle(f"clipped: {clip_monitor.clipped_share:.0%} of {len(numbers)} steps", fontsize=9)
    part = path.with_name(f".{path.name}")
    figure.savefig(part, dpi=110, format="png")
    part.replace(path)
    from matplotlib import pyplot

    pyplot.close(figure)
