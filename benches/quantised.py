#!/usr/bin/env python3
"""What decoding costs: output per second of CPU from quantised bases, as a ratio to the same model in bf16, in one run.

    benches/quantised.py --work DIR [--binary PATH] [--against PATH] [--runs 3] [--only FORM]

Makes one Llama in bf16, in FP8 (blocks of 128 x 128), in packed INT4 of compressed-tensors (groups of 32), in GPTQ and AWQ (4 bits,
groups of 128), and a gpt-oss in bf16 and in MXFP4, of random codes. Each round merges one adapter into each with `--quantised dequantise
--threads 1`. `all` is a LoRA of rank 16 on every linear layer; `some` is on q_proj alone, so that the bf16 model is mostly copied. Seconds
are those of user and system: they change less than wall time while others use the machine. DIR is best a folder in memory.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LAYERS, HIDDEN, INNER, RANK, EXPERTS = 4, 2048, 8192, 16, 8
Tensor = tuple[str, str, list[int], bytes]
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "I32": 4, "I64": 8, "U8": 1}
RANDOM = os.urandom(1 << 20)
# Codes of FP8 but NaN, values of bf16 near 0.01, scales of fp16 near 0.01, and powers of two near 2^-6.
NO_NAN = bytes(0 if code & 0x7F == 0x7F else code for code in range(256))
UPPER = bytes(0x3C | code & 0x80 for code in range(256))
HALF = bytes(0x21 for _ in range(256))
POWERS = bytes(120 + code % 3 for code in range(256))


def filled(size: int, make: Callable[[bytes], bytes]) -> bytes:
    """So many bytes of a repeated pattern."""
    pattern = make(RANDOM)
    return (pattern * -(-size // len(pattern)))[:size]


def pairs(upper: bytes) -> Callable[[bytes], bytes]:
    """Random lower bytes, each with an upper one of a table."""

    def make(random: bytes) -> bytes:
        out = bytearray(random)
        out[1::2] = random[1::2].translate(upper)
        return bytes(out)

    return make


def single(numbers: list[int], dtype: str) -> bytes:
    """Integers as they are stored."""
    return b"".join(number.to_bytes(SIZES[dtype], "little") for number in numbers)


def of(name: str, dtype: str, shape: list[int], make: Callable[[bytes], bytes]) -> Tensor:
    """A tensor of repeated bytes."""
    size = SIZES[dtype]
    for side in shape:
        size *= side
    return name, dtype, shape, filled(size, make)


def bf16(name: str, shape: list[int]) -> list[Tensor]:
    """A weight in bf16."""
    return [of(f"{name}.weight", "BF16", shape, pairs(UPPER))]


def fp8(name: str, shape: list[int]) -> list[Tensor]:
    """A weight in FP8 with a scale for each block of 128 x 128."""
    rows, cols = shape
    scale = of(f"{name}.weight_scale_inv", "F32", [-(-rows // 128), -(-cols // 128)], lambda _: b"\x0a\xd7\x23\x3c")
    return [of(f"{name}.weight", "F8_E4M3", shape, lambda random: random.translate(NO_NAN)), scale]


def int4(name: str, shape: list[int]) -> list[Tensor]:
    """A weight in packed INT4 of compressed-tensors with a scale for each group of 32 columns."""
    rows, cols = shape
    scale = of(f"{name}.weight_scale", "BF16", [rows, cols // 32], pairs(UPPER))
    return [of(f"{name}.weight_packed", "I32", [rows, cols // 8], bytes), scale, (f"{name}.weight_shape", "I64", [2], single(shape, "I64"))]


def gptq(name: str, shape: list[int]) -> list[Tensor]:
    """A weight in GPTQ's 4 bits with a scale and a zero point for each group of 128 inputs."""
    outputs, inputs = shape
    groups = [of(f"{name}.qzeros", "I32", [inputs // 128, outputs // 8], bytes), of(f"{name}.scales", "F16", [inputs // 128, outputs], pairs(HALF))]
    order = (f"{name}.g_idx", "I32", [inputs], single([at // 128 for at in range(inputs)], "I32"))
    return [of(f"{name}.qweight", "I32", [inputs // 8, outputs], bytes), *groups, order]


def awq(name: str, shape: list[int]) -> list[Tensor]:
    """A weight in AWQ's 4 bits with a scale and a zero point for each group of 128 inputs."""
    outputs, inputs = shape
    groups = [of(f"{name}.qzeros", "I32", [inputs // 128, outputs // 8], bytes), of(f"{name}.scales", "F16", [inputs // 128, outputs], pairs(HALF))]
    return [of(f"{name}.qweight", "I32", [inputs, outputs // 8], bytes), *groups]


WEIGHTS = {"num_bits": 4, "group_size": 32, "strategy": "group", "symmetric": True, "type": "int"}
# The tensors of a weight, and what config.json says of them.
FORMS = {
    "bf16": (bf16, None),
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "int4": (int4, {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS}},
    }),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "gptq_v2"}),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}),
}  # fmt: skip


def write(path: Path, tensors: list[Tensor]) -> None:
    """A safetensors file."""
    at, header = 0, {"__metadata__": {"format": "pt"}}
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for *_, data in tensors:
            file.write(data)


def linears(layer: int) -> list[tuple[str, list[int]]]:
    """The linear layers of a layer of the Llama."""
    at = f"model.layers.{layer}."
    attention = [(f"{at}self_attn.{side}_proj", [HIDDEN, HIDDEN]) for side in "qkvo"]
    return attention + [(f"{at}mlp.{side}_proj", [INNER, HIDDEN]) for side in ("gate", "up")] + [(f"{at}mlp.down_proj", [HIDDEN, INNER])]


def folder(work: Path, name: str, config: dict, tensors: list[Tensor], file: str = "model.safetensors", configured: str = "config.json") -> Path:
    """A checkpoint or an adapter of one file."""
    made = work / name
    made.mkdir(parents=True)
    (made / configured).write_text(json.dumps(config))
    write(made / file, tensors)
    return made


def adapter(work: Path, name: str, modules: list[tuple[str, list[int]]], **settings: object) -> Path:
    """A LoRA on these modules."""
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 32, "peft_version": "0.21.2"} | settings
    tensors = []
    for module, (rows, cols) in modules:
        at = f"base_model.model.{module}.lora_"
        tensors += [of(f"{at}A.weight", "BF16", [RANK, cols], pairs(UPPER)), of(f"{at}B.weight", "BF16", [rows, RANK], pairs(UPPER))]
    return folder(work, name, config, tensors, "adapter_model.safetensors", "adapter_config.json")


def llama(work: Path, form: str) -> Path:
    """The Llama in one form."""
    quantise, settings = FORMS[form]
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 512, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    tensors = bf16("model.embed_tokens", [512, HIDDEN]) + bf16("lm_head", [512, HIDDEN]) + bf16("model.norm", [HIDDEN])
    for layer in range(LAYERS):
        tensors += [tensor for name, shape in linears(layer) for tensor in quantise(name, shape)]
        tensors += [tensor for norm in ("input", "post_attention") for tensor in bf16(f"model.layers.{layer}.{norm}_layernorm", [HIDDEN])]
    return folder(work, form, config | ({"quantization_config": settings} if settings else {}), tensors)


def gpt_oss(work: Path, name: str, *, quantised: bool) -> Path:
    """Two layers of a gpt-oss whose experts are in MXFP4 or in bf16."""
    config = {
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_hidden_layers": 2,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": HIDDEN // 16, "num_local_experts": EXPERTS, "vocab_size": 512,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    tensors = bf16("model.embed_tokens", [512, HIDDEN]) + bf16("lm_head", [512, HIDDEN]) + bf16("model.norm", [HIDDEN])
    for layer in range(2):
        at = f"model.layers.{layer}."
        tensors += [tensor for side in "qkvo" for tensor in bf16(f"{at}self_attn.{side}_proj", [HIDDEN, HIDDEN])]
        for part, outputs in (("gate_up_proj", 2 * HIDDEN), ("down_proj", HIDDEN)):
            stem = f"{at}mlp.experts.{part}"
            if quantised:
                tensors.append(of(f"{stem}_blocks", "U8", [EXPERTS, outputs, HIDDEN // 32, 16], bytes))
                tensors.append(of(f"{stem}_scales", "U8", [EXPERTS, outputs, HIDDEN // 32], lambda random: random.translate(POWERS)))
            else:
                tensors.append(of(stem, "BF16", [EXPERTS, HIDDEN, outputs], pairs(UPPER)))
    settings = {"quantization_config": {"quant_method": "mxfp4"}} if quantised else {}
    return folder(work, name, config | settings, tensors)


def cpu(command: list[str]) -> float:
    """Seconds of CPU of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Makes what is not there, merges in rounds, prints ratios of the best of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="a folder for all files, best in memory")
    parser.add_argument("--binary", default="target/release/shardfuse")
    parser.add_argument("--against", help="another binary, such as an older one")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="one form beside bf16, or mxfp4")
    args = parser.parse_args()
    cases = []
    every = [module for layer in range(LAYERS) for module in linears(layer)]
    adapters = {"all": every, "some": [module for module in every if module[0].endswith("q_proj")]}
    for form in FORMS:
        if form in ("bf16", args.only) or not args.only:
            made = args.work / form
            cases += [(form, which, made if made.exists() else llama(args.work, form)) for which in adapters]
    if args.only in ("", "mxfp4"):
        for form in ("gpt-oss-bf16", "mxfp4"):
            made = args.work / form
            cases.append((form, "gpt-oss", made if made.exists() else gpt_oss(args.work, form, quantised=form == "mxfp4")))
        adapters["gpt-oss"] = [(f"model.layers.{layer}.self_attn.{side}_proj", [HIDDEN, HIDDEN]) for layer in range(2) for side in "qkvo"]
    loras = {}
    for which, modules in adapters.items():
        made = args.work / f"lora-{which}"
        targets = sorted({module.rsplit(".", 1)[1] for module, _ in modules})
        loras[which] = made if made.exists() else adapter(args.work, made.name, modules, target_modules=targets)
    binaries = [args.binary, *filter(None, [args.against])]
    took: dict[tuple[str, str, str], list[float]] = {}
    output, sizes = args.work / "output", {}
    for _ in range(args.runs):
        for form, which, base in cases:
            for binary in binaries:
                shutil.rmtree(output, ignore_errors=True)
                command = [binary, "merge", "--quiet", "--base", str(base), "--lora", str(loras[which]), "--output", str(output), "--threads", "1"]
                took.setdefault((binary, which, form), []).append(cpu(command + ([] if form.endswith("bf16") else ["--quantised", "dequantise"])))
                sizes[which, form] = (output / "model.safetensors").stat().st_size / 1e9
    shutil.rmtree(output, ignore_errors=True)
    for (binary, which, form), seconds in took.items():
        plain = "gpt-oss-bf16" if which == "gpt-oss" else "bf16"
        rate = sizes[which, form] / min(seconds)
        ratio = rate / (sizes[which, plain] / min(took[binary, which, plain]))
        print(f"{binary}: {which:8}{form:14} {rate:.2f} GB per second of CPU, {ratio:.2f} of bf16", flush=True)


if __name__ == "__main__":
    main()
