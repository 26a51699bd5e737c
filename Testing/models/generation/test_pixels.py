"""Pictures are converted exactly as by the image processor, to the last bit."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil  # noqa: E402

from MedFMLib.models.generation.pixels import normalized  # noqa: E402


@pytest.mark.parametrize(("mean", "std"), [([0.5] * 3, [0.5] * 3), ([0.48, 0.45, 0.41], [0.27, 0.26, 0.28])])
@pytest.mark.parametrize("size", [24, 20])  # the processor's own, and one that it has to resize
def test_pixels_are_those_of_the_processor(mean, std, size):
    processor = SiglipImageProcessorPil(size={"height": 24, "width": 24}, image_mean=mean, image_std=std)
    pictures = np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    expected = torch.as_tensor(np.asarray(processor(list(pictures), return_tensors="pt")["pixel_values"]))
    assert torch.equal(normalized(processor, pictures), expected)
    assert torch.equal(normalized(processor, list(pictures)), expected)
