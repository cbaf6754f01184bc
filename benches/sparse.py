"""Checkpoints and adapters with real headers and no data: their files are sparse."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SIZES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4, "I64": 8}


@dataclass(frozen=True)
class Tensor:
    """A tensor of zeros, or of these bytes."""

    name: str
    shape: list[int]
    dtype: str = "BF16"
    data: bytes = b""

    def size(self) -> int:
        """Its bytes."""
        size = SIZES[self.dtype]
        for side in self.shape:
            size *= side
        return size


def write(path: Path, tensors: Iterable[Tensor]) -> int:
    """A safetensors file that takes no room for zeros; the bytes of its tensors."""
    at, header, filled = 0, {"__metadata__": {"format": "pt"}}, []
    for tensor in tensors:
        size = tensor.size()
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, at + size]}
        filled += [(at, tensor.data)] if tensor.data else []
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
        for place, data in filled:
            file.seek(8 + len(text) + place)
            file.write(data)
    return at


def checkpoint(folder: Path, config: dict, tensors: list[Tensor], shards: int) -> tuple[int, int]:
    """A base of so many files; its tensors and their bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    per_file, index, size = -(-len(tensors) // shards), {}, 0
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        held = tensors[number * per_file : (number + 1) * per_file]
        size += write(folder / name, held)
        index.update({tensor.name: name for tensor in held})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": index}))
    return len(tensors), size


def adapter(folder: Path, rank: int, tensors: list[Tensor], **settings: object) -> int:
    """A LoRA; its tensors."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 8, "peft_version": "0.21.2"}
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    write(folder / "adapter_model.safetensors", tensors)
    return len(tensors)


def pair(module: str, shape: list[int], rank: int) -> list[Tensor]:
    """The two factors of a module."""
    at = f"base_model.model.{module}.lora_"
    return [Tensor(f"{at}A.weight", [rank, shape[1]]), Tensor(f"{at}B.weight", [shape[0], rank])]
