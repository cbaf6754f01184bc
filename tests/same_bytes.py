#!/usr/bin/env python3
"""Merges the same inputs with two versions of the program and compares every byte of the outputs.

    tests/same_bytes.py --against REF [--binary target/release/shardfuse] [--size small|bench] [--work DIR]
    tests/same_bytes.py --other PROGRAM ...

REF is a commit; it is built in a worktree of its own below --work. Inputs are the golden cases of tests/conformance and one
generated model: `small` has 40 MB, `bench` has the shapes of a Llama with 1.3 billion parameters (2.5 GB). Compared is
every file of an output but the manifest, which holds times and versions. A case that the older version refuses and the newer
one merges is listed, and is no difference. The exit code is 1 if a byte differs or a merge turned into a refusal.
"""

import argparse
import filecmp
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/conformance/golden"
MANIFEST = "shardfuse.json"

# Values of about 2^-9 to 2^-4 in either sign: the upper byte of a bf16 or fp32 decides.
UPPER = bytes((0x80 if i & 1 else 0) | (0x3B + i % 3) for i in range(256))


def tensor_bytes(dtype: str, count: int) -> bytes:
    size = {"BF16": 2, "F32": 4}[dtype]
    data = bytearray(os.urandom(count * size))
    data[size - 1 :: size] = bytes(data[size - 1 :: size]).translate(UPPER)
    return bytes(data)


def write_safetensors(path: Path, dtype: str, shapes: dict[str, tuple[int, ...]]) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        length = {"BF16": 2, "F32": 4}[dtype]
        for dim in shape:
            length *= dim
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            first, last = entry["data_offsets"]
            file.write(tensor_bytes(dtype, (last - first) // (2 if dtype == "BF16" else 4)))


def make_model(folder: Path, size: str) -> list[str]:
    """A Llama and an adapter on all of its linear layers."""
    hidden, inner, layers, vocabulary, rank = (4096, 11008, 4, 55296, 64) if size == "bench" else (256, 688, 4, 1000, 16)
    linear = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (hidden, hidden), "self_attn.v_proj": (hidden, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    factors: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for name, (rows, cols) in linear.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = (rows, cols)
            key = f"base_model.model.model.layers.{layer}.{name}"
            factors[f"{key}.lora_A.weight"], factors[f"{key}.lora_B.weight"] = (rank, cols), (rows, rank)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{name}.weight"] = (hidden,)
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True)
    adapter.mkdir()
    write_safetensors(base / "model.safetensors", "BF16", shapes)
    config = {"model_type": "llama", "vocab_size": vocabulary, "torch_dtype": "bfloat16", "tie_word_embeddings": False}
    (base / "config.json").write_text(json.dumps(config))
    write_safetensors(adapter / "adapter_model.safetensors", "F32", factors)
    modules = sorted({name.split(".")[-1] for name in linear})
    lora = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": modules}
    (adapter / "adapter_config.json").write_text(json.dumps(lora))
    return ["--base", str(base), "--lora", str(adapter)]


def merge(program: Path, args: list[str], output: Path, cwd: Path) -> int:
    shutil.rmtree(output, ignore_errors=True)
    command = [str(program), "merge", *args, "--output", str(output), "--quiet"]
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False).returncode


def files(folder: Path) -> dict[str, Path]:
    found = (p for p in folder.rglob("*") if p.is_file())
    named = {str(p.relative_to(folder)): p for p in found}
    return {name: p for name, p in named.items() if name != MANIFEST and not name.startswith(".shardfuse/")}


def differences(old: Path, new: Path) -> list[str]:
    before, after = files(old), files(new)
    lost = [f"{name}: is not written any more" for name in before.keys() - after.keys()]
    more = [f"{name}: was not written before" for name in after.keys() - before.keys()]
    changed = [
        f"{name}: differs" for name in before.keys() & after.keys()
        if not filecmp.cmp(before[name], after[name], shallow=False)
    ]
    return sorted(lost + more + changed)


def build(commit: str, work: Path) -> Path:
    tree = work / "tree"
    if not tree.exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=tree, check=True)
    return tree / "target/release/shardfuse"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REF")
    parser.add_argument("--other", type=Path, metavar="PROGRAM")
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/shardfuse")
    parser.add_argument("--size", choices=["small", "bench"], default="small")
    parser.add_argument("--work", type=Path, default=ROOT / "target/same-bytes")
    args = parser.parse_args()
    if (args.against is None) == (args.other is None):
        parser.error("give either --against or --other")
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    older = args.other.resolve() if args.other else build(args.against, work)
    newer = args.binary.resolve()

    model = work / "model"
    shutil.rmtree(model, ignore_errors=True)
    runs = [(f"generated model ({args.size})", make_model(model, args.size), work)]
    for case in json.loads((GOLDEN / "cases.json").read_text()):
        runs.append((case["name"], case["args"], GOLDEN / case["name"]))

    same, refused, merged_now, wrong = 0, 0, [], []
    for name, arguments, cwd in runs:
        old, new = work / "old", work / "new"
        was, now = merge(older, arguments, old, cwd), merge(newer, arguments, new, cwd)
        if was == 0 and now == 0:
            found = differences(old, new)
            wrong += [f"{name}: {what}" for what in found]
            same += not found
        elif was == 0:
            wrong.append(f"{name}: merged before, ends with {now} now")
        elif now == 0:
            merged_now.append(name)
        else:
            refused += 1
    for folder in (work / "old", work / "new", model):
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{same} outputs have the same bytes, {refused} inputs are refused by both")
    for name in merged_now:
        print(f"merged now, refused before: {name}")
    for line in wrong:
        print(f"DIFFERENT: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
