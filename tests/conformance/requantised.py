"""Weights that are encoded again, against the libraries that write their formats: `requantised.py BINARY [--only PREFIX] [--keep FOLDER]`.

The models and forms are those of `quantised.py`, and some more. The merged values are those of the binary itself, with `--quantised
dequantise --dtype f32`, which `quantised.py` holds against PEFT. For each form that `--quantised requantise` has:

- codes and scales of what the adapter changes are those that the library's own functions make of the merged values, bit for bit; where a
  library does not run on a CPU its published formula stands here; blocks whose values did not change have the base's bytes;
- everything else, config.json too, is the base's;
- transformers loads the output with the quantiser of the base, where that runs on a CPU;
- cosine and norm of what survived are those of numpy;
- an adapter that is too small for the codes ends with exit code 3 and all names, and nothing is published.

A form that does not have it is refused by the name of the weight. One line a check; the last line counts them.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
warnings.filterwarnings("ignore")

import numpy as np
import torch
import transformers
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file
from transformers import CompressedTensorsConfig
from transformers.integrations.finegrained_fp8 import Fp8Quantize

from live import run
from live.report import Report
from live.suite import run_cases
from quantised_forms import FORMS, Form, fp8, make, spread
from quantised_forms import library as form_of
from quantised_libraries import LIBRARIES, own, prefixed, stem
from quantised_parts import State, adapted, merge, same_bytes, write


@dataclass(frozen=True)
class Case:
    """A form, and what makes the tensors of a weight from its name, its values and the base's tensors; None for one that is refused."""

    form: Form
    made: Callable[[str, torch.Tensor, State], State] | None
    loads: bool = False

    @property
    def name(self) -> str:
        """The form's."""
        return self.form.name


def qparams(args: QuantizationArgs, groups: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The scales of compressed-tensors for groups along the last dimension, as they are stored."""
    args = args.model_copy(update={"scale_dtype": dtype})
    return calculate_qparams(groups.amin(-1), groups.amax(-1), args)[0].to(dtype)


def divided(block: tuple[int, int] | None, scales: torch.dtype, ending: str) -> Callable[[str, torch.Tensor, State], State]:
    """FP8 as compressed-tensors makes it: the scale in its own dtype, and codes divided by that. `quantize` itself takes one scale or
    one for each row; for blocks its division, cut and conversion stand here."""
    args = QuantizationArgs(num_bits=8, type="float", strategy="tensor" if block is None else "channel", symmetric=True)

    def make_it(key: str, values: torch.Tensor, base: State) -> State:
        if block is None:
            scale = qparams(args, values.reshape(1, -1), scales).reshape(base[f"{key}{ending}"].shape)
            codes = quantize(values, scale.float(), None, args, dtype=torch.float8_e4m3fn)
        elif block[0] == 1:
            scale = qparams(args, values, scales).reshape(-1, 1)
            codes = quantize(values, scale.float(), None, args, dtype=torch.float8_e4m3fn)
        else:
            tiles = [[qparams(args, tile.reshape(1, -1), scales) for tile in row.split(block[1], 1)] for row in values.split(block[0], 0)]
            scale = torch.stack([torch.cat(row) for row in tiles])
            codes = (values / spread(scale.float(), block, values.shape)).clamp(-448.0, 448.0).to(torch.float8_e4m3fn)
        return {key: codes, f"{key}{ending}": scale}

    return make_it


def finegrained(block: tuple[int, int], fmt: str | None) -> Callable[[str, torch.Tensor, State], State]:
    """FP8 as transformers makes it. It leaves weights alone that blocks do not fill, so zeros fill them here."""
    config = SimpleNamespace(weight_block_size=list(block), scale_fmt=fmt)
    operation = Fp8Quantize(SimpleNamespace(quantization_config=config))

    def make_it(key: str, values: torch.Tensor, base: State) -> State:
        (rows, cols), scale = values.shape, f"{key}_scale_inv"
        filled = torch.nn.functional.pad(values, (0, -cols % block[1], 0, -rows % block[0]))
        made = operation.convert({key: filled})
        return {key: made[key][:rows, :cols].contiguous(), scale: made[scale].to(base[scale].dtype)}

    return make_it


def library(name: str) -> Callable[[str, torch.Tensor, State], State]:
    """A format of compressed-tensors, made by its compressor of scales by `calculate_qparams`."""
    held = LIBRARIES[name]

    def make_it(key: str, values: torch.Tensor, base: State) -> State:
        size = held.args.group_size if held.args.group_size and held.args.group_size > 0 else values.shape[1]
        groups = values.unflatten(1, (-1, size))
        if held.args.type == "float":
            args = held.args.model_copy(update={"scale_dtype": torch.uint8})
            scale = calculate_qparams(groups.amin(-1), groups.amax(-1), args)[0].float()
        else:
            scale = qparams(held.args, groups, held.scales)
        state = held.compressor.compress({"weight": values, "weight_scale": scale.float() if held.args.type == "float" else scale}, held.scheme)
        return base | prefixed(key, state)

    return make_it


class Ordered:
    """INT4 with groups in an order: `weight_g_idx`."""

    SIZE = 16

    def __init__(self) -> None:
        self.args = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=self.SIZE, symmetric=True)

    def settings(self) -> dict:
        """What config.json says."""
        group = {"targets": ["Linear"], "weights": self.args.model_dump(mode="json") | {"actorder": "group"}, "format": "pack-quantized"}
        return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}

    def encode(self, key: str, weight: torch.Tensor, order: torch.Tensor) -> State:
        """Columns in the order of their groups are quantised, and go back to their places."""
        place = torch.argsort(order, stable=True)
        sorted_weight = weight[:, place]
        scale = qparams(self.args, sorted_weight.unflatten(1, (-1, self.SIZE)), torch.bfloat16)
        codes = torch.empty_like(weight, dtype=torch.int8)
        codes[:, place] = quantize(sorted_weight, scale.float(), None, self.args, dtype=torch.int8)
        return prefixed(key, {
            "weight_packed": pack_to_int32(codes, 4),
            "weight_scale": scale,
            "weight_shape": torch.tensor(weight.shape),
            "weight_g_idx": order.int(),
        })

    def quantise(self, key: str, weight: torch.Tensor) -> State | None:
        """What stands in the files."""
        if not key.endswith("proj.weight"):
            return None
        order = (torch.arange(weight.shape[1]) // self.SIZE)[torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(3))]
        return self.encode(key, weight, order)

    def values(self, key: str, state: State) -> torch.Tensor:
        """The values, in fp32."""
        held = own(key, state)
        codes = unpack_from_int32(held["weight_packed"], 4, torch.Size(held["weight_shape"].tolist()))
        return codes.float() * held["weight_scale"].float()[:, held["weight_g_idx"].long()]


ORDERED = Ordered()


def ordered(key: str, values: torch.Tensor, base: State) -> State:
    """The order stays."""
    return ORDERED.encode(key, values, base[f"{stem(key)}.weight_g_idx"].long())


def gpt_oss(key: str, values: torch.Tensor, base: State) -> State:
    """`downcast_to_mxfp_torch` of triton_kernels, as transformers' `quantize_to_mxfp4` calls it, in numpy: the scale is rounded up to a
    power of two, codes to the nearest, ties to even."""
    experts, inputs, outputs = values.shape
    groups = values.numpy().transpose(0, 2, 1).reshape(experts, outputs, inputs // 32, 32)
    scale = (np.abs(groups).max(-1) / np.float32(6.0)).astype(np.float32)
    bits = (scale.view(np.int32) + 0x007FFFFF) & 0x7F800000
    power = bits.view(np.float32)
    multiple = groups * np.where(power == 0, np.float32(0), np.float32(1) / np.where(power == 0, np.float32(1), power))[..., None]
    known = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    middles = (known[:-1] + known[1:]) / 2
    size = np.abs(multiple.astype(np.float64))
    code = np.searchsorted(middles, size, side="left")  # a middle belongs to the lower one
    code += (code < 7) & (size == middles[np.minimum(code, 6)]) & (code % 2 == 1)
    code = (code | np.signbit(multiple) << 3).astype(np.uint8)
    packed = code[..., ::2] | code[..., 1::2] << 4
    return {f"{key}_blocks": torch.from_numpy(packed), f"{key}_scales": torch.from_numpy((bits >> 23).astype(np.uint8))}


def ue8m0() -> Form:
    """FP8 of DeepSeek V3.1: scales in F32 that are powers of two."""
    form = fp8("fp8-powers", "_scale_inv", (8, 8), quant_method="fp8", weight_block_size=[8, 8], scale_fmt="ue8m0")
    operation = finegrained((8, 8), "ue8m0")

    def quantise(key: str, weight: torch.Tensor) -> State | None:
        return operation(key, weight, {f"{key}_scale_inv": torch.zeros(1)}) if "proj.weight" in key else None

    return Form(form.name, form.model, form.config, form.options, form.targets, quantise, form.values, form.settings)


BY_NAME = {form.name: form for form in FORMS}
CASES = [
    Case(BY_NAME["fp8-tensor"], divided(None, torch.float32, "_scale")),
    Case(BY_NAME["fp8-rows"], divided((1, 0), torch.bfloat16, "_scale")),
    Case(fp8("fp8-blocks-compressed", "_scale", (16, 12), torch.bfloat16, quant_method="compressed-tensors", config_groups={"g": {"weights": {"block_structure": [16, 12]}}}), divided((16, 12), torch.bfloat16, "_scale")),
    Case(BY_NAME["fp8-blocks"], finegrained((16, 12), None)),
    Case(BY_NAME["fp8-whole-blocks"], finegrained((8, 8), None), loads=True),
    Case(ue8m0(), finegrained((8, 8), "ue8m0")),
    Case(BY_NAME["mxfp4"], gpt_oss, loads=True),
    Case(BY_NAME["packed-int4-group"], library("packed-int4-group"), loads=True),
    Case(BY_NAME["packed-int8-channel"], library("packed-int8-channel"), loads=True),
    Case(form_of("packed-int4-order", ORDERED), ordered),
    Case(BY_NAME["mxfp4-packed"], library("mxfp4-packed")),
    *(Case(BY_NAME[name], None) for name in LIBRARIES if name.startswith(("packed-int4-zeros", "packed-int8-zeros", "gptq-4", "awq", "nf4", "int8", "nvfp4"))),
]


def shrink(adapter: Path, size: float) -> None:
    """The adapter's B, that much smaller."""
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor * size if "lora_B" in name else tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def stored(form: Form, key: str, state: State) -> State:
    """The tensors of a weight."""
    module = stem(key)
    is_own = (lambda name: name in (f"{key}_blocks", f"{key}_scales")) if form.name == "mxfp4" else (lambda name: name == key or name.startswith((f"{key}_", f"{module}.")))
    return {name: tensor for name, tensor in state.items() if is_own(name)}


# Rows of every weight that the adapter leaves as they are; blocks of 8 and of 16 rows fill them.
KEPT = 16


def kept(form: Form, adapter: Path) -> None:
    """Zeros in the rows of the adapter's B that change nothing. gpt-oss has its rows elsewhere."""
    if form.name != "mxfp4":
        file = adapter / "adapter_model.safetensors"
        state = load_file(file)
        for name in (name for name in state if "lora_B" in name and len(state[name]) > KEPT):
            state[name][:KEPT] = 0
        save_file(state, file, {"format": "pt"})


def expected_of(case: Case, key: str, before: torch.Tensor, after: torch.Tensor, base: State) -> State:
    """The tensors of a weight that are expected: those of the library, and of the base where values are the same."""
    made = case.made(key, after, base)
    all_of_it = {name: made.get(name, tensor).clone() for name, tensor in base.items()}
    alike = (before == after).all(1) if before.ndim == 2 else torch.zeros(1, dtype=torch.bool)
    if not alike[:KEPT].all() or case.name == "fp8-tensor":
        return all_of_it
    for name, tensor in base.items():
        if tensor.ndim == 2:
            high = -(-before.shape[0] // tensor.shape[0])
            high = next((size for size in (1, 8, 16) if -(-before.shape[0] // size) == tensor.shape[0]), high)
            all_of_it[name][: KEPT // high] = tensor[: KEPT // high]
    return all_of_it


def encoded(case: Case, root: Path, program: Path, report: Report, adapters: list[Path], what: str) -> None:
    """One merge, held against the library."""
    form, more = case.form, [option for path in adapters[1:] for option in ("--lora", str(path))]
    floats = merge(program, root / "base", adapters[0], root / f"{what}-floats", *more, "--quantised", "dequantise", "--dtype", "f32")
    outcome = merge(program, root / "base", adapters[0], root / what, *more, "--quantised", "requantise", "--survival", "0")
    if not (floats.merged and outcome.merged):
        report.check(f"{form.name}: {what}", False, (floats.stderr + outcome.stderr)[-300:])
        return
    base, values = (load_file(root / folder / "model.safetensors") for folder in ("base", "values"))
    merged, got = (load_file(root / folder / "model.safetensors") for folder in (f"{what}-floats", what))
    codes = [key for key in values if key not in base or base[key].dtype == torch.float8_e4m3fn]
    changed = [key for key in codes if not torch.equal(values[key], merged[key])]
    plain = {key: tensor.to(base[key].dtype) for key, tensor in merged.items() if key not in codes}
    expected = base | plain
    for key in changed:
        expected |= expected_of(case, key, values[key], merged[key], stored(form, key, base))
    apart = [name for name in expected if name not in got or not same_bytes(got[name], expected[name])]
    report.check(f"{form.name}: {what}: codes and scales of {len(changed)} weights are the library's", bool(changed) and not apart and got.keys() == expected.keys(), ", ".join(apart[:3]))
    config = [json.loads((root / folder / "config.json").read_text()) for folder in ("base", what)]
    report.check(f"{form.name}: {what}: config.json is the base's", config[0] == config[1], "")
    told = {line["tensor"]: line for line in json.loads((root / what / "shardfuse.json").read_text())["survived"]}
    off = 0.0
    for key in changed:
        new = form.values(key, stored(form, key, got)).double().numpy().ravel()
        old = values[key].double().numpy().ravel()
        wanted, left = (merged[key] - values[key]).double().numpy().ravel(), new - old
        cosine = wanted @ left / (np.linalg.norm(wanted) * np.linalg.norm(left))
        norm = np.linalg.norm(left) / np.linalg.norm(wanted)
        off = max(off, abs(told[key]["cosine"] - cosine), abs(told[key]["norm"] - norm))
    report.check(f"{form.name}: {what}: what survived is what numpy finds", told.keys() == set(changed) and off < 1e-6, f"off by {off:.1e}")
    if case.loads and what == "one":
        loaded(form, root, what, got, report)


def loaded(form: Form, root: Path, what: str, got: State, report: Report) -> None:
    """transformers loads the output as it loads the base: its logits are those of the decoded values."""
    floats = load_file(root / f"{what}-floats" / "model.safetensors")
    for key in [key for key in floats if key not in got or got[key].dtype == torch.float8_e4m3fn]:
        floats[key] = form.values(key, stored(form, key, got))
    config = json.loads((root / f"{what}-floats" / "config.json").read_text())
    write(root / "decoded", floats, config)
    tokens = form.options["vocab_size"]
    want = run.outputs_of(run.load(root / "decoded"), tokens)
    if form.settings["quant_method"] == "compressed-tensors":
        # Its quantiser decodes on request, and calls what it decodes itself missing.
        decoding = CompressedTensorsConfig(run_compressed=False)
        model = getattr(transformers, form.model).from_pretrained(root / what, dtype=torch.bfloat16, quantization_config=decoding)
    else:
        model = run.load(root / what, dtype=torch.bfloat16)
    off = run.apart(run.outputs_of(model.float(), tokens), want)
    moved = run.apart(run.outputs_of(run.load(root / "values"), tokens), want)
    report.check(f"{form.name}: transformers' quantiser loads it", off < run.LIMITS["BF16"] < moved, f"{off:.1e}, the base is {moved:.1e} away")


def lost(case: Case, root: Path, program: Path, report: Report, adapter: Path) -> None:
    """An adapter that the codes would lose."""
    shrink(adapter, 1e-7)
    outcome = merge(program, root / "base", adapter, root / "lost", "--quantised", "requantise")
    ends = ("experts.gate_up_proj", "experts.down_proj") if case.name == "mxfp4" else tuple(f"{name}.weight" for name in case.form.targets)
    targets = [key for key in load_file(root / "values" / "model.safetensors") if key.endswith(ends)]
    missing = [key for key in targets if key not in outcome.stderr]
    good = outcome.code == 3 and bool(targets) and not missing and "delta_lost" in outcome.stderr and not (root / "lost").exists()
    report.check(f"{case.name}: an adapter that is too small is refused with all names", good, f"exit {outcome.code}, {len(targets)} weights {missing[:2]}")


def checked(case: Case, root: Path, program: Path, report: Report) -> None:
    """All checks of a case."""
    form = case.form
    make(form, root)
    parameters = [f"mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")] if form.name == "mxfp4" else None
    adapted(root / "values", form.targets, root / "adapter", target_parameters=parameters)
    kept(form, root / "adapter")
    if case.made is None:
        outcome = merge(program, root / "base", root / "adapter", root / "refused", "--quantised", "requantise")
        good = outcome.code == 3 and "cannot be encoded again" in outcome.stderr and "layers.0" in outcome.stderr and "--quantised keep" in outcome.stderr
        report.check(f"{form.name}: refused by name", good, outcome.stderr[-200:])
        return
    report.guarded(f"{form.name}: one", lambda: encoded(case, root, program, report, [root / "adapter"], "one"))
    more = {"target_parameters": parameters[1:]} if parameters else {"layers_to_transform": [1]}
    adapted(root / "values", form.targets[:1], root / "second", **more)
    report.guarded(f"{form.name}: two", lambda: encoded(case, root, program, report, [root / "adapter", root / "second"], "two"))
    report.guarded(f"{form.name}: lost", lambda: lost(case, root, program, report, root / "adapter"))


if __name__ == "__main__":
    sys.exit(run_cases(__doc__, CASES, checked))
