"""Quantised bases against transformers and PEFT: `quantised.py BINARY [--only PREFIX] [--keep FOLDER]`.

Makes tiny models whose weights are FP8 or MXFP4, and the same models with the values of those codes in fp32: FP8 as torch
converts it, MXFP4 by transformers' own function. PEFT trains nothing, its adapters have random weights, and it merges them
into the values. The binary merges into the quantised base:

- `--quantised dequantise`: every tensor is PEFT's, to half a unit in the last place of bf16; transformers loads the output and
  gives the PeftModel's logits.
- an adapter on `lm_head` alone: codes and scales are the base's bytes.
- an adapter on quantised weights, kept: refused.

One line a check; the last line counts them.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
warnings.filterwarnings("ignore")

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

import binary
import tensors
from generate import adapters
from generate.bases import GPT_OSS, LLAMA, TORCH
from live import run
from live.report import Report

State = dict[str, torch.Tensor]
E4M3_LARGEST = 448.0
# of the largest element: what fp32 leaves of a sum
NOISE = 1e-6


@dataclass(frozen=True)
class Form:
    """A way to quantise a model: what stands in the files for a weight, and what config.json says."""

    name: str
    model: str
    config: str
    options: dict
    targets: list[str]
    quantise: Callable[[str, torch.Tensor], State | None]
    values: Callable[[str, State], torch.Tensor]
    settings: dict


def spread(scale: torch.Tensor, block: tuple[int, int] | None, shape: torch.Size) -> torch.Tensor:
    """A scale for each value, from one for each block."""
    if block is None:
        return scale
    return scale.repeat_interleave(block[0], 0)[: shape[0]].repeat_interleave(block[1] or shape[1], 1)[:, : shape[1]]


def fp8(name: str, ending: str, block: tuple[int, int] | None, scales: torch.dtype = torch.float32, **settings: object) -> Form:
    """FP8: a scale for the tensor (no block), or for each block. A block of one row is as wide as the weight."""

    def quantise(key: str, weight: torch.Tensor) -> State | None:
        if "proj.weight" not in key:
            return None
        if block is None:
            scale = (weight.abs().max() / E4M3_LARGEST).to(scales)
        else:
            high, wide = block[0], block[1] or weight.shape[1]
            grid = [[tile.abs().max() for tile in row.split(wide, 1)] for row in weight.split(high, 0)]
            scale = (torch.tensor(grid) / E4M3_LARGEST).to(scales)
        codes = (weight / spread(scale.float(), block, weight.shape)).clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn)
        return {key: codes, f"{key}{ending}": scale}

    def values(key: str, state: State) -> torch.Tensor:
        return state[key].float() * spread(state[f"{key}{ending}"].float(), block, state[key].shape)

    # Heights and widths that no block divides.
    options = LLAMA | {"intermediate_size": 40}
    targets = ["q_proj", "v_proj", "down_proj"]
    return Form(name, "LlamaForCausalLM", "LlamaConfig", options, targets, quantise, values, settings)


def mxfp4() -> Form:
    """gpt-oss: the experts' matrices. The codes are random, so each of the 16 occurs."""

    def quantise(key: str, weight: torch.Tensor) -> State | None:
        if not key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            return None
        experts, inputs, outputs = weight.shape
        codes = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(121, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
        return {f"{key}_blocks": codes, f"{key}_scales": scales}

    def values(key: str, state: State) -> torch.Tensor:
        return convert_moe_packed_tensors(state[f"{key}_blocks"], state[f"{key}_scales"], dtype=torch.float32)

    options = GPT_OSS | {"intermediate_size": 32, "hidden_size": 32}
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    return Form("mxfp4", "GptOssForCausalLM", "GptOssConfig", options, ["q_proj"], quantise, values, settings)


FORMS = [
    fp8("fp8-tensor", "_scale", None, quant_method="compressed-tensors"),
    fp8("fp8-rows", "_scale", (1, 0), torch.bfloat16, quant_method="fbgemm_fp8"),
    fp8("fp8-blocks", "_scale_inv", (16, 12), quant_method="fp8", weight_block_size=[16, 12]),
    mxfp4(),
]


def write(folder: Path, state: State, config: dict) -> None:
    """A checkpoint of one file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})


def make(form: Form, root: Path) -> tuple[Path, Path]:
    """The quantised base, and its values in fp32."""
    torch.manual_seed(len(form.name))
    model = getattr(transformers, form.model)(getattr(transformers, form.config)(**form.options)).to(torch.bfloat16)
    codes: State = {}
    values: State = {}
    for name, tensor in model.state_dict().items():
        made = form.quantise(name, tensor.float())
        codes |= made or {name: tensor}
        values[name] = form.values(name, made) if made else tensor.float()
    config = json.loads(model.config.to_json_string()) | {"architectures": [form.model]}
    write(root / "base", codes, config | {"dtype": "bfloat16", "quantization_config": form.settings})
    write(root / "values", values, config | {"dtype": "float32"})
    return root / "base", root / "values"


def adapted(values: Path, targets: list[str], folder: Path, **more: object) -> transformers.PreTrainedModel:
    """A PeftModel with random weights, and its files."""
    config = LoraConfig(r=3, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", **more)
    model = get_peft_model(run.load(values), config)
    adapters.randomise(model, seed=1)
    model.save_pretrained(folder)
    return model.eval()


def exact(got: State, expected: State, dtype: str) -> str | None:
    """What is wrong with a set of tensors; None if nothing is."""
    if got.keys() != expected.keys():
        return f"tensors {sorted(got.keys() ^ expected.keys())[:4]} are in one of them only"
    for name, tensor in expected.items():
        if got[name].dtype != TORCH[dtype]:
            return f"{name} is {got[name].dtype}"
        want, have = tensor.double().numpy(), got[name].double().numpy()
        if (abs(have - want) > tensors.ulp(want, dtype) / 2 + NOISE * abs(want).max()).any():
            return f"{name} is more than half a unit away"
    return None


def merge(program: Path, base: Path, adapter: Path, output: Path, *more: str) -> binary.Outcome:
    """One run of the binary."""
    return binary.merge(program, ["--base", str(base), "--lora", str(adapter), "--output", str(output), *more])


def dequantised(form: Form, root: Path, program: Path, report: Report) -> None:
    """All of it in bf16, merged; what the adapter does not change too."""
    parameters = [f"mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")] if form.name == "mxfp4" else None
    if parameters:
        model = adapted(root / "values", form.targets, root / "attention")
        merge(program, root / "base", root / "attention", root / "around", "--quantised", "dequantise")
        expected = {name: tensor.float() for name, tensor in model.merge_and_unload().state_dict().items()}
        wrong = exact(load_file(root / "around" / "model.safetensors"), expected, "BF16")
        report.check(f"{form.name}: experts that no adapter changes, dequantised", wrong is None, wrong or "")
    model = adapted(root / "values", form.targets, root / "adapter", target_parameters=parameters)
    outcome = merge(program, root / "base", root / "adapter", root / "dequantised", "--quantised", "dequantise")
    if not outcome.merged:
        report.check(f"{form.name}: dequantised", False, outcome.stderr[-300:])
        return
    tokens = form.options["vocab_size"]
    live = run.outputs_of(model, tokens)
    expected = {name: tensor.float() for name, tensor in model.merge_and_unload().state_dict().items()}
    got = load_file(root / "dequantised" / "model.safetensors")
    wrong = exact(got, expected, "BF16")
    report.check(f"{form.name}: dequantised, as PEFT merges the values", wrong is None, wrong or "")
    config = json.loads((root / "dequantised" / "config.json").read_text())
    report.check(f"{form.name}: the output is not quantised", "quantization_config" not in config and config["dtype"] == "bfloat16", "")
    off = run.apart(run.outputs_of(run.load(root / "dequantised"), tokens), live)
    moved = run.apart(run.outputs_of(run.load(root / "values"), tokens), live)
    report.check(f"{form.name}: transformers gives the PeftModel's logits", off < run.LIMITS["BF16"] < moved, f"{off:.1e}, without the adapter {moved:.1e}")


def kept(form: Form, root: Path, program: Path, report: Report) -> None:
    """An adapter beside the codes, and one on them."""
    model = adapted(root / "values", ["lm_head"], root / "head")
    outcome = merge(program, root / "base", root / "head", root / "kept")
    if not outcome.merged:
        report.check(f"{form.name}: kept", False, outcome.stderr[-300:])
        return
    head = model.merge_and_unload().state_dict()["lm_head.weight"].float()
    base, got = load_file(root / "base" / "model.safetensors"), load_file(root / "kept" / "model.safetensors")
    wrong = exact({"lm_head.weight": got.pop("lm_head.weight")}, {"lm_head.weight": head}, "BF16")
    report.check(f"{form.name}: the head is merged", wrong is None, wrong or "")
    del base["lm_head.weight"]
    same = got.keys() == base.keys() and all(torch.equal(got[n].view(torch.uint8), base[n].view(torch.uint8)) for n in base if base[n].ndim)
    report.check(f"{form.name}: codes and scales are the base's bytes", same, "")
    config = json.loads((root / "kept" / "config.json").read_text())
    report.check(f"{form.name}: quantization_config stays", config["quantization_config"] == form.settings, "")
    if form.name != "mxfp4":
        outcome = merge(program, root / "base", root / "adapter", root / "refused")
        report.check(f"{form.name}: an adapter on codes is refused", outcome.kind == "unsupported", outcome.message)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--only", default="", metavar="PREFIX")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave everything that was made there")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        for form in FORMS:
            if form.name.startswith(args.only):
                root = (args.keep or Path(scratch)) / form.name
                make(form, root)
                program = args.binary.resolve()
                report.guarded(f"{form.name}: dequantised", lambda f=form, r=root, p=program: dequantised(f, r, p, report))
                report.guarded(f"{form.name}: kept", lambda f=form, r=root, p=program: kept(f, r, p, report))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
