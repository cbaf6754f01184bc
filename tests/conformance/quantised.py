"""Quantised bases against transformers and PEFT: `quantised.py BINARY [--only PREFIX] [--keep FOLDER]`.

Makes tiny models whose weights are quantised, and the same models with the values of those codes in fp32: FP8 as torch
converts it, MXFP4 by transformers' own function, other forms as `quantised_libraries` has them. PEFT trains nothing, its adapters have
random weights, and it merges them into the values. The binary merges into the quantised base:

- `--quantised dequantise`: every tensor is PEFT's, to half a unit in the last place of bf16; transformers loads the output and
  gives the PeftModel's logits.
- an adapter on `lm_head` alone: codes and scales are the base's bytes.
- the same with `--dtype f32`: the weights that the adapter does not change are the values, bit for bit.
- an adapter on quantised weights of one layer, kept (`quantised_left`): these and what engines fuse with them are PEFT's, all else is the
  base's bytes, `quantization_config` names them, and transformers' own quantiser loads the output where it runs on a CPU.
- models of the shapes of published ones, kept (`quantised_models`).

One line a check; the last line counts them.
"""

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
warnings.filterwarnings("ignore")

import torch

from live import run
from live.report import Report
from live.suite import run_cases
from quantised_forms import FORMS, Form, make
from quantised_left import left, left_whole
from quantised_models import SHAPES, Shape, of_shape
from quantised_parts import adapted, close, config_of, exact, merge, other_bytes, read


def dequantised(form: Form, root: Path, program: Path, report: Report) -> None:
    """All of it in bf16, merged; what the adapter does not change too."""
    parameters = [f"mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")] if form.name == "mxfp4" else None
    if parameters:
        model = adapted(root / "values", form.targets, root / "attention")
        merge(program, root / "base", root / "attention", root / "around", "--quantised", "dequantise")
        expected = {name: tensor.float() for name, tensor in model.merge_and_unload().state_dict().items()}
        wrong = exact(read(root / "around"), expected, "BF16")
        report.check(f"{form.name}: experts that no adapter changes, dequantised", wrong is None, wrong or "")
    model = adapted(root / "values", form.targets, root / "adapter", target_parameters=parameters)
    outcome = merge(program, root / "base", root / "adapter", root / "dequantised", "--quantised", "dequantise")
    if not outcome.merged:
        report.check(f"{form.name}: dequantised", False, outcome.stderr[-300:])
        return
    tokens = form.options["vocab_size"]
    live = run.outputs_of(model, tokens)
    expected = {name: tensor.float() for name, tensor in model.merge_and_unload().state_dict().items()}
    wrong = exact(read(root / "dequantised"), expected, "BF16")
    report.check(f"{form.name}: dequantised, as PEFT merges the values", wrong is None, wrong or "")
    config = config_of(root / "dequantised")
    report.check(f"{form.name}: the output is not quantised", "quantization_config" not in config and config["dtype"] == "bfloat16", "")
    without = run.outputs_of(run.load(root / "values"), tokens)
    good, apart = close(run.outputs_of(run.load(root / "dequantised"), tokens), live, without)
    report.check(f"{form.name}: transformers gives the PeftModel's logits", good, apart)


def kept(form: Form, root: Path, program: Path, report: Report) -> None:
    """An adapter beside the codes."""
    model = adapted(root / "values", ["lm_head"], root / "head")
    outcome = merge(program, root / "base", root / "head", root / "kept")
    if not outcome.merged:
        report.check(f"{form.name}: kept", False, outcome.stderr[-300:])
        return
    head = model.merge_and_unload().state_dict()["lm_head.weight"].float()
    base, got = read(root / "base"), read(root / "kept")
    wrong = exact({"lm_head.weight": got.pop("lm_head.weight")}, {"lm_head.weight": head}, "BF16")
    report.check(f"{form.name}: the head is merged", wrong is None, wrong or "")
    del base["lm_head.weight"]
    others = other_bytes(got, base)
    report.check(f"{form.name}: codes and scales are the base's bytes", not others, ", ".join(others[:3]))
    config = config_of(root / "kept")
    report.check(f"{form.name}: quantization_config stays", config["quantization_config"] == form.settings, "")
    merge(program, root / "base", root / "head", root / "decoded", "--quantised", "dequantise", "--dtype", "f32")
    values, got = read(root / "values"), read(root / "decoded")
    apart = [name for name in values if name != "lm_head.weight" and not torch.equal(got[name], values[name])]
    report.check(f"{form.name}: decoded bit for bit", not apart, ", ".join(apart[:4]))


def checked(case: Form | Shape, root: Path, program: Path, report: Report) -> None:
    """All checks of a form or a shape."""
    if isinstance(case, Shape):
        report.guarded(case.name, lambda: of_shape(case, root, program, report))
        return
    make(case, root)
    checks = {"dequantised": dequantised, "kept": kept, "left": left_whole if case.name == "mxfp4" else left}
    for name, check in checks.items():
        report.guarded(f"{case.name}: {name}", lambda of=check: of(case, root, program, report))


if __name__ == "__main__":
    sys.exit(run_cases(__doc__, [*FORMS, *SHAPES], checked))
