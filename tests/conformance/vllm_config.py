"""Whether vLLM takes an output as it is: `vllm_config.py VLLM FOLDER [FOLDER ...]`.

`VLLM` is the folder of vLLM's sources, unpacked from its sdist: its build is not needed. The configuration classes of its methods `fp8`,
`compressed-tensors` and `mxfp4` run as they are; all else that they import is a stand-in without contents. For each folder the class that
the method names reads `quantization_config`. Then it is asked for each module that vLLM makes of the checkpoint's linear layers and
experts whether it is quantised. The answer must be what the tensors say: codes in all parts of the module, or in none.

The folders are those that `quantised.py --keep` leaves: `quantised.py BINARY --only deepseek --keep K` and `K/deepseek-v3/*/output`.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import json
import re
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

from quantised_models import coded, module_of
from quantised_parts import State, read

TABLE = Path(__file__).parents[2] / "merge/src/base/quantisation/packed.json"
LAYERS = "vllm.model_executor.layers.quantization"
# What runs as it is.
REAL = {
    f"{LAYERS}.{name}"
    for name in (
        "base_config", "utils.quant_utils", "utils.config_utils", "fp8", "mxfp4", "compressed_tensors", "compressed_tensors.compressed_tensors",
        "compressed_tensors.utils",
    )
}  # fmt: skip


class StandIn(types.ModuleType):
    """A module whose classes and functions are made when they are named."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> object:
        """A class for a name that begins with a capital, else anything."""
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {"__init__": lambda self, *_, **__: None}) if name[0].isupper() and not name.isupper() else MagicMock(name=name)
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of vLLM: real ones in its sources, stand-ins for all others."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """The module of a name."""
        if name.split(".")[0] != "vllm":
            return None
        path = self.root.joinpath(*name.split("."))
        if name in REAL and path.is_dir():
            return importlib.util.spec_from_file_location(name, path / "__init__.py", submodule_search_locations=[str(path)])
        if name in REAL:
            return importlib.util.spec_from_file_location(name, path.with_suffix(".py"))
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """A stand-in."""
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """It has no contents."""


def config_class(method: str) -> type:
    """The class that reads a method's configuration."""
    if method == "compressed-tensors":
        return importlib.import_module(f"{LAYERS}.compressed_tensors.compressed_tensors").CompressedTensorsConfig
    module, name = {"fp8": (f"{LAYERS}.fp8", "Fp8"), "mxfp4": (f"{LAYERS}.mxfp4", "Mxfp4")}[method]
    module = importlib.import_module(module)
    for kernels in (f"{name}LinearMethod", f"{name}MoEMethod"):  # they look for a card
        setattr(module, kernels, type("Quantised", (), {"__init__": lambda self, *_: None}))
    return getattr(module, f"{name}Config")


def fused(modules: set[str], mapping: dict[str, list[str]]) -> dict[str, set[str]]:
    """The modules of the engine, each with those of the checkpoint: all experts of a layer are one."""
    made: dict[str, set[str]] = {}
    for module in modules:
        if found := re.match(r"(.*\.experts)(\.\d+\.|\.)", module):
            name = found[1]
        else:
            before, _, last = module.rpartition(".")
            name = next((f"{before}.{whole}" for whole, parts in mapping.items() if last in parts), module)
        made.setdefault(name, set()).add(module)
    return made


def linears(state: State) -> set[str]:
    """The linear layers and parameters of experts of a checkpoint, without the router and the embedding."""
    names = {module_of(name) for name, tensor in state.items() if tensor.ndim >= 2 and not name.endswith(("_bias", ".bias"))}
    return {name for name in names if re.search(r"proj(_with_mqa)?$", name) and not name.endswith("eh_proj")}


def check(folder: Path, table: dict) -> list[str]:
    """What is wrong with a folder."""
    config, state = json.loads((folder / "config.json").read_text()), read(folder)
    held, codes = config.get("quantization_config"), coded(read(folder))
    if held is None:
        return [f"{len(codes)} modules hold codes"] if codes else []
    mapping = table["lists"][table["classes"][config["architectures"][0]]]
    made = config_class(held["quant_method"]).from_config(held)
    made.packed_modules_mapping = mapping
    linear = importlib.import_module("vllm.model_executor.layers.linear").LinearBase
    experts = importlib.import_module("vllm.model_executor.layers.fused_moe").RoutedExperts
    wrong = []
    for name, parts in sorted(fused(linears(state), mapping).items()):
        layer = (experts if name.endswith(".experts") else linear)()
        layer.moe_config = None
        has = {part in codes for part in parts}
        if len(has) > 1:
            wrong.append(f"{name} holds codes in part")
            continue
        says = is_quantised(made, layer, name)
        if says != has.pop():
            wrong.append(f"{name} is {'' if says else 'not '}quantised for vLLM")
    return wrong


def is_quantised(made: object, layer: object, name: str) -> bool:
    """What the configuration says of a module."""
    if hasattr(made, "get_scheme_dict"):  # compressed-tensors: no card is asked for a kernel
        if not name.endswith(".experts"):
            return made.get_scheme_dict(layer, name) is not None
        made._add_fused_moe_to_target_scheme_map()  # as CompressedTensorsMoEMethod.get_moe_method does
        parts = {made.get_scheme_dict(layer, f"{name}.0.{part}") is not None for part in ("gate_proj", "up_proj", "down_proj")}
        assert len(parts) == 1, f"the parts of {name} differ"
        return parts.pop()
    chosen = made.get_quant_method(layer, name)
    return chosen is not None and not type(chosen).__name__.startswith("Unquantized")


def main() -> int:
    """Checks all folders; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vllm", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    args = parser.parse_args()
    sys.meta_path.insert(0, Finder(args.vllm))
    table, failed = json.loads(TABLE.read_text()), 0
    for folder in args.folders:
        wrong = check(folder, table)
        failed += bool(wrong)
        print(f"{'FAIL' if wrong else 'ok  '} {folder}: {'; '.join(wrong[:4])}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
