"""Cases to refuse: how a folder is made, from a good one that is then spoilt."""

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import adapters, bases
from .adapters import Adapter
from .cases_lora import lora
from .merges import NAMES, VERSIONS

Spoil = Callable[[Path], None]
GOOD = Adapter(lora(["q_proj"], r=2))


@dataclass(frozen=True)
class Refusal:
    """A case to refuse. `spoil` gets the case's folder; with `own_base`, a copy of the base is in there to be spoilt."""

    name: str
    kind: str
    tests: str
    spoil: Spoil | None = None
    adapters: list[Adapter] = field(default_factory=lambda: [GOOD])
    made_for: str = "mini"
    base: str = "mini"
    own_base: bool = False
    uses: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    or_kinds: list[str] = field(default_factory=list)
    must_not_exist: list[str] = field(default_factory=list)


def build(case: Refusal, root: Path) -> dict:
    """Write the case's folder; returns its entry for the list."""
    folder = root / f"err-{case.name}"
    folder.mkdir(parents=True)
    paths = ["adapter"] if len(case.adapters) == 1 else [f"adapter-{n + 1}" for n in range(len(case.adapters))]
    for number, (adapter, path) in enumerate(zip(case.adapters, paths, strict=True)):
        adapters.make(adapter, root / "bases" / case.made_for, folder / path, zlib.crc32(case.name.encode()) + number)
        if adapter.disguise:
            adapter.disguise(folder / path)
    if case.own_base:
        shutil.copytree(root / "bases" / case.base, folder / "base")
    if case.spoil:
        case.spoil(folder)
    args = ["--base", "base" if case.own_base else f"../bases/{case.base}"]
    for use in case.uses or paths:
        args += ["--lora", use]
    dtype = bases.BASES[case.base].dtype
    expected = {"status": "error", "kind": case.kind} | ({"or_kinds": case.or_kinds} if case.or_kinds else {})
    entry = {
        "name": folder.name,
        "kind": "refusal",
        "tests": case.tests,
        "args": args + case.options,
        "expected": expected,
        "base_dtype": dtype,
        "expected_config": {"dtype": NAMES[dtype]},
        "tolerance": {"ulp": 0.5, "noise_rel": 0},
        "changed": [],
        "notes": [],
        "made_with": VERSIONS,
    }
    if case.must_not_exist:
        entry["must_not_exist"] = case.must_not_exist
    (folder / "case.json").write_text(json.dumps(entry, indent=1) + "\n")
    return entry
