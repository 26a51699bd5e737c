"""The mask codec: layout of the published file, round trips, and refusals."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedFMLib.errors import ModelError  # noqa: E402
from MedFMLib.models.masks.mask_codec import PUBLISHED, CodecShape, MaskCodec, from_vae_oid_npz  # noqa: E402


@pytest.fixture
def published_arrays():
    """Random arrays with the names and shapes of `vae-oid.npz`, at a quarter of the width to be quick."""
    random = np.random.default_rng(3)
    width, embedding = 32, 48
    shapes = {"_vq_vae._embedding": (128, embedding), "decoder.0": (width, embedding, 1, 1)}
    for block in (2, 3):
        for layer, kernel in ((0, 3), (2, 3), (4, 1)):
            shapes[f"decoder.{block}.net.{layer}"] = (width, width, kernel, kernel)
    before = width
    for number, after in zip((4, 6, 8, 10), (32, 16, 8, 4), strict=True):
        shapes[f"decoder.{number}"] = (before, after, 4, 4)  # transposed convolutions: input first
        before = after
    shapes["decoder.12"] = (1, before, 1, 1)
    arrays = {}
    for name, shape in shapes.items():
        if name.startswith("_"):
            arrays[name] = random.normal(0, 1, shape).astype(np.float32)
            continue
        transposed = name in ("decoder.4", "decoder.6", "decoder.8", "decoder.10")
        arrays[f"{name}.weight"] = (random.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        arrays[f"{name}.bias"] = random.normal(0, 0.1, shape[1] if transposed else shape[0]).astype(np.float32)
    return arrays


def _conv(x, weight, bias):
    """(C, H, W) by plain loops over the kernel, zero padding that keeps the size."""
    pad = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    height, width = x.shape[1:]
    out = np.zeros((weight.shape[0], height, width)) + bias[:, None, None]
    for r in range(weight.shape[2]):
        for c in range(weight.shape[3]):
            out += np.einsum("oi,ihw->ohw", weight[:, :, r, c], padded[:, r : r + height, c : c + width])
    return out


def _up(x, weight, bias):
    """Transposed convolution, kernel 4, stride 2, doubling the size: every input is stamped onto the output."""
    height, width = x.shape[1:]
    out = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for r in range(height):
        for c in range(width):
            out[:, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4] += np.einsum("i,iokl->okl", x[:, r, c], weight)
    return out[:, 1:-1, 1:-1] + bias[:, None, None]


def _numpy_decoder(a, codes):
    """The published decoder, written a second time without torch."""
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    get = lambda name: (a[f"{name}.weight"].astype(float), a[f"{name}.bias"].astype(float))  # noqa: E731
    x = a["_vq_vae._embedding"][codes].astype(float).reshape(4, 4, -1).transpose(2, 0, 1)
    x = relu(_conv(x, *get("decoder.0")))
    for block in (2, 3):
        y = relu(_conv(x, *get(f"decoder.{block}.net.0")))
        y = relu(_conv(y, *get(f"decoder.{block}.net.2")))
        x = x + _conv(y, *get(f"decoder.{block}.net.4"))
    for number in (4, 6, 8, 10):
        x = relu(_up(x, *get(f"decoder.{number}")))
    return np.clip(_conv(x, *get("decoder.12"))[0] * 0.5 + 0.5, 0, 1)


def test_the_published_layout_decodes_as_an_independent_computation(published_arrays, tmp_path):
    np.savez(tmp_path / "vae-oid.npz", **published_arrays)
    codec = from_vae_oid_npz(tmp_path / "vae-oid.npz")
    codes = np.random.default_rng(5).integers(0, 128, (3, 16))
    found = codec.decode(torch.from_numpy(codes)).numpy()
    for mask, row in zip(found, codes, strict=True):
        assert np.allclose(mask, _numpy_decoder(published_arrays, row), atol=1e-4)
    assert found.std() > 0.01  # a constant would agree with anything


def test_the_published_shape_has_512_wide_codes_and_a_128_wide_decoder():
    state = MaskCodec(PUBLISHED).tensors()
    assert state["codebook"].shape == (128, 512)
    assert state["decoder.0.weight"].shape == (128, 512, 1, 1)
    assert [tuple(state[f"decoder.{n}.weight"].shape) for n in (4, 6, 8, 10)] == [
        (128, 128, 4, 4),
        (128, 64, 4, 4),
        (64, 32, 4, 4),
        (32, 16, 4, 4),
    ]
    assert state["decoder.12.weight"].shape == (1, 16, 1, 1)


def test_a_published_file_with_an_array_missing_is_refused_by_name(published_arrays, tmp_path):
    del published_arrays["decoder.8.bias"]
    np.savez(tmp_path / "cut.npz", **published_arrays)
    with pytest.raises(ModelError, match=r"decoder\.8\.bias"):
        from_vae_oid_npz(tmp_path / "cut.npz")


def test_pickled_content_is_never_read(tmp_path):
    np.savez(tmp_path / "bad.npz", **{"_vq_vae._embedding": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ModelError, match=r"bad\.npz"):
        from_vae_oid_npz(tmp_path / "bad.npz")


def test_a_decoding_codec_says_that_it_cannot_encode():
    with pytest.raises(ModelError, match="only decodes"):
        MaskCodec(CodecShape(16, 16, 0)).encode(torch.zeros(1, 64, 64))


def test_saved_and_loaded_codecs_agree(tmp_path):
    torch.manual_seed(0)
    codec = MaskCodec(CodecShape(16, 16, 16))
    codec.save(tmp_path)
    again = MaskCodec.load(tmp_path)
    codes = torch.randint(0, 128, (4, 16))
    assert torch.allclose(codec.decode(codes), again.decode(codes), atol=5e-3)
    assert again.encode(torch.rand(2, 64, 64) > 0.5).shape == (2, 16)


def test_importing_the_codec_loads_no_torch():
    code = "import sys, MedFMLib.models.masks.mask_codec; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_converter_is_a_command(published_arrays, tmp_path):
    np.savez(tmp_path / "vae-oid.npz", **published_arrays)
    command = [sys.executable, "-m", "MedFMLib.models.masks.mask_codec"]
    subprocess.run([*command, str(tmp_path / "vae-oid.npz"), str(tmp_path / "out")], check=True, capture_output=True)
    assert MaskCodec.load(tmp_path / "out").decode([[1] * 16]).shape == (1, 64, 64)
    wrong = subprocess.run(
        [*command, str(tmp_path / "absent.npz"), str(tmp_path / "o")], capture_output=True, text=True
    )
    assert wrong.returncode == 3 and "absent.npz" in wrong.stderr and "Traceback" not in wrong.stderr


def test_codes_outside_the_codebook_are_refused():
    codec = MaskCodec(CodecShape(16, 16, 0))
    with pytest.raises(ModelError, match="0 to 127"):
        codec.decode(torch.full((1, 16), 128))
    with pytest.raises(ModelError, match=r"\(N, 16\)"):
        codec.decode(torch.zeros(1, 15, dtype=torch.long))


def test_a_missing_codec_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"mask_codec\.json"):
        MaskCodec.load(tmp_path)
