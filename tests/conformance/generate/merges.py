"""Cases that merge: from a description to a folder."""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import adapters, bases, oracle
from .adapters import Adapter

VERSIONS = {name: version(name) for name in ("peft", "transformers", "torch")}
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
Oracle = Callable[[Path, Sequence[Path]], oracle.State]


@dataclass(frozen=True)
class Merge:
    """A case that must merge. `uses` are the values of --lora; without it, every adapter once."""

    name: str
    kind: str
    tests: str
    base: str
    adapters: list[Adapter]
    uses: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    oracle: Oracle | None = None
    config: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    may_refuse_as: list[str] = field(default_factory=list)
    nothing_changes: bool = False


def paths_of(case: Merge) -> list[str]:
    """The adapter folders of a case."""
    return ["adapter"] if len(case.adapters) == 1 else [f"adapter-{n + 1}" for n in range(len(case.adapters))]


def sequence_at(rows: int) -> Oracle:
    """One after another on a base whose vocabulary is resized first, as the adapters were trained."""
    return lambda base, folders: oracle.in_sequence(base, folders, rows)


def named(architecture: str, labels: int) -> dict:
    """What config.json says of a class with so many labels."""
    ids = {str(n): f"LABEL_{n}" for n in range(labels)}
    back = {label: int(n) for n, label in ids.items()}
    return {"architectures": [architecture], "num_labels": labels, "id2label": ids, "label2id": back}


def write_expected(folder: Path, merged: oracle.State, base: Path) -> list[str]:
    """Write the tensors that the merge changes; their names."""
    held = {name: tensor.float() for name, tensor in oracle.stored(base).items() if tensor.is_floating_point()}
    changed = {
        name: tensor.float().clone().contiguous()
        for name, tensor in sorted(merged.items())
        if tensor.is_floating_point() and (name not in held or not torch.equal(tensor, held[name]))
    }
    assert all(torch.isfinite(tensor).all() for tensor in changed.values()), folder.name
    if changed:
        save_file(changed, folder / "expected.safetensors")
    return sorted(changed)


def build(case: Merge, root: Path, known: dict[str, bases.Base] = bases.BASES, seed: str = "") -> dict:
    """Write the case's folder; returns its entry for the list."""
    folder, base = root / case.name, root / "bases" / case.base
    form = known[case.base]
    readable = base if form.form not in ("bin", "shared") else root / "bases" / case.base.removesuffix("-bin")
    folder.mkdir(parents=True)
    made = []
    for number, (adapter, path) in enumerate(zip(case.adapters, paths_of(case), strict=True)):
        adapters.make(adapter, readable, folder / path, zlib.crc32(f"{case.name}{seed}".encode()) + number)
        made.append(folder / path)
    merged = (case.oracle or oracle.in_sequence)(readable, made)
    for adapter, path in zip(case.adapters, made, strict=True):
        if adapter.disguise:
            adapter.disguise(path)
        if adapter.tokenizer:
            bases.sidecars(path, adapter.rows)
    changed = write_expected(folder, merged, readable)
    assert bool(changed) != case.nothing_changes, f"{case.name}: {len(changed)} tensors change"
    args = ["--base", f"../bases/{case.base}"]
    for use in case.uses or paths_of(case):
        args += ["--lora", use]
    entry = {
        "name": case.name,
        "kind": case.kind,
        "tests": case.tests,
        "args": args + case.options,
        "expected": {"status": "ok"} | ({"may_refuse_as": case.may_refuse_as} if case.may_refuse_as else {}),
        "base_dtype": form.dtype,
        "expected_config": {"dtype": NAMES[form.dtype]} | case.config,
        "tolerance": {"ulp": 0.5, "noise_rel": 1e-6},
        "unchanged_as_in": f"../bases/{readable.name}",
        "changed": changed,
        "notes": case.notes,
        "made_with": VERSIONS,
    }
    brings = [path for adapter, path in zip(case.adapters, paths_of(case), strict=True) if adapter.tokenizer]
    if brings:
        entry["sidecars_from"] = brings[-1]
    (folder / "case.json").write_text(json.dumps(entry, indent=1) + "\n")
    return entry
