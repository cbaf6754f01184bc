"""One scenario: the tensors against PEFT's merge, the loaded model against the PeftModel."""

from pathlib import Path

import torch
import transformers
from peft import PeftModel
from torch import nn

from generate import merges, oracle
from generate.adapters import Adapter
from generate.bases import Base
from generate.merges import Merge
from shared_set import run_case

from .report import Report

# the differences' root mean square, as a part of the logits'; a bf16 model holds 8 bits of each weight. Of 80 models in fp32 with
# a large rsLoRA most were below 1e-6, the worst 7e-6.
LIMITS = {"F32": 5e-5, "BF16": 5e-2}
# BERT's outputs are normalised: less gets through, of a rounding and of an adapter
BERT_BF16 = 1.5e-2
# what the adapters must do to the logits, for the comparison to say anything: so many times the limit
MATTERS = 2


def outputs_of(model: nn.Module, rows: int) -> torch.Tensor:
    """What the model makes of every token that it has, in four sequences: logits, or hidden states and their pooling."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(7))
    tokens = torch.cat([order, order[: -rows % 4]]).view(4, -1)
    with torch.no_grad():
        out = model.eval()(input_ids=tokens)
    seen = [out.logits] if "logits" in out else [out.last_hidden_state, out.pooler_output]
    return torch.cat([part.flatten() for part in seen])


# what a class for another task leaves over of a language model
OLD_HEAD = {"lm_head.weight"}


def load(folder: Path, unused: set[str] = frozenset(), dtype: torch.dtype = torch.float32, **options: object) -> nn.Module:
    """A checkpoint as transformers loads it, by default in fp32, with a word from it about keys that it missed."""
    architecture = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    model, told = architecture.from_pretrained(folder, dtype=dtype, output_loading_info=True, **options)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if wrong := set(told.get(what) or ()) - (unused if what == "unexpected_keys" else set()):
            raise AssertionError(f"transformers reports {what} {sorted(wrong)[:3]}")
    return model


def trained_on(base: Path, adapter: Adapter) -> nn.Module:
    """The model that an adapter was trained on: of another class than the base's, if it brings a head."""
    if adapter.architecture:
        return oracle.load(base, None, adapter.architecture, adapter.labels)
    return load(base)


def by_peft(model: nn.Module, adapters: list[Path], rows: int | None, merged: bool) -> nn.Module:
    """The PeftModel: the last adapter live, unless `merged`; those before it merged, as they were trained."""
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    for adapter in adapters[:-1]:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    live = PeftModel.from_pretrained(model, adapters[-1])
    return live.merge_and_unload() if merged else live


def apart(left: torch.Tensor, right: torch.Tensor) -> float:
    """The root mean square of the differences, as a part of that of the values."""
    return float((left - right).square().mean().sqrt() / right.square().mean().sqrt())


def run(scenario: Merge, root: Path, known: dict[str, Base], seed: int, program: Path, report: Report) -> None:
    """Make the scenario's adapters, merge with the binary, compare."""
    merges.build(scenario, root, known, seed=str(seed))
    folder, scratch = root / scenario.name, root / f"{scenario.name}-output"
    scratch.mkdir()
    problems, summary = run_case(folder, program, scratch)
    detail = "; ".join(problems[:3]) if problems else summary
    if not report.check(f"{scenario.name}: tensors", not problems, detail):
        return
    # A rounded weight may send a token to another expert, and PEFT scales rsLoRA by the rank of the stacked pair.
    if scenario.base == "qwen3moe-bf16" or scenario.name == "qwen3moe-f32-rslora":
        return
    base, rows = root / "bases" / scenario.base, scenario.adapters[-1].rows
    dtype = known[scenario.base].dtype
    limit = BERT_BF16 if scenario.base == "bert-bf16" else LIMITS[dtype]
    tokens = rows or known[scenario.base].options["vocab_size"]
    paths = [folder / path for path in merges.paths_of(scenario)]
    # a live LoRA on a tied embedding does not reach the output side; a merged one does
    tied_embedding = scenario.kind == "embedding" and scenario.config.get("tie_word_embeddings", False)
    adapter = scenario.adapters[-1]
    want = outputs_of(by_peft(trained_on(base, adapter), paths, rows, merged=tied_embedding), tokens)
    output = load(scratch / "output", OLD_HEAD if adapter.architecture else set())
    off = apart(outputs_of(output, tokens), want)
    before = trained_on(base, adapter)
    if rows:
        before.resize_token_embeddings(rows, mean_resizing=False)
    moved = apart(outputs_of(before, tokens), want)
    report.check(
        f"{scenario.name}: logits",
        off <= limit and moved > (MATTERS if dtype == "F32" else 1) * limit,
        f"{off:.1e} from {'PEFT' if tied_embedding else 'the PeftModel'}'s, at most {limit:.0e} allowed; "
        f"the base is {moved:.1e} away",
    )
