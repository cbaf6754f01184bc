"""Cases of several adapters."""

import json
from pathlib import Path

import torch

from . import adapters, oracle
from .adapters import Adapter
from .cases_lora import ALL7, lora
from .cases_variants import BOTH, dora
from .merges import Merge, sequence_at


def _weighted(*weights: float) -> object:
    return lambda base, folders: oracle.weighted(base, folders, weights)


def _half_strength(base: Path, folders: list[Path]) -> oracle.State:
    """The low-rank deltas at half their scale; saved modules and magnitudes whole."""
    alpha = json.loads((folders[0] / adapters.CONFIG).read_text())["lora_alpha"]
    adapters.edit_config(folders[0], lora_alpha=alpha / 2)
    state = oracle.in_sequence(base, folders)
    adapters.edit_config(folders[0], lora_alpha=alpha)
    return state


def _the_base(base: Path, folders: list[Path]) -> oracle.State:
    return oracle.stored(base)


def _chained(name: str) -> object:
    """The base that an adapter's config names."""
    return adapters.configured(base_model_name_or_path=name)


def _twice(base: Path, folders: list[Path]) -> oracle.State:
    return oracle.saved_between(base, [*folders, *folders])


STEPS = {"options": ["--rounding", "per-adapter"]}
PARTIAL = {"uses": ["adapter=0.5"], "options": ["--partial-weight"], "oracle": _half_strength}
SUM = ["adapter-1=0.5", "adapter-2=1.25"]
CASES = [
    Merge("two-in-sequence", "several", "unequal ranks, overlapping targets", "llama-bf16",
          [Adapter(lora(ALL7)), Adapter(lora(r=8, alpha=4))]),
    Merge("two-of-other-dtypes", "several", "an fp32 and a bf16 adapter on an fp16 base", "llama-f16",
          [Adapter(lora()), Adapter(lora(["v_proj", "o_proj"], r=2), dtype=torch.bfloat16)]),
    Merge("three-in-sequence", "several", "LoRA, DoRA, LoRA: each on what stands", "llama-f32",
          [Adapter(lora()), Adapter(dora()), Adapter(lora(ALL7, r=2))]),
    Merge("weighted-sum", "several", "0.5 and 1.25 of two ranks: the exact sum", "llama-bf16",
          [Adapter(lora(ALL7)), Adapter(lora(r=6, alpha=3))], uses=SUM, oracle=_weighted(0.5, 1.25)),
    Merge("weighted-negative", "several", "1 and -0.75", "llama-f32", [Adapter(lora()), Adapter(lora(r=2))],
          uses=["adapter-1", "adapter-2=-0.75"], oracle=_weighted(1.0, -0.75)),
    Merge("same-twice", "several", "0.25 and 0.75 of one adapter are the adapter", "llama-f32", [Adapter(lora())],
          uses=["adapter=0.25", "adapter=0.75"]),
    Merge("same-cancels", "several", "0.5 and -0.5 of one adapter: nothing changes", "llama-bf16", [Adapter(lora())],
          uses=["adapter=0.5", "adapter=-0.5"], oracle=_the_base, nothing_changes=True,
          notes=["the merge is the base: no run of PEFT"]),
    Merge("comma-list", "several", "`--lora \"adapter-1, adapter-2\"` is two adapters", "llama-f32",
          [Adapter(lora()), Adapter(lora(["o_proj"]))], uses=["adapter-1, adapter-2"]),
    Merge("two-doras", "several", "the second's norms are of the weight that stands", "llama-f32", [Adapter(dora()), Adapter(dora(r=2))]),
    Merge("two-doras-original", "several", "--dora-norm original: as PEFT does for two adapters of one model", "llama-f32",
          [Adapter(dora()), Adapter(dora(r=2))], options=["--dora-norm", "original"], oracle=oracle.together),
    Merge("two-heads", "several", "both replace lm_head: the last one wins", "llama-bf16",
          [Adapter(lora(modules_to_save=["lm_head"])), Adapter(lora(["k_proj"], modules_to_save=["lm_head"]))]),
    Merge("grown-then-lora", "several", "a LoRA that grows the vocabulary, then one on top", "llama-bf16",
          [Adapter(lora(ALL7, modules_to_save=BOTH), rows=104, tokenizer=True), Adapter(lora(["v_proj", "up_proj"]))],
          oracle=sequence_at(104), config={"vocab_size": 104}),
    Merge("partial-weight-saved", "several", "--partial-weight: half the deltas, all of the saved lm_head", "llama-f32",
          [Adapter(lora(modules_to_save=["lm_head"]))], **PARTIAL),
    Merge("partial-weight-dora", "several", "--partial-weight: half the delta in V, the magnitude as it is", "llama-f32",
          [Adapter(dora())], **PARTIAL),
    Merge("chain-vocabulary-grown", "several", "a LoRA that grows the vocabulary, one trained on its result, one on that", "llama-bf16",
          [Adapter(lora(ALL7, modules_to_save=BOTH), rows=104, dtype=torch.float16, tokenizer=True),
           Adapter(lora(ALL7, r=6), disguise=_chained("adapter-1")), Adapter(lora(r=2), disguise=_chained("adapter-2"))],
          oracle=sequence_at(104), config={"vocab_size": 104}),
    Merge("rounding-chain", "rounding", "the same, saved after each adapter", "llama-bf16",
          [Adapter(lora(ALL7, modules_to_save=BOTH), rows=104, dtype=torch.float16, tokenizer=True),
           Adapter(lora(ALL7, r=6), disguise=_chained("adapter-1")), Adapter(lora(r=2), disguise=_chained("adapter-2"))],
          oracle=lambda base, folders: oracle.saved_between(base, folders, 104), config={"vocab_size": 104}, **STEPS),
    Merge("rounding-two", "rounding", "two LoRAs, saved as bf16 between them", "llama-bf16", [Adapter(lora(ALL7)), Adapter(lora(r=8, alpha=4))],
          oracle=oracle.saved_between, **STEPS),
    Merge("rounding-dora", "rounding", "DoRA after LoRA: its norms are of the weight that was saved", "llama-bf16",
          [Adapter(lora(ALL7)), Adapter(dora(["q_proj", "down_proj", "embed_tokens"]))], oracle=oracle.saved_between, **STEPS),
    Merge("rounding-same-twice", "rounding", "one adapter twice: two uses, not one of twice the weight", "llama-bf16", [Adapter(lora(ALL7))],
          uses=["adapter", "adapter"], oracle=_twice, **STEPS),
    Merge("rounding-three-f16", "rounding", "three adapters, saved as fp16 between them", "llama-f16",
          [Adapter(lora(ALL7)), Adapter(dora(r=2)), Adapter(lora(["v_proj", "embed_tokens"], r=6))], oracle=oracle.saved_between, **STEPS),
    Merge("tokens-of-two", "several", "trainable tokens of two adapters, no index in both", "llama-f32",
          [Adapter(lora(trainable_token_indices=[4, 1])), Adapter(lora(trainable_token_indices=[2, 80]))]),
]  # fmt: skip
