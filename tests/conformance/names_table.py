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

`stacks` are what a checkpoint stores in several tensors and the model holds in one parameter: experts [experts, rows, columns], or parts of
one weight [rows, columns]. `parts` are expressions that match a stored name after the rules (the first group is the expert's number, if there
are experts), in the order in which they fill the rows of the parameter; `into` replaces the match. Of several parameters the first has
the first of the experts, and so on. With `across` the tensor of each part holds all experts. `stacked` are the modules that hold
parameters of experts, with the last components of their paths, their parameters in the order of registration, and whether a parameter
is [experts, columns, rows].

`splits` are the reverse: `from` matches a stored name after the rules, and `into` replaces the match, for each parameter that holds as many of
the tensor's rows, in their order. With `shares` the parts have the rows in these proportions, numbers of the configuration. With `turns` the tensor has the first row of each, then the second of each, and so on. `pairs` says in
which parts (`of`) row i of a head is beside row i + half of it, and where the configuration has the number of heads (`heads`, else
`default`). With `experts` the tensor is [experts, rows, columns], and the rows of each expert are so; with `transposed` it has columns and rows the other way round than the parameter. Conversions that are neither are printed.
"""

import re
from fractions import Fraction

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


def operations(t) -> list[tuple]:
    """The operations of a conversion: name and dimension, and for concatenations and chunks where their number stands, if it is no fixed one."""
    dim = lambda op: getattr(op, "dim", getattr(op, "stack_dim", None))  # noqa: E731
    return [(type(op).__name__, dim(op), getattr(op, "num_shards_attribute", None)) for op in t.operations]


MERGE, JOIN_ROWS, JOIN = ("MergeModulelist", 0, None), ("Concatenate", 1, None), ("Concatenate", 0, None)
SHARE = ("ErnieFuseAndSplitTextVisionExperts", 0, None)
CHUNK, TURNS, PAIRS = ("Chunk", 0, None), ("Interleave", 0, None), ("PermuteForRope", None, None)
UNEQUAL = ("Split", 0, None)
CHUNK_ROWS, TURN_ROWS = ("Chunk", 1, None), ("Interleave", 1, None)


def stack(t) -> dict | None:
    known = [[MERGE, JOIN_ROWS], [JOIN], [JOIN_ROWS], [SHARE]] if len(t.source_patterns) > 1 else [[MERGE], [SHARE]]
    if operations(t) not in known or (len(t.target_patterns) > 1) != (operations(t) == [SHARE]):
        return None
    literal = [source.replace("\\.", ".") for source in t.source_patterns]
    out = {"parts": [re.escape(source).replace(r"\*", r"(\d+)") + "$" for source in literal], "into": t.target_patterns}
    return out | ({"across": True} if operations(t) == [JOIN_ROWS] else {})


def transposes(t) -> bool:
    """Whether a conversion only swaps the last two dimensions of a tensor of experts."""
    op = t.operations[0]
    alone = len(t.operations) == 1 and isinstance(op, core_model_loading.Transpose)
    return alone and {op.dim0, op.dim1} == {1, 2} and not op.check_dims


def number(config, part: str | None, key: str) -> dict:
    """A number of the configuration or of one of its parts; where the class has another name for it, under that."""
    held = getattr(config, part or "", None)
    path, held = ([part], held) if held else ([], config)
    key = getattr(held, "attribute_map", {}).get(key, key)
    return {"path": [*path, key], "default": getattr(held, key, 1)}


def shares(t, model) -> list[dict] | None:
    """What tells the sizes of parts that differ: numbers of heads. Their proportions must be those of the model's own parameters."""
    prefixes = tuple(scope(t).get("scope", [""]))
    size = lambda into: next(p.shape[0] for name, p in model.named_parameters() if name.startswith(prefixes) and into in name)  # noqa: E731
    sizes = [size(into) for into in t.target_patterns]
    keys = ["num_attention_heads" if "q_proj" in into else "num_key_value_heads" for into in t.target_patterns]
    for part in (None, *getattr(model.config, "sub_configs", {})):
        found = [number(model.config, part, key) for key in keys]
        if len({Fraction(rows, one["default"]) for rows, one in zip(sizes, found, strict=True) if one["default"]}) == 1:
            return found
    return None


def split(t, model) -> dict | None:
    config = model.config
    if operations(t) == [UNEQUAL] and len(t.source_patterns) == 1:
        told = shares(t, model)
        return told and {"from": pattern(t.source_patterns[0]), "into": t.target_patterns, "shares": told}
    ops = operations(t)
    if transposes(t):
        return {"from": pattern(t.source_patterns[0]), "into": t.target_patterns, "experts": True, "transposed": True}
    if len(t.source_patterns) != 1 or ops not in ([CHUNK], [TURNS, CHUNK], [CHUNK, PAIRS], [PAIRS], [TURN_ROWS, CHUNK_ROWS], [TURN_ROWS]):
        return None
    out = {"from": pattern(t.source_patterns[0]), "into": t.target_patterns}
    if TURN_ROWS in ops:
        out["experts"] = True
    if ops in ([TURNS, CHUNK], [TURN_ROWS, CHUNK_ROWS]):
        out["turns"] = True
    elif ops == [TURN_ROWS]:  # one part of two halves that take turns
        out["pairs"] = {"of": [0], "heads": {"default": 1}}
    elif PAIRS in ops:
        permute = t.operations[-1]
        named = permute.permute_layer_names
        out["pairs"] = {
            "of": [i for i, into in enumerate(t.target_patterns) if named is None or any(name in into for name in named)],
            "heads": number(config, permute.subconfig_key, "num_attention_heads"),
        }
    return out


# Conversions that are in no table, with a class that has them.
OTHERS: dict[str, str] = {}


def conversions(transforms, model) -> tuple[list[dict], list[dict]]:
    """What is joined, and what is split."""
    joined, parted = [], []
    for t in transforms:
        if not isinstance(t, core_model_loading.WeightConverter):
            continue
        if (found := stack(t)) is not None:
            joined.append(scope(t) | found)
        elif (found := split(t, model)) is not None:
            parted.append(scope(t) | found)
        else:
            OTHERS.setdefault(f"{t.source_patterns} -> {t.target_patterns}: {operations(t)}", type(model).__name__)
    return joined, parted


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
    tables = {name: made.Lists() for name in ("rules", "stacks", "splits", "stacked")}
    failed = made.Failures()

    def ask(cls, config_class) -> tuple[list[dict], ...]:
        model = made.make(cls, config_class)
        transforms = conversion_mapping.get_model_conversion_mapping(model, add_legacy=False)
        return rules(transforms), *conversions(transforms, model), stacked(model)

    for name, found in made.each(failed, ask):
        for lists, of_class in zip(tables.values(), found, strict=True):
            lists.add(name, of_class)
    print("; ".join(f"{name}: {lists}" for name, lists in tables.items()))
    for conversion, example in OTHERS.items():
        print(f"not in the table: {conversion} ({example})")
    failed.report()
    legacy = rules(conversion_mapping.get_checkpoint_conversion_mapping("legacy"))
    return {"legacy": legacy} | {name: lists.table() for name, lists in tables.items()}


if __name__ == "__main__":
    made.write(__doc__, table)
