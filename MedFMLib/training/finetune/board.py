"""Write the clip monitor's numbers for TensorBoard, on request. Knows TensorBoard; no training.

transformers' own reporter would write all arguments, including folders of this machine; this one writes only numbers.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ...errors import ModelError
from .monitor import ClipMonitor

NAMES = {"loss": "loss/train", "rate": "rate", "norm": "gradient/norm before clipping", "left": "gradient/share left by clipping",
         "update": "weights/update", "weight": "weights/norm", "seconds": "seconds"}  # fmt: skip
"""Field of `monitor.TrainingStep` → name of its curve."""


class TensorBoardLog:
    """Writer of RUN/tensorboard.

    Args:
        run: folder of the training.
        done: last step to keep; later ones of a killed training are hidden.

    Raises:
        ModelError: if the package tensorboard is missing.
    """

    def __init__(self, run: Path, done: int = 0):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModelError(
                "--tensorboard needs the package tensorboard, which is missing: pip install tensorboard; or leave it out, since "
                "RUN/steps.csv and steps.png contain the same numbers."
            ) from error
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1)

    def add(self, clip_monitor: ClipMonitor) -> None:
        """Write the newest step."""
        step = clip_monitor.steps[-1]
        for field, value in asdict(step).items():
            if field in NAMES:
                self._writer.add_scalar(NAMES[field], value, step.step)
        self._writer.add_scalar("gradient/clipped share of all steps", clip_monitor.clipped_share, step.step)

    def add_layers(self, names, norms, step: int) -> None:
        """Write the norm of each of the adapter's weights.

        Args:
            names: of the weights.
            norms: of the weights, in the same order.
            step: number of the step.
        """
        for name, norm in zip(names, norms, strict=True):
            self._writer.add_scalar(f"layers/{name}", norm, step)

    def add_validation(self, loss: float, step: int) -> None:
        """Write the loss on held-out patients.

        Args:
            loss: mean over the answers' tokens.
            step: number of the step.
        """
        self._writer.add_scalar("loss/held-out patients", loss, step)

    def close(self) -> None:
        """Write pending data and close the file."""
        self._writer.close()
