"""A base of a few small shards and a LoRA on it, deterministic, with the standard library alone."""

import json
import random
import struct
from pathlib import Path

HIDDEN, LAYERS, VOCABULARY, RANK = 1024, 8, 1000, 8
FEED_FORWARD = 3 * HIDDEN


# Sign as it comes, exponents of values around 1e-2: NaN and infinity cannot occur.
TOP = bytes((byte & 0x80) | 0x3C for byte in range(256))


def noise(rng: random.Random, count: int, width: int) -> bytes:
    """Random little-endian floats of `width` bytes (bf16 or fp32), of about 1e-2."""
    data = bytearray(rng.randbytes(width * count))
    data[width - 1 :: width] = data[width - 1 :: width].translate(TOP)
    return bytes(data)


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def linears(layer: int) -> dict[str, tuple[int, int]]:
    prefix = f"model.layers.{layer}."
    attention = {prefix + f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "o")}
    return attention | {
        prefix + "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
        prefix + "mlp.up_proj": (FEED_FORWARD, HIDDEN),
        prefix + "mlp.down_proj": (HIDDEN, FEED_FORWARD),
    }


def make(folder: Path) -> tuple[Path, Path]:
    """Writes `base` (a shard a layer, about 26 MB each) and `lora` below the folder, unless they are there."""
    base, lora = folder / "base", folder / "lora"
    if (lora / "adapter_model.safetensors").exists():
        return base, lora
    rng = random.Random(1)
    base.mkdir(parents=True, exist_ok=True)
    lora.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    total = 0
    factors = {}
    for layer in range(LAYERS):
        name = f"model-{layer + 1:05}-of-{LAYERS:05}.safetensors"
        tensors = {}
        if layer == 0:
            tensors["model.embed_tokens.weight"] = ("BF16", [VOCABULARY, HIDDEN], noise(rng, VOCABULARY * HIDDEN, 2))
        for module, (rows, columns) in linears(layer).items():
            tensors[module + ".weight"] = ("BF16", [rows, columns], noise(rng, rows * columns, 2))
            key = f"base_model.model.{module}"
            factors[key + ".lora_A.weight"] = ("F32", [RANK, columns], noise(rng, RANK * columns, 4))
            factors[key + ".lora_B.weight"] = ("F32", [rows, RANK], noise(rng, rows * RANK, 4))
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = ("BF16", [HIDDEN], noise(rng, HIDDEN, 2))
        if layer == LAYERS - 1:
            tensors["model.norm.weight"] = ("BF16", [HIDDEN], noise(rng, HIDDEN, 2))
            tensors["lm_head.weight"] = ("BF16", [VOCABULARY, HIDDEN], noise(rng, VOCABULARY * HIDDEN, 2))
        safetensors(base / name, tensors)
        total += sum(len(data) for _, _, data in tensors.values())
        weight_map |= {tensor: name for tensor in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (base / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (base / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS, "num_attention_heads": 8,
        "num_key_value_heads": 8, "vocab_size": VOCABULARY, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }, indent=2))
    (lora / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    }, indent=2))
    safetensors(lora / "adapter_model.safetensors", factors)
    return base, lora
