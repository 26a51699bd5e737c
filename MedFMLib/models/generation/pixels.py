"""Convert pictures to the input of a vision tower, faster than image processors if all have the processor's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def normalized(processor, pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Convert (B, S, S, 3) uint8 pictures to (B, 3, S, S) float32, as the image processor does.

    Pictures of the processor's own size are only scaled and shifted: all of them in one pass, which takes a tenth of
    the time that the processor takes one by one. All others go to the processor.

    Args:
        processor: an image processor of transformers.
        pictures: (S, S, 3) uint8 each.
    """
    size = (processor.size.get("height"), processor.size.get("width"), 3)
    plain = processor.do_rescale and processor.do_normalize and all(picture.shape == size for picture in pictures)
    if not plain:
        return processor(list(pictures), return_tensors="pt")["pixel_values"]
    stacked = torch.from_numpy(np.asarray(pictures) if isinstance(pictures, np.ndarray) else np.stack(pictures))
    mean, std = (
        torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    # round where the processor rounds: bfloat16 would amplify a difference in the last bit
    scaled = stacked.permute(0, 3, 1, 2).contiguous().double().mul_(processor.rescale_factor)
    return scaled.float().sub_(mean).div_(std)
