#!/usr/bin/env python3
"""Seconds that `plan` takes for large mixtures of experts.

    benches/plan.py --work DIR [--binary PATH] [--against PATH] [--runs 3] [--only NAME]

A base of 100,739 tensors has the names and the layout of Qwen3-MoE, with 128 layers of 260 experts stored one by one. Three adapters:
LoRA on attention alone, LoRA on the stacked experts (`target_parameters`) and LoRA on each expert apart (twice as many tensors as the
base has for experts). Two quantised bases have the sizes of DeepSeek-V3 in FP8 and of Kimi-K2-Thinking in packed INT4, with a LoRA on
attention: `fp8` and `int4`. All files have real headers and no data (sparse). With `--against` another binary plans each in turn with
the first. Seconds of CPU stand beside those of the clock, since they change less while others use the machine.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import sparse_quantised
from sparse import Tensor, adapter, checkpoint, pair

LAYERS, EXPERTS, HIDDEN, INNER, RANK, SHARDS = 128, 260, 256, 64, 4, 16
Linear = tuple[str, list[int]]


def linears(layer: int) -> list[Linear]:
    """The linear layers of attention."""
    at = f"model.layers.{layer}.self_attn."
    return [(f"{at}{side}_proj", [HIDDEN, HIDDEN]) for side in "qkvo"]


def experts(layer: int) -> list[Linear]:
    """Those of all experts."""
    at = f"model.layers.{layer}.mlp.experts."
    sides = [("gate_proj", [INNER, HIDDEN]), ("up_proj", [INNER, HIDDEN]), ("down_proj", [HIDDEN, INNER])]
    return [(f"{at}{expert}.{side}", shape) for expert in range(EXPERTS) for side, shape in sides]


def base(folder: Path) -> int:
    """The base; its tensors."""
    config = {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_experts": EXPERTS, "moe_intermediate_size": INNER, "vocab_size": 512,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": HIDDEN // 4, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    tensors = [("model.embed_tokens.weight", [512, HIDDEN]), ("model.norm.weight", [HIDDEN]), ("lm_head.weight", [512, HIDDEN])]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        tensors += [(f"{name}.weight", shape) for name, shape in linears(layer) + experts(layer)]
        tensors += [(f"{at}input_layernorm.weight", [HIDDEN]), (f"{at}post_attention_layernorm.weight", [HIDDEN])]
        tensors += [(f"{at}mlp.gate.weight", [EXPERTS, HIDDEN])]
    return checkpoint(folder, config, [Tensor(name, shape) for name, shape in tensors], SHARDS)[0]


def stacked(layer: int) -> list[Tensor]:
    """Factors of the stacked experts of a layer."""
    at, rank = f"model.layers.{layer}.mlp.experts", RANK * EXPERTS
    return pair(f"{at}.base_layer", [2 * INNER, HIDDEN], rank) + pair(at, [HIDDEN, INNER], rank)


def make(work: Path) -> list[tuple[str, Path, Path]]:
    """The base and the adapters, made where they are not there."""
    made = {name: work / name for name in ["base", "attention", "stacked", "single"]}
    if not made["single"].exists():
        attention = [t for layer in range(LAYERS) for name, shape in linears(layer) for t in pair(name, shape, RANK)]
        together = [t for layer in range(LAYERS) for t in stacked(layer)]
        apart = [t for layer in range(LAYERS) for name, shape in experts(layer) for t in pair(name, shape, RANK)]
        parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        counts = [
            base(made["base"]),
            adapter(made["attention"], RANK, attention, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
            adapter(made["stacked"], RANK, together, target_modules=[], target_parameters=parameters),
            adapter(made["single"], RANK, apart, target_modules=["gate_proj", "up_proj", "down_proj"]),
        ]
        print("tensors:", dict(zip(made, counts, strict=True)))
    return [(name, made["base"], made[name]) for name in ["attention", "stacked", "single"]]


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of CPU of one command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Makes the files and times each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="a folder for the sparse files")
    parser.add_argument("--binary", default="target/release/shardfuse")
    parser.add_argument("--against", help="another binary, such as an older one")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="one case: attention, stacked, single, fp8 or int4")
    args = parser.parse_args()
    cases = make(args.work) if args.only not in ("fp8", "int4") else []
    cases += sparse_quantised.make(args.work) if args.only in (None, "fp8", "int4") else []
    for name, made, lora in cases:
        if args.only not in (None, name):
            continue
        took: dict[str, list[tuple[float, float]]] = {}
        for _ in range(args.runs):
            for binary in filter(None, [args.binary, args.against]):
                command = [binary, "plan", "--base", str(made), "--lora", str(lora), "--output", str(args.work / "out")]
                took.setdefault(binary, []).append(timed(command))
        for binary, runs in took.items():
            seconds, cpu = zip(*runs, strict=True)
            print(f"{name}: {binary}: " + ", ".join(f"{s:.2f}" for s in seconds) + f" s, best {min(seconds):.2f} s, CPU {min(cpu):.2f} s", flush=True)


if __name__ == "__main__":
    main()
