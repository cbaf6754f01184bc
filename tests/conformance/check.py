"""Compare a merged checkpoint with a conformance case. Needs numpy only.

    check.py CASE OUTPUT                      the tool reported success and wrote OUTPUT
    check.py CASE --refused KIND [OUTPUT]     the tool refused with this kind of error; OUTPUT must hold nothing
    check.py --selftest GOLDEN                this checker against right and corrupted outputs of every case

Right is, for a tensor that the merge changes, within half a unit in the last place of the stored dtype plus a small
noise term (`noise_rel` times the largest element: near zero, units in the last place alone say nothing about a sum in
fp32). For every other tensor it is the same bytes. One line, and exit code 0 or 1.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np

import cases
import tensors
from cases import Case

SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
INDEX = "model.safetensors.index.json"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
CARDS = {"README.md", "README.base.md"}
OWN = {"config.json", "shardfuse.json", INDEX}
VERSIONS = {"transformers_version", "_name_or_path"}  # of no consequence to a loader


def read_output(output: Path) -> tuple[dict[str, tensors.Tensor], list[str]]:
    """All tensors of the output, and what is wrong with its files."""
    problems: list[str] = []
    files = sorted(file.name for file in output.glob("*.safetensors"))
    held: dict[str, tensors.Tensor] = {}
    place: dict[str, str] = {}
    for file in files:
        found, metadata = tensors.read(output / file)
        if metadata.get("format") != "pt":
            problems.append(f"{file}: metadata {metadata}, wanted format pt")
        problems += [f"{name} is in {place[name]} and in {file}" for name in found if name in place]
        held |= found
        place |= dict.fromkeys(found, file)
    if not (output / INDEX).exists():
        return held, problems + ([] if files == ["model.safetensors"] else [f"no index, and the files {files[:3]}"])
    index = json.loads((output / INDEX).read_text())
    if index["weight_map"] != place:
        odd = sorted(set(index["weight_map"].items()) ^ set(place.items()))
        problems.append(f"the index and the files disagree, first about {odd[0]}")
    size = sum(len(tensor.raw) for tensor in held.values())
    if index["metadata"].get("total_size") != size:
        problems.append(f"total_size {index['metadata'].get('total_size')}, the tensors have {size} bytes")
    names = [f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)]
    if files not in (names, ["model.safetensors"]):
        problems.append(f"shards are named {files[:2]}")
    return held, problems


def compare_values(case: Case, held: dict[str, tensors.Tensor]) -> tuple[list[str], str]:
    """What is wrong with the tensors, and a summary."""
    problems, expected, worst = [], case.expected(), 0.0
    for name, wanted in case.wanted.items():
        tensor = held.get(name)
        if tensor is None:
            problems.append(f"{name} is missing")
        elif (tensor.dtype, tensor.shape) != (wanted.dtype, wanted.shape):
            is_, want = f"{tensor.dtype} {list(tensor.shape)}", f"{wanted.dtype} {list(wanted.shape)}"
            problems.append(f"{name} is {is_}, wanted {want}")
        elif wanted.sha256 is not None:
            if hashlib.sha256(tensor.raw).hexdigest() != wanted.sha256:
                problems.append(f"{name} must be the base's bytes, and is not")
        else:
            is_, want = tensor.values(), expected[name].values()
            if not np.isfinite(is_).all():
                problems.append(f"{name} holds values that are not finite")
                continue
            off, unit = np.abs(is_ - want), tensors.ulp(want, wanted.dtype)
            noise = case.noise * np.abs(want).max(initial=0.0)
            over = int((off > case.ulp * unit + noise).sum())
            worst = max(worst, float((np.maximum(off - noise, 0) / unit).max(initial=0.0)))
            if over:
                problems.append(f"{name}: {over} of {off.size} values off, by up to {(off / unit).max():.3g} ulp")
    for name in held.keys() - case.wanted.keys():
        if name not in case.optional:
            problems.append(f"{name} is not wanted")
        elif held[name] not in (tensors.read_folder(case.base).get(name), held.get("model.embed_tokens.weight")):
            problems.append(f"{name} is neither the base's nor the embedding")
    changed = sum(wanted.sha256 is None for wanted in case.wanted.values())
    return problems, f"{len(case.wanted)} tensors, {changed} of them changed, at most {worst:.3f} ulp off"


def compare_config(case: Case, output: Path) -> list[str]:
    """What is wrong with config.json: only the expected keys may differ from the base's."""
    if not (output / "config.json").exists():
        return ["config.json is missing"]
    config = json.loads((output / "config.json").read_text())
    base = json.loads((case.base / "config.json").read_text())
    problems = []
    expected = dict(case.config)
    if "torch_dtype" in config and "dtype" in expected:  # what releases before 5 call it
        expected["torch_dtype"] = expected["dtype"]
        config.setdefault("dtype", config["torch_dtype"])
    for key, want in expected.items():
        if config.get(key) != want:
            problems.append(f"config.json has {key} {config.get(key)!r}, wanted {want!r}")
    free = VERSIONS | {"dtype", "torch_dtype"} | expected.keys()
    for key in sorted((base.keys() | config.keys()) - free):
        if config.get(key) != base.get(key):
            problems.append(f"config.json has {key} {config.get(key)!r}, the base {base.get(key)!r}")
    return problems


def compare_files(case: Case, output: Path) -> list[str]:
    """The base's other files must be there as they were (or the adapter's, where it brings its own); no others.

    Hidden files are free to come along or not, and so are folders. README.md is the model card, and README.base.md the base's.
    """
    source = {file.name: file for file in case.base.iterdir() if file.is_file() and not file.name.startswith(".")}
    folders = {file.name for file in case.base.iterdir() if file.is_dir()}
    if case.sidecars_from:
        brought = (case.folder / case.sidecars_from).iterdir()
        source |= {file.name: file for file in brought if not file.name.startswith("adapter_")}
    source = {
        name: file
        for name, file in source.items()
        if not name.endswith((*WEIGHTS, ".index.json")) and name not in OWN and name != "README.md"
    }
    problems = []
    for name, file in source.items():
        if not (output / name).exists():
            problems.append(f"{name} was not copied")
        elif (output / name).read_bytes() != file.read_bytes():
            problems.append(f"{name} differs from {file.parent.name}/{name}")
    hidden = {file.name for file in case.base.iterdir() if file.is_file() and file.name.startswith(".")}
    for file in sorted(output.iterdir()):
        known = (
            file.name in source.keys() | folders | hidden | OWN
            or file.name == "model.safetensors"
            or SHARD.fullmatch(file.name)
        )
        if not known and not (file.name in CARDS and file.is_file()):
            problems.append(f"left behind: {file.name}")
    return problems


def traps(case: Case) -> list[str]:
    """Files that only a payload that ran would have made."""
    return [f"the payload RAN: {name}" for name in case.must_not_exist if (case.folder / name).exists()]


def check_merged(case: Case, output: Path) -> tuple[list[str], str]:
    """Problems and a summary, after the tool reported success."""
    if not case.must_merge:
        return [f"should have been refused as {case.kinds[0]}"], ""
    if not output.is_dir():
        return ["there is no output folder"], ""
    try:
        held, problems = read_output(output)
    except (tensors.BadFile, ValueError, KeyError, TypeError) as error:
        return [f"unreadable output: {error}"], ""
    values, summary = compare_values(case, held)
    return traps(case) + problems + values + compare_config(case, output) + compare_files(case, output), summary


def check_refused(case: Case, kind: str, output: Path | None) -> tuple[list[str], str]:
    """Problems and a summary, after the tool refused with an error of this kind."""
    problems = traps(case)
    if output is not None and output.exists():
        problems += [f"left behind: {file.relative_to(output)}" for file in output.rglob("*") if file.is_file()][:3]
    if kind not in case.kinds:
        problems.append(f"refused as {kind}, " + (f"wanted {case.kinds[0]}" if case.kinds else "should merge"))
    return problems, f"refused as {kind}" + (" (permitted)" if case.must_merge else "")


def verdict(case: Case, problems: list[str], summary: str) -> str:
    """The one line."""
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return f"FAIL {case.name}: " + "; ".join(problems[:3]) + more if problems else f"ok   {case.name}: {summary}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path, nargs="?")
    parser.add_argument("output", type=Path, nargs="?")
    parser.add_argument("--refused", metavar="KIND")
    parser.add_argument("--selftest", type=Path, metavar="GOLDEN")
    args = parser.parse_args()
    if args.selftest:
        import selftest

        return selftest.run(args.selftest)
    if not args.case or not (args.output or args.refused):
        parser.error("a case, and an output folder or --refused KIND, are needed")
    case = cases.load(args.case)
    found = check_refused(case, args.refused, args.output) if args.refused else check_merged(case, args.output)
    print(verdict(case, *found))
    return 1 if found[0] else 0


if __name__ == "__main__":
    sys.exit(main())
