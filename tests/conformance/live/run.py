"""One scenario: the tensors against PEFT's merge, the loaded model against the PeftModel."""

from pathlib import Path

import torch
import transformers
from peft import PeftModel
from torch import nn

from generate import merges
from generate.bases import Base
from generate.merges import Merge
from shared_set import run_case

from .report import Report

# the largest difference of any logit, as a part of the largest logit; a bf16 model holds 8 bits of each weight
LIMITS = {"F32": 2e-5, "BF16": 4e-2}
# what the adapters must do to the logits, for the comparison to say anything: so many times the limit
MATTERS = 2


def outputs_of(model: nn.Module, rows: int) -> torch.Tensor:
    """The logits (or the last hidden state) for fixed tokens, the last of them the model's last."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(rows, (4, 24), generator=generator)
    tokens[0, :8] = torch.arange(rows - 8, rows)
    with torch.no_grad():
        return model.eval()(input_ids=tokens)[0]


def load(folder: Path) -> nn.Module:
    """A checkpoint as transformers loads it, in fp32, with a word from it about keys that it missed."""
    architecture = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    model, told = architecture.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if told.get(what):
            raise AssertionError(f"transformers reports {what} {sorted(told[what])[:3]}")
    return model


def live_peft(base: Path, adapters: list[Path], rows: int | None) -> nn.Module:
    """The PeftModel: the last adapter live, those before it merged, as they were trained."""
    model = load(base)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    for adapter in adapters[:-1]:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return PeftModel.from_pretrained(model, adapters[-1])


def apart(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    return float((left - right).abs().max() / right.abs().max())


def run(scenario: Merge, root: Path, known: dict[str, Base], seed: int, program: Path, report: Report) -> None:
    """Make the scenario's adapters, merge with the binary, compare."""
    merges.build(scenario, root, known, seed=str(seed))
    folder, scratch = root / scenario.name, root / f"{scenario.name}-output"
    scratch.mkdir()
    problems, summary = run_case(folder, program, scratch)
    detail = "; ".join(problems[:3]) if problems else summary
    if not report.check(f"{scenario.name}: tensors", not problems, detail):
        return
    base, rows = root / "bases" / scenario.base, scenario.adapters[-1].rows
    limit = LIMITS[known[scenario.base].dtype]
    tokens = rows or known[scenario.base].options["vocab_size"]
    paths = [folder / path for path in merges.paths_of(scenario)]
    want = outputs_of(live_peft(base, paths, rows), tokens)
    off = apart(outputs_of(load(scratch / "output"), tokens), want)
    before = load(base)
    if rows:
        before.resize_token_embeddings(rows, mean_resizing=False)
    moved = apart(outputs_of(before, tokens), want)
    report.check(
        f"{scenario.name}: logits",
        off <= limit and moved > MATTERS * limit,
        f"{off:.1e} from the PeftModel's, at most {limit:.0e} allowed; the base is {moved:.1e} away",
    )
