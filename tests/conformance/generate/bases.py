"""The base models: tiny, random, and shared between cases."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

import tensors

LLAMA = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
MOE = LLAMA | {
    "num_hidden_layers": 1,
    "moe_intermediate_size": 24,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "head_dim": 8,
}
MINI = LLAMA | {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
GPT2 = {"vocab_size": 96, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48}
BERT = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
VIT = BERT | {"image_size": 8, "patch_size": 4, "num_labels": 3}
del VIT["vocab_size"]
T5 = {
    "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": 96, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 32,
}  # fmt: skip
MLM = BERT | {"num_hidden_layers": 1, "max_position_embeddings": 32}
NEOX = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONVNEXT = {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2}
WHISPER = {
    "vocab_size": 96, "num_mel_bins": 8, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "max_source_positions": 16, "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip


MIXTRAL = LLAMA | {"num_hidden_layers": 1, "num_local_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK = MOE | {
    "num_hidden_layers": 2, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1,
    "q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
del DEEPSEEK["num_experts"], DEEPSEEK["head_dim"]
GPT_OSS = MIXTRAL | {"head_dim": 8, "intermediate_size": 20, "layer_types": ["full_attention"]}
LLAMA4 = MIXTRAL | {"head_dim": 8, "intermediate_size": 20, "intermediate_size_mlp": 24, "interleave_moe_layer_step": 1}
NOMIC = MLM | {"num_hidden_layers": 2}


@dataclass(frozen=True)
class Base:
    """How one base is made. Equal architectures and options give equal weights, up to the dtype."""

    architecture: str
    config: str
    options: dict
    dtype: str
    form: str = "single"  # or "sharded", "bin", "odd", "modules", "shared", "copies", "parted"


def _llama(dtype: str, form: str = "single", **more: object) -> Base:
    return Base("LlamaForCausalLM", "LlamaConfig", LLAMA | more, dtype, form)


BASES = {
    "llama-f32": _llama("F32"),
    "llama-bf16": _llama("BF16"),
    "llama-f16": _llama("F16"),
    "llama-bf16-sharded": _llama("BF16", "sharded"),
    "llama-bf16-bin": _llama("BF16", "bin"),
    "llama-odd-f32": _llama("F32", "odd"),
    "llama-tied-f32": _llama("F32", tie_word_embeddings=True),
    "llama-tied-bf16": _llama("BF16", tie_word_embeddings=True),
    "mini": Base("LlamaForCausalLM", "LlamaConfig", MINI, "BF16"),
    "qwen2-bf16": Base("Qwen2ForCausalLM", "Qwen2Config", LLAMA, "BF16"),
    "qwen3moe-bf16": Base("Qwen3MoeForCausalLM", "Qwen3MoeConfig", MOE, "BF16"),
    "moe-mixtral-f32": Base("MixtralForCausalLM", "MixtralConfig", MIXTRAL, "F32"),
    "moe-mixtral-stacked-f32": Base("MixtralForCausalLM", "MixtralConfig", MIXTRAL, "F32", "modules"),
    "moe-deepseek-bf16": Base("DeepseekV3ForCausalLM", "DeepseekV3Config", DEEPSEEK, "BF16", "sharded"),
    "moe-square-stacked-bf16": Base("Qwen3MoeForCausalLM", "Qwen3MoeConfig", MOE | {"moe_intermediate_size": 16}, "BF16", "modules"),
    "moe-gpt-oss-f32": Base("GptOssForCausalLM", "GptOssConfig", GPT_OSS, "F32"),
    "moe-granite-f32": Base("GraniteMoeForCausalLM", "GraniteMoeConfig", MIXTRAL, "F32"),
    "moe-llama4-bf16": Base("Llama4ForCausalLM", "Llama4TextConfig", LLAMA4, "BF16"),
    "gpt2-f32": Base("GPT2LMHeadModel", "GPT2Config", GPT2 | {"bos_token_id": 1, "eos_token_id": 2}, "F32"),
    "bert-f32": Base("BertModel", "BertConfig", BERT | {"max_position_embeddings": 32}, "F32"),
    "vit-f32": Base("ViTForImageClassification", "ViTConfig", VIT, "F32"),
    "vit-modules-f32": Base("ViTForImageClassification", "ViTConfig", VIT, "F32", "modules"),
    "nomic-f32": Base("NomicBertModel", "NomicBertConfig", NOMIC, "F32"),
    "nomic-modules-f32": Base("NomicBertModel", "NomicBertConfig", NOMIC, "F32", "modules"),
    "gte-bf16": Base("GteModel", "GteConfig", NOMIC, "BF16"),
    "neox-f32": Base("GPTNeoXForCausalLM", "GPTNeoXConfig", NEOX, "F32"),
    "t5-f32": Base("T5ForConditionalGeneration", "T5Config", T5, "F32"),
    "t5-f32-bin": Base("T5ForConditionalGeneration", "T5Config", T5, "F32", "shared"),
    "t5-parted-f32": Base("T5ForConditionalGeneration", "T5Config", T5, "F32", "parted"),
    "bart-f32": Base("BartForConditionalGeneration", "BartConfig", BART, "F32"),
    "bart-f32-bin": Base("BartForConditionalGeneration", "BartConfig", BART, "F32", "shared"),
    "mlm-f32": Base("BertForMaskedLM", "BertConfig", MLM, "F32"),
    "mlm-copies-f32": Base("BertForMaskedLM", "BertConfig", MLM, "F32", "copies"),
    "mlm-parted-f32": Base("BertForMaskedLM", "BertConfig", MLM, "F32", "parted"),
    "resnet-f32": Base("ResNetModel", "ResNetConfig", RESNET, "F32"),
    "convnext-f32": Base("ConvNextModel", "ConvNextConfig", CONVNEXT, "F32"),
    "whisper-f16": Base("WhisperForConditionalGeneration", "WhisperConfig", WHISPER, "F16"),
}
TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def new_model(base: Base, seed: str = "") -> nn.Module:
    """A model of random weights of which none is left at a value that hides a mistake (0 or 1)."""
    config = getattr(transformers, base.config)(**base.options)
    torch.manual_seed(zlib.crc32(f"{base.architecture} {sorted(base.options.items())}{seed}".encode()))
    model = getattr(transformers, base.architecture)(config)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.ndim == 1:  # norms, biases, running statistics
                tensor.add_(torch.randn_like(tensor) * 0.1)
                if name.endswith("running_var"):
                    tensor.abs_()
            elif tensor.is_floating_point() and tensor.std() < 0.05:
                tensor.normal_(std=0.1)
    return model


def make(root: Path, known: dict[str, Base] = BASES, seed: str = "") -> None:
    """Write all bases below `root`."""
    for name, base in known.items():
        folder = root / name
        model = new_model(base, seed).to(TORCH[base.dtype])
        model.save_pretrained(folder, max_shard_size="20KB" if base.form == "sharded" else "1GB")
        if base.form == "bin":
            _as_bin(folder, model)
        if base.form == "shared":
            (folder / "model.safetensors").unlink()
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
        if base.form in ("copies", "parted"):
            _with_copies(folder, model, base.form == "parted")
        if base.form == "odd":
            _with_odd_tensors(folder)
        if base.form == "modules":
            _under_module_names(folder, model)
        if base.config == "LlamaConfig":
            sidecars(folder, base.options["vocab_size"])


def _as_bin(folder: Path, model: nn.Module) -> None:
    """The form of old releases: two pickled shards and their index."""
    (folder / "model.safetensors").unlink()
    state = model.state_dict()
    names, weight_map = sorted(state), {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: state[name].clone() for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")  # its name then
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _with_copies(folder: Path, model: nn.Module, parted: bool) -> None:
    """As a tool saves it that writes every name of a tied parameter; parted: the head was trained on its own since."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if parted:
        head = next(name for name in ("lm_head.weight", "cls.predictions.decoder.weight") if name in state)
        state[head] += 0.1 * torch.randn(state[head].shape)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _under_module_names(folder: Path, model: nn.Module) -> None:
    """As a tool saves it that writes the state dict: transformers would rename the tensors."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def _with_odd_tensors(folder: Path) -> None:
    """Buffers that old releases saved: other dtypes, infinities, no elements, no dimensions."""
    held, _ = tensors.read(folder / "model.safetensors")
    mask = np.triu(np.full((4, 4), -np.inf), 1)
    held |= {
        "model.layers.0.self_attn.rotary_emb.inv_freq": tensors.encode(1 / 10000 ** (np.arange(4) / 4), "F32"),
        "model.causal_mask": tensors.encode(mask, "F16"),
        "model.position_ids": tensors.encode(np.arange(64).reshape(1, 64), "I64"),
        "model.visible": tensors.encode(mask == 0, "BOOL"),
        "model.empty": tensors.encode(np.zeros((0, 32)), "BF16"),
        "model.step": tensors.encode(np.float64(7), "F64"),
    }
    tensors.write(folder / "model.safetensors", held.items())


def sidecars(folder: Path, words: int) -> None:
    """A word-level tokenizer of that many words, as further files that belong to a model."""
    vocab = {f"w{number}": number for number in range(words)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n")
