"""Replace linear layers of torch and bitsandbytes during inference on a CPU. Knows tensors; no models.

All are subclasses of `torch.nn.Linear`, so that PEFT attaches LoRA to them, and all have an empty `weight` with the
dtype in which the model computes. They can't be trained: requesting gradients is an error.

* `PackedLinear`: 4-bit or 8-bit weights with the kernels of `kernels`, activations in 8 bits with a scale for every 64.
* `DynamicLinear`: 8-bit weights with torch's own product, activations in 8 bits with a scale for every row; the
  rounding remainder is multiplied too, so that rows with outliers keep their precision (see `DynamicLinear`).
"""

from __future__ import annotations

import ctypes
import math
import struct
import warnings

import torch
from torch import nn

from ...errors import ModelError
from . import kernels
from .kernels import ProductWork
from .products import BLOCK

WORK_SIZE = BLOCK + 8
"""Bytes of a block of rounded activations: 64 codes, a scale and a sum."""


FEW = 4
"""Number of rows of activations up to which reading the weights dominates, so that twice the products cost nothing."""


class FrozenLinear(nn.Linear):
    """Base class of the layers.

    Args:
        in_features: columns of the weight.
        out_features: rows of the weight.
        bias: (out_features,) or None.
        dtype: in which the model computes.
    """

    def __init__(self, in_features: int, out_features: int, bias, dtype):
        nn.Module.__init__(self)
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(0, in_features, dtype=dtype), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype), requires_grad=False)

    def bytes(self) -> int:
        """Return the memory of its weights in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.parameters(), *self.buffers()))

    def forward(self, x):
        """Return (…, out_features) for x (…, in_features).

        Raises:
            ModelError: if gradients are requested.
        """
        if x.requires_grad and torch.is_grad_enabled():
            raise ModelError("This model was loaded for inference; load it again to train it.")
        shape = x.shape
        y = self.product(x.reshape(-1, shape[-1]))
        if self.bias is not None:
            y = y + self.bias
        return y.view(*shape[:-1], self.out_features)

    def product(self, x):
        """Return (rows, out_features), without bias, for x (rows, in_features)."""
        raise NotImplementedError


OUTLIER = 12.0
"""Ratio of largest to mean size above which a value is an outlier; a Gaussian row has about 5."""
MOST_APART = 32
"""Largest number of columns with outliers that are multiplied separately.

Language models have a handful (Dettmers et al., LLM.int8(), 2022).
"""


def outliers(x):
    """Return the strongest columns of x (rows, columns) that have outliers, (n,) int64; None if there are none."""
    most = x.abs().amax(0).float()
    usual = most.median()
    strong = (most > OUTLIER / 4 * usual).nonzero().flatten()
    if not len(strong):
        return None
    return strong if len(strong) <= MOST_APART else most.topk(MOST_APART).indices


class PackedLinear(FrozenLinear):
    """Weights in the layout of `kernels`; `from_weight` creates one from a dense weight.

    Args:
        in_features: columns of the weight, without padding.
        bits: 4 or 8.
        codes: (out, columns) uint8, or int8 for 8 bits; columns is a multiple of 64.
        scales: (out, columns / 64) float32.
        table: (16,) float32 of −1…1, values of the 4-bit codes; None for 8 bits.
        bias: (out,) or None.
        dtype: in which the model computes.
        loaded: the kernels.
    """

    def __init__(self, in_features: int, bits: int, codes, scales, table, bias, dtype, loaded: kernels.Kernels):
        super().__init__(in_features, codes.shape[0], bias, dtype)
        self.bits, self.kernels, lanes = bits, loaded, loaded.lanes
        self.threads = torch.get_num_threads()
        rows = -(-codes.shape[0] // lanes) * lanes
        self.padded, self.blocks = rows, codes.shape[1] // BLOCK
        extra = rows - codes.shape[0]
        codes, scales = nn.functional.pad(codes, (0, 0, 0, extra)), nn.functional.pad(scales, (0, 0, 0, extra))
        fours = codes.contiguous().view(torch.int32)  # four columns move together
        if bits == 4:
            halves = fours.view(rows // lanes, lanes, self.blocks, 8, 2).permute(0, 2, 3, 1, 4)
            packed = halves[..., 0] | (halves[..., 1] << 4)
            table = (table * 127).round().to(torch.int16) + loaded.bias
            self.register_buffer("table", table.to(torch.uint8).repeat(lanes // 4))
            scales = scales / 127
        else:
            packed = fours.view(rows // lanes, lanes, self.blocks, 16).permute(0, 2, 3, 1).contiguous()
            if loaded.bias:
                packed.view(torch.uint8).bitwise_xor_(128)  # the same as adding 128
            self.register_buffer("table", torch.zeros(1, dtype=torch.uint8))
        self.register_buffer("codes", packed.contiguous())
        largest = float(scales.max()) or 1.0
        self.unit = 2.0 ** math.floor(math.log2(largest))  # float16 is exact enough near 1
        scales = (scales / self.unit).view(rows // lanes, lanes, self.blocks).permute(0, 2, 1).contiguous()
        self.register_buffer(
            "scales", scales.half().view(torch.int16)
        )  # as integers, so that casts of the model don't change them
        self._unit = struct.unpack("<i", struct.pack("<f", self.unit))[0]
        self._fixed = (self.codes.data_ptr(), self.scales.data_ptr(), self.table.data_ptr())

    @classmethod
    def from_weight(cls, weight, bias, dtype, loaded) -> PackedLinear:
        """Return an 8-bit layer with a scale for every 64 columns; 0.5 % error on Gaussian weights.

        Args:
            weight: (out, in), dense.
            bias: (out,) or None.
            dtype: in which the model computes.
            loaded: the kernels.
        """
        columns = weight.shape[1]
        blocks = -(-columns // BLOCK)
        parts = []
        for some in weight.split(4096):  # so that heads of 262,000 rows need little memory
            padded = nn.functional.pad(some.float(), (0, blocks * BLOCK - columns)).view(len(some), blocks, BLOCK)
            scales = padded.abs().amax(-1) / 127
            codes = (padded / scales.clamp(min=1e-12)[..., None]).round_().clamp_(-127, 127).to(torch.int8)
            parts.append((codes.view(len(some), -1), scales))
        codes, scales = (torch.cat(some) for some in zip(*parts, strict=True))
        return cls(columns, 8, codes, scales, None, bias, dtype, loaded)

    def product(self, x):
        """Implement `FrozenLinear.product`."""
        rows, columns = len(x), self.blocks * BLOCK
        if columns != self.in_features:
            x = nn.functional.pad(x, (0, columns - self.in_features))
        kind = "bf16" if x.dtype == torch.bfloat16 else "fp32"
        given, x = x.dtype, (x if kind == "bf16" else x.float()).contiguous()
        fine = rows <= FEW
        strong = None if fine else outliers(x)
        if strong is not None:
            apart = x[:, strong]
            x = x.index_fill(1, strong, 0)
        functions = self.kernels.finely if fine else self.kernels.multiply
        lines = rows * (1 + fine)
        room = torch.empty(lines * self.blocks * WORK_SIZE, dtype=torch.uint8)
        y = torch.empty((rows, self.padded), dtype=x.dtype)
        codes = room.data_ptr()
        scales = codes + lines * columns
        work = ProductWork(0, 0, self.padded // self.kernels.lanes, self.blocks, rows, *self._fixed, x.data_ptr(), codes, scales,
                    scales + 4 * lines * self.blocks, y.data_ptr(), self.padded, self._unit)  # fmt: skip
        team = self.kernels.team
        team.call(self.threads - 1)
        functions[self.bits, kind](ctypes.addressof(work), team.address)
        if strong is not None:
            y += apart @ self.columns(strong).to(x.dtype)
        return y[:, : self.out_features].to(given)

    def rows(self, which):
        """Return some rows of 8-bit weights, (rows, in_features) float32.

        Args:
            which: (rows,) int64.
        """
        lanes = self.kernels.lanes
        tiles = self.codes.view(torch.uint8).view(-1, self.blocks, 16, lanes, 4)
        codes = tiles[which // lanes, :, :, which % lanes]  # (rows, blocks, 16, 4)
        values = codes.float() - 128 if self.kernels.bias else codes.view(torch.int8).float()
        scales = self.scales.view(torch.float16)[which // lanes, :, which % lanes].float() * self.unit
        return (values.flatten(2) * scales[..., None]).flatten(1)[:, : self.in_features]

    def columns(self, which):
        """Return some columns of the weight, (columns, rows padded to whole tiles) float32.

        Args:
            which: (columns,) int64.
        """
        lanes, block = self.kernels.lanes, which // BLOCK
        step, byte = (which % BLOCK) // (32 // self.bits), which % 4
        tiles = self.codes.view(torch.uint8).view(-1, self.blocks, BLOCK * self.bits // 32, lanes, 4)
        codes = tiles[:, block, step, :, byte]  # (columns, tiles, lanes)
        if self.bits == 4:
            high = (which % 8 >= 4)[:, None, None]
            codes = self.table[torch.where(high, codes >> 4, codes & 15).int()]
        values = codes.float() - 128 if self.kernels.bias else codes.view(torch.int8).float()
        scales = self.scales.view(torch.float16)[:, block].transpose(0, 1)
        return (values * scales).reshape(len(which), -1) * self.unit


class PackedEmbedding(nn.Module):
    """Embedding table that shares the 8-bit weights of an output head: (…) token numbers → (…, columns).

    Args:
        head: its weights are rows of words.
        dtype: of the result.
        factor: for families that scale their embeddings.
    """

    def __init__(self, head: PackedLinear, dtype, factor: float):
        super().__init__()
        self._head = [head]  # in a list, so that it is not registered twice in the model
        self.dtype, self.factor = dtype, factor
        self.num_embeddings, self.embedding_dim = head.out_features, head.in_features

    def forward(self, numbers):
        """Return the rows of the token numbers."""
        return (self._head[0].rows(numbers.flatten()) * self.factor).view(*numbers.shape, -1).to(self.dtype)


class DynamicLinear(FrozenLinear):
    """8-bit weights with one scale per row, multiplied by torch's quantized product (FBGEMM).

    Each row of x is rounded to 8 bits of its largest value. A row with outliers, and every row if there are few (when
    reading the weights dominates), is multiplied twice: rounded, and its rounding remainder; together that is 15 bits.

    Args:
        weight: (out, in), dense.
        bias: (out,) or None.
        dtype: in which the model computes.
    """

    def __init__(self, weight, bias, dtype):
        super().__init__(weight.shape[1], weight.shape[0], bias, dtype)
        scales = torch.cat([some.abs().amax(1).float() / 127 for some in weight.split(4096)]).clamp(min=1e-12)
        codes = [
            (some.float() / scale[:, None]).round_().to(torch.int8)
            for some, scale in zip(weight.split(4096), scales.split(4096), strict=True)
        ]
        before, torch.backends.quantized.engine = torch.backends.quantized.engine, "fbgemm"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecation of quantized tensors; without them `int8` is unavailable
                zeros = torch.zeros(len(weight), dtype=torch.long)
                tensor = torch._make_per_channel_quantized_tensor(torch.cat(codes), scales.double(), zeros, 0)
                self.packed = torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = before
        # without VNNI two products are summed in 16 bits, where 8-bit by 8-bit products would overflow
        self.levels = 127 if torch.cpu._is_vnni_supported() else 63

    def bytes(self) -> int:
        """Implement `FrozenLinear.bytes`."""
        return super().bytes() + self.in_features * self.out_features + 8 * self.out_features

    def product(self, x):
        """Implement `FrozenLinear.product`."""
        whole = x.float()
        most = whole.abs().amax(1, keepdim=True).clamp_(min=1e-12)
        levels = whole * (self.levels / most)
        y = self._times(levels) * (most / self.levels)
        if len(x) <= FEW:
            rows = slice(None)
        else:
            size = whole.abs().mean(1, keepdim=True)  # not root mean square, which outliers would raise
            rows = (most > OUTLIER * size).flatten().nonzero().flatten()
            if not len(rows):
                return y.to(x.dtype)
        some = levels[rows]
        rest = (some - some.round()) * (2 * self.levels)
        y[rows] += self._times(rest) * (most[rows] / (2 * self.levels**2))
        return y.to(x.dtype)

    def _times(self, levels):
        return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            levels, 1.0, self.levels + 1, self.packed
        )
