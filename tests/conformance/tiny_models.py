"""A tiny model of a model type of transformers, with random weights: what the survey adapts.

Configurations hold their sizes against each other in many ways, so several ways to shrink one are tried: sizes that suit most types, then
all widths divided by one number, which keeps what is equal or a multiple. What a type needs beside that is in `NEEDED`.
"""

import copy
import re
from pathlib import Path

# What is tried for a type, in this order: the classes that people adapt first.
HEADS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "MULTIMODAL_LM", "MASKED_LM", "SPEECH_SEQ_2_SEQ", "CTC",
         "IMAGE_CLASSIFICATION", "AUDIO_CLASSIFICATION", "SEQUENCE_CLASSIFICATION", "TEXT_TO_WAVEFORM", "")  # fmt: skip
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
LARGEST = 40_000_000


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


# Names of widths, and what else has such a name.
WIDTH = re.compile(r"hidden|embed|channel|width|dim|rank|inner|ffn|size|d_model|d_ff|d_kv|d_head|n_embd|n_state|features|n_filters|upsample_groups")
NO_WIDTH = re.compile(r"vocab|codebook_size|patch|kernel|image_|stride|num_|window|position|chunk|layers|bins|conv_ratio|_id$|_ids$|_idx|batch|"
                      r"interval|_rate|grid|merge|pool|context_size|tubelet|segment|dropout|tokens|spatial|temporal|multi_|num_channels|in_channels$")  # fmt: skip
IMAGE_CHANNELS = 4
COUNTS = {name: value for name, value in SIZES.items() if "expert" in name and "size" not in name} | {"max_position_embeddings": 256}


def narrow(config, factor: int, layers: int | None) -> None:
    """Divides all widths by one number. Keeps all layers, or as many, and lists of their stages are cut to one layer each."""
    from transformers import PreTrainedConfig

    def less(value):
        return value // factor if isinstance(value, int) and not isinstance(value, bool) and value > IMAGE_CHANNELS and value % factor == 0 else value

    before = held(config, "num_hidden_layers")
    for name, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            narrow(value, factor, layers)
        elif isinstance(value, bool) or not isinstance(value, (int, list, tuple)):
            continue
        elif name == "vocab_size" or name.endswith("_vocab_size"):
            put(config, name, min(value, 96) if isinstance(value, int) else value)
        elif name in COUNTS:
            put(config, name, min(value, COUNTS[name]) if isinstance(value, int) else value)
        elif name in ("depths", "layer_depths") and layers is not None:
            put(config, name, [1 if isinstance(n, int) else n for n in value])
        elif name in LAYERS and layers is not None and isinstance(value, int):
            put(config, name, min(value, layers))
        elif WIDTH.search(name) and not NO_WIDTH.search(name):
            put(config, name, less(value) if isinstance(value, int) else type(value)(less(one) for one in value))
    after = held(config, "num_hidden_layers")
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == before and before != after:
            put(config, name, (list(dict.fromkeys(value)) + value)[:after] if all(isinstance(v, str) for v in value) else value[:after])
    inside(config)


def replace(config, sizes: dict[str, int]) -> None:
    """Sizes that take the place of others, in all parts."""
    from transformers import PreTrainedConfig

    for name, value in sizes.items():
        if held(config, name) is not None:
            put(config, name, value)
    for part in list(vars(config).values()):
        if isinstance(part, PreTrainedConfig):
            replace(part, sizes)


def inside(config) -> None:
    """Brings the numbers of tokens into the vocabulary."""
    vocabulary = held(config, "vocab_size")
    for name, value in list(vars(config).items()) if isinstance(vocabulary, int) else ():
        if re.search(r"token_(id|index)$", name) and isinstance(value, int) and value >= vocabulary:
            put(config, name, vocabulary - 1)


def given(config_class, **more):
    """A configuration with what its type needs to be one at all."""
    return config_class(**NEEDED.get(config_class.model_type, {}).get("given", {}), **more)


def shrunk(config_class, configure=given):
    """Small configurations of a type, one way after the other."""
    needed = NEEDED.get(config_class.model_type, {})
    for sizes in SHRUNK:
        config = configure(config_class)
        shrink(config, sizes | needed.get("sizes", {}))
        yield config
    for layers in (2, 4, None):
        for factor in (16, 8, 32, 4):
            config = configure(config_class)
            narrow(config, factor, layers)
            replace(config, needed.get("sizes", {}))
            yield config


def save(model, folder: Path) -> None:
    """Saves a model, with the files of its type that transformers does not write."""
    import torch

    model.save_pretrained(folder)
    for name in NEEDED.get(model.config.model_type, {}).get("files", ()):
        torch.save({}, folder / name)


# What a type needs beside small sizes: arguments of its configuration (`given`), sizes that replace others, and files that it is not loaded
# without.
INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 16, "indexer_compress_ratio": 2}
NOPE = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SAME_LAYERS = {"per_layer_config": {}, "num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"]}
# Towers of vision from timm.
PERCEPTION = {"model_args": {"embed_dim": 32, "depth": 2, "num_heads": 4}}
PERCEPTION_CORE = PERCEPTION | {"architecture": "vit_pe_core_tiny_patch16_384", "num_classes": 32}
NARROW_VISION = {"model_args": {"channel_multiplier": 0.125}}
SERIES = {"given": {"prediction_length": 8}}
FEW_FILTERS = {"sizes": {"num_filters": 2}}
NEEDED: dict[str, dict] = {
    "autoformer": SERIES,
    "blt": {"sizes": {"encoder_hash_byte_group_vocab": 96}},
    "chameleon": {"given": {
        "vocabulary_map": {"<image>": 5},
        "vq_config": {"base_channels": 32, "channel_multiplier": [1, 1], "embed_dim": 32, "latent_channels": 32},
    }},
    "cohere_compass": {"given": {"text_config": {"rope_parameters": {"full_attention": ROPE}}}},
    "cohere_compass_text": {"given": {"rope_parameters": {"full_attention": ROPE}}},
    "dbrx": {"given": {"attn_config": {"kv_n_heads": 1, "rope_theta": 10000.0}}},
    "deepseek_ocr2": {"given": {"text_config": {
        "num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"], "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1,
    }}},
    "diffusion_gemma": {"given": {"text_config": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24}}},
    "dinov3_vit": {"given": {"num_register_tokens": 4}},
    "dots1": {"given": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}},
    "dots3_note": {
        "given": {
            "text_config": SAME_LAYERS | {"head_dim": 192, "layer_types": ["indexed_attention", "sliding_attention"]},
            "vision_config": SAME_LAYERS,
        },
        "sizes": {"num_key_value_heads": 4, "qk_nope_head_dim": 4, "adapter_in_dim": 32, "adapter_out_dim": 32, "adapter_input_size": 32},
    },
    "dots3_note_text": {"given": {"per_layer_config": {}, "head_dim": 192}, "sizes": {"num_key_value_heads": 4, "qk_nope_head_dim": 4}},
    "emu3": {"given": {"vocabulary_map": {"<image>": 5}}},
    "ernie4_5_vl_moe": {"given": {"text_config": {"rope_parameters": ROPE | {"mrope_section": [1, 1, 2]}}}},
    "esm": {"given": {"vocab_size": 33, "pad_token_id": 1}},
    "fast_vlm": {"given": {"vision_config": {"architecture": "fastvit_t8", "hidden_size": 768}}},
    "gemma3n": {"given": {"vision_config": NARROW_VISION}, "sizes": {"num_kv_shared_layers": 0}},
    "gemma3n_text": {"sizes": {"num_kv_shared_layers": 0}},
    "gemma3n_vision": {"given": NARROW_VISION},
    "gemma4_assistant": {"given": {"text_config": NOPE}, "sizes": NOPE | {"num_kv_shared_layers": 0}},
    "gemma4_unified_assistant": {"sizes": {"num_kv_shared_layers": 2}},
    "granite4_vision": {"given": {"deepstack_layer_map": [[-1, 0]], "spatial_target_layers": [0], "downsample_rate": "1/2"}},
    "hunyuan_vl": {"sizes": {"out_hidden_size": 32, "text_hidden_size": 32}},
    "informer": SERIES,
    "janus": {
        "given": {"vq_config": {"base_channels": 32, "channel_multiplier": [1, 1], "embed_dim": 8, "latent_channels": 32}},
        "sizes": {"projection_dim": 32, "num_embeddings": 64},
    },
    "lfm2_moe": {"given": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2, "num_dense_layers": 1}},
    "lw_detr": {"given": {"projector_scale_factors": [1.0]}},
    "minimax_m3_vl": {"sizes": {"merged_hidden_size": 128}},
    "moonshine_streaming": {"given": {"num_key_value_heads": 4}},
    "pe_audio_video": {"given": {"audio_video_config": {"video_config": {"vision_config": PERCEPTION_CORE}}}},
    "pe_audio_video_encoder": {"given": {"video_config": {"vision_config": PERCEPTION_CORE}}},
    "pe_video": {"given": {"video_config": {"vision_config": PERCEPTION_CORE}}},
    "pe_video_encoder": {"given": {"vision_config": PERCEPTION_CORE}},
    "perceiver": {"given": {"num_latents": 8, "d_latents": 32, "d_model": 32, "image_size": 16, "train_size": [16, 16], "num_self_attends_per_block": 2}},
    "perception_lm": {"given": {"vision_config": PERCEPTION | {"architecture": "vit_pe_core_tiny_patch16_384"}}},
    "qwen2_5_omni": {"given": {"enable_audio_output": False}, "files": ["spk_dict.pt"]},
    "qwen3_omni_moe": {"given": {"talker_config": {"spatial_merge_size": 2, "text_config": {"shared_expert_intermediate_size": 24}}}},
    "qwen4_exp": {"given": {"text_config": INDEXER}},
    "qwen4_exp_text": {"given": INDEXER},
    "reformer": {"given": {"is_decoder": True, "axial_pos_embds": False}},
    "step3p7": {"given": {"text_config": {"moe_layers_enum": [1]}}},
    "time_series_transformer": SERIES,
    "timm_backbone": {"given": {"backbone": "resnet18"}},
    "vibevoice": FEW_FILTERS,
    "vibevoice_acoustic_tokenizer": FEW_FILTERS,
    "vibevoice_acoustic_tokenizer_decoder": FEW_FILTERS,
    "vibevoice_acoustic_tokenizer_encoder": FEW_FILTERS,
    "vibevoice_asr": FEW_FILTERS,
    "zaya": {"sizes": {"num_experts_per_tok": 1}},
}  # fmt: skip


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
        ways = shrunk(config_class)
        while True:
            try:
                if (config := next(ways, None)) is None:
                    break
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
