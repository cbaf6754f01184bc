"""The forms of quantised weights that tiny models are made in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from generate.bases import GPT_OSS, LLAMA
from quantised_libraries import LIBRARIES
from quantised_parts import State, write

E4M3_LARGEST = 448.0


@dataclass(frozen=True)
class Form:
    """A way to quantise a model: what stands in the files for a weight, and what config.json says."""

    name: str
    model: str
    config: str
    options: dict
    targets: list[str]
    quantise: Callable[[str, torch.Tensor], State | None]
    values: Callable[[str, State], torch.Tensor]
    settings: dict


def spread(scale: torch.Tensor, block: tuple[int, int] | None, shape: torch.Size) -> torch.Tensor:
    """A scale for each value, from one for each block."""
    if block is None:
        return scale
    return scale.repeat_interleave(block[0], 0)[: shape[0]].repeat_interleave(block[1] or shape[1], 1)[:, : shape[1]]


def fp8_codes(weight: torch.Tensor, block: tuple[int, int] | None, scales: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales: one for the tensor (no block), or one for each block. A block of no columns is as wide as the weight."""
    if block is None:
        scale = (weight.abs().max() / E4M3_LARGEST).to(scales)
    else:
        high, wide = block[0], block[1] or weight.shape[1]
        grid = [[tile.abs().max() for tile in row.split(wide, 1)] for row in weight.split(high, 0)]
        scale = (torch.tensor(grid) / E4M3_LARGEST).to(scales)
    return (weight / spread(scale.float(), block, weight.shape)).clamp(-E4M3_LARGEST, E4M3_LARGEST).to(torch.float8_e4m3fn), scale


def fp8(name: str, ending: str, block: tuple[int, int] | None, scales: torch.dtype = torch.float32, **settings: object) -> Form:
    """FP8: a scale for the tensor (no block), or for each block."""

    def quantise(key: str, weight: torch.Tensor) -> State | None:
        if "proj.weight" not in key:
            return None
        codes, scale = fp8_codes(weight, block, scales)
        return {key: codes, f"{key}{ending}": scale}

    def values(key: str, state: State) -> torch.Tensor:
        return state[key].float() * spread(state[f"{key}{ending}"].float(), block, state[key].shape)

    # Heights and widths that no block divides.
    options = LLAMA | {"intermediate_size": 40}
    targets = ["q_proj", "v_proj", "down_proj"]
    return Form(name, "LlamaForCausalLM", "LlamaConfig", options, targets, quantise, values, settings)


def mxfp4_codes(key: str, weight: torch.Tensor) -> State | None:
    """The experts' matrices of gpt-oss. The codes are random, so each of the 16 occurs."""
    if not key.endswith(("experts.gate_up_proj", "experts.down_proj")):
        return None
    experts, inputs, outputs = weight.shape
    codes = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
    scales = torch.randint(121, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
    return {f"{key}_blocks": codes, f"{key}_scales": scales}


def mxfp4_values(key: str, state: State) -> torch.Tensor:
    """Their values as transformers makes them, in fp32."""
    return convert_moe_packed_tensors(state[f"{key}_blocks"], state[f"{key}_scales"], dtype=torch.float32)


def mxfp4() -> Form:
    """gpt-oss."""
    options = GPT_OSS | {"intermediate_size": 32, "hidden_size": 32}
    settings = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    return Form("mxfp4", "GptOssForCausalLM", "GptOssConfig", options, ["q_proj"], mxfp4_codes, mxfp4_values, settings)


# Blocks of bitsandbytes that end with rows: where they do not, its own layers are wrong on some CPUs (`dequantised`).
WIDTHS = {"nf4": 128, "fp4-nested": 128}


def library(name: str, held: object) -> Form:
    """A form of another library."""
    options = LLAMA | {"hidden_size": 64, "intermediate_size": WIDTHS.get(name, 96)}
    targets = ["q_proj", "v_proj", "down_proj"]
    return Form(name, "LlamaForCausalLM", "LlamaConfig", options, targets, held.quantise, held.values, held.settings())


FORMS = [
    fp8("fp8-tensor", "_scale", None, quant_method="compressed-tensors", ignore=["lm_head"]),
    fp8("fp8-rows", "_scale", (1, 0), torch.bfloat16, quant_method="fbgemm_fp8"),
    fp8("fp8-blocks", "_scale_inv", (16, 12), quant_method="fp8", weight_block_size=[16, 12]),
    fp8("fp8-whole-blocks", "_scale_inv", (8, 8), quant_method="fp8", weight_block_size=[8, 8]),
    mxfp4(),
    *(library(name, held) for name, held in LIBRARIES.items()),
]


def make(form: Form, root: Path) -> None:
    """The quantised base, and its values in fp32."""
    torch.manual_seed(len(form.name))
    model = getattr(transformers, form.model)(getattr(transformers, form.config)(**form.options)).to(torch.bfloat16)
    codes: State = {}
    values: State = {}
    for name, tensor in model.state_dict().items():
        made = form.quantise(name, tensor.float())
        codes |= made or {name: tensor}
        values[name] = form.values(name, made) if made else tensor.float()
    config = model.config.to_dict() | {"architectures": [form.model]}
    write(root / "base", codes, config | {"dtype": "bfloat16", "quantization_config": form.settings})
    write(root / "values", values, config | {"dtype": "float32"})
