"""Checkpoints whose files are made piece by piece as they are written, with nothing but the standard library.

Values come from one block of noise, each tensor from a place of its own in it. All values are finite.
"""

import hashlib
import json
import random
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
import model

# Not a power of two, so that no two neighbours have the same bytes at the same distance.
NOISE = 2 * ((32 << 20) + 12289)
RANK = 8
_noise: list[bytes] = []


def noise() -> bytes:
    """The block, made once."""
    if not _noise:
        _noise.append(model.noise(random.Random(1), NOISE // 2, 2))
    return _noise[0]


@dataclass(frozen=True)
class Tensor:
    """A tensor of bf16."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        size = 2
        for side in self.shape:
            size *= side
        return size

    def bytes(self, salt: str) -> Iterator[memoryview]:
        """Its bytes. Another salt gives others."""
        at = 2 * (int.from_bytes(hashlib.sha256((salt + self.name).encode()).digest()[:8], "big") % (NOISE // 2))
        left, view = self.size, memoryview(noise())
        while left:
            piece = view[at : at + left]
            yield piece
            left, at = left - len(piece), 0


@dataclass(frozen=True)
class File:
    """A safetensors file."""

    name: str
    tensors: tuple[Tensor, ...]

    @property
    def header(self) -> bytes:
        entries, at = {"__metadata__": {"format": "pt"}}, 0
        for tensor in self.tensors:
            entries[tensor.name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [at, at + tensor.size]}
            at += tensor.size
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    @property
    def size(self) -> int:
        return len(self.header) + sum(tensor.size for tensor in self.tensors)

    def bytes(self, salt: str = "") -> Iterator[memoryview]:
        yield memoryview(self.header)
        for tensor in self.tensors:
            yield from tensor.bytes(salt)


@dataclass(frozen=True)
class Checkpoint:
    """A model's weight files and its configuration."""

    config: dict
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of the weight files."""
        return sum(file.size for file in self.files)

    def sidecars(self) -> dict[str, bytes]:
        weight_map = {tensor.name: file.name for file in self.files for tensor in file.tensors}
        total = sum(tensor.size for file in self.files for tensor in file.tensors)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        texts = {"config.json": self.config, "model.safetensors.index.json": index}
        return {name: json.dumps(value, indent=1).encode() for name, value in texts.items()}


def cut(tensors: Iterable[Tensor], limit: int) -> tuple[File, ...]:
    """Files of at most so many bytes of tensors."""
    groups, size = [[]], 0
    for tensor in tensors:
        if groups[-1] and size + tensor.size > limit:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.size
    names = (f"model-{number:05}-of-{len(groups):05}.safetensors" for number in range(1, len(groups) + 1))
    return tuple(File(name, tuple(group)) for name, group in zip(names, groups))


def adapter(folder: Path, checkpoint: Checkpoint, sides: str) -> Path:
    """A LoRA on these projections of attention, such as `qv`, in every layer."""
    folder.mkdir(parents=True, exist_ok=True)
    modules, rng = [f"{side}_proj" for side in sides], random.Random(2)
    factors = {}
    for tensor in (tensor for file in checkpoint.files for tensor in file.tensors):
        module = tensor.name.removesuffix(".weight")
        if module.rpartition(".")[2] in modules:
            rows, columns = tensor.shape
            key = f"base_model.model.{module}"
            factors[f"{key}.lora_A.weight"] = ("F32", [RANK, columns], model.noise(rng, RANK * columns, 4))
            factors[f"{key}.lora_B.weight"] = ("F32", [rows, RANK], model.noise(rng, rows * RANK, 4))
    model.safetensors(folder / "adapter_model.safetensors", factors)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16, "bias": "none", "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint into a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in checkpoint.sidecars().items():
        (folder / name).write_bytes(text)
    for file in checkpoint.files:
        with (folder / file.name).open("wb") as out:
            for piece in file.bytes():
                out.write(piece)
    return folder
