"""Dequantizing NF4 without bitsandbytes gives bitsandbytes' result."""

import pytest

torch = pytest.importorskip("torch")
bitsandbytes = pytest.importorskip("bitsandbytes")

from MedFMLib.models.runtime.nf4 import STATE, unpack  # noqa: E402


def stored(weight, double):
    """What a checkpoint holds of a weight."""
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight, quant_type="nf4", compress_statistics=double, blocksize=64
    )
    tensors = {"a.weight": packed}
    for name, value in state.as_dict(packed=True).items():
        tensors[f"a.weight.{name}"] = value
    return tensors, bitsandbytes.functional.dequantize_4bit(packed, state)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (192, 640), (96, 1024)])
def test_the_values_are_bitsandbytes_own(shape, double):
    torch.manual_seed(0)
    tensors, wanted = stored(torch.randn(shape) * 0.03, double)
    assert any(name.endswith(STATE) for name in tensors)
    plain = unpack(tensors | {"b.bias": torch.ones(3)})
    assert set(plain) == {"a.weight", "b.bias"}
    assert plain["a.weight"].shape == shape
    assert torch.equal(plain["a.weight"], wanted)


def test_rows_that_are_no_whole_blocks_come_back_too():
    """bitsandbytes 0.50.2 does not manage this on a CPU: it starts a new block with every row."""
    torch.manual_seed(0)
    weight = torch.randn(64, 96)
    tensors, _ = stored(weight, True)
    assert (unpack(tensors)["a.weight"] - weight).abs().mean() < 0.1


def test_damaged_scales_are_noticed():
    tensors, _ = stored(torch.randn(64, 64), True)
    tensors["a.weight.absmax"] = tensors["a.weight.absmax"][:-1]
    with pytest.raises(ValueError, match="has 4096 values but 63 scales"):
        unpack(tensors)
    del tensors["a.weight.quant_map"]
    with pytest.raises(KeyError):
        unpack(tensors)
