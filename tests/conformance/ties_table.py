#!/usr/bin/env python3
"""Writes the table of ties: which names of each class are one parameter.

    tests/conformance/setup.sh                                      # prints the Python to use
    PYTHON tests/conformance/ties_table.py merge/src/base/tied/table.json

Every class of the auto mappings is made three times on the meta device: by its default configuration, and with
`tie_word_embeddings` true and false at every level, given as config.json gives it. Names that are one parameter then are a set.

The table has, for each class, its sets. `names` begins with the source of the tie: what transformers ties the others to. `outputs` are
those that are an output embedding. `always` says that the names are one parameter even where config.json says
`tie_word_embeddings: false`, as in T5. `default` says whether the class ties where config.json says nothing. Sets whose names have a
number in them depend on the number of layers and are left out.
"""

import made
from transformers import PreTrainedModel


def saying(tied: bool | None):
    """Makes a configuration as config.json would with `tie_word_embeddings` at every level; `None`: that says nothing."""

    def configure(config_class, depth: int = 0):
        if tied is None:
            return config_class()
        config = config_class(tie_word_embeddings=tied)
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


def sets(model) -> list[dict]:
    """The sets of names that are one parameter, the source of each first."""
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
        if len(names) > 1 and not any(part.isdigit() for name in names for part in name.split(".")):
            ordered = sorted(names, key=lambda name: (name in sources, name in heads, name))
            found.append({"names": ordered, "outputs": [name for name in ordered if name in heads]})
    return sorted(found, key=lambda one: one["names"])


def ask(cls, config_class) -> dict | None:
    tied = sets(made.make(cls, config_class, saying(True)))
    if not tied:
        return None
    try:
        untied = sets(made.make(cls, config_class, saying(False)))
    except Exception:
        untied = []
    by_default = sets(made.make(cls, config_class))
    for one in tied:
        if one in untied:
            one["always"] = True
    ties = [{key: value for key, value in one.items() if value} for one in tied]
    return {"default": bool(by_default), "sets": ties}


def table() -> dict:
    ties, failed = made.Lists(), made.Failures()
    for name, found in made.each(failed, ask):
        ties.add(name, found)
    print(f"ties: {ties}")
    failed.report()
    return ties.table()


if __name__ == "__main__":
    made.write(__doc__, table)
