"""A conformance case as the checks need it, read from a `case.json`.

Two forms are read: this folder's own (`golden/`: a flat file with `args` and `changed`, bases shared between cases) and
that of a self-contained set (`base/` beside each case, `apply` and one entry with a digest for each tensor).
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import tensors


@dataclass(frozen=True)
class Wanted:
    """One tensor of the output: bit-identical to the base if it has a digest, else within the tolerance."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str | None


@dataclass(frozen=True)
class Case:
    """What to run and what must come of it. `args` are relative to `folder`, which is the working directory."""

    name: str
    folder: Path
    base: Path
    args: list[str]
    kinds: list[str]  # accepted refusals; empty: must merge
    must_merge: bool
    wanted: dict[str, Wanted]
    config: dict[str, object]
    ulp: float
    noise: float
    optional: list[str] = field(default_factory=list)  # may be there too, as in the base
    sidecars_from: str | None = None
    must_not_exist: list[str] = field(default_factory=list)

    def expected(self) -> dict[str, tensors.Tensor]:
        """The expected values of the changed tensors, in fp32."""
        file = self.folder / "expected.safetensors"
        return tensors.read(file)[0] if file.exists() else {}


def load(folder: Path) -> Case:
    """Read the case of a folder."""
    data = json.loads((folder / "case.json").read_text())
    return _self_contained(folder, data) if "apply" in data else _golden(folder, data)


def _golden(folder: Path, data: dict) -> Case:
    wanted: dict[str, Wanted] = {}
    expected = data["expected"]
    if expected["status"] == "ok":
        held = tensors.read_folder(folder / data["unchanged_as_in"])
        file = folder / "expected.safetensors"
        new = tensors.read(file)[0] if file.exists() else {}
        for name, tensor in held.items():
            wanted[name] = Wanted(tensor.dtype, tensor.shape, hashlib.sha256(tensor.raw).hexdigest())
        for name in data["changed"]:
            dtype = held[name].dtype if name in held else data["base_dtype"]
            wanted[name] = Wanted(dtype, new[name].shape, None)
    return Case(
        name=data["name"],
        folder=folder,
        base=folder / data["args"][data["args"].index("--base") + 1],
        args=data["args"],
        kinds=[expected["kind"], *expected.get("or_kinds", [])] if expected.get("kind") else [],
        must_merge=expected["status"] == "ok",
        wanted=wanted,
        config=data["expected_config"],
        ulp=data["tolerance"]["ulp"],
        noise=data["tolerance"]["noise_rel"],
        sidecars_from=data.get("sidecars_from"),
        must_not_exist=data.get("must_not_exist", []),
    )


def _self_contained(folder: Path, data: dict) -> Case:
    expected, args = data["expected"], ["--base", "base"]
    for adapter in data["apply"]["adapters"]:
        weight = adapter.get("weight", 1.0)
        args += ["--lora", adapter["path"] if weight == 1.0 else f"{adapter['path']}={weight}"]
    combination = data["apply"].get("combination_type", "cat")  # the exact weighted sum needs no option
    merges, later = expected["status"] == "ok", combination != "cat"
    if later:
        args += ["--combine", f"peft-{combination}"]
        args += ["--density", str(data["apply"]["density"])] if "density" in data["apply"] else []
    if merges:
        kinds = ["unsupported"] if expected.get("may_refuse") or later else []
    else:
        kinds = [expected["error_kind"], *expected.get("also_ok_kinds", [])]
    optional = [*data.get("optional_keys", []), *data.get("new_keys", [])]
    return Case(
        name=data["name"],
        folder=folder,
        base=folder / "base",
        args=args,
        kinds=kinds,
        must_merge=merges,
        wanted={
            name: Wanted(entry["dtype"], tuple(entry["shape"]), entry.get("sha256"))
            for name, entry in data.get("tensors", {}).items()
            if name not in data.get("optional_keys", [])
        },
        config={key: value for key, value in data["expected_config"].items() if value is not None},
        ulp=data["tolerance"]["ulp"],
        noise=data["tolerance"]["noise_rel"],
        optional=optional,
        sidecars_from=data.get("tokenizer_from"),
        must_not_exist=data.get("must_not_exist", []),
    )
