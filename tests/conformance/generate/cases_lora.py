"""Cases of one plain LoRA: dtypes, scales, targets, forms of files, layer kinds, architectures."""

from pathlib import Path

import torch
from peft import LoraConfig

from . import oracle
from .adapters import Adapter, all_of, as_bin, configured, edit_config, minimal, renamed, under
from .merges import Merge

ALL7 = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QV = ["q_proj", "v_proj"]
CONV1D = ["c_attn", "c_proj", "c_fc"]


def lora(targets: object = QV, r: int = 4, alpha: float = 8, **more: object) -> LoraConfig:
    """A LoRA config with this project's usual numbers."""
    return LoraConfig(r=r, lora_alpha=alpha, target_modules=targets, **more)


def _unknown_keys(folder: Path) -> None:
    edit_config(folder, invented_option={"depth": 3}, peft_version="9.0.0", another=None)


def _plain(name: str, tests: str, base: str, adapter: Adapter, **more: object) -> Merge:
    return Merge(name, "plain LoRA", tests, base, [adapter], **more)


DTYPES = [
    _plain("lora-f32", "q and v; fp32 base, fp32 adapter", "llama-f32", Adapter(lora())),
    _plain("lora-bf16-adapter-f32", "bf16 base, fp32 adapter", "llama-bf16", Adapter(lora(ALL7))),
    _plain("lora-bf16", "bf16 base and adapter", "llama-bf16", Adapter(lora(), dtype=torch.bfloat16)),
    _plain("lora-f16", "fp16 base and adapter", "llama-f16", Adapter(lora(ALL7), dtype=torch.float16)),
    _plain("lora-f32-adapter-bf16", "fp32 base, bf16 adapter", "llama-f32", Adapter(lora(), dtype=torch.bfloat16)),
    _plain("lora-bf16-adapter-f16", "bf16 base, fp16 adapter", "llama-bf16", Adapter(lora(), dtype=torch.float16)),
    _plain("lora-sharded", "bf16 base in several files with an index", "llama-bf16-sharded", Adapter(lora(ALL7))),
    _plain("lora-rank-1", "rank 1", "llama-bf16", Adapter(lora(r=1, alpha=1))),
    _plain("lora-rank-48", "a rank above the layers' own size", "llama-f32", Adapter(lora(r=48, alpha=16, targets=ALL7))),
    _plain("lora-b-zero", "all of B is zero: legal, nothing changes", "llama-bf16", Adapter(lora(), trained=False), nothing_changes=True),
    _plain("lora-half-weight", "--lora PATH=0.5", "llama-f32", Adapter(lora()), uses=["adapter=0.5"],
           oracle=lambda base, folders: oracle.weighted(base, folders, [0.5])),
]  # fmt: skip

PATTERNS = {"q_proj": 8, "layers.1.mlp.down_proj": 2}
SCALES = [
    Merge("rslora", "rsLoRA", "r 16, alpha 16: the scale is 4, not 1", "llama-f32", [Adapter(lora(r=16, alpha=16, use_rslora=True))]),
    Merge("rank-pattern", "patterns", "rank_pattern alone leaves alpha as it is", "llama-f32",
          [Adapter(lora(ALL7, rank_pattern=PATTERNS))]),
    Merge("alpha-pattern", "patterns", "an alpha_pattern matches whole names only: `j_proj` is no name", "llama-f32",
          [Adapter(lora(ALL7, alpha_pattern={"q_proj": 32, "j_proj": 64, r".*layers\.0\.mlp\..*": 1}))]),
    Merge("rank-alpha-pattern", "patterns", "both patterns, resolved independently, with rsLoRA", "llama-bf16",
          [Adapter(lora(ALL7, rank_pattern={"q_proj": 16}, alpha_pattern={"layers.0.self_attn.q_proj": 5, "up_proj": 3}, use_rslora=True))]),
]  # fmt: skip

TARGETS = [
    Merge("target-regex", "targets", "target_modules is one regular expression", "llama-f32",
          [Adapter(lora(r".*\.layers\.1\.(self_attn\.(q|o)_proj|mlp\.down_proj)"))]),
    Merge("layers-to-transform", "targets", "layers_to_transform", "llama-f32", [Adapter(lora(layers_to_transform=[1]))]),
    Merge("all-linear", "targets", "all-linear, as saved and as typed", "llama-bf16",
          [Adapter(lora("all-linear"), disguise=configured(target_modules="all-linear"))]),
    Merge("exclude-modules", "targets", "exclude_modules", "llama-f32", [Adapter(lora(ALL7, exclude_modules=["k_proj", "up_proj"]))]),
    Merge("lm-head", "targets", "LoRA on an lm_head that is not tied; the file also holds its base weight", "llama-f32",
          [Adapter(lora(["lm_head", "q_proj"]))]),
]  # fmt: skip

FORMS = [
    Merge("adapter-bin", "files", "adapter_model.bin", "llama-bf16", [Adapter(lora(ALL7), disguise=as_bin)]),
    Merge("base-bin", "files", "a base of pytorch_model-*.bin shards", "llama-bf16-bin", [Adapter(lora(ALL7))]),
    Merge("base-bin-adapter-bin", "files", "both as pickles, with the first releases' config: no key but the needed ones",
          "llama-bf16-bin",
          [Adapter(lora(alpha=16), disguise=all_of(as_bin, minimal("peft_type", "r", "lora_alpha", "target_modules")))]),
    Merge("config-defaults", "files", "a config without r and lora_alpha: both are 8", "llama-f32",
          [Adapter(lora(r=8, alpha=8), disguise=minimal("peft_type", "target_modules", "base_model_name_or_path"))]),
    Merge("config-unknown-keys", "files", "a config with keys of another release", "llama-bf16",
          [Adapter(lora(), disguise=_unknown_keys)]),
    Merge("base-odd-tensors", "files", "buffers of other dtypes, -inf, no elements, no dimensions: copied as they are",
          "llama-odd-f32", [Adapter(lora())]),
    Merge("init-eva", "files", "init_lora_weights eva does not change the base", "llama-f32",
          [Adapter(lora(), disguise=configured(init_lora_weights="eva"))]),
    Merge("adapter-name-in-keys", "files", "`lora_A.default.weight`: a leftover adapter name", "llama-f32",
          [Adapter(lora(), disguise=all_of(renamed("lora_A.weight", "lora_A.default.weight"), renamed("lora_B.weight", "lora_B.default.weight")))]),
]  # fmt: skip

LAYERS = [
    Merge("gpt2-conv1d", "Conv1D", "stored transposed, c_proj of attention square", "gpt2-f32",
          [Adapter(lora(CONV1D, fan_in_fan_out=True))]),
    Merge("gpt2-conv1d-flag-false", "Conv1D", "the layer's type decides: fan_in_fan_out says false", "gpt2-f32",
          [Adapter(lora(CONV1D, fan_in_fan_out=True), disguise=configured(fan_in_fan_out=False))]),
    Merge("linear-flag-true", "Conv1D", "the layer's type decides: fan_in_fan_out says true on linears", "llama-f32",
          [Adapter(lora(["q_proj", "o_proj"]), disguise=configured(fan_in_fan_out=True))]),
    Merge("embedding", "embedding", "LoRA on embed_tokens; the file also holds its base weight", "llama-f32",
          [Adapter(lora(["embed_tokens", "q_proj"]))]),
    Merge("embedding-name-in-keys", "embedding", "`lora_embedding_A.default`", "llama-bf16",
          [Adapter(lora(["embed_tokens"]), disguise=all_of(
              renamed("lora_embedding_A", "lora_embedding_A.default"), renamed("lora_embedding_B", "lora_embedding_B.default")))]),
    Merge("gpt2-embeddings", "embedding", "wte and wpe are embeddings, not Conv1D; wte is tied", "gpt2-f32",
          [Adapter(lora(["wte", "wpe"]))], config={"tie_word_embeddings": True}),
    Merge("conv2d", "convolution", "kernels of 7, 3 and 1, beside running statistics that are integers", "resnet-f32",
          [Adapter(lora(["convolution"]))]),
    Merge("conv1d", "convolution", "nn.Conv1d, fp16", "whisper-f16", [Adapter(lora(["conv1", "conv2", "q_proj"]))]),
]  # fmt: skip

ARCHITECTURES = [
    Merge("bert", "architecture", "an encoder; keys without `model.`", "bert-f32", [Adapter(lora(["query", "key", "value", "dense"]))]),
    Merge("qwen2", "architecture", "linears with biases, which stay", "qwen2-bf16", [Adapter(lora(ALL7))]),
    Merge("qwen3moe-per-expert", "architecture", "a LoRA on every linear of every expert, on attention and on the router",
          "qwen3moe-bf16", [Adapter(lora([*ALL7, "gate"]))],
          notes=["PEFT on plain linears under the checkpoint's names: transformers stacks the experts when it loads them"]),
]  # fmt: skip

OLD_VIT = all_of(
    under(r"vit\.layers\.(\d+)\.attention\.", r"vit.encoder.layer.\1.attention.attention."),
    renamed("q_proj.lora_A.weight", "query.lora_A.weight"), renamed("q_proj.lora_B.weight", "query.lora_B.weight"),
    renamed("v_proj.lora_A.weight", "value.lora_A.weight"), renamed("v_proj.lora_B.weight", "value.lora_B.weight"),
)  # fmt: skip
NAMES = [
    Merge("names-of-modules", "names", "transformers 5's module names over the names that it saves", "vit-f32",
          [Adapter(lora(["q_proj", "v_proj", "o_proj", "fc1", "classifier"]))], oracle=oracle.saved),
    Merge("names-of-the-checkpoint", "names", "an adapter from before transformers 5: the names of the files", "vit-f32",
          [Adapter(lora(QV), disguise=OLD_VIT)], oracle=oracle.saved),
    Merge("names-base-of-modules", "names", "the base has transformers 5's module names, the adapter older ones", "vit-modules-f32",
          [Adapter(lora(QV), disguise=OLD_VIT)], oracle=oracle.in_modules),
    Merge("names-head-neox", "names", "lm_head in transformers 5, embed_out in the files", "neox-f32",
          [Adapter(lora(["query_key_value", "lm_head"]))], oracle=oracle.saved),
    Merge("wrapper-compiled", "names", "_orig_mod of torch.compile before every key", "llama-f32",
          [Adapter(lora(QV), disguise=under("^", "_orig_mod."))]),
    Merge("wrapper-ddp", "names", "module of DistributedDataParallel before every key", "llama-f32",
          [Adapter(lora(QV), disguise=under("^", "module."))]),
    Merge("wrapper-peft", "names", "a PeftModel of a PeftModel", "llama-f32",
          [Adapter(lora(QV), disguise=under("^", "base_model.model."))]),
    Merge("wrapper-layers", "names", "FSDP and activation checkpointing around every layer", "llama-f32",
          [Adapter(lora(QV), disguise=under(r"layers\.(\d+)\.", r"layers.\1._fsdp_wrapped_module._checkpoint_wrapped_module."))]),
]  # fmt: skip

CASES = DTYPES + SCALES + TARGETS + FORMS + LAYERS + ARCHITECTURES + NAMES
