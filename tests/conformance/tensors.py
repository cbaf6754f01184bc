"""Safetensors files in plain numpy: read with every check of the format, write, encode, decode."""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
BYTES = {name: np.dtype(code).itemsize for name, code in NUMPY.items()} | {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
# stored mantissa bits, smallest normal exponent
FLOATS = {"F64": (52, -1022), "F32": (23, -126), "F16": (10, -14), "BF16": (7, -126)}
CONFIG_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class BadFile(Exception):
    """A file that is not what the format asks for."""


@dataclass(frozen=True)
class Tensor:
    """A tensor as it lies in a file."""

    dtype: str
    shape: tuple[int, ...]
    raw: bytes

    def values(self) -> np.ndarray:
        """The numbers, in f64 for floats."""
        if self.dtype == "BF16":
            wide = np.frombuffer(self.raw, "<u2").astype("<u4") << 16
            return wide.view("<f4").astype(np.float64).reshape(self.shape)
        numbers = np.frombuffer(self.raw, NUMPY[self.dtype]).reshape(self.shape)
        return numbers.astype(np.float64) if self.dtype in FLOATS else numbers


def encode(values: np.ndarray, dtype: str) -> Tensor:
    """Round to `dtype`, to nearest even."""
    shape = tuple(np.shape(values))
    if dtype != "BF16":
        return Tensor(dtype, shape, np.ascontiguousarray(values, NUMPY[dtype]).tobytes())
    bits = np.ascontiguousarray(values, "<f4").view("<u4").astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    rounded = np.where(np.isnan(values), np.uint16(0x7FC0), rounded.reshape(shape)).astype("<u2")
    return Tensor(dtype, shape, rounded.tobytes())


def ulp(values: np.ndarray, dtype: str) -> np.ndarray:
    """The distance between neighbours of `dtype` at each value."""
    mantissa, lowest = FLOATS[dtype]
    _, exponent = np.frexp(np.abs(values))
    exponent = np.where(values == 0, lowest, np.maximum(exponent - 1, lowest))
    return np.ldexp(1.0, exponent - mantissa)


def no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object that names nothing twice."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise BadFile("a JSON name stands twice")
    return out


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file and its metadata, or BadFile."""
    data = path.read_bytes()
    if len(data) < 8:
        raise BadFile(f"{path.name}: {len(data)} bytes, too short for a header")
    (length,) = struct.unpack_from("<Q", data)
    if 8 + length > len(data):
        raise BadFile(f"{path.name}: the header is {length} bytes, the file {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=no_duplicates)
    except ValueError as error:
        raise BadFile(f"{path.name}: the header is not JSON: {error}") from error
    metadata, at, out = header.pop("__metadata__", {}), 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        size = int(np.prod(entry["shape"], dtype=np.int64)) * BYTES[entry["dtype"]]
        if begin != at or end - begin != size:
            raise BadFile(f"{path.name}: {name} lies at {begin}..{end}, wanted {at}..{at + size}")
        out[name] = Tensor(entry["dtype"], tuple(entry["shape"]), data[8 + length + begin : 8 + length + end])
        at = end
    if 8 + length + at != len(data):
        raise BadFile(f"{path.name}: {len(data)} bytes, the header describes {8 + length + at}")
    return out, metadata


def write(path: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """A safetensors file with the tensors in the given order."""
    header, at, bodies = {"__metadata__": {"format": "pt"}}, 0, []
    for name, tensor in tensors:
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(tensor.raw)],
        }
        at += len(tensor.raw)
        bodies.append(tensor.raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(bodies))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a loader would read: those of the index, else `model.safetensors`."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    return [folder / "model.safetensors"]


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder."""
    out: dict[str, Tensor] = {}
    for file in weight_files(folder):
        out |= read(file)[0]
    return out
