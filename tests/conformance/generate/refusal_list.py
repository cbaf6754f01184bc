"""The cases to refuse."""

from peft import (
    BeftConfig,
    FourierFTConfig,
    HRAConfig,
    LoKrConfig,
    OFTConfig,
    PsoftConfig,
    RandLoraConfig,
    RoadConfig,
    ShiraConfig,
    UniLoraConfig,
    VeraConfig,
)

import tensors as st

from . import refusals, spoil
from .adapters import Adapter
from .cases_lora import lora
from .refusals import Refusal
from .spoil import ADAPTER, BASE, A, B, Q

CONFIG = "adapter/adapter_config.json"
SHARD = "model-00001-of-00001.safetensors"
SAVED = Adapter(lora(["q_proj"], r=2, modules_to_save=["lm_head"]))
TOKENS = [Adapter(lora(["q_proj"], r=2, trainable_token_indices=indices)) for indices in ([3, 1], [9, 3])]
GROWN = [Adapter(lora(["q_proj"], r=2, modules_to_save=["embed_tokens", "lm_head"]), rows=rows) for rows in (40, 36)]
DORA = Adapter(lora(["q_proj"], r=2, use_dora=True))
HEAD = "base_model.model.lm_head"
OFT = Adapter(OFTConfig(oft_block_size=4, target_modules=["q_proj"]))

FILES = [
    Refusal("adapter-config-missing", "missing_file", "no adapter_config.json", spoil.remove(CONFIG)),
    Refusal("adapter-config-not-json", "bad_config", "adapter_config.json is cut off", spoil.shorter(CONFIG, 40)),
    Refusal("adapter-weights-missing", "missing_file", "no weights in the adapter", spoil.remove(ADAPTER)),
    Refusal("adapter-folder-missing", "missing_file", "no such folder", uses=["nowhere"], or_kinds=["io"]),
    Refusal("adapter-zero-bytes", "bad_safetensors", "an empty weight file", spoil.text(ADAPTER, "")),
    Refusal("adapter-header-garbage", "bad_safetensors", "a header that is not JSON", spoil.header(lambda text: "#" * len(text))),
    Refusal("adapter-header-length", "bad_safetensors", "a header said to be of 2^60 bytes", spoil.header_length(1 << 60)),
    Refusal("adapter-header-name-twice", "bad_safetensors", "a tensor's name twice in the header", spoil.header(spoil.doubled)),
    Refusal("adapter-header-overlap", "bad_safetensors", "two tensors share bytes", spoil.header(spoil.overlapping)),
    Refusal("adapter-truncated-data", "bad_safetensors", "the data end early", spoil.shorter(ADAPTER, 10)),
    Refusal("adapter-pickle-payload", "unsafe_pickle", "adapter_model.bin runs a command when unpickled", spoil.pickled(ADAPTER),
            must_not_exist=[spoil.TRAP, f"adapter/{spoil.TRAP}"]),
    Refusal("base-pickle-payload", "unsafe_pickle", "pytorch_model.bin runs a command when unpickled", spoil.pickled(BASE),
            own_base=True, must_not_exist=[spoil.TRAP, f"base/{spoil.TRAP}"]),
    Refusal("base-config-missing", "missing_file", "no config.json in the base", spoil.remove("base/config.json"), own_base=True),
    Refusal("base-config-not-json", "bad_config", "config.json is cut off", spoil.shorter("base/config.json", 40), own_base=True),
    Refusal("base-shard-missing", "missing_file", "a file of the index is not there",
            spoil.indexed(lambda name: SHARD if Q in name else "model-00002-of-00002.safetensors"), own_base=True),
    Refusal("base-shard-truncated", "bad_safetensors", "a base file ends early", spoil.shorter(BASE, 100), own_base=True),
    Refusal("index-wrong-shard", "bad_index", "tensors are not in the file that the index names", spoil.swapped_shards, own_base=True),
    Refusal("index-path-absolute", "unsafe_path", "an absolute path in the index",
            spoil.indexed(lambda name: f"/tmp/{SHARD}"), own_base=True),
    Refusal("index-path-traversal", "unsafe_path", "a path in the index that leaves the folder",
            spoil.indexed(lambda name: f"../base/{SHARD}"), own_base=True),
]  # fmt: skip

TENSORS = [
    Refusal("rank-0", "bad_config", "r is 0", spoil.config(r=0), or_kinds=["rank_mismatch"]),
    Refusal("rank-mismatch", "rank_mismatch", "the config says 4, the tensors 2", spoil.config(r=4), or_kinds=["shape_mismatch"]),
    Refusal("rank-mismatch-ab", "rank_mismatch", "A has twice B's rank", spoil.more_rows(A), or_kinds=["shape_mismatch"]),
    Refusal("hidden-size-mismatch", "shape_mismatch", "an adapter for a wider model", made_for="llama-bf16",
            adapters=[Adapter(lora(["q_proj"], r=2, layers_to_transform=[0]))]),
    Refusal("empty-tensors-all", "empty_tensor", "all tensors are of shape [0]", spoil.empty(".weight"), or_kinds=["shape_mismatch"]),
    Refusal("empty-tensors-some", "empty_tensor", "B is of shape [0]", spoil.empty("lora_B.weight"), or_kinds=["shape_mismatch"]),
    Refusal("lora-a-missing", "incomplete_pair", "B without A", spoil.without("lora_A.weight")),
    Refusal("lora-b-missing", "incomplete_pair", "A without B", spoil.without("lora_B.weight")),
    Refusal("magnitude-missing", "missing_tensor", "DoRA without its magnitude", spoil.without("lora_magnitude_vector"), adapters=[DORA]),
    Refusal("keys-match-nothing", "unmatched_keys", "an adapter of another architecture",
            spoil.renamed("model.layers.0.self_attn", "transformer.h.0.attn")),
    Refusal("head-without-task", "unmatched_keys", "a new head, and nothing tells the class that has it",
            adapters=[Adapter(lora(["q_proj"], r=2, modules_to_save=["score"]), architecture="LlamaForSequenceClassification", labels=2)]),
    Refusal("architecture-of-another-head", "unmatched_keys", "a new head that the class of --architecture does not have",
            adapters=[Adapter(lora(["q_proj"], r=2, modules_to_save=["score"]), architecture="LlamaForSequenceClassification", labels=2)],
            options=["--architecture", "LlamaForQuestionAnswering"]),
    Refusal("architecture-unused", "conflict", "--architecture, and no adapter brings a head",
            options=["--architecture", "LlamaForSequenceClassification"]),
    Refusal("keys-of-another-layer", "unmatched_keys", "one pair too many, of a layer that the base does not have",
            spoil.tensors(lambda held: held | {n.replace("layers.0", "layers.7"): t for n, t in held.items()})),
    Refusal("target-matches-nothing", "unmatched_keys", "a target that the base does not have",
            spoil.other_target),
    Refusal("nan-adapter", "non_finite", "NaN in A", spoil.value(A, float("nan"))),
    Refusal("inf-adapter", "non_finite", "infinity in B", spoil.value(B, float("inf"))),
    Refusal("nan-base", "non_finite", "NaN in a base tensor that changes", spoil.value(f"{Q}.weight", float("nan"), BASE), own_base=True),
    Refusal("overflow-f16", "non_finite", "finite in fp32, beyond fp16", spoil.config(lora_alpha=1e9),
            adapters=[Adapter(lora(["conv1"], r=2))], made_for="whisper-f16", base="whisper-f16"),
    Refusal("bias-without-base-bias", "missing_tensor", "lora_bias on a linear without bias",
            adapters=[Adapter(lora(["q_proj"], r=2, lora_bias=True))]),
    Refusal("saved-unequal", "conflict", "`X.weight` and `X.modules_to_save.weight` differ", spoil.value(f"{HEAD}.weight", 9.0),
            adapters=GROWN[:1]),
    Refusal("base-int8", "unsupported", "a target stored as 8-bit integers", spoil.stored_as("I8"), own_base=True),
    Refusal("base-float8", "unsupported", "a target stored as 8-bit floats", spoil.stored_as("F8_E4M3"), own_base=True),
    Refusal("base-aqlm", "unsupported", "a base in AQLM's form, whose codes the adapter changes", spoil.aqlm, own_base=True),
]  # fmt: skip

SEVERAL = [
    Refusal("tokens-overlap", "conflict", "two adapters train the same token", adapters=TOKENS),
    Refusal("vocabulary-shrinks", "shape_mismatch", "40 rows, then 36", adapters=GROWN),
    Refusal("weight-on-saved", "conflict", "a weight of 0.5 on a replaced module", adapters=[SAVED], uses=["adapter=0.5"]),
    Refusal("weight-on-tokens", "conflict", "a weight of 0.5 on trainable tokens", adapters=TOKENS[:1], uses=["adapter=0.5"]),
    Refusal("weight-on-dora", "conflict", "a weight of 0.5 on DoRA", adapters=[DORA], uses=["adapter=0.5"]),
    Refusal("weight-not-a-number", "usage", "--lora PATH=nan", uses=["adapter=nan"]),
    Refusal("lora-in-brackets", "usage", "--lora \"(adapter, adapter)\"", uses=["(adapter, adapter)"]),
    Refusal("combine", "unsupported", "a combination that is not a sum", uses=["adapter", "adapter"], options=["--combine", "ties"],
            or_kinds=["usage"]),
]  # fmt: skip


def _starts_from(kind: str, value: object) -> Refusal:
    return Refusal(
        f"init-{kind}", "unsupported", f"{kind} changed the base in training", spoil.config(init_lora_weights=value)
    )


def _first_rows(held: dict[str, st.Tensor]) -> dict[str, st.Tensor]:
    """Of every tensor the first row."""
    return {name: st.encode(tensor.values()[:1], tensor.dtype) for name, tensor in held.items()}


def _zeros(held: dict[str, st.Tensor]) -> dict[str, st.Tensor]:
    return {name: st.encode(0 * tensor.values(), tensor.dtype) for name, tensor in held.items()}


def _twice(held: dict[str, st.Tensor]) -> dict[str, st.Tensor]:
    """Places that are twice as far."""
    twice = lambda name, tensor: st.encode(2 * tensor.values(), tensor.dtype) if name.endswith("indices") else tensor  # noqa: E731
    return {name: twice(name, tensor) for name, tensor in held.items()}


SHIRA = Adapter(ShiraConfig(r=1, random_seed=1, target_modules=["q_proj"]))

KINDS = [
    *(_starts_from(kind, kind) for kind in ("pissa", "olora", "loftq", "corda", "lora_ga")),
    _starts_from("pissa-niter", "pissa_niter_4"),
    Refusal("unknown-peft-type", "unsupported", "a peft_type of the future", spoil.config(peft_type="WONDER")),
    Refusal("prompt-tuning", "unsupported", "no merged weight exists", spoil.config(peft_type="PROMPT_TUNING")),
    Refusal("alora", "unsupported", "aLoRA", spoil.config(alora_invocation_tokens=[5, 6])),
    Refusal("qalora", "unsupported", "QA-LoRA", spoil.config(use_qalora=True)),
    Refusal("layer-replication", "unsupported", "layer_replication", spoil.config(layer_replication=[[0, 1], [0, 1]])),
    Refusal("lokr-conv1d-layer", "unsupported", "LoKr on nn.Conv1d, w2 whole", made_for="whisper-f16", base="whisper-f16",
            adapters=[Adapter(LoKrConfig(r=16, alpha=4, target_modules=["conv1"]))]),
    Refusal("lokr-rank", "rank_mismatch", "the config says 3, the tensors 1", spoil.config(r=3),
            adapters=[Adapter(LoKrConfig(r=1, alpha=4, target_modules=["q_proj"]))]),
    Refusal("lokr-w2-b-missing", "incomplete_pair", "w2_a without w2_b", spoil.without("lokr_w2_b"),
            adapters=[Adapter(LoKrConfig(r=1, alpha=4, target_modules=["q_proj"]))]),
    Refusal("vera-no-projections", "missing_tensor", "VeRA without its random matrices",
            adapters=[Adapter(VeraConfig(r=4, target_modules=["q_proj"], save_projection=False))]),
    Refusal("vera-conv1d", "unsupported", "VeRA on a layer that is stored transposed", made_for="gpt2-f32", base="gpt2-f32",
            adapters=[Adapter(VeraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True))]),
    Refusal("beft-no-bias", "missing_tensor", "BEFT on layers without a bias", adapters=[Adapter(BeftConfig(target_modules=["q_proj"]))]),
    Refusal("randlora-conv1d", "unsupported", "RandLora on a layer that is stored transposed", made_for="gpt2-f32", base="gpt2-f32",
            adapters=[Adapter(RandLoraConfig(r=16, target_modules=["c_attn"], fan_in_fan_out=True))]),
    Refusal("randlora-no-projections", "missing_tensor", "RandLora without its two random matrices",
            adapters=[Adapter(RandLoraConfig(r=4, target_modules=["q_proj"], save_projection=False))]),
    Refusal("shira-hidden-size", "shape_mismatch", "SHiRA for a wider model", made_for="llama-bf16", adapters=[SHIRA]),
    Refusal("shira-place", "shape_mismatch", "SHiRA with a place outside of the weight", spoil.tensors(_twice), adapters=[SHIRA]),
    Refusal("shira-indices-missing", "incomplete_pair", "SHiRA without its places", spoil.without("shira_indices"), adapters=[SHIRA]),
    Refusal("unilora-no-indices", "missing_tensor", "Uni-LoRA without its random places",
            adapters=[Adapter(UniLoraConfig(r=2, target_modules=["q_proj"], save_indices=False))]),
    Refusal("oft-old-keys", "unsupported", "OFT in the form of PEFT 0.15 and older", spoil.renamed("oft_R.weight", "oft_r"), adapters=[OFT]),
    Refusal("oft-hidden-size", "shape_mismatch", "OFT for a wider model", adapters=[OFT], made_for="llama-bf16"),
    Refusal("oft-blocks", "shape_mismatch", "OFT with fewer blocks than the weight has", spoil.tensors(_first_rows), adapters=[OFT]),
    Refusal("weight-on-oft", "conflict", "a weight of 0.5 on a rotation", adapters=[OFT], uses=["adapter=0.5"]),
    Refusal("hra-no-length", "non_finite", "HRA with a vector of zeros", spoil.tensors(_zeros),
            adapters=[Adapter(HRAConfig(r=2, target_modules=["q_proj"]))]),
    Refusal("fourierft", "unsupported", "FourierFT: its places are drawn",
            adapters=[Adapter(FourierFTConfig(n_frequency=8, target_modules=["q_proj"]))]),
    Refusal("psoft", "unsupported", "PSOFT", adapters=[Adapter(PsoftConfig(r=2, target_modules=["q_proj"]))]),
    Refusal("road", "unsupported", "RoAd", adapters=[Adapter(RoadConfig(group_size=4, target_modules=["q_proj"]))]),
    Refusal("key-of-hra", "unsupported", "a tensor of HRA beside a LoRA",
            spoil.tensors(lambda held: held | {f"base_model.model.{Q}.hra_u": next(iter(held.values()))})),
    Refusal("convolution-groups", "unsupported", "LoRA on a convolution in groups", adapters=[Adapter(lora(["dwconv"], r=24))],
            made_for="convnext-f32", base="convnext-f32"),
]  # fmt: skip

CASES = FILES + TENSORS + SEVERAL + KINDS
