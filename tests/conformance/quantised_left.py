"""An adapter on quantised weights of one layer, kept: what leaves, what stays, what the configuration says, and what loaders make of it."""

import re
from pathlib import Path

import bitsandbytes
import torch
from compressed_tensors.utils import match_named_modules
from transformers import CompressedTensorsConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from live import run
from live.report import Report
from quantised_forms import Form
from quantised_parts import (
    State,
    adapted,
    close,
    config_of,
    exact,
    merge,
    other_bytes,
    plain_model,
    quantised_modules,
    read,
    write,
)

# What q_proj, v_proj and down_proj take along.
FUSED = {"q_proj", "k_proj", "v_proj", "down_proj"}
# Where a method lists what is not quantised.
LISTS = {
    "awq": "modules_to_not_convert",
    "bitsandbytes": "llm_int8_skip_modules",
    "compressed-tensors": "ignore",
    "fbgemm_fp8": "modules_to_not_convert",
    "fp8": "modules_to_not_convert",
    "gptq": "dynamic",
    "modelopt": "ignore",
}
# What the libraries of this environment load without a card. FP8 by blocks, only where the blocks fill the weights.
LOADED = re.compile("fp8-whole-blocks|packed-|nf4$|fp4-nested|int8|nvfp4$|mxfp4-packed")
CODES = {torch.uint8, torch.int8, torch.int32, torch.float8_e4m3fn}


def by_the_list(held: dict, folder: Path) -> set[str]:
    """The linear layers that are quantised by what the configuration says, as its method reads it."""
    model = plain_model(folder)
    method = held["quant_method"]
    linear = quantised_modules(model, (torch.nn.Linear,))
    listed = held[LISTS[method]]
    if method == "compressed-tensors":
        return {name for name, _ in match_named_modules(model, ["Linear"], listed)}
    if method == "gptq":  # GPTQModel's `dynamic_get`: the first expression that matches from the start decides
        def first(name: str) -> str:
            return next((key[:2] for key in listed if re.match(key[2:], name)), "+:")

        return {name for name in linear - {"lm_head"} if first(name) == "+:"}
    if method == "modelopt":  # vLLM's ModelOptQuantConfigBase: a part of the name
        return {name for name in linear - {"lm_head"} if not any(entry in name for entry in listed)}
    return {name for name in linear if should_convert_module(name, listed)}


def loaded(form: Form, root: Path, values: State, got: State) -> torch.nn.Module:
    """The output as transformers loads it with its quantiser; where that takes a card or a library that is missing, its values by
    `form.values`."""
    if LOADED.match(form.name) and form.settings["quant_method"] == "fp8":  # decodes to bf16 where there is no card
        return run.load(root / "left", dtype=torch.bfloat16).float()
    if form.name.endswith("-zeros") or "fp4" in form.name and form.settings["quant_method"] == "compressed-tensors":
        # Without this it takes no packed zero points, and FP4 in bf16 alone.
        return run.load(root / "left", quantization_config=CompressedTensorsConfig(dequantize=True))
    if LOADED.match(form.name):
        return run.load(root / "left")
    coded = {name for name in values if name not in got or got[name].dtype in CODES}
    state = {name: form.values(name, got) if name in coded else got[name].float() for name in values}
    write(root / "left-values", state, config_of(root / "values"))
    return run.load(root / "left-values")


def left(form: Form, root: Path, program: Path, report: Report) -> None:
    """An adapter on the codes of one layer of two."""
    model = adapted(root / "values", form.targets, root / "layer", layers_to_transform=[0])
    outcome = merge(program, root / "base", root / "layer", root / "left")
    if not outcome.merged:
        report.check(f"{form.name}: left", False, outcome.stderr[-300:])
        return
    tokens = form.options["vocab_size"]
    live = run.outputs_of(model, tokens)
    merged = model.merge_and_unload().state_dict()
    base, got, values = read(root / "base"), read(root / "left"), read(root / "values")
    leave = {name for name in merged if "layers.0." in name and name.split(".")[-2] in FUSED and name.endswith(".weight")}
    wrong = exact({name: got[name] for name in leave & got.keys()}, {name: merged[name].float() for name in leave}, "BF16")
    report.check(f"{form.name}: what is changed is written as PEFT merges it", wrong is None, wrong or "")
    stems = tuple(name.removesuffix("weight") for name in leave)
    others = other_bytes(*({name: tensor for name, tensor in state.items() if not name.startswith(stems)} for state in (got, base)))
    report.check(f"{form.name}: all else is the base's bytes", not others, ", ".join(others[:3]))
    remains = sorted(name for name in got if name.startswith(stems) and name not in leave)
    report.check(f"{form.name}: nothing else of what leaves remains", not remains, ", ".join(remains[:3]))
    held = config_of(root / "left")["quantization_config"]
    before = {name.removesuffix(".weight") for name in values if name not in base or base[name].dtype in CODES}
    expected = before - {name.removesuffix(".weight") for name in leave}
    fits = by_the_list(held, root / "left")
    report.check(f"{form.name}: by quantization_config the other layers are quantised", fits == expected, f"{sorted(fits ^ expected)[:4]}")
    key = LISTS[form.settings["quant_method"]]
    rest = {name: value for name, value in held.items() if name != key} == {name: value for name, value in form.settings.items() if name != key}
    report.check(f"{form.name}: the rest of quantization_config is as it was", rest, "")
    output = loaded(form, root, values, got)
    by = "transformers' quantiser" if LOADED.match(form.name) else "its decoded values"
    if form.settings["quant_method"] == "bitsandbytes" and LOADED.match(form.name):
        classes = quantised_modules(output, (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt))
        report.check(f"{form.name}: these are bitsandbytes' layers as loaded", classes == expected, f"{sorted(classes ^ expected)[:4]}")
    if form.name == "int8":  # quantises activations too
        return
    good, apart = close(run.outputs_of(output, tokens), live, run.outputs_of(run.load(root / "values"), tokens))
    report.check(f"{form.name}: {by} gives the PeftModel's logits", good, apart)


def left_whole(form: Form, root: Path, program: Path, report: Report) -> None:
    """Experts of gpt-oss: all leave, and the configuration with them."""
    model = adapted(root / "values", ["q_proj"], root / "experts", target_parameters=["mlp.experts.down_proj"])
    outcome = merge(program, root / "base", root / "experts", root / "left")
    if not outcome.merged:
        report.check(f"{form.name}: left", False, outcome.stderr[-300:])
        return
    live = run.outputs_of(model, form.options["vocab_size"])
    expected = {name: tensor.float() for name, tensor in model.merge_and_unload().state_dict().items()}
    wrong = exact(read(root / "left"), expected, "BF16")
    report.check(f"{form.name}: one expert changed, all written as values", wrong is None, wrong or "")
    off = run.apart(run.outputs_of(run.load(root / "left"), form.options["vocab_size"]), live)
    report.check(f"{form.name}: transformers gives the PeftModel's logits, not quantised", off < run.LIMITS["BF16"], f"{off:.1e}")
