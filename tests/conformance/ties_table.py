#!/usr/bin/env python3
"""Writes the table of ties: which names of each class are one parameter.

    tests/conformance/setup.sh                                      # prints the Python to use
    PYTHON tests/conformance/ties_table.py merge/src/base/tied/table.json

Every class of the auto mappings is made three times on the meta device: by its default configuration, and with
`tie_word_embeddings` true and false at every level, given as config.json gives it. Names that are one parameter then are a set.

The table has, for each class, its sets. `names` begins with the source of the tie: what transformers ties the others to. `outputs` are
those that are an output embedding. `always` says that the names are one parameter even where config.json says
`tie_word_embeddings: false`, as in T5. `default` says whether the class ties where config.json says nothing.

`repeated` are the sets whose names have numbers in them: parts of the model that are one. `names` has `#` for a number that is the same
in all names of a set (an encoder's layer 3 is the decoder's layer 3), and `*` for a number that differs in them (layers that share one
block). They are in the order in which the class registers them, and `source` is the number of the name that the others are tied to, if
it is not 0. With `*`, `beside` names a parameter of its own that just the layers with such a block have: it tells their numbers. Sets
that are neither are printed.
"""

import re

import made
import tiny_models
from transformers import PreTrainedModel


def saying(tied: bool | None):
    """Makes a configuration as config.json would with `tie_word_embeddings` at every level; `None`: that says nothing."""

    def configure(config_class, depth: int = 0):
        if tied is None:
            return tiny_models.given(config_class)
        config = tiny_models.given(config_class, tie_word_embeddings=tied)
        for name in getattr(config, "sub_configs", {}) if depth < 3 else ():
            inner = getattr(config, name, None)
            if inner is not None and not isinstance(inner, dict):
                written = inner.to_dict() | {"tie_word_embeddings": tied}
                setattr(config, name, type(inner).from_dict(written))
        return config

    return configure


def outputs(model) -> set[str]:
    """The weights of the output embeddings of a model and of those inside it."""
    heads = set()
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            try:
                heads.add(id(module.get_output_embeddings()))
            except Exception:
                pass
    return {f"{name}.weight" for name, module in model.named_modules(remove_duplicate=False) if id(module) in heads}


NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
# Sets that are in no table, with a class that has them.
OTHERS: dict[str, str] = {}


def repeated(groups: list[list[str]], sources: dict[str, str], cls: str) -> list[dict]:
    """The sets whose names have numbers, as patterns. `groups` are the names of every parameter, also of those that have one."""
    alone: dict[str, list[list[str]]] = {}
    for names in groups:
        if len(names) == 1:
            alone.setdefault(NUMBER.sub("#", names[0]), []).append(NUMBER.findall(names[0]))
    found: dict[str, dict] = {}
    layers: dict[str, set[str]] = {}
    for names in groups:
        if len(names) < 2 or not any(map(NUMBER.search, names)):
            continue
        patterns = list(dict.fromkeys(NUMBER.sub("#", name) for name in names))
        numbers = [NUMBER.findall(name) for name in names]
        varying = {at for at in range(len(numbers[0])) if len({tuple(n[at : at + 1]) for n in numbers}) > 1}
        if len({len(n) for n in numbers}) > 1 or len(varying) > 1 or not varying and len(patterns) != len(names):
            OTHERS.setdefault(", ".join(patterns), cls)
            continue
        if varying:
            patterns = [starred(pattern, *varying) for pattern in patterns]
        source = next(at for at, name in enumerate(names) if name not in sources)
        one = {"names": patterns, "source": patterns.index(starred(NUMBER.sub("#", names[source]), *varying))}
        key = ", ".join(patterns)
        if varying:
            layers.setdefault(key, set()).update(n[at] for n in numbers for at in varying)
        if found.setdefault(key, one) != one:
            OTHERS.setdefault(key, cls)
    for key, held in layers.items():
        if (pattern := beside(found[key]["names"][0], alone, held)) is None:
            OTHERS.setdefault(key, cls)
            del found[key]
        else:
            found[key]["beside"] = pattern
    return list(found.values())


def beside(name: str, alone: dict[str, list[list[str]]], layers: set[str]) -> str | None:
    """A parameter of its own that just these layers have beside a name with `*`."""
    before = name.partition("*")[0]
    if "#" in before:
        return None
    for pattern, numbers in alone.items():
        if pattern.startswith(f"{before}#") and pattern.count("#") == 1 and {of[0] for of in numbers} == layers:
            return pattern.replace("#", "*")
    return None


def starred(pattern: str, at: int | None = None) -> str:
    """A pattern with `*` for the number at this place."""
    parts = pattern.split("#")
    return pattern if at is None else "#".join(parts[: at + 1]) + "*" + "#".join(parts[at + 1 :])


def sets(model) -> dict[str, list[dict]]:
    """The sets of names that are one parameter, the source of each first, and those whose names have numbers."""
    model.tie_weights()
    sources = model.get_expanded_tied_weights_keys(all_submodels=True)
    by_parameter: dict[int, list[str]] = {}
    for name, parameter in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        names = by_parameter.setdefault(id(parameter), [])
        if name not in names:
            names.append(name)
    heads = outputs(model)
    found = []
    for names in by_parameter.values():
        if len(names) > 1 and not any(map(NUMBER.search, names)):
            ordered = sorted(names, key=lambda name: (name in sources, name in heads, name))
            found.append({"names": ordered, "outputs": [name for name in ordered if name in heads]})
    numbered = repeated(list(by_parameter.values()), sources, type(model).__name__)
    return {"sets": sorted(found, key=lambda one: one["names"]), "repeated": numbered}


def ask(cls, config_class) -> dict | None:
    tied = sets(made.make(cls, config_class, saying(True)))
    if not any(tied.values()):
        return None
    try:
        untied = sets(made.make(cls, config_class, saying(False)))
    except Exception:
        untied = {"sets": [], "repeated": []}
    by_default = sets(made.make(cls, config_class))
    said = {}
    for what, found in tied.items():
        said[what] = [{k: v for k, v in one.items() if v} | ({"always": True} if one in untied[what] else {}) for one in found]
    return {"default": any(by_default.values())} | {what: found for what, found in said.items() if found or what == "sets"}


def table() -> dict:
    ties, failed = made.Lists(), made.Failures()
    for name, found in made.each(failed, ask):
        ties.add(name, found)
    print(f"ties: {ties}")
    for names, example in OTHERS.items():
        print(f"not in the table: {names} ({example})")
    failed.report()
    return ties.table()


if __name__ == "__main__":
    made.write(__doc__, table)
