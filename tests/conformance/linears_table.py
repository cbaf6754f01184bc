#!/usr/bin/env python3
"""Writes the table of linear layers: which weights of each class transformers gives to bitsandbytes, and which it keeps.

    tests/conformance/setup.sh                                      # prints the Python to use
    PYTHON tests/conformance/linears_table.py merge/src/base/linears/table.json

transformers replaces modules that are `nn.Linear` (no class derived from it) or `Conv1D`, but for the output embedding, tied weights, the
module of the last parameter and modules kept in fp32 (`integrations.bitsandbytes.replace_with_bnb_linear`,
`HfQuantizer.get_modules_to_not_convert`). Whether a matrix belongs to such a module cannot be told from its shape: embeddings, tables of
positions and some routers are matrices too. So every class of the auto mappings is made once on the meta device, and asked.

Releases of transformers differ in one point: earlier ones also replaced modules of classes that derive from `nn.Linear` (Falcon has one).

The table has, for each class, the parameters with two or more dimensions, as numbers of `names`: `linear` are replaced, `kept` are not. A
name is what follows the last number of a parameter's path, which is the same in every layer; a path that has none is whole, with `*` for
its numbers. `either` are names of which both occurs, or of which releases differ.
"""

import re

import made
from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module


def tail(path: str) -> str:
    """What follows the last number, unless that is the name of the parameter alone."""
    last = re.split(r"(?:^|\.)\d+\.", path)[-1]
    return last if "." in last else starred(path)


def starred(path: str) -> str:
    return re.sub(r"(^|\.)\d+(?=\.)", r"\1*", path)


def asked(cls, config_class) -> dict[str, list[str]]:
    model = made.make(cls, config_class)
    kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    fates = {}
    for name, module in model.named_modules():
        if isinstance(module, (Conv1D, nn.Linear)) and should_convert_module(name, kept):
            fates[f"{name}.weight"] = "linear" if type(module) in (Conv1D, nn.Linear) else "either"
    found: dict[str, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.dim() >= 2:
            found.setdefault(tail(name), set()).add(fates.get(name, "kept"))
    out: dict[str, list[str]] = {"linear": [], "kept": [], "either": []}
    for name, of_name in found.items():
        out[of_name.pop() if len(of_name) == 1 else "either"].append(name)
    return out


def table() -> dict:
    lists, failed, found = made.Lists(), made.Failures(), {}
    for name, of_class in made.each(failed, asked):
        found[name] = of_class
    names = sorted({name for of_class in found.values() for of_fate in of_class.values() for name in of_fate})
    numbers = {name: number for number, name in enumerate(names)}
    for name, of_class in found.items():
        lists.add(name, {fate: sorted(numbers[n] for n in of_fate) for fate, of_fate in of_class.items() if of_fate})
    print(f"linear layers: {lists}")
    failed.report()
    return {"names": names} | lists.table()


if __name__ == "__main__":
    made.write(__doc__, table)
