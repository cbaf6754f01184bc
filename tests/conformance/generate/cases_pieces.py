"""Cases of weights that a base stores in pieces: as parts of one tensor, or in several."""

from . import oracle
from .adapters import Adapter
from .cases_lora import lora
from .cases_variants import dora
from .merges import Merge

QKV = ["q_proj", "k_proj", "v_proj"]


def _case(name: str, tests: str, base: str, adapter: Adapter, oracle_of: object = oracle.saved) -> Merge:
    return Merge(f"pieces-{name}", "pieces", tests, base, [adapter], oracle=oracle_of)


CASES = [
    _case("split", "query, key and value are one tensor in the base, and modules of their own for the adapter", "nomic-f32",
          Adapter(lora([*QKV, "o_proj"]))),
    _case("split-one", "a value alone: two thirds of the tensor stay", "nomic-f32", Adapter(lora(["v_proj"]))),
    _case("dora", "DoRA on query and key", "nomic-f32", Adapter(dora(["q_proj", "k_proj"]))),
    _case("split-bias", "rsLoRA and `lora_bias`: the bias is split as the weight is", "gte-bf16",
          Adapter(lora(QKV, lora_bias=True, use_rslora=True))),
    _case("split-bias-all", "every bias is replaced, the parts of the fused one too", "gte-bf16",
          Adapter(lora(["gate_proj"], bias="all"))),
    _case("joined", "an adapter of the fused tensor; the base has the parts apart", "nomic-modules-f32",
          Adapter(lora(["Wqkv"]), one_by_one=True), oracle.joined),
    _case("joined-dora", "the same with DoRA", "nomic-modules-f32", Adapter(dora(["Wqkv"]), one_by_one=True), oracle.joined),
]  # fmt: skip
