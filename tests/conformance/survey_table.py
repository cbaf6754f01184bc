"""The results of the survey as docs/models.md."""

import collections
import datetime
import re

KINDS = {"lora": "LoRA", "embedding": "embedding", "dora": "DoRA", "parameters": "experts"}


# Why a configuration that is only a part of others is not built.
ALONE = "no class of the auto mappings"


def short(result: dict) -> str:
    """A cell of the table."""
    return {"no adapter": "none", "PEFT fails": "PEFT fails"}.get(result["result"], result["result"].split(":")[0])


def reason(result: dict) -> str:
    """The reason without what differs between model types of one cause: names, numbers, shapes."""
    why = re.sub(r"^/\S+: ", "", result.get("why", "").replace("|", "/"))
    why = re.sub(r"(\w+\.){2,}\w*", "NAME", why)
    why = re.sub(r"NAME(, [\w.]*)+", "NAME", why)
    why = re.sub(r"\[[\d, ]+\]", "SHAPE", why)
    why = re.sub(r"for \w+(Model|Generation)\b", "for CLASS", why)
    return re.sub(r"\d+ of \d+", "some", why)[:150].replace("`", "'")


def unbuilt_reason(why: str) -> str:
    """Why no tiny model was made, in a few words."""
    if library := re.search(r"requires the (\w+) library|No module named '(\w+)'", why):
        return f"needs {library.group(1) or library.group(2)}"
    if "Could not find" in why:
        return "transformers has no class of the name that its auto mapping has"
    why = why.split("; ")[0]
    if re.search(r": \d+ parameters", why):
        return "has too many parameters at its smallest here"
    if re.search(r"'\w+Config' object has no attribute", why):
        return "the auto mapping has a configuration that its class cannot read"
    why = re.sub(r"\b[A-Z]\w+(Model|Generation|LM|Classification|Encoder)\b", "CLASS", why)
    why = re.sub(r"Class validation error for validator '\w+': ", "", why.replace("saving or loading it: ", ""))
    why = re.sub(r"'/[^']+'", "of its folder", why)
    return why[:140].replace("|", "/").replace("`", "'").replace("\n", " ")


def listed(types: list[str]) -> str:
    return ", ".join(sorted(types))


def page(found: dict[str, dict], note: str = "") -> str:
    import peft
    import torch
    import transformers

    by_type: dict[str, dict[str, dict]] = collections.defaultdict(dict)
    for key, result in found.items():
        model_type, kind = key.split(" ")
        by_type[model_type][kind] = result
    kinds = [kind for kind in KINDS if any(kind in results for results in by_type.values())]
    rows, reasons = collections.defaultdict(list), collections.defaultdict(list)
    unbuilt, parts = collections.defaultdict(list), 0
    for model_type, results in by_type.items():
        if all(result["result"] == "not built" for result in results.values()):
            if all(result["why"] == ALONE for result in results.values()):
                parts += 1
            else:
                unbuilt[unbuilt_reason(next(iter(results.values()))["why"])].append(model_type)
            continue
        rows[tuple(short(results[kind]) for kind in kinds)].append(model_type)
        for kind, result in results.items():
            if short(result) not in ("exact", "none"):
                reasons[(result["result"], reason(result))].append((model_type, KINDS[kind]))
    missing = sum(map(len, unbuilt.values()))
    counts = collections.Counter(short(result) for result in found.values())
    out = [
        "# Models",
        "",
        "Which model types of transformers merge: a tiny model of each with random weights, an adapter of each kind by PEFT, merged by PEFT",
        "and by shardfuse, and compared tensor by tensor.",
        "",
        f"transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__.split('+')[0]}, "
        f"{datetime.date.today().isoformat()}. Made by",
        "",
        "```",
        "PYTHON tests/conformance/survey.py target/release/shardfuse --markdown docs/models.md",
        "```",
        *([""] + [note] if note else []),
        "",
        f"{len(by_type) - parts} model types that have a class of their own, {len(by_type) - parts - missing} of them built. Of the results: "
        + ", ".join(f"{count} {what}" for what, count in counts.most_common() if what != "not built")
        + ".",
        "",
        "LoRA and DoRA are on all linear layers, embedding is a LoRA on the input embedding, experts one on stacked experts",
        "(`target_parameters`). *exact*: what PEFT changes is the same within fp32's noise, all else bit by bit. *none*: PEFT finds nothing",
        "of this kind. *PEFT fails*: PEFT cannot merge it, or cannot save it. *apart*: several names of one tied embedding have an adapter each;",
        "PEFT's merge adds all deltas to the one tensor, and here each name has its own, as in the live model.",
        "",
        "| " + " | ".join(KINDS[kind] for kind in kinds) + " | model types |",
        "|" + "---|" * (len(kinds) + 1),
    ]
    for outcome, types in sorted(rows.items(), key=lambda row: -len(row[1])):
        out.append("| " + " | ".join(outcome) + f" | {len(types)}: {listed(types)} |")
    out += ["", "## What is not exact", "", "| result | reason | model types |", "|---|---|---|"]
    for (result, why), where in sorted(reasons.items(), key=lambda item: (item[0][0].startswith("PEFT"), -len(item[1]))):
        of_kind = collections.defaultdict(list)
        for model_type, kind in where:
            of_kind[kind].append(model_type)
        same = collections.defaultdict(list)
        for kind, types in of_kind.items():
            same[listed(types)].append(kind)
        cell = "; ".join(f"{', '.join(kinds)}: {types}" for types, kinds in same.items())
        out.append(f"| {result} | {why} | {cell} |")
    out += ["", "## Not built", "", "No tiny model was made of these:", "", "| reason | model types |", "|---|---|"]
    out += [f"| {why} | {listed(types)} |" for why, types in sorted(unbuilt.items(), key=lambda item: (-len(item[1]), item[0]))]
    return "\n".join(out) + "\n"
