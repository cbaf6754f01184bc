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
Conversions of values (splits, concatenations, transposes, stacked experts) are not in it.
"""

import argparse
import datetime
import json
from pathlib import Path

import made
import transformers
from transformers import conversion_mapping, core_model_loading

def pattern(source: str) -> str:
    """The expression that transformers makes of a source pattern, without the group that it puts around it."""
    compiled = core_model_loading.WeightRenaming(source, "").compiled_sources.pattern
    return compiled[len("(?P<g0>") : -1]


def rules(transforms) -> list[dict]:
    out = []
    for t in transforms:
        if not isinstance(t, core_model_loading.WeightRenaming):
            continue
        rule = {}
        if t.scope_prefix is not None:
            scope = f"{t.scope_prefix}." if t.scope_prefix else ""
            model = f"{t.base_model_prefix}." if t.base_model_prefix else ""
            rule["scope"] = list(dict.fromkeys([model + scope, scope]))
        grouped = isinstance(t, core_model_loading.GroupWeightRename)
        if not grouped and type(t).__name__ not in ("WeightRenaming", "PrefixChange"):
            continue
        targets = t.target_patterns if grouped else [t.target_patterns[0]] * len(t.source_patterns)
        branches = [[pattern(source), target] for source, target in zip(t.source_patterns, targets)]
        # Longest first, as transformers tries them; a group's first one is its guard.
        rule["branches"] = branches if grouped else sorted(branches, key=lambda branch: -len(branch[0]))
        out.append({**rule, "guarded": True} if grouped else rule)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    lists: list[list[dict]] = []
    by_class: dict[str, int] = {}
    failed = made.Failures()

    def ask(cls, config_class) -> list[dict]:
        return rules(conversion_mapping.get_model_conversion_mapping(made.make(cls, config_class), add_legacy=False))

    for name, found in made.each(failed, ask):
        if found:
            if found not in lists:
                lists.append(found)
            by_class[name] = lists.index(found)
    table = {
        "transformers": transformers.__version__,
        "made": datetime.date.today().isoformat(),
        "legacy": rules(conversion_mapping.get_checkpoint_conversion_mapping("legacy")),
        "classes": by_class,
        "rules": lists,
    }
    text = json.dumps(table, indent=None, separators=(",", ":"), ensure_ascii=False)
    args.output.write_text(text.replace('"rules":[[', '"rules":[\n[').replace("]},[{", "]},\n[{").replace("}],[{", "}],\n[{") + "\n")
    print(f"{len(by_class)} classes have rules, in {len(lists)} lists")
    failed.report()


if __name__ == "__main__":
    main()
