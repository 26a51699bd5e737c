"""Encode 64×64 masks as sixteen codes of 0…127, and decode them: the vector-quantized autoencoder of `<seg>` tokens.

Knows masks; nothing of pictures, prompts or volumes. Torch is imported when a codec is created.

    python -m MedFMLib.models.masks.mask_codec vae-oid.npz FOLDER      converts the published file

The decoder has exactly the architecture of the one that Google publishes as `vae-oid.npz` (google-research/big_vision,
evaluators/proj/paligemma/transfers/segmentation.py; method: Ning et al., "All in Tokens", arXiv 2301.02229), with
configurable widths, so that the embedded codec is small and the published one loads through `from_vae_oid_npz`. The
encoder is our own: the published file has none, since reading a model's answers needs no encoder.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...storage.json_text import read_json

if TYPE_CHECKING:
    import torch
    from torch import nn

SIDE = 64
GRID = 4
CODES = GRID * GRID


@dataclass(frozen=True)
class CodecShape:
    """Sizes of a codec.

    Args:
        embedding: length of a code vector.
        width: channels of the decoder's first layers.
        encoder: channels of the encoder; 0 for no encoder.
        codebook: number of codes.
    """

    embedding: int = 64
    width: int = 64
    encoder: int = 64
    codebook: int = 128


PUBLISHED = CodecShape(embedding=512, width=128, encoder=0)
"""The shape of `vae-oid.npz`."""


def _residual(width: int) -> nn.Module:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 1),
            )

        def forward(self, x):
            return x + self.net(x)

    return Residual()


def _decoder(shape: CodecShape) -> nn.Sequential:
    """Return the decoder; its layer numbers match the keys of the published file."""
    from torch import nn

    width = shape.width
    ups: list[nn.Module] = []
    before = width
    for level in range(4):
        after = width // 2**level
        ups += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        before = after
    return nn.Sequential(
        nn.Conv2d(shape.embedding, width, 1),
        nn.ReLU(),
        _residual(width),
        _residual(width),
        *ups,
        nn.Conv2d(before, 1, 1),
    )


def _encoder(shape: CodecShape) -> nn.Sequential:
    from torch import nn

    width = shape.encoder
    return nn.Sequential(
        nn.Conv2d(1, width // 4, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width // 4, width // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 4, stride=2, padding=1),
        nn.ReLU(),
        _residual(width),
        nn.Conv2d(width, shape.embedding, 1),
    )


class MaskCodec:
    """Encoder (if any), codebook and decoder.

    Args:
        shape: the sizes; those of the embedded codec if None.
    """

    def __init__(self, shape: CodecShape | None = None):
        import torch

        self.shape = shape = shape or CodecShape()
        self.encoder = _encoder(shape) if shape.encoder else None
        self.decoder = _decoder(shape)
        self.codebook = torch.randn(shape.codebook, shape.embedding)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor by its name in files: `codebook`, `decoder.…`, `encoder.…`."""
        parts = {"decoder": self.decoder} | ({"encoder": self.encoder} if self.encoder is not None else {})
        named = {f"{part}.{n}": t for part, module in parts.items() for n, t in module.state_dict().items()}
        return {"codebook": self.codebook, **named}

    def put(self, tensors: dict[str, torch.Tensor]) -> MaskCodec:
        """Copy all tensors, named as in `tensors`, into the codec, set it to evaluation mode and return it.

        Raises:
            ValueError: if names are missing or unexpected, or a shape differs.
        """
        own = self.tensors()
        if wrong := sorted(set(own) ^ set(tensors)):
            raise ValueError(f"{len(wrong)} tensors are missing or unexpected, first {wrong[0]}")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensors[name].shape)} where {tuple(tensor.shape)} is expected"
                )
        for name, tensor in own.items():
            tensor.copy_(tensors[name].float())
        for module in (self.encoder, self.decoder):
            if module is not None:
                module.requires_grad_(False).eval()
        return self

    def features(self, masks: torch.Tensor) -> torch.Tensor:
        """Return the (N, 16, D) features of (N, 64, 64) masks 0…1 before quantization.

        Raises:
            ModelError: if this codec has no encoder.
        """
        if self.encoder is None:
            raise ModelError(
                "This mask codec only decodes (the published file has no encoder); train one to encode masks."
            )
        x = self.encoder(masks[:, None].float() * 2 - 1)
        return x.flatten(2).transpose(1, 2)

    def nearest(self, features: torch.Tensor) -> torch.Tensor:
        """Return the (N, 16) int64 nearest codes of (N, 16, D) features."""
        import torch

        return torch.cdist(features.flatten(0, 1).float(), self.codebook.float()).argmin(1).view(features.shape[:2])

    def raw(self, features: torch.Tensor) -> torch.Tensor:
        """Return the (N, 64, 64) decoder output for (N, 16, D) features, about -1 outside and 1 inside the mask."""
        x = features.transpose(1, 2).unflatten(2, (GRID, GRID))
        return self.decoder(x)[:, 0]

    def encode(self, masks) -> torch.Tensor:
        """Return the (N, 16) int64 codes of (N, 64, 64) masks, bool or 0…1; the 4×4 grid row by row."""
        import torch

        with torch.no_grad():
            return self.nearest(self.features(torch.as_tensor(masks)))

    def decode(self, codes) -> torch.Tensor:
        """Return (N, 64, 64) float32 masks, 0 outside … 1 inside, for (N, 16) int codes, tensor or lists.

        Raises:
            ModelError: if there are not 16 codes each, or a code is outside the codebook.
        """
        import torch

        codes = torch.as_tensor(codes)
        if codes.ndim != 2 or codes.shape[1] != CODES:
            raise ModelError(f"A mask has {CODES} codes, so codes must be (N, {CODES}), not {tuple(codes.shape)}.")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < len(self.codebook):
            raise ModelError(
                f"Mask codes must be 0 to {len(self.codebook) - 1}; received {int(codes.min())} to {int(codes.max())}."
            )
        with torch.no_grad():
            return (self.raw(self.codebook[codes.long()]).float() * 0.5 + 0.5).clamp(0, 1)

    def save(self, folder: Path) -> None:
        """Write `mask_codec.safetensors` (float16) and `mask_codec.json` into a folder."""
        import torch
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().to(torch.float16).contiguous() for name, value in self.tensors().items()}
        save_file(tensors, folder / "mask_codec.safetensors")
        (folder / "mask_codec.json").write_text(json.dumps(asdict(self.shape), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> MaskCodec:
        """Read what `save` wrote; computes in float32.

        Raises:
            ModelError: if a file is missing or incompatible.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in ("mask_codec.json", "mask_codec.safetensors"):
            if not (folder / name).exists():
                raise ModelError(f"The mask codec folder '{folder.name}' has no {name}; install the model again.")
        try:
            codec = cls(CodecShape(**read_json((folder / "mask_codec.json").read_bytes())))
            return codec.put(load_file(folder / "mask_codec.safetensors"))
        except Exception as error:
            raise ModelError(
                f"The mask codec in '{folder.name}' can't be read ({error}); install the model again."
            ) from error


def from_vae_oid_npz(path: Path) -> MaskCodec:
    """Return a decode-only codec from a file with the layout of the published `vae-oid.npz`, which also has its sizes.

    Raises:
        ModelError: if the file isn't such an archive; pickled content is never read.
    """
    import numpy as np
    import torch

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        codebook = arrays["_vq_vae._embedding"]
        width = arrays["decoder.0.weight"].shape[0]
    except Exception as error:
        raise ModelError(
            f"'{Path(path).name}' is not a mask codec of the vae-oid.npz layout ({error}); "
            "download the file that belongs to PaliGemma again."
        ) from error
    codec = MaskCodec(CodecShape(codebook.shape[1], width, 0, codebook.shape[0]))
    wanted = set(codec.tensors()) - {"codebook"}
    missing = sorted(wanted - set(arrays))
    if missing:
        raise ModelError(f"'{Path(path).name}' lacks {len(missing)} arrays of the mask decoder, first {missing[0]}.")
    tensors = {name: torch.from_numpy(np.array(arrays[name], dtype=np.float32)) for name in wanted}
    tensors["codebook"] = torch.from_numpy(np.array(codebook, dtype=np.float32))
    try:
        return codec.put(tensors)
    except ValueError as error:
        raise ModelError(
            f"The arrays in '{Path(path).name}' have inconsistent shapes: {error}; download the file again."
        ) from error


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("Usage: python -m MedFMLib.models.masks.mask_codec vae-oid.npz FOLDER", file=sys.stderr)
        return 2
    try:
        from_vae_oid_npz(Path(arguments[0])).save(Path(arguments[1]))
    except ModelError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"Wrote mask_codec.safetensors and mask_codec.json into {arguments[1]}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
