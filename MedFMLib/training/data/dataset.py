"""Read a built data set, verify it, and return its pictures as views. Knows its folder; no readers, no models.

dataset.json                              the data set's card, see `building`
train.jsonl validation.jsonl test.jsonl   one `Sample` per line
pictures/SHA.png  labels/SHA.png          pixels, and labels if there are any; names are hashes, so no patient is named
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.view import View
from ...errors import InputError
from . import splitting
from .pictures import digest, likeness, view_of
from .samples import SPLITS, PicturePixels, Sample

CARD = "dataset.json"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A built data set.

    Args:
        folder: its path.
        card: content of `dataset.json`.
        samples: split → samples, in order.
    """

    folder: Path
    card: dict[str, Any]
    samples: dict[str, tuple[Sample, ...]] = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Load a data set.

        Raises:
            InputError: if the folder has none, something is missing, or a line can't be read.
        """
        folder = Path(folder).expanduser()
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            lines = {name: (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in SPLITS}
            samples = {name: tuple(Sample.from_json(json.loads(line)) for line in some) for name, some in lines.items()}
        except (OSError, ValueError) as error:
            raise InputError(
                f"'{folder}' has no complete data set ({error}); make one with `medfm data build PATH --output DIR`."
            ) from error
        return cls(folder, card, samples)

    def shown(self, sample: Sample) -> PicturePixels:
        """Return a sample's pixels and labels.

        Raises:
            InputError: if a file is missing or damaged.
        """
        labels = _array(self.folder / "labels" / f"{sample.picture}.png") if sample.objects else None
        return PicturePixels(
            _array(self.folder / "pictures" / f"{sample.picture}.png"), sample.spacing, labels, sample.placed
        )

    def view(self, sample: Sample) -> View:
        """Return a sample's picture as a view for models."""
        return view_of(_array(self.folder / "pictures" / f"{sample.picture}.png"), sample.spacing, sample.placed)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of all lines, which contain the hashes of the pictures."""
        return lines_digest(self.samples)

    def seen(self) -> Iterator[splitting.SplitItem]:
        """Yield every picture with its patient, split and hashes, which are computed again from the pixels."""
        for name, some in self.samples.items():
            for patient, picture, spacing in dict.fromkeys((s.patient, s.picture, s.spacing) for s in some):
                shown = PicturePixels(_array(self.folder / "pictures" / f"{picture}.png"), spacing)
                yield splitting.SplitItem(patient, digest(shown), likeness(shown), name)

    def check(self) -> None:
        """Check that no patient is in two splits, that the pictures are unchanged, and that nothing was edited.

        Raises:
            InputError: if not, with the first problem.
        """
        seen = list(self.seen())
        splitting.check(seen)
        named = {sample.picture for some in self.samples.values() for sample in some}
        if changed := sorted(named - {picture.digest for picture in seen}):
            raise InputError(f"{len(changed)} pictures changed after the data set was built, such as {changed[0][:12]}; "
                             "build it again.")  # fmt: skip
        if self.digest() != self.card.get("sha256"):
            raise InputError("The data set's lines changed after it was built; build it again.")


@lru_cache(maxsize=512)
def _array(path: Path) -> np.ndarray:
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(path) as picture:
            return np.asarray(picture)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{path.parent.name}/{path.name} is missing or damaged; build the data set again.") from error


def lines_digest(samples: dict[str, tuple[Sample, ...]]) -> str:
    """Return the SHA-256 (hex) of all samples in order."""
    sha = hashlib.sha256()
    for name in SPLITS:
        for sample in samples[name]:
            sha.update(f"{name} {json.dumps(sample.as_json(), sort_keys=True)}\n".encode())
    return sha.hexdigest()
