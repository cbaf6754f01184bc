"""Tiny models of the shapes of published quantised ones, kept: Kimi-K2-Thinking, DeepSeek-V3 and gpt-oss.

Tensors have the names, forms and neighbours of the published checkpoints, and `quantization_config` is theirs word by word. All experts
of a layer take part in every token, so that no rounding sends a token elsewhere. For each adapter:

- what it changes, and what engines fuse with that, is PEFT's merge of the values, to half a unit of bf16, under the names of the checkpoint;
- every other tensor is the base's bytes, also those of a layer for the prediction of further tokens that no adapter reaches;
- by `quantization_config`, as the method's own library reads it, exactly the modules that hold codes are quantised;
- transformers loads the output with the method's own quantiser, which decodes where there is no card, and gives the PeftModel's logits.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from compressed_tensors.utils import match_named_modules
from transformers import CompressedTensorsConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from generate.bases import Base, new_model
from generate.oracle import Tree
from live import run
from live.report import Report
from quantised_forms import fp8_codes, mxfp4_codes, mxfp4_values, spread
from quantised_libraries import Compressed
from quantised_parts import State, adapted, close, config_of, exact, merge, other_bytes, read, write

DEEPSEEK = {
    "vocab_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "n_shared_experts": 1,
    "n_routed_experts": 4, "num_experts_per_tok": 4, "n_group": 2, "topk_group": 2, "first_k_dense_replace": 1,
    "max_position_embeddings": 64, "initializer_range": 0.1,
}  # fmt: skip
SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "q_lora_rank": 32, "kv_lora_rank": 24,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
}  # fmt: skip
# Blocks of 128 x 128 fill every weight: transformers decodes no others.
WHOLE = {
    "hidden_size": 256, "intermediate_size": 256, "moe_intermediate_size": 128, "q_lora_rank": 128, "kv_lora_rank": 96,
    "qk_rope_head_dim": 32, "qk_nope_head_dim": 32, "v_head_dim": 32,
}  # fmt: skip
GPT_OSS = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 4, "max_position_embeddings": 64, "initializer_range": 0.1,
    "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8,
}  # fmt: skip

ATTENTION = ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]
PARTS = ["gate_up_proj", "down_proj"]
EXPERTS = [f"mlp.experts.{part}" for part in PARTS]


@dataclass(frozen=True)
class Trained:
    """An adapter: what PEFT is told, and the quantised modules that leave, as an expression. `mixed` has plain experts in one layer and
    packed ones in another."""

    name: str
    targets: list[str] | str
    leave: str | None
    more: dict = field(default_factory=dict)
    mixed: bool = False


@dataclass(frozen=True)
class Shape:
    """A published model in small. `quantise` gives the tensors of a weight's codes, `values` their values."""

    name: str
    model: Base
    published: dict
    quantise: Callable[[str, torch.Tensor], State | None]
    values: Callable[[str, State], torch.Tensor]
    adapters: list[Trained]
    # A layer that transformers does not load.
    further: str = ""
    loading: dict = field(default_factory=dict)


def deepseek(sizes: dict) -> Base:
    """The architecture of DeepSeek-V3."""
    return Base("DeepseekV3ForCausalLM", "DeepseekV3Config", DEEPSEEK | sizes, "BF16")


def kimi() -> Shape:
    """Kimi-K2-Thinking: packed INT4 in groups of 32 on the routed experts, all else in bf16."""
    weights = {
        "actorder": None, "block_structure": None, "dynamic": False, "group_size": 32, "num_bits": 4, "observer": "minmax", "observer_kwargs": {},
        "strategy": "group", "symmetric": True, "type": "int",
    }  # fmt: skip
    settings = {
        "config_groups": {"group_0": {"input_activations": None, "output_activations": None, "targets": ["Linear"], "weights": weights}},
        "format": "pack-quantized",
        "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }
    held = Compressed("pack-quantized", torch.bfloat16, type="int", num_bits=4, strategy="group", group_size=32, symmetric=True)

    def quantise(key: str, weight: torch.Tensor) -> State | None:
        return held.quantise(key, weight) if ".mlp.experts." in key else None

    one_layer = [f"layers.1.mlp.experts.{part}" for part in PARTS]
    adapters = [
        Trained("attention", ATTENTION, None),
        Trained("all-linear", "all-linear", r"layers\.[12]\.mlp\.experts\."),
        Trained("linears", r".*layers\.[012].*(_proj|_with_mqa)", None, {"by_name": True}),
        Trained("experts", ATTENTION, r"layers\.1\.mlp\.experts\.", {"target_parameters": one_layer}, mixed=True),
    ]
    published = {"model_type": "kimi_k2", "num_nextn_predict_layers": 0, "quantization_config": settings}
    loading = {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    return Shape("kimi-k2", deepseek(SMALL), published, quantise, held.values, adapters, loading=loading)


def deepseek_v3() -> Shape:
    """DeepSeek-V3: FP8 in blocks of 128 x 128 on all linear layers but the head; a layer for the prediction of a further token."""
    block = (128, 128)
    settings = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]}

    def quantise(key: str, weight: torch.Tensor) -> State | None:
        if not re.search(r"proj(_with_mqa)?\.weight$", key) or key.endswith("eh_proj.weight"):
            return None
        codes, scale = fp8_codes(weight, block)
        return {key: codes, f"{key}_scale_inv": scale}

    def values(key: str, state: State) -> torch.Tensor:
        return state[key].float() * spread(state[f"{key}_scale_inv"], block, state[key].shape)

    one_layer = [f"layers.1.mlp.experts.{part}" for part in PARTS]
    attention = r"layers\.[012]\.self_attn\."
    adapters = [
        Trained("attention", ATTENTION, attention),
        Trained("one-layer", ["q_a_proj", "o_proj"], r"layers\.1\.self_attn\.(q_a_proj|kv_a_proj_with_mqa|o_proj)$", {"layers_to_transform": [1]}),
        Trained("all-linear", "all-linear", rf"{attention}|layers\.[12]\.mlp\.experts\."),
        Trained("linears", r".*layers\.[012].*(_proj|_with_mqa)", rf"{attention}|layers\.0\.mlp\.|layers\.[12]\.mlp\.shared_experts\.", {"by_name": True}),
        Trained("experts", ATTENTION, rf"{attention}|layers\.1\.mlp\.experts\.", {"target_parameters": one_layer}),
    ]
    published = {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1, "quantization_config": settings}
    return Shape("deepseek-v3", deepseek(WHOLE), published, quantise, values, adapters, further="model.layers.3.")


def gpt_oss() -> Shape:
    """gpt-oss: MXFP4 on the experts."""
    not_converted = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    settings = {"modules_to_not_convert": not_converted, "quant_method": "mxfp4"}
    heads = ["q_proj", "k_proj", "v_proj", "o_proj"]
    adapters = [
        Trained("attention", heads, None),
        Trained("all-linear", "all-linear", None),
        Trained("experts", heads, r"mlp\.experts", {"target_parameters": EXPERTS}),
    ]
    model = Base("GptOssForCausalLM", "GptOssConfig", GPT_OSS, "BF16")
    published = {"model_type": "gpt_oss", "quantization_config": settings}
    return Shape("gpt-oss", model, published, mxfp4_codes, mxfp4_values, adapters)


def saved(model: torch.nn.Module, folder: Path) -> State:
    """The tensors of a model under the names of its checkpoint."""
    model.save_pretrained(folder)
    return read(folder)


def further_layer(state: State, name: str) -> State:
    """A layer like the last one, and what DeepSeek-V3 has beside it for the prediction of a further token."""
    last = max(int(found[1]) for key in state if (found := re.match(r"model\.layers\.(\d+)\.", key)))
    more = {key.replace(f"model.layers.{last}.", name): tensor + 0.01 for key, tensor in state.items() if key.startswith(f"model.layers.{last}.")}
    width = state["model.norm.weight"].shape[0]
    more |= {f"{name}{norm}.weight": torch.rand(width) for norm in ("enorm", "hnorm", "shared_head.norm")}
    more |= {f"{name}embed_tokens.weight": state["model.embed_tokens.weight"], f"{name}shared_head.head.weight": state["lm_head.weight"]}
    more |= {f"{name}eh_proj.weight": torch.randn(width, 2 * width)}
    return {key: tensor.clone() for key, tensor in more.items()}


def make(shape: Shape, root: Path) -> None:
    """The quantised base, and its values in fp32 without the layer that transformers does not load."""
    model = new_model(shape.model).to(torch.bfloat16)
    state = saved(model, root / "bf16")
    if shape.further:
        state |= {name: tensor.to(torch.bfloat16) for name, tensor in further_layer(state, shape.further).items()}
    codes: State = {}
    values: State = {}
    for name, tensor in state.items():
        made = shape.quantise(name, tensor.float())
        codes |= made or {name: tensor.float() if name.endswith("e_score_correction_bias") else tensor}
        values[name] = shape.values(name, made) if made else tensor.float()
    config = config_of(root / "bf16")
    write(root / "base", codes, config | shape.published)
    write(root / "values", {n: t for n, t in values.items() if not shape.further or not n.startswith(shape.further)}, config | {"dtype": "float32"})


def module_of(name: str) -> str:
    """The module of a tensor of codes or of a weight."""
    return re.sub(r"\.weight(_packed|_scale|_shape|_scale_inv)?$|_blocks$|_scales$", "", name)


def coded(state: State) -> set[str]:
    """The modules that hold codes; for gpt-oss, the parameters."""
    return {module_of(name) for name, tensor in state.items() if tensor.dtype == torch.float8_e4m3fn or name.endswith(("_packed", "_blocks"))}


def by_the_list(shape: Shape, held: dict, modules: set[str], root: Path) -> set[str]:
    """Which of these modules are quantised by what the configuration says, as compressed-tensors or transformers reads it."""
    if held["quant_method"] == "compressed-tensors":
        model = Tree({name: tensor for name, tensor in read(root / "bf16").items() if module_of(name) in modules})
        return {name for name, _ in match_named_modules(model, held["config_groups"]["group_0"]["targets"], held["ignore"])}
    listed = held.get("modules_to_not_convert") or ["lm_head"]
    return {name for name in modules if should_convert_module(name, listed)}


def load(shape: Shape, folder: Path, unused: set[str], mixed: bool) -> torch.nn.Module:
    """The output in transformers, which knows Kimi-K2 as DeepSeek-V3. It takes no layers whose experts are plain beside layers whose experts
    are packed: there it gets the decoded values."""
    config = config_of(folder)
    if mixed:
        got = read(folder)
        modules = {name.removesuffix("_packed") for name in got if name.endswith("_packed")}
        state = {name: tensor.float() for name, tensor in got.items() if module_of(name) + ".weight" not in modules}
        state |= {name: shape.values(name, got) for name in modules}
        del config["quantization_config"]
        write(folder := folder.with_name(f"{folder.name}-decoded"), state, config | {"dtype": "float32"})
    if config["model_type"] == "kimi_k2":
        shutil.copytree(folder, folder := folder.with_name(f"{folder.name}-as-deepseek"))
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "deepseek_v3"}))
    options = shape.loading if "quantization_config" in config else {}
    return run.load(folder, unused, torch.bfloat16, **options).float()


def of_adapter(shape: Shape, trained: Trained, root: Path, program: Path, report: Report) -> None:
    """All that is said of one adapter."""
    name, at = f"{shape.name}, {trained.name}", root / trained.name
    model = adapted(root / "values", trained.targets, at / "adapter", **trained.more)
    outcome = merge(program, root / "base", at / "adapter", at / "output")
    if not report.check(f"{name}: merged", outcome.merged, outcome.stderr[-400:] if not outcome.merged else ""):
        return
    tokens = shape.model.options["vocab_size"]
    live = run.outputs_of(model, tokens)
    merged = saved(model.merge_and_unload(), at / "merged")
    base, values, got = read(root / "base"), read(root / "values"), read(at / "output")
    leave = {module for module in coded(base) if trained.leave and re.search(trained.leave, module)}
    assert bool(leave) == bool(trained.leave), "the expression names no module"
    changed = {tensor for tensor in merged if not torch.equal(merged[tensor], values[tensor])}
    floats = changed | {tensor for tensor in merged if module_of(tensor) in leave}
    wrong = exact({tensor: got[tensor] for tensor in floats & got.keys()}, {tensor: merged[tensor] for tensor in floats}, "BF16")
    report.check(f"{name}: {len(floats)} tensors are PEFT's", wrong is None, wrong or "")
    gone = {tensor for tensor in base if module_of(tensor) in leave}
    others = other_bytes({n: t for n, t in got.items() if n not in floats}, {n: t for n, t in base.items() if n not in floats | gone})
    report.check(f"{name}: all else is the base's bytes", not others, ", ".join(others[:3]))
    stay = coded(got)
    held = config_of(at / "output").get("quantization_config")
    if not stay:
        report.check(f"{name}: nothing is quantised, and nothing says so", held is None, str(held))
    elif not leave:
        report.check(f"{name}: quantization_config stays", held == shape.published["quantization_config"], "")
    else:
        by_list = by_the_list(shape, held, coded(base), root)
        report.check(f"{name}: by quantization_config {len(stay)} modules are quantised", by_list == stay, f"{sorted(by_list ^ stay)[:3]}")
    unused = {tensor for tensor in got if shape.further and tensor.startswith(shape.further)}
    unused |= {f"{shape.further}{parameter}" for parameter in EXPERTS}
    good, apart = close(run.outputs_of(load(shape, at / "output", unused, trained.mixed), tokens), live, run.outputs_of(run.load(root / "values"), tokens))
    by = "transformers" if trained.mixed or not stay else "transformers' quantiser"
    report.check(f"{name}: {by} gives the PeftModel's logits", good, apart)


def of_shape(shape: Shape, root: Path, program: Path, report: Report) -> None:
    """All adapters of a shape."""
    make(shape, root)
    for trained in shape.adapters:
        report.guarded(f"{shape.name}, {trained.name}", lambda of=trained: of_adapter(shape, of, root, program, report))


SHAPES = [kimi(), deepseek_v3(), gpt_oss()]
