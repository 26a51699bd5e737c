r"""Serialize values to bytes, lossless and without pickle. Knows the value classes; nothing of transport.

Layout: `MEDFM1\n`, the header's length (8 bytes, little endian), the header (UTF-8 JSON), then the arrays' raw bytes
one after the other. In the header `{"$": "Image", …}` is a value, `{"$array": n}` the n-th array, `{"$bytes": n}` a
byte string stored like one. JSON lists are tuples.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import fields, is_dataclass

import numpy as np

from ..core import findings, geometry, image, prompts, request
from ..errors import InputError
from ..storage.json_text import read_json

MAGIC = b"MEDFM1\n"

MOST_PARTS = 3_000_000
"""Largest number of values in the header of a message."""

DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
VALUES = {
    cls.__name__: cls
    for module in (geometry, image, prompts, findings, request)
    for cls in vars(module).values()
    if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__
}
"""Every class that may be transmitted, by name; nothing else can be decoded."""


def dumps(value, compress: bool = True) -> bytes:
    """Return a value of the `core` classes as bytes.

    Args:
        value: the value; tuples, dicts, numbers, strings and arrays may be nested in it.
        compress: deflate arrays of more than 256 bytes.

    Raises:
        TypeError: if something in it is not a value (a defect of the caller).
    """
    blobs: list[bytes] = []
    table: list[dict] = []

    def blob(raw: bytes, **facts) -> int:
        packed = zlib.compress(raw, 1) if compress and len(raw) > 256 else raw
        table.append({**facts, "size": len(packed), "raw": len(raw), "deflated": packed is not raw})
        blobs.append(packed)
        return len(table) - 1

    def encode(item):
        if item is None or isinstance(item, str | bool | int):
            return item
        if isinstance(item, float):
            return item if np.isfinite(item) else {"$float": repr(item)}
        if isinstance(item, np.generic):
            return encode(item.item())
        if isinstance(item, np.ndarray):
            # bool masks are packed to one bit per voxel
            if item.dtype == bool:
                return {"$mask": blob(np.packbits(item).tobytes(), shape=item.shape)}
            array = np.ascontiguousarray(item, dtype=item.dtype.newbyteorder("<"))
            return {"$array": blob(array.tobytes(), shape=item.shape, dtype=array.dtype.str)}
        if isinstance(item, bytes):
            return {"$bytes": blob(item)}
        if isinstance(item, findings.Segment):  # only its bounding box: a structure fills a small part of a volume
            start, box = item.cropped
            bits = np.packbits(box.reshape(-1, order="F")).tobytes()
            mask = {"$box": blob(bits, shape=item.shape, start=start, extent=box.shape)}
            rest = {f.name: encode(getattr(item, f.name)) for f in fields(item) if f.name != "mask"}
            return {"$": "Segment", "mask": mask, **rest}
        if type(item).__name__ in VALUES:
            return {"$": type(item).__name__, **{f.name: encode(getattr(item, f.name)) for f in fields(item)}}
        if isinstance(item, tuple | list):
            return [encode(part) for part in item]
        if isinstance(item, dict):
            return {"$dict": {str(key): encode(part) for key, part in item.items()}}
        raise TypeError(f"{type(item).__name__} is not a MedFM value")

    header = json.dumps({"value": encode(value), "table": table}).encode()
    return b"".join([MAGIC, struct.pack("<Q", len(header)), header, *blobs])


def loads(data: bytes, limit: int | None = None, memory: int | None = None):
    """Return the value that `dumps` wrote.

    Args:
        data: the bytes.
        limit: largest number of bytes of the inflated arrays, for messages from untrusted clients; unlimited if None.
        memory: largest number of bytes that the decoded arrays may take, where a mask takes one per voxel, for files of
            strangers; unlimited if None.

    Raises:
        InputError: if the bytes are truncated, changed, too many or not of this format.
    """
    try:
        return _loads(data, limit, memory)
    except InputError as error:
        raise InputError(f"The message can't be read: {error}") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        struct.error,
        zlib.error,
        IndexError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise InputError(
            f"The message of {len(data)} bytes is damaged or of another version ({type(error).__name__}); send it again."
        ) from error


def _loads(data: bytes, limit: int | None, memory: int | None):
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("magic")
    start = len(MAGIC) + 8
    (length,) = struct.unpack("<Q", data[len(MAGIC) : start])
    header = read_json(data[start : start + length], MOST_PARTS)
    offset = start + length
    if any(type(entry["raw"]) is not int or entry["raw"] < 0 for entry in header["table"]):
        raise ValueError("raw")
    inflated = sum(entry["raw"] for entry in header["table"])
    if limit is not None and inflated > limit:
        raise ValueError("too large")
    if memory is not None and inflated > memory:
        raise _too_large(inflated, memory)
    spent = taken = 0
    raws = []
    for entry in header["table"]:
        packed = data[offset : offset + entry["size"]]
        if len(packed) != entry["size"]:
            raise ValueError("truncated")
        offset += entry["size"]
        raws.append(_inflate(packed, entry["raw"]) if entry["deflated"] else packed)
    if offset != len(data):
        raise ValueError("trailing bytes")

    def spend(count, bits=1):
        """Count decoded bytes, a repeated entry each time; `limit` counts masks as bits, `memory` as voxels."""
        nonlocal spent, taken
        spent, taken = spent + count // bits, taken + count
        if limit is not None and spent > limit:
            raise ValueError("too large")
        if memory is not None and taken > memory:
            raise _too_large(taken, memory)

    def unbox(number):
        """Return (full mask, `Segment.cropped`) of a mask that was sent as its bounding box."""
        entry = header["table"][number]
        shape, start, size = (tuple(map(int, entry[name])) for name in ("shape", "start", "extent"))
        bits, count = np.frombuffer(raws[number], np.uint8), math.prod(size)
        inside = all(a >= 0 and n > 0 and a + n <= whole for a, n, whole in zip(start, size, shape, strict=True))
        if not inside or (count + 7) // 8 != len(bits) or (limit is not None and math.prod(shape) > limit):
            raise ValueError("box")
        spend(math.prod(shape), bits=8)
        box = np.unpackbits(bits, count=count).reshape(size, order="F")
        mask = np.zeros(shape, bool)
        mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = box
        return mask, (start, box)

    def decode(item):
        if isinstance(item, list):
            return tuple(decode(part) for part in item)
        if not isinstance(item, dict):
            return item
        if item.get("$") == "Segment" and "$box" in item["mask"]:
            rest = {key: decode(part) for key, part in item.items() if key not in ("$", "mask")}
            mask, cropped = unbox(item["mask"]["$box"])
            segment = findings.Segment(mask=mask, **rest)
            vars(segment)["cropped"] = cropped  # fill the cached property: it is known already
            return segment
        if "$" in item:
            return VALUES[item["$"]](**{key: decode(part) for key, part in item.items() if key != "$"})
        if "$dict" in item:
            return {key: decode(part) for key, part in item["$dict"].items()}
        if "$float" in item:
            return float(item["$float"])
        if "$bytes" in item:
            return raws[item["$bytes"]]
        if "$mask" in item:
            shape = tuple(header["table"][item["$mask"]]["shape"])
            bits = np.frombuffer(raws[item["$mask"]], np.uint8)
            if (math.prod(shape) + 7) // 8 != len(bits):
                raise ValueError("shape")
            spend(len(bits) * 8, bits=8)
            return np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
        entry = header["table"][item["$array"]]
        if entry["dtype"] not in DTYPES:
            raise ValueError("dtype")
        spend(len(raws[item["$array"]]))
        return np.frombuffer(raws[item["$array"]], entry["dtype"]).reshape(entry["shape"]).copy()

    return decode(header["value"])


def _too_large(count: int, memory: int) -> InputError:
    return InputError(
        f"its content takes at least {count / 1e9:.1f} GB of memory, and {memory / 1e9:.1f} GB may be used."
    )


def _inflate(packed: bytes, size: int) -> bytes:
    raw = zlib.decompressobj().decompress(packed, size + 1)
    if len(raw) != size:
        raise ValueError("size")
    return raw
