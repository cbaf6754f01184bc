"""`--base-as` against bitsandbytes: `base_as.py BINARY [--only PREFIX] [--keep FOLDER]`.

Makes tiny models and lets transformers load them with bitsandbytes on the CPU, as a QLoRA training does. An adapter of PEFT with random
weights stands on the quantised model. The binary merges it into the plain base with `--base-as`:

- the weights that are replaced are those of the modules that transformers gave to bitsandbytes, and no other.
- what the adapter does not change is what bitsandbytes dequantises, bit by bit (FP4: but for values next to a limit between two codes,
  where the CPU differs from the card, and the sign of zeros).
- what it changes is that plus PEFT's delta, to half a unit in the last place.
- `double`: the same with the scales quantised by the formulas of bitsandbytes' kernels for a card. Its own result on a CPU differs where its
  table takes a neighbouring code for a scale, and in the last digits of the mean; how much is printed.
- the output's logits are the PeftModel's, in fp32, where blocks end with rows. LLM.int8 also quantises activations, so its logits are not
  compared.

One line a check; the last line counts them.
"""

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
warnings.filterwarnings("ignore")

import bitsandbytes as bnb
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import binary
import tensors
from generate import adapters
from generate.bases import LLAMA
from live import run
from live.report import Report
from live.suite import run_cases
from quantised_libraries import dequantised

# of the largest element: what fp32 leaves of a sum
NOISE = 1e-6
# bitsandbytes' limits between the sizes of FP4 on a card; on a CPU they are a little elsewhere
FP4_LIMITS = torch.tensor([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333])
GPT2 = {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}


@dataclass(frozen=True)
class Case:
    """A model, its dtype, and how it is quantised."""

    name: str
    model: str
    options: dict
    dtype: torch.dtype
    base_as: str
    code: str
    loaded: torch.dtype
    targets: tuple[str, ...]
    double: bool = False


LINEAR = ("q_proj", "v_proj", "down_proj")
WIDE = LLAMA | {"hidden_size": 64, "intermediate_size": 128}
# Several runs of 256 scales, the last of them not full.
TALL = LLAMA | {"hidden_size": 128, "intermediate_size": 544}
# Rows that no block divides.
NARROW = LLAMA | {"intermediate_size": 40}
CASES = [
    Case("nf4", "Llama", WIDE, torch.bfloat16, "nf4", "nf4", torch.bfloat16, LINEAR),
    Case("nf4-f32", "Llama", WIDE, torch.float32, "nf4", "nf4", torch.float32, LINEAR),
    Case("nf4-narrow", "Llama", NARROW, torch.float32, "nf4", "nf4", torch.float32, LINEAR),
    Case("nf4-loaded", "Llama", NARROW, torch.float32, "nf4,from=f16", "nf4", torch.float16, LINEAR),
    Case("nf4-gpt2", "GPT2", GPT2, torch.float32, "nf4", "nf4", torch.float32, ("c_attn", "c_proj")),
    Case("fp4", "Llama", NARROW, torch.float32, "fp4", "fp4", torch.float32, LINEAR),
    Case("nf4-double", "Llama", TALL, torch.bfloat16, "nf4,double", "nf4", torch.bfloat16, LINEAR, double=True),
    Case("nf4-double-f32", "Llama", TALL, torch.float32, "nf4,double", "nf4", torch.float32, LINEAR, double=True),
    Case("fp4-double", "Llama", NARROW, torch.float32, "fp4,double", "fp4", torch.float32, LINEAR, double=True),
    Case("nf4-double-gpt2", "GPT2", GPT2 | {"n_embd": 64}, torch.float32, "nf4,double", "nf4", torch.float32, ("c_attn",), double=True),
    Case("int8", "Llama", NARROW, torch.bfloat16, "int8", "int8", torch.bfloat16, LINEAR),
    Case("int8-gpt2", "GPT2", GPT2, torch.float32, "int8", "int8", torch.float32, ("c_attn",)),
]


def base(case: Case, folder: Path) -> None:
    """The plain base."""
    torch.manual_seed(len(case.name))
    config = getattr(transformers, f"{case.model}Config")(**case.options)
    head = {"Llama": "LlamaForCausalLM", "GPT2": "GPT2LMHeadModel"}[case.model]
    getattr(transformers, head)(config).to(case.dtype).save_pretrained(folder)


def quantised(case: Case, folder: Path) -> transformers.PreTrainedModel:
    """The base as transformers loads it for training."""
    if case.code == "int8":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=case.code, bnb_4bit_compute_dtype=torch.float32, bnb_4bit_use_double_quant=case.double)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, dtype=case.loaded, device_map="cpu")
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False  # it would multiply in bf16
    return model


def seen(module: torch.nn.Module) -> torch.Tensor | None:
    """What a quantised layer's weight is; None if it is not quantised. Stored as the base has it."""
    if isinstance(module, bnb.nn.Linear4bit):
        weight = dequantised(module.weight.data, module.weight.quant_state)
    elif isinstance(module, bnb.nn.Linear8bitLt):
        weight = bnb.functional.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
    else:
        return None
    return weight.T if issubclass(module.source_cls, transformers.pytorch_utils.Conv1D) else weight


def twice(weight: torch.Tensor, code: str) -> torch.Tensor:
    """A weight whose scales are quantised too: the mean in f64, and the nearest value of the dynamic map for each scale."""
    codes, state = bnb.functional.quantize_4bit(weight, blocksize=64, quant_type=code)
    mean = state.absmax.double().mean().float()
    off = torch.nn.functional.pad(state.absmax - mean, (0, -state.absmax.numel() % 256)).reshape(-1, 256)
    largest = off.abs().amax(1, keepdim=True)
    values = bnb.functional.create_dynamic_map()
    nearest = torch.bucketize(off * (1 / largest), (values[1:] + values[:-1]) / 2)
    state.absmax = (values[nearest] * largest + mean).reshape(-1)[: state.absmax.numel()]
    return dequantised(codes, state)


def near_a_limit(weight: torch.Tensor, block: int = 64) -> torch.Tensor:
    """Where a value over its block's largest is next to a limit of FP4."""
    flat = weight.float().reshape(-1)
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % block)).reshape(-1, block)
    shares = (blocks / blocks.abs().amax(1, keepdim=True).clamp(min=1e-38)).reshape(-1)[: len(flat)].abs()
    return ((shares[:, None] / FP4_LIMITS - 1).abs() < 2e-6).any(1).reshape(weight.shape)


def by_formulas(case: Case, was: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], report: Report) -> dict[str, torch.Tensor]:
    """What double quantisation by a card's formulas gives, next to what bitsandbytes gave."""
    made = {}
    for name, weight in expected.items():
        stored = was[name].to(case.loaded)
        is_transposed = case.model == "GPT2"
        value = twice(stored.T.contiguous() if is_transposed else stored, case.code)
        made[name] = value.T if is_transposed else value
    off = max(float((made[name].float() - weight.float()).abs().max() / weight.abs().max()) for name, weight in expected.items())
    unequal = sum(int((made[name] != weight).sum()) for name, weight in expected.items()) / sum(weight.numel() for weight in made.values())
    # Neighbours in the map are at most 1/70 of a run's largest distance from the mean apart, and that is less than the largest scale.
    report.check(f"{case.name}: next to what bitsandbytes gives on a CPU", off < 1 / 70, f"{off:.1e} of the largest value, {unequal:.1%} of the values differ")
    return made


def check(case: Case, root: Path, program: Path, report: Report) -> None:
    """All that is said of a case."""
    base(case, root / "base")
    model = quantised(case, root / "base")
    expected = {f"{name}.weight": weight.detach().clone() for name, module in model.named_modules() if (weight := seen(module)) is not None}
    peft = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules=list(case.targets), task_type="CAUSAL_LM"))
    adapters.randomise(peft, seed=1)
    peft.save_pretrained(root / "adapter")
    given = ["--base", str(root / "base"), "--lora", str(root / "adapter"), "--base-as", case.base_as]
    outcome = binary.merge(program, [*given, "--output", str(root / "merged"), "--dtype", "f32" if case.dtype == torch.float32 else "keep"])
    if not outcome.merged:
        report.check(f"{case.name}: merged", False, outcome.stderr[-400:])
        return
    was, got = load_file(root / "base" / "model.safetensors"), load_file(root / "merged" / "model.safetensors")
    if case.double:
        expected = by_formulas(case, was, expected, report)
    deltas = {}
    for name, module in peft.base_model.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            delta = module.get_delta_weight("default").detach().double()
            is_transposed = issubclass(module.base_layer.source_cls, transformers.pytorch_utils.Conv1D)
            deltas[f"{name}.weight"] = delta.T if is_transposed else delta
    changed = {name for name in got if not torch.equal(got[name], was[name])}
    wanted = {name for name in expected if not torch.equal(expected[name].to(case.dtype), was[name])}
    report.check(f"{case.name}: the weights of quantised modules change, and no other", changed == wanted | set(deltas), str(sorted(changed ^ (wanted | set(deltas)))[:4]))
    wrong = []
    for name, weight in expected.items():
        if name in deltas:
            sum_of = weight.double() + deltas[name]
            off = (got[name].double() - sum_of).abs().numpy()
            bad = off > tensors.ulp(sum_of.numpy(), {torch.bfloat16: "BF16", torch.float32: "F32"}[case.dtype]) / 2 + NOISE * sum_of.abs().max().item()
            bad = torch.from_numpy(bad)
        else:
            bad = got[name] != weight.to(case.dtype)
        if case.code == "fp4":
            bad &= ~near_a_limit(was[name])
        if bad.any():
            wrong.append(f"{name}: {int(bad.sum())} of {bad.numel()}")
    report.check(f"{case.name}: what bitsandbytes dequantises, and PEFT's delta", not wrong, "; ".join(wrong[:3]))
    # Where blocks do not end with rows, bitsandbytes' layers fail on some CPUs.
    whole = all(weight.shape[1] % 64 == 0 for weight in expected.values())
    if whole and case.code != "int8" and case.dtype == case.loaded == torch.float32:
        tokens = case.options["vocab_size"]
        live = run.outputs_of(peft.eval(), tokens)
        off = run.apart(run.outputs_of(run.load(root / "merged"), tokens), live)
        naive = [*given[:4], "--output", str(root / "naive")]
        binary.merge(program, naive)
        other = run.apart(run.outputs_of(run.load(root / "naive"), tokens), live)
        limit = 1e-3 if case.double else 1e-4
        report.check(f"{case.name}: the PeftModel's logits", off < limit < other, f"{off:.1e}, merged into the plain base {other:.1e}")


def guarded(case: Case, root: Path, program: Path, report: Report) -> None:
    """A case; an exception in it is a failed check."""
    report.guarded(case.name, lambda: check(case, root, program, report))


if __name__ == "__main__":
    sys.exit(run_cases(__doc__, CASES, guarded))
