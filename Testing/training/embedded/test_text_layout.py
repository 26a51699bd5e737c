"""Our batches are what PaliGemma's own processor makes, and the small model's shape fits the 4-bit kernels."""

import numpy as np
import pytest

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from MedFMLib.training.embedded.exchanges import TextLayout  # noqa: E402
from MedFMLib.training.embedded.objects import SeenStructure  # noqa: E402
from MedFMLib.training.embedded.questions import QuestionExchange  # noqa: E402
from MedFMLib.training.embedded.tiny import (  # noqa: E402
    ModelShape,
    cell_parts,
    make_model,
    make_processor,
    make_tokenizer,
    normalise,
)
from MedFMLib.training.embedded.train_tiny import SoftTargets  # noqa: E402

SMALL = ModelShape(image=32, vision_layers=1, text_layers=1)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_texts_are_laid_out_as_the_processor_does(tokenizer):
    processor = make_processor(SMALL, tokenizer)
    exchange = QuestionExchange(
        "segment left lung ; liver", "<loc0008><loc0016><loc0512><loc0800><seg001> liver", "segment"
    )
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    wanted = processor(
        text=["<image>" + exchange.prompt], images=[picture], suffix=[exchange.answer], return_tensors="pt"
    )
    ours = TextLayout(tokenizer, SMALL.image_tokens).batch([exchange])
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert ours[name].tolist() == wanted[name].tolist()
    assert torch.allclose(normalise(torch.from_numpy(picture[None])), wanted["pixel_values"], atol=1e-5)


def test_asked_names_are_found_at_their_last_token(tokenizer):
    seen = SeenStructure("liver", (0.1, 0.1, 0.5, 0.5), np.ones((64, 64), bool), 100)
    asked = (("left lateral ventricle", None), ("liver", seen))
    exchange = QuestionExchange("segment left lateral ventricle ; liver", "none", "segment", asked)
    batch = TextLayout(tokenizer, 4).batch([exchange])
    words = [tokenizer.decode(batch["input_ids"][0, place]) for place in batch["place"]]
    assert words == [" ventricle", " liver"]
    assert batch["seen"].tolist() == [0, 1]


def test_location_and_mask_tokens_are_single_tokens(tokenizer):
    ids = tokenizer.encode("<loc0000><loc1023><seg000><seg127>", add_special_tokens=False)
    assert len(ids) == 4
    assert ids[1] - ids[0] == 1023
    assert ids[3] - ids[2] == 127


def test_every_linear_layer_fits_the_four_bit_kernels(tokenizer):
    model = make_model(ModelShape(), tokenizer)
    assert sum(p.numel() for p in model.parameters()) < 15_000_000
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            assert module.in_features % 64 == 0, name
            assert module.out_features % 32 == 0, name


def test_soft_targets_are_distributions_with_their_peak_at_the_truth(tokenizer):
    soft = SoftTargets.make(tokenizer, torch.randn(128, 8))
    assert torch.allclose(soft.locations.sum(1), torch.ones(1024))
    assert torch.allclose(soft.codes.sum(1), torch.ones(128))
    used = torch.arange(0, 1024, 8)
    assert (soft.locations[used].argmax(1) == used).all()
    assert (soft.codes.argmax(1) == torch.arange(128)).all()


def test_cells_lie_row_by_row_inside_row_by_row_patches():
    parts = torch.arange(32 * 32).view(1, 32, 32)
    cells = cell_parts(parts, SMALL)
    assert cells.shape == (1, 4, 16)
    assert cells[0, 0].tolist() == [(2 + 4 * r) * 32 + 2 + 4 * c for r in range(4) for c in range(4)]
    assert cells[0, 1, 0] == 2 * 32 + 18
