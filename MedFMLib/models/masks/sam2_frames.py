"""Provide slices as the frames of a video for SAM 2, and cache the output of its image encoder for further prompts.

Both classes replace parts of transformers' `Sam2VideoInferenceSession`: frames are prepared when needed, so that a
volume of 500 slices does not take 6 GB, and the encoder's output of one volume is cached within a limit. Further
prompts on the same slices then take a quarter of the time with 512 pixels, and two fifths with 1024 (float32, two CPU
cores, tiny model; the rest is memory attention).

Frames are prepared as `Sam2VideoVideoProcessor` does, bit by bit: the slice's 8-bit picture is stretched to a square
(bilinear, antialiased, rounded to 8 bits), then normalized by mean and deviation. That class itself needs torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from ...core.image import Image
from ...core.view import Window, make_view
from ...storage.json_text import read_json

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet; both SAM 2 and MedSAM2 use them."""

CACHE_BYTES = 1 << 30
"""Largest size of the cached encoder output.

128 slices of 1024 pixels in bfloat16, 64 in float32; four times as many of 512 pixels.
"""


@dataclass(frozen=True)
class Preparation:
    """Conversion of a picture to the model's input.

    Args:
        size: side of the square, pixels.
        mean: of red, green, blue, for values of 0…1.
        deviation: of red, green, blue, for values of 0…1.
    """

    size: int
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[float, float, float] = DEVIATION

    @classmethod
    def of_folder(cls, folder: Path, size: int) -> Preparation:
        """Return the preparation that the folder's processor files define.

        Args:
            folder: folder of the model.
            size: side of the square, pixels; the model's own, which the files can't change.
        """
        stated: dict = {}
        for name in ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"):
            if (folder / name).is_file():
                content = read_json((folder / name).read_bytes())
                stated |= content.get("video_processor", content)
        return cls(size, tuple(stated.get("image_mean", MEAN)), tuple(stated.get("image_std", DEVIATION)))

    def __call__(self, pixels) -> torch.Tensor:
        """Return the (3, size, size) float32 input for (H, W, 3) uint8 pixels."""
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        square = functional.interpolate(picture, (self.size, self.size), mode="bilinear", antialias=True)[0].float()
        mean, deviation = (torch.tensor(v)[:, None, None] * 255 for v in (self.mean, self.deviation))
        return (square - mean) / deviation


class Frames:
    """The slices of a volume in one plane, prepared on demand. Replaces a session's `processed_frames`.

    Args:
        image: scalar volume.
        plane: sagittal, coronal or axial.
        window: grey or colour window of the pictures.
        prepare: conversion to the model's input.
    """

    def __init__(self, image: Image, plane: str, window: Window, prepare: Preparation):
        self._image, self._plane, self._window, self._prepare = image, plane, window, prepare
        self._count = image.geometry.shape[image.geometry.index_axis(plane)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> torch.Tensor:
        return self._prepare(make_view(self._image, self._plane, number, self._window).pixels)


class FrameFeatures:
    """Cached output of the encoder for the slices of one volume, plane and window. Replaces a session's `cache`.

    When it is full, nothing more is cached: a volume is processed from end to end, so that dropping the oldest slices
    would leave nothing for the next pass. The slice in use is always available.

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
        """Start using the cache for the slices that `key` identifies; clear it if they differ from the last ones."""
        if key != self._key:
            self.clear_all()
            self._key = key
        self._earlier = set(self._kept)

    def knows(self, number: int) -> bool:
        """Return whether this slice is available without encoding it again."""
        return number in self._kept or (self._last is not None and self._last[0] == number)

    def cache_vision_features(self, number: int, features: dict) -> None:
        """Cache a slice's features; positions are the same for all slices.

        Args:
            number: slice number.
            features: output of the encoder.
        """
        found = list(features["vision_feats"])
        self.computed += 1
        self._positions = features["vision_pos_embeds"][-1]
        self._last = (number, found)
        size = _bytes(found)
        if self.used + size <= self.limit:
            self._kept[number] = found
            self.used += size

    def get_vision_features(self, number: int) -> dict | None:
        """Return a slice's features in float32, or None if they are not available."""
        if not self.knows(number):
            return None
        found = self._kept.get(number) or self._last[1]
        if number in self._earlier:  # computed for earlier prompts; counted once per use
            self._earlier.remove(number)
            self.reused += _bytes(found)
        # only the last level's positions are used
        return {"vision_feats": [tensor.float() for tensor in found], "vision_pos_embeds": [self._positions.float()]}

    @property
    def bytes(self) -> int:
        """Current size in bytes, the slice in use included."""
        last = self._last is not None and self._last[0] not in self._kept
        return self.used + (_bytes(self._last[1]) if last else 0)

    def clear_all(self) -> None:
        """Clear the cache."""
        self._kept, self._last, self._key, self.used = {}, None, None, 0
        self._earlier = set()

    drop = clear_all


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
