#!/usr/bin/env python3
"""Writes the table of module names: how transformers renames a checkpoint's tensors for the modules of each class.

    tests/conformance/setup.sh                                      # prints the Python to use
    PYTHON tests/conformance/names_table.py merge/src/base/modules/table.json

transformers 5 loads checkpoints under names that differ from those of its modules, and adapters carry the names of modules. The
rules are in `transformers.conversion_mapping`; which of them apply, and below which prefixes, depends on the class and on the
models inside it. So every class of the auto mappings is made once on the meta device, with two layers, and asked.

The table has, for each class, the rules in their order. A rule has branches, each a regular expression and what replaces its
match (`\\1` is the first group); the first branch that matches at the leftmost place counts. For a model inside the class a rule has
`scope`: the key must begin with one of these prefixes, which stay. A `guarded` rule acts only if its first branch matches some key.

`stacks` are the experts that a checkpoint stores one by one and the model holds in one parameter [experts, rows, columns]. `parts` are
expressions that match a stored name after the rules (the first group is the expert's number), in the order in which they fill the rows of the
parameter; `into` replaces the match. `stacked` are the modules that hold such parameters, with the last components of their paths, their
parameters in the order of registration, and whether a parameter is [experts, columns, rows]. Other conversions of values (splits,
concatenations, transposes) are not in it.
"""

import re

import made
from transformers import conversion_mapping, core_model_loading

def pattern(source: str) -> str:
    """The expression that transformers makes of a source pattern, without the group that it puts around it."""
    compiled = core_model_loading.WeightRenaming(source, "").compiled_sources.pattern
    return compiled[len("(?P<g0>") : -1]


def scope(transform) -> dict:
    if transform.scope_prefix is None:
        return {}
    scope = f"{transform.scope_prefix}." if transform.scope_prefix else ""
    model = f"{transform.base_model_prefix}." if transform.base_model_prefix else ""
    return {"scope": list(dict.fromkeys([model + scope, scope]))}


def rules(transforms) -> list[dict]:
    out = []
    for t in transforms:
        if not isinstance(t, core_model_loading.WeightRenaming):
            continue
        rule = scope(t)
        grouped = isinstance(t, core_model_loading.GroupWeightRename)
        if not grouped and type(t).__name__ not in ("WeightRenaming", "PrefixChange"):
            continue
        targets = t.target_patterns if grouped else [t.target_patterns[0]] * len(t.source_patterns)
        branches = [[pattern(source), target] for source, target in zip(t.source_patterns, targets)]
        # Longest first, as transformers tries them; a group's first one is its guard.
        rule["branches"] = branches if grouped else sorted(branches, key=lambda branch: -len(branch[0]))
        out.append({**rule, "guarded": True} if grouped else rule)
    return out


def stacks(transforms) -> list[dict]:
    out = []
    for t in transforms:
        if not isinstance(t, core_model_loading.WeightConverter) or len(t.target_patterns) != 1:
            continue
        merge, *rest = t.operations
        if not (isinstance(merge, core_model_loading.MergeModulelist) and merge.dim == 0):
            continue
        if [(type(op).__name__, op.dim) for op in rest] != ([("Concatenate", 1)] if len(t.source_patterns) > 1 else []):
            continue
        literal = [source.replace("\\.", ".") for source in t.source_patterns]
        stack = {"parts": [re.escape(source).replace(r"\*", r"(\d+)") + "$" for source in literal], "into": t.target_patterns[0]}
        out.append({**scope(t), **stack})
    return out


def stacked(model) -> list[dict]:
    out = []
    for path, module in model.named_modules():
        names = [name for name, _ in module.named_parameters(recurse=False)]
        experts = re.search("expert|moe", type(module).__name__, re.IGNORECASE)
        if not experts or not any(module.get_parameter(name).dim() == 3 for name in names):
            continue
        # What follows the last number: the same in every layer.
        last = re.split(r"(?:^|\.)\d+\.", path)[-1]
        found = {"module": last, "parameters": names}
        if getattr(module, "is_transposed", False):
            found["transposed"] = True
        if found not in out:
            out.append(found)
    return out


def table() -> dict:
    renamed, joined, held = made.Lists(), made.Lists(), made.Lists()
    failed = made.Failures()

    def ask(cls, config_class) -> tuple[list[dict], list[dict], list[dict]]:
        model = made.make(cls, config_class)
        transforms = conversion_mapping.get_model_conversion_mapping(model, add_legacy=False)
        return rules(transforms), stacks(transforms), stacked(model)

    for name, found in made.each(failed, ask):
        for lists, of_class in zip((renamed, joined, held), found, strict=True):
            lists.add(name, of_class)
    print(f"rules: {renamed}; experts to stack: {joined}; stacked parameters: {held}")
    failed.report()
    legacy = rules(conversion_mapping.get_checkpoint_conversion_mapping("legacy"))
    return {"legacy": legacy, "rules": renamed.table(), "stacks": joined.table(), "stacked": held.table()}


if __name__ == "__main__":
    made.write(__doc__, table)
