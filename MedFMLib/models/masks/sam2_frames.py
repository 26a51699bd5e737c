"""Slices as the frames of a video for SAM 2, and what its image encoder makes of them, kept for the next marks.

Both stand where transformers' `Sam2VideoInferenceSession` has its own: frames are prepared when they are needed, so
that a volume of 500 slices takes no 6 GB, and what the encoder makes of one volume is kept as long as it fits, since
other marks on the same slices then take a quarter of the time with 512 pixels, and two fifths with 1024 (float32, two
CPU cores, tiny model; the rest is attention to the memory).

Frames are prepared as `Sam2VideoVideoProcessor` does, to the bit: the slice's 8-bit picture is stretched to a square
(bilinear, antialiased, rounded to 8 bits), then scaled by mean and deviation. That class itself needs torchvision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from ...core.image import Image
from ...core.view import Window, make_view

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet; both SAM 2 and MedSAM2 use them."""

CACHE_BYTES = 1 << 30
"""At most so much of the encoder's output is kept: 128 slices of 1024 pixels in bfloat16, 64 in float32, four times
as many of 512 pixels."""


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes the model's input.

    Args:
        size: pixels along the square's side.
        mean, deviation: of red, green, blue, for values of 0…1.
    """

    size: int
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[float, float, float] = DEVIATION

    @classmethod
    def of_folder(cls, folder: Path, size: int) -> Preparation:
        """As the folder's processor files say; `size` is the model's own, which they can't change."""
        stated: dict = {}
        for name in ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"):
            if (folder / name).is_file():
                content = json.loads((folder / name).read_text(encoding="utf-8"))
                stated |= content.get("video_processor", content)
        return cls(size, tuple(stated.get("image_mean", MEAN)), tuple(stated.get("image_std", DEVIATION)))

    def __call__(self, pixels) -> torch.Tensor:
        """(H, W, 3) uint8 → (3, size, size) float32."""
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        square = functional.interpolate(picture, (self.size, self.size), mode="bilinear", antialias=True)[0].float()
        mean, deviation = (torch.tensor(v)[:, None, None] * 255 for v in (self.mean, self.deviation))
        return (square - mean) / deviation


class Frames:
    """The slices of a volume in one plane, prepared on demand. Stands for a session's `processed_frames`."""

    def __init__(self, image: Image, plane: str, window: Window, prepare: Preparation):
        self._image, self._plane, self._window, self._prepare = image, plane, window, prepare
        self._count = image.geometry.shape[image.geometry.index_axis(plane)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> torch.Tensor:
        return self._prepare(make_view(self._image, self._plane, number, self._window).pixels)


class FrameFeatures:
    """What the encoder makes of each slice of one volume, plane and window. Stands for a session's `cache`.

    When it is full, no more is kept: a volume is looked through from end to end, so that throwing out the oldest
    would keep nothing that is asked for next. The slice in use is always kept.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit, self.used = limit, 0
        self.computed = self.reused = 0
        self._earlier: set[int] = set()
        self._key: object = None
        self._kept: dict[int, list[torch.Tensor]] = {}
        self._last: tuple[int, list[torch.Tensor]] | None = None
        self._positions: torch.Tensor | None = None

    def start(self, key: object) -> None:
        """Keep what is there if it is of the same slices, else drop it."""
        if key != self._key:
            self.clear_all()
            self._key = key
        self._earlier = set(self._kept)

    def knows(self, number: int) -> bool:
        """Need this slice not be encoded again?"""
        return number in self._kept or (self._last is not None and self._last[0] == number)

    def cache_vision_features(self, number: int, features: dict) -> None:
        """Keep a slice's features; positions are the same for all slices."""
        found = list(features["vision_feats"])
        self.computed += 1
        self._positions = features["vision_pos_embeds"][-1]
        self._last = (number, found)
        size = _bytes(found)
        if self.used + size <= self.limit:
            self._kept[number] = found
            self.used += size

    def get_vision_features(self, number: int) -> dict | None:
        """A slice's features in float32, or None if they are not there."""
        if not self.knows(number):
            return None
        found = self._kept.get(number) or self._last[1]
        if number in self._earlier:  # made for earlier marks; counted once for these
            self._earlier.remove(number)
            self.reused += _bytes(found)
        # only the last level's positions are ever read
        return {"vision_feats": [tensor.float() for tensor in found], "vision_pos_embeds": [self._positions.float()]}

    @property
    def bytes(self) -> int:
        """Held now, the slice in use included."""
        last = self._last is not None and self._last[0] not in self._kept
        return self.used + (_bytes(self._last[1]) if last else 0)

    def clear_all(self) -> None:
        """Drop everything."""
        self._kept, self._last, self._key, self.used = {}, None, None, 0
        self._earlier = set()

    drop = clear_all


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
