#!/usr/bin/env python3
"""Merges in a file system that shares blocks, against copies of the base that share none: seconds, shared blocks, equal bytes."""

import argparse
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import checkpoint
import shapes
from checkpoint import Checkpoint

GB = 1_000_000_000
# Sides of attention that an adapter changes, with the most that a merge may take of a copy's time.
ADAPTERS = {"qv": 0.30, "qkvo": 0.45}
# Parts are cut down to so many bytes at either end of a changed run; the rest is shared but for one block.
LEAST, BLOCK = 1 << 20, 4096


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a command and of bringing what it wrote to the disk."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["sync", "--file-system", str(folder)], check=True)
    return time.monotonic() - began


def remove(folder: Path) -> None:
    shutil.rmtree(folder)
    subprocess.run(["sync", "--file-system", str(folder.parent)], check=True)


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def shared(path: Path) -> int:
    """Bytes of a file in extents that are shared, by FIEMAP."""
    lines = subprocess.run(["filefrag", "-v", f"-b{BLOCK}", str(path)], check=True, stdout=subprocess.PIPE, text=True).stdout
    extents = (line.split(":") for line in lines.splitlines() if line.rstrip().endswith("shared") or "shared," in line)
    return BLOCK * sum(int(fields[3]) for fields in extents)


def to_share(base: Checkpoint, sides: str) -> dict[str, int]:
    """The least bytes of each file that are to be shared."""
    found = {}
    for file in base.files:
        changed = [tensor.size for tensor in file.tensors if any(f".self_attn.{side}_proj." in tensor.name for side in sides)]
        found[file.name] = file.size - sum(changed) - 2 * (LEAST + BLOCK) * (len(changed) + 1)
    return found


def compare(binary: Path, folder: Path, base: Checkpoint, sides: str, rounds: int) -> float:
    """Merges and copies in turn; the ratio of the shortest times."""
    adapter, copy, merged = checkpoint.adapter(folder / sides, base, sides), folder / "copy", folder / "merged"
    merge = [str(binary), "merge", "--quiet", "--base", str(folder / "base"), "--lora", str(adapter), "--output"]
    copies, merges = [], []
    for number in range(rounds):
        copies.append(timed(["cp", "-r", "--reflink=never", str(folder / "base"), str(copy)], folder))
        remove(copy)
        merges.append(timed([*merge, str(merged)], folder))
        if number + 1 < rounds:
            remove(merged)
    blocks = {path.name: shared(path) for path in sorted(merged.glob("*.safetensors"))}
    for name, least in to_share(base, sides).items():
        assert blocks[name] >= least, f"{name} shares {blocks[name]} bytes, at least {least} were to be"
    found = digests(merged)
    remove(merged)
    subprocess.run([*merge, str(merged), "--store-copies", "none"], check=True)
    assert not any(shared(path) for path in merged.glob("*.safetensors")), "a merge without copies shares blocks"
    assert digests(merged) == found, "the bytes differ from those of a merge without copies"
    remove(merged)
    ratio = min(merges) / min(copies)
    seconds = lambda times: " ".join(f"{each:.1f}" for each in times)
    print(
        f"{sides}: copies {seconds(copies)} s, merges {seconds(merges)} s, least {min(copies):.1f} and {min(merges):.1f} s, "
        f"ratio {ratio:.3f}; {sum(blocks.values()) / GB:.2f} of {base.size / GB:.2f} GB shared, equal digests; load {os.getloadavg()[1]:.1f}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path)
    parser.add_argument("folder", type=Path, help="in a file system that shares blocks")
    parser.add_argument("--full", action="store_true", help="the shape of Llama 7B, and the time decides")
    options = parser.parse_args()
    base = shapes.llama(32, 32000, 2 * GB) if options.full else shapes.llama(2, 8000, GB)
    checkpoint.write(options.folder / "base", base)
    os.sync()
    load = os.getloadavg()[0]
    print(f"base: {base.size / GB:.2f} GB in {len(base.files)} files; load {load:.1f}", flush=True)
    ratios = {sides: compare(options.binary.resolve(), options.folder, base, sides, 3 if options.full else 2) for sides in ADAPTERS}
    slow = [f"{sides} {ratio:.3f} above {ADAPTERS[sides]}" for sides, ratio in ratios.items() if ratio > ADAPTERS[sides]]
    if options.full and slow:
        raise SystemExit(f"too slow: {', '.join(slow)}")
    print("sharing: all passed" + (f"; not held against it: {', '.join(slow)}" if slow else ""))


if __name__ == "__main__":
    main()
