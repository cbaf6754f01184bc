"""A tiny model of a model type of transformers, with random weights: what the survey adapts."""

import copy

# What is tried for a type, in this order: the classes that people adapt first.
HEADS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "MULTIMODAL_LM", "MASKED_LM", "SPEECH_SEQ_2_SEQ", "CTC",
         "IMAGE_CLASSIFICATION", "AUDIO_CLASSIFICATION", "SEQUENCE_CLASSIFICATION", "")  # fmt: skip
SIZES = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32, "embedding_size": 32, "hidden_dim": 32,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "n_inner": 48,
    "mlp_dim": 48, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "ffn_hidden_size": 48,
    "shared_intermediate_size": 24, "dense_intermediate_size": 48, "projector_hidden_size": 32,
    "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 1, "decoder_layers": 1,
    "num_decoder_layers": 1, "depth": 2, "num_encoder_layers": 1,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8,
    "vocab_size": 96, "max_position_embeddings": 64, "n_positions": 64, "image_size": 16, "patch_size": 8,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "vocab_size_per_layer_input": 96, "hidden_size_per_layer_input": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
# Sizes that a configuration may leave to others.
OFTEN_NONE = ("head_dim", "num_key_value_heads")
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth", "encoder_layers", "decoder_layers", "num_encoder_layers",
          "num_decoder_layers", "vocab_size")  # fmt: skip
# What is tried for a type, in this order: configurations hold their sizes against each other in many ways.
SHRUNK = (
    SIZES,
    SIZES | {"num_key_value_heads": 4},
    {name: value for name, value in SIZES.items() if name not in ("image_size", "patch_size", "head_dim", "v_head_dim") and "rope" not in name},
    {name: value for name, value in SIZES.items() if name not in LAYERS or name == "vocab_size"},
)
LARGEST = 25_000_000


def held(config, name: str):
    try:
        return getattr(config, name, None)
    except Exception:
        return None


def put(config, name: str, value) -> None:
    try:
        setattr(config, name, value)
    except Exception:
        pass


def shrink(config, sizes: dict[str, int], depth: int = 0) -> None:
    """Small sizes for what the configuration has, in its parts too."""
    layers = held(config, "num_hidden_layers")
    for name, value in sizes.items():
        now = held(config, name)
        if isinstance(now, int) and not isinstance(now, bool) or now is None and name in OFTEN_NONE and hasattr(type(config), name):
            put(config, name, value)
    for name, value in list(vars(config).items()):
        # One entry for each layer, each kind of layer at least once.
        if isinstance(value, list) and len(value) == layers and layers != held(config, "num_hidden_layers"):
            kinds = list(dict.fromkeys(value)) if all(isinstance(entry, str) for entry in value) else []
            put(config, name, (kinds + value)[: held(config, "num_hidden_layers")])
    if depth < 3:
        for name in getattr(config, "sub_configs", {}):
            if (part := held(config, name)) is not None and not isinstance(part, dict):
                shrink(part, sizes, depth + 1)


def candidates(model_type: str, why: list[str]):
    """Tiny models of the type with random weights; the reasons where one is not made go to `why`."""
    import torch
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class, known = CONFIG_MAPPING[model_type], []
    for head in HEADS:
        table = getattr(auto, f"MODEL_FOR_{head}_MAPPING" if head else "MODEL_MAPPING", None)
        if table is not None and config_class in table:
            cls = table[config_class]
            known.append(cls[0] if isinstance(cls, tuple) else cls)
    if not known:
        why.append("no class of the auto mappings")  # it is a part of others
    for cls in dict.fromkeys(known):
        for sizes in SHRUNK:
            try:
                config = config_class()
                shrink(config, sizes)
                with torch.device("meta"):
                    size = sum(p.numel() for p in cls(copy.deepcopy(config)).parameters())
                if size > LARGEST:
                    why.append(f"{cls.__name__}: {size} parameters")
                    continue
                torch.manual_seed(7)
                model = cls(config).float().eval()
                if any(p.numel() == 0 for p in model.parameters()):
                    why.append(f"{cls.__name__}: a parameter without elements")
                    continue
            except Exception as e:
                why.append(f"{cls.__name__}: {type(e).__name__}: {' '.join(str(e).split())[:120]}")
                continue
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.is_floating_point():
                        parameter.normal_(std=0.1)
            yield model
