"""Load the embedded model for the bench as it ships, switch its adapters, and measure its file sizes.

Depends on folders and the shipped runtime (`models.paligemma`), so that the shipped code is measured; no images.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from ...interfaces.jobs import NoProgress
from ...storage import resources

BARE = ""
"""In place of an adapter's name: no adapter."""


class LoadedModel:
    """A loaded model.

    Args:
        runtime: has `write`, `segment`, `segment_volume` and `use_adapter`.
        adapters: names for `use_adapter`.
        seconds: loading time.
    """

    def __init__(self, runtime, adapters: Sequence[str], seconds: float = 0.0):
        self.runtime, self.adapters, self.seconds = runtime, tuple(adapters), seconds
        self._active = BARE

    def ways(self, adapter: str) -> tuple[str, ...]:
        """Return the adapter if there is one, then the bare base: the variants that a task is measured with."""
        return (adapter, BARE) if adapter in self.adapters else (BARE,)

    def use(self, adapter: str) -> None:
        """Switch to an adapter, or to the bare base."""
        if adapter != self._active:
            self.runtime.use_adapter(adapter)
            self._active = adapter

    def drawable(self, names: Sequence[str]) -> list[str]:
        """Return those of some structures that the model can segment now; all if it doesn't state them."""
        adapters = getattr(self.runtime, "_adapters", None)
        head = adapters.volume_head(self._active) if adapters is not None else None
        known = getattr(head or getattr(self.runtime, "head", None), "structures", None)
        return [name for name in names if known is None or name in known]


def way_name(adapter: str) -> str:
    """Return the name of a variant in tables."""
    return adapter or "bare base"


def shipped() -> Path:
    """Return the folder of the embedded model."""
    return resources.path("models", "medfm-tiny")


def open_model(folder: Path, precision: str = "nf4") -> LoadedModel:
    """Load a model's folder as the product does.

    Args:
        folder: of the model.
        precision: of the weights.

    Raises:
        ModelError: if it is incomplete.
    """
    from ...models import paligemma

    config = json.loads((folder / "base" / "config.json").read_text())
    if precision == "nf4" and "quantization_config" not in config:
        precision = "fp32"
    card = paligemma.card_for_folder(folder, config)
    start = time.time()
    runtime = paligemma.load(card, BARE, precision, NoProgress())
    return LoadedModel(runtime, card.adapters, time.time() - start)


@contextmanager
def with_other_base(folder: Path, base: Path):
    """Yield a temporary folder like `folder`, including adapters and heads, but with another base.

    Args:
        folder: of the model.
        base: folder of the other base.
    """
    base = base / "base" if (base / "base").is_dir() else base
    with tempfile.TemporaryDirectory() as made:
        for path in folder.iterdir():
            if path.name != "base":
                (Path(made) / path.name).symlink_to(path.resolve())
        (Path(made) / "base").symlink_to(base.resolve())
        yield Path(made)


def switch_milliseconds(model: LoadedModel) -> dict[str, float]:
    """Return a mapping from adapter to the time in ms for switching to it after it was attached once."""
    took = {}
    for name in model.adapters:
        model.use(name)  # attaches it
        model.use(BARE)
        start = time.perf_counter()
        model.use(name)
        took[name] = 1000 * (time.perf_counter() - start)
        model.use(BARE)
    return took


def file_sizes(folder: Path) -> dict[str, float]:
    """Return a mapping from each part of the folder to its size in megabytes (10⁶ bytes)."""

    def size(path: Path) -> float:
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) / 1e6

    sizes = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "adapters"):
        sizes[path.name.replace("_", " ")] = size(path)
    tokenizer = sum(p.stat().st_size for p in (folder / "base").glob("tokenizer*")) / 1e6
    if "base" in sizes:
        sizes["base"] -= tokenizer
        sizes["tokenizer"] = tokenizer
    for path in sorted((folder / "adapters").glob("*")):
        if path.is_dir():
            sizes[f"adapter {path.name}"] = size(path)
    sizes["total"] = size(folder)
    return sizes
