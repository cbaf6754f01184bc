"""Ways to spoil a good folder. Each returns a function of the case's folder."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import tensors as st

from . import adapters

Spoil = Callable[[Path], None]
ADAPTER = f"adapter/{adapters.WEIGHTS}"
BASE = "base/model.safetensors"
Q = "model.layers.0.self_attn.q_proj"
A, B = f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight"
TRAP = "PAYLOAD_RAN"


def config(**changes: object) -> Spoil:
    """Other keys in the adapter's config."""
    return lambda folder: adapters.edit_config(folder / "adapter", **changes)


def base_config(**changes: object) -> Spoil:
    """Other keys in the base's config."""

    def apply(folder: Path) -> None:
        file = folder / "base" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes, indent=2) + "\n")

    return apply


def remove(path: str) -> Spoil:
    """A file that is not there."""
    return lambda folder: (folder / path).unlink()


def text(path: str, content: str) -> Spoil:
    """A file of other content."""
    return lambda folder: (folder / path).write_text(content) and None


def shorter(path: str, by: int) -> Spoil:
    """A file whose end is missing; `by` of 0 leaves nothing."""
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[: -by or 0]) and None


def tensors(change: Callable[[dict[str, st.Tensor]], dict[str, st.Tensor]], path: str = ADAPTER) -> Spoil:
    """Other tensors in a safetensors file."""
    return lambda folder: st.write(folder / path, change(st.read(folder / path)[0]).items())


def without(*ends: str) -> Spoil:
    """Adapter tensors that are missing."""
    return tensors(lambda held: {name: tensor for name, tensor in held.items() if not name.endswith(ends)})


def renamed(old: str, new: str) -> Spoil:
    """Adapter tensors of other names."""
    return tensors(lambda held: {name.replace(old, new): tensor for name, tensor in held.items()})


def empty(*ends: str) -> Spoil:
    """Adapter tensors of shape [0], as a save under ZeRO-3 without gathering leaves them."""
    nothing = st.Tensor("F32", (0,), b"")
    return tensors(lambda held: {name: nothing if name.endswith(ends) else tensor for name, tensor in held.items()})


def value(name: str, number: float, path: str = ADAPTER) -> Spoil:
    """One number of one tensor."""

    def change(held: dict[str, st.Tensor]) -> dict[str, st.Tensor]:
        numbers = held[name].values().copy()
        numbers.reshape(-1)[3] = number
        return held | {name: st.encode(numbers, held[name].dtype)}

    return tensors(change, path)


def more_rows(name: str) -> Spoil:
    """A tensor with its rows twice."""
    return tensors(lambda held: held | {name: st.encode(np.tile(held[name].values(), (2, 1)), held[name].dtype)})


def header(change: Callable[[str], str], path: str = ADAPTER) -> Spoil:
    """Another header text before the same data."""

    def apply(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        new = change(data[8 : 8 + length].decode().rstrip()).encode()
        (folder / path).write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])

    return apply


def header_length(length: int) -> Spoil:
    """A wrong number in the first eight bytes."""
    return lambda folder: (
        (folder / ADAPTER).write_bytes(struct.pack("<Q", length) + (folder / ADAPTER).read_bytes()[8:]) and None
    )


def overlapping(text_: str) -> str:
    """The second tensor's bytes begin in the first's."""
    head = json.loads(text_)
    head[B]["data_offsets"] = [offset - 8 for offset in head[B]["data_offsets"]]
    return json.dumps(head)


def doubled(text_: str) -> str:
    """One name twice."""
    head = json.loads(text_)
    return json.dumps(head)[:-1] + f', "{A}": {json.dumps(head[A])}}}'


def stored_as(dtype: str) -> Spoil:
    """The base's q_proj as one-byte codes."""

    def change(held: dict[str, st.Tensor]) -> dict[str, st.Tensor]:
        weight = held[f"{Q}.weight"]
        codes = np.arange(weight.values().size, dtype=np.uint8) % 120
        return held | {f"{Q}.weight": st.Tensor(dtype, weight.shape, codes.tobytes())}

    return tensors(change, BASE)


def aqlm(folder: Path) -> None:
    """A base in a form that nothing here decodes: codes that point into books."""
    base_config(quantization_config={"quant_method": "aqlm", "nbits_per_codebook": 8, "in_group_size": 8})(folder)

    def change(held: dict[str, st.Tensor]) -> dict[str, st.Tensor]:
        rows, columns = held.pop(f"{Q}.weight").shape
        return held | {
            f"{Q}.codes": st.encode(np.ones((rows, columns // 8, 1)), "I8"),
            f"{Q}.codebooks": st.encode(np.ones((1, 256, 1, 8)), "F16"),
            f"{Q}.scales": st.encode(np.ones((rows, 1, 1, 1)), "F16"),
        }

    tensors(change, BASE)(folder)


def indexed(place: Callable[[str], str]) -> Spoil:
    """The base with an index; `place` tells in which file each tensor is said to be."""

    def apply(folder: Path) -> None:
        held, _ = st.read(folder / BASE)
        (folder / BASE).rename(folder / "base" / "model-00001-of-00001.safetensors")
        index = {
            "metadata": {"total_size": sum(len(tensor.raw) for tensor in held.values())},
            "weight_map": {name: place(name) for name in held},
        }
        (folder / "base" / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    return apply


def swapped_shards(folder: Path) -> None:
    """Two shards, each listed with the other's tensors."""
    held, _ = st.read(folder / BASE)
    names = list(held)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        st.write(folder / "base" / file, [(name, held[name]) for name in part])
    (folder / BASE).unlink()
    weight_map = {name: file for file, part in zip(reversed(parts), parts.values(), strict=True) for name in part}
    index = {"metadata": {"total_size": sum(len(tensor.raw) for tensor in held.values())}, "weight_map": weight_map}
    (folder / "base" / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def other_target(folder: Path) -> None:
    """An adapter on a module that the base does not have, in config and keys."""
    config(target_modules=["gate"])(folder)
    renamed("q_proj", "gate")(folder)


class Payload:
    """Unpickled by an ordinary reader, it runs a command."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, (f"touch {TRAP}",)


def pickled(path: str) -> Spoil:
    """A PyTorch file that holds the payload beside real tensors."""

    def apply(folder: Path) -> None:
        source = folder / path
        held = {name: torch.zeros(tensor.shape) for name, tensor in st.read(source)[0].items()}
        target = source.with_name("adapter_model.bin" if "adapter" in source.name else "pytorch_model.bin")
        torch.save(held, target)
        with zipfile.ZipFile(target) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, content in parts.items():
                trap = pickle.dumps({"lora": Payload()}, protocol=2)
                archive.writestr(zipfile.ZipInfo(name), trap if name.endswith("/data.pkl") else content)  # of no date
        source.unlink()

    return apply
