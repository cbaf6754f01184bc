"""Quantised bases of the sizes of published ones, sparse: DeepSeek-V3 in FP8, Kimi-K2-Thinking in packed INT4."""

from pathlib import Path

from sparse import Tensor, adapter, checkpoint, pair

HIDDEN, INNER, HEADS, RANK = 7168, 2048, 128, 4
CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": HIDDEN, "moe_intermediate_size": INNER, "intermediate_size": 18432,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_shared_experts": 1,
    "num_hidden_layers": 61, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
FP8 = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}
WEIGHTS = {"group_size": 32, "num_bits": 4, "strategy": "group", "symmetric": True, "type": "int"}
INT4 = {
    "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS}},
    "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
}  # fmt: skip


def plain(module: str, shape: list[int]) -> list[Tensor]:
    """A weight in bf16."""
    return [Tensor(f"{module}.weight", shape)]


def fp8(module: str, shape: list[int]) -> list[Tensor]:
    """A weight in FP8, with the scales of its blocks."""
    scales = [-(-side // 128) for side in shape]
    return [Tensor(f"{module}.weight", shape, "F8_E4M3"), Tensor(f"{module}.weight_scale_inv", scales, "F32")]


def int4(module: str, shape: list[int]) -> list[Tensor]:
    """A weight in packed INT4. Planning reads its shape."""
    rows, cols = shape
    held = b"".join(side.to_bytes(8, "little") for side in shape)
    packed, scale = Tensor(f"{module}.weight_packed", [rows, cols // 8], "I32"), Tensor(f"{module}.weight_scale", [rows, cols // 32])
    return [packed, scale, Tensor(f"{module}.weight_shape", [2], "I64", held)]


def attention(layer: int, heads: int) -> list[tuple[str, list[int]]]:
    """The linear layers of latent attention."""
    at = f"model.layers.{layer}.self_attn."
    return [
        (f"{at}q_a_proj", [1536, HIDDEN]), (f"{at}q_b_proj", [heads * 192, 1536]), (f"{at}kv_a_proj_with_mqa", [576, HIDDEN]),
        (f"{at}kv_b_proj", [heads * 256, 512]), (f"{at}o_proj", [HIDDEN, heads * 128]),
    ]  # fmt: skip


def mlp(at: str, inner: int) -> list[tuple[str, list[int]]]:
    """The linear layers of a feed-forward network."""
    return [(f"{at}.gate_proj", [inner, HIDDEN]), (f"{at}.up_proj", [inner, HIDDEN]), (f"{at}.down_proj", [HIDDEN, inner])]


def base(folder: Path, *, experts: int, dense: int, heads: int, vocabulary: int, quantise: object, only_experts: bool, settings: dict, kind: str) -> tuple[int, int]:
    """A base of 61 layers."""
    others = plain if only_experts else quantise
    tensors = plain("model.embed_tokens", [vocabulary, HIDDEN]) + plain("lm_head", [vocabulary, HIDDEN]) + plain("model.norm", [HIDDEN])
    for layer in range(61):
        at = f"model.layers.{layer}"
        tensors += [tensor for module, shape in attention(layer, heads) for tensor in others(module, shape)]
        for norm, width in (("input", HIDDEN), ("post_attention", HIDDEN)):
            tensors += plain(f"{at}.{norm}_layernorm", [width])
        tensors += plain(f"{at}.self_attn.q_a_layernorm", [1536]) + plain(f"{at}.self_attn.kv_a_layernorm", [512])
        if layer < dense:
            tensors += [tensor for module, shape in mlp(f"{at}.mlp", 18432) for tensor in others(module, shape)]
            continue
        tensors += [*plain(f"{at}.mlp.gate", [experts, HIDDEN]), Tensor(f"{at}.mlp.gate.e_score_correction_bias", [experts], "F32")]
        tensors += [tensor for module, shape in mlp(f"{at}.mlp.shared_experts", INNER) for tensor in others(module, shape)]
        for expert in range(experts):
            tensors += [tensor for module, shape in mlp(f"{at}.mlp.experts.{expert}", INNER) for tensor in quantise(module, shape)]
    config = CONFIG | {
        "model_type": kind, "n_routed_experts": experts, "first_k_dense_replace": dense, "num_attention_heads": heads, "vocab_size": vocabulary,
        "num_key_value_heads": heads, "quantization_config": settings,
    }  # fmt: skip
    return checkpoint(folder, config, tensors, 61)


def make(work: Path) -> list[tuple[str, Path, Path]]:
    """Both bases, made where they are not there, each with a LoRA on attention."""
    sizes = {
        "fp8": {"experts": 256, "dense": 3, "heads": 128, "vocabulary": 129280, "quantise": fp8, "only_experts": False, "settings": FP8, "kind": "deepseek_v3"},
        "int4": {"experts": 384, "dense": 1, "heads": 64, "vocabulary": 163840, "quantise": int4, "only_experts": True, "settings": INT4, "kind": "kimi_k2"},
    }
    cases = []
    for name, options in sizes.items():
        folder, lora = work / name, work / f"{name}-attention"
        if not lora.exists():
            tensors, size = base(folder, **options)
            print(f"{name}: {tensors} tensors, {size / 1e9:.0f} GB")
            modules = [module for layer in range(61) for module in attention(layer, options["heads"])]
            targets = sorted({module.rsplit(".", 1)[1] for module, _ in modules})
            adapter(lora, RANK, [tensor for module, shape in modules for tensor in pair(module, shape, RANK)], target_modules=targets)
        cases.append((name, folder, lora))
    return cases
