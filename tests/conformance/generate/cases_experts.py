"""Cases of experts: stacked and one by one, in the base and in the adapter."""

from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig

from . import oracle
from .adapters import Adapter, Disguise, rewrite
from .cases_lora import lora
from .cases_variants import dora
from .merges import Merge

GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
EACH = ["gate_proj", "up_proj", "down_proj"]
EXPERTS = 4


def stacked(*parameters: str, targets: object = ("q_proj",), **more: object) -> LoraConfig:
    """A LoRA on parameters that hold all experts of a layer."""
    return lora(list(targets), r=2, alpha=4, target_parameters=list(parameters), **more)


def _of_experts(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Disguise:
    def apply(folder: Path) -> None:
        rewrite(folder, lambda tensors: {
            name: change(tensor) if f".{part}." in name and ".experts." in name else tensor for name, tensor in tensors.items()
        })  # fmt: skip

    return apply


def _same_a(tensor: torch.Tensor) -> torch.Tensor:
    """Every expert has the A of the first."""
    return tensor[: len(tensor) // EXPERTS].repeat(EXPERTS, 1)


def _same_b(tensor: torch.Tensor) -> torch.Tensor:
    """Every expert has the B of the first: its columns are apart by the number of experts."""
    return tensor[:, ::EXPERTS].repeat_interleave(EXPERTS, dim=1)


def _slowest(tensor: torch.Tensor) -> torch.Tensor:
    """B with all columns of an expert together, as some trainers write it; PEFT has all columns of a rank together."""
    rows, columns = tensor.shape
    return tensor.reshape(rows, columns // EXPERTS, EXPERTS).transpose(1, 2).reshape(rows, columns)


SLOWEST = _of_experts("lora_B", _slowest)
SHARED_A = {"retouch": _of_experts("lora_A", _same_a), "disguise": _of_experts("lora_A", lambda a: a[: len(a) // EXPERTS])}
SHARED_B = {"retouch": _of_experts("lora_B", _same_b), "disguise": _of_experts("lora_B", lambda b: b[:, ::EXPERTS])}


def _case(name: str, tests: str, base: str, adapters: list[Adapter], oracle_of: object = oracle.saved, **more: object) -> Merge:
    return Merge(f"experts-{name}", "experts", tests, base, adapters, oracle=oracle_of, **more)


CASES = [
    _case("mixtral", "one pair for all experts; the base has them one by one, under the names of older releases", "moe-mixtral-f32",
          [Adapter(stacked(GATE_UP, DOWN))]),
    _case("deepseek", "dense and sparse layers, shared experts, several files", "moe-deepseek-bf16",
          [Adapter(stacked(GATE_UP, DOWN, targets=["q_b_proj", "kv_b_proj"]))]),
    _case("down-only", "one targeted parameter: no wrapper in its keys", "moe-mixtral-f32", [Adapter(stacked(DOWN))]),
    _case("patterns", "rsLoRA, and a rank and an alpha of one parameter", "moe-mixtral-f32",
          [Adapter(stacked(GATE_UP, DOWN, use_rslora=True, rank_pattern={GATE_UP: 3}, alpha_pattern={DOWN: 7}))]),
    _case("stacked", "the base has them stacked", "moe-mixtral-stacked-f32", [Adapter(stacked(GATE_UP, DOWN))], oracle.in_modules),
    _case("square", "gate and up are square: down tells which way round", "moe-square-stacked-bf16", [Adapter(stacked(GATE_UP, DOWN))],
          oracle.in_modules),
    _case("square-alone", "gate and up are square, and nothing else tells: PEFT's release does", "moe-square-stacked-bf16",
          [Adapter(stacked(GATE_UP))], oracle.in_modules),
    _case("gpt-oss", "stacked, transposed, gate and up interleaved, with biases", "moe-gpt-oss-f32", [Adapter(stacked(GATE_UP, DOWN))]),
    _case("gpt-oss-biases", "the biases of the experts too: four parameters of one module", "moe-gpt-oss-f32",
          [Adapter(stacked(GATE_UP, f"{GATE_UP}_bias", DOWN, f"{DOWN}_bias"))]),
    _case("granite", "stacked under the names of older releases", "moe-granite-f32",
          [Adapter(stacked("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.experts.down_proj"))]),
    _case("llama4", "stacked as [experts, inputs, outputs]", "moe-llama4-bf16",
          [Adapter(stacked("feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"))]),
    _case("router", "the router is a parameter too", "moe-mixtral-f32", [Adapter(stacked(DOWN, "mlp.gate.weight"))]),
    _case("shared-a", "A is one for all experts", "moe-mixtral-f32", [Adapter(stacked(GATE_UP, DOWN), **SHARED_A)]),
    _case("shared-b", "B is one for all experts, on a stacked base", "moe-mixtral-stacked-f32", [Adapter(stacked(GATE_UP, DOWN), **SHARED_B)],
          oracle.in_modules),
    _case("slowest", "B with the columns of an expert together, by a flag; the base has the experts one by one", "moe-deepseek-bf16",
          [Adapter(stacked(GATE_UP, DOWN), disguise=SLOWEST)], options=["--expert-order", "slowest"]),
    _case("slowest-stacked", "the same on a base that stores [experts, inputs, outputs]", "moe-gpt-oss-f32",
          [Adapter(stacked(GATE_UP, DOWN), disguise=SLOWEST)], options=["--expert-order", "slowest"]),
    _case("slowest-of-two", "two adapters, each with its order", "moe-mixtral-f32",
          [Adapter(stacked(GATE_UP, DOWN)), Adapter(stacked(DOWN), disguise=SLOWEST)],
          options=["--expert-order", "fastest", "--expert-order", "slowest"]),
    _case("one-by-one-on-stacked", "a pair for each linear of each expert; the base has them stacked", "moe-square-stacked-bf16",
          [Adapter(lora([*EACH, "q_proj"]), one_by_one=True)], oracle.one_by_one),
    _case("one-by-one-dora", "DoRA on some linears of experts that are stacked", "moe-square-stacked-bf16",
          [Adapter(dora(["up_proj", "down_proj"]), one_by_one=True)], oracle.one_by_one),
    _case("one-by-one-then-stacked", "both kinds, one after another", "moe-square-stacked-bf16",
          [Adapter(lora(EACH), one_by_one=True), Adapter(stacked(GATE_UP, DOWN))],
          lambda base, folders: _both(base, folders)),
]  # fmt: skip


def _both(base: Path, folders: list[Path]) -> oracle.State:
    """The sum of two changes: each is made by itself."""
    before = {name: tensor.float() for name, tensor in oracle.stored(base).items()}
    first, second = oracle.one_by_one(base, folders[:1]), oracle.in_modules(base, folders[1:])
    return {name: (first[name].double() + second[name].double() - before[name].double()).float() for name in before}
