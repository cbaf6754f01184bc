"""Weights that other libraries quantise and read: compressed-tensors, bitsandbytes, GPTQ, AWQ and NVFP4.

What stands in the files, compressed-tensors and bitsandbytes write themselves, and they give the values, in fp32. AutoGPTQ, AutoAWQ and
ModelOpt do not install beside the versions that are pinned here: `grouped` and `modelopt` have their published formulas.
"""

import copy
import math

import bitsandbytes.functional as bnb
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4 import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize

State = dict[str, torch.Tensor]
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def stem(key: str) -> str:
    """The module of a weight."""
    return key.removesuffix(".weight")


def is_linear(key: str) -> bool:
    """Whether a parameter is a weight that these libraries quantise."""
    return key.endswith("proj.weight")


def prefixed(key: str, state: State) -> State:
    """The tensors of a module by their full names."""
    return {f"{stem(key)}.{name}": tensor for name, tensor in state.items()}


def own(key: str, state: State) -> State:
    """The tensors of a module by their names in it."""
    return {name.removeprefix(f"{stem(key)}."): tensor for name, tensor in state.items()}


class Compressed:
    """A format of compressed-tensors: its own compressor writes and reads. The scales are found as its observers do, by the largest
    value of a group."""

    def __init__(self, name: str, scales: torch.dtype, **weights: object) -> None:
        self.format = name
        self.scales = scales
        self.args = QuantizationArgs(**weights)
        self.scheme = QuantizationScheme(targets=["Linear"], weights=self.args)
        self.compressor = BaseCompressor.get_value_from_registry(name)

    def settings(self) -> dict:
        """What config.json says."""
        group = {"targets": ["Linear"], "weights": self.args.model_dump(mode="json"), "format": self.format}
        return {
            "quant_method": "compressed-tensors", "format": self.format, "quantization_status": "compressed",
            "config_groups": {"group_0": group}, "ignore": ["lm_head"],
        }  # fmt: skip

    def quantise(self, key: str, weight: torch.Tensor) -> State | None:
        """What stands in the files."""
        if not is_linear(key):
            return None
        size = self.args.group_size if self.args.group_size and self.args.group_size > 0 else weight.shape[1]
        groups = weight.unflatten(1, (-1, size))
        state: State = {"weight": weight}
        largest = groups.abs().amax(2)
        if self.args.type == "float" and self.args.group_size == 16:
            state["weight_global_scale"] = 448.0 * 6.0 / weight.abs().max().reshape(1)
            state["weight_scale"] = (state["weight_global_scale"] * largest / 6.0).to(torch.float8_e4m3fn).float()
        elif self.args.type == "float":
            state["weight_scale"] = torch.exp2(torch.floor(torch.log2(largest)) - 2)
        elif self.args.symmetric:
            state["weight_scale"] = (largest / (2 ** (self.args.num_bits - 1) - 0.5)).to(self.scales)
        else:
            low, high = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
            scale = ((high - low) / (2**self.args.num_bits - 1)).to(self.scales)
            state["weight_scale"] = scale
            middle = 2 ** (self.args.num_bits - 1)
            state["weight_zero_point"] = (torch.round(-low / scale.float()) - middle).clamp(-middle, middle - 1).to(torch.int8)
        return prefixed(key, self.compressor.compress(state, self.scheme))

    def values(self, key: str, state: State) -> torch.Tensor:
        """Its own values, in fp32. Its decompressor of NVFP4 computes in bf16; the functions that it calls compute in what they get."""
        held = own(key, state)
        if self.args.type == "int":
            held["weight_scale"] = held["weight_scale"].float()
        if "weight_global_scale" in held:
            rows, half = held["weight_packed"].shape
            codes = unpack_fp4_from_uint8(held["weight_packed"], rows, 2 * half, dtype=torch.float32)
            scale, common = held["weight_scale"].float(), held["weight_global_scale"]
            return dequantize(codes, scale, args=self.args, dtype=torch.float32, global_scale=common)
        return self.compressor.decompress(held, self.scheme)["weight"].float()


def dequantised(codes: torch.Tensor, state: bnb.QuantState) -> torch.Tensor:
    """What `dequantize_4bit` gives. Its kernel for AVX-512 takes a new scale at each row, although a block goes on in the next one (0.50.2,
    rows that are a multiple of 16 and of no block), so it gets the values as one row."""
    flat = copy.copy(state)
    flat.shape = torch.Size([math.prod(state.shape)])
    return bnb.dequantize_4bit(codes, flat).reshape(state.shape)


class FourBits:
    """NF4 and FP4 of bitsandbytes."""

    def __init__(self, kind: str, nested: bool) -> None:
        self.kind, self.nested = kind, nested

    def settings(self) -> dict:
        """What config.json says."""
        return {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": self.kind, "bnb_4bit_use_double_quant": self.nested}

    def quantise(self, key: str, weight: torch.Tensor) -> State | None:
        """What stands in the files."""
        if not is_linear(key):
            return None
        codes, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=self.nested, quant_type=self.kind)
        return {key: codes} | {f"{key}.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}

    def values(self, key: str, state: State) -> torch.Tensor:
        """Its own values, in fp32."""
        parts = {name.removeprefix(f"{key}."): tensor for name, tensor in state.items() if name.startswith(f"{key}.")}
        read = bnb.QuantState.from_dict(parts, device=torch.device("cpu"))
        read.dtype = torch.float32
        return dequantised(state[key], read)


class EightBits:
    """LLM.int8 of bitsandbytes."""

    def settings(self) -> dict:
        """What config.json says."""
        return {"quant_method": "bitsandbytes", "load_in_8bit": True}

    def quantise(self, key: str, weight: torch.Tensor) -> State | None:
        """What stands in the files."""
        if not is_linear(key):
            return None
        codes, scales, _ = bnb.int8_vectorwise_quant(weight.half())
        return {key: codes, f"{stem(key)}.SCB": scales, f"{stem(key)}.weight_format": torch.tensor(0, dtype=torch.uint8)}

    def values(self, key: str, state: State) -> torch.Tensor:
        """Its own values, in fp32."""
        return bnb.int8_vectorwise_dequant(state[key], state[f"{stem(key)}.SCB"])


def packed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes along the first dimension as a stream of bits in words."""
    at = torch.arange(bits)
    stream = (codes.long()[:, None] >> at[None, :, None] & 1).flatten(0, 1)
    words = (stream.unflatten(0, (-1, 32)) << torch.arange(32)[None, :, None]).sum(1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def unpacked(words: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes of a stream of bits in words, along the first dimension."""
    stream = (words.long()[:, None] >> torch.arange(32)[None, :, None] & 1).flatten(0, 1)
    return (stream.unflatten(0, (-1, bits)) << torch.arange(bits)[None, :, None]).sum(1)


class Grouped:
    """GPTQ and AWQ: `scale * (code - zero)` with a scale and a zero point for each group of inputs. AutoGPTQ's `QuantLinear.forward`,
    AutoAWQ's `dequantize_gemm`."""

    ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

    def __init__(self, method: str, bits: int, *, version: str, act_order: bool = False) -> None:
        self.method, self.bits, self.version, self.act_order = method, bits, version, act_order
        self.group = 16

    def settings(self) -> dict:
        """What config.json says."""
        more = {"checkpoint_format": self.version, "desc_act": self.act_order} if self.method == "gptq" else {"version": self.version, "zero_point": True}
        return {"quant_method": self.method, "bits": self.bits, "group_size": self.group} | more

    def order(self, inputs: int) -> torch.Tensor:
        """The group of each input."""
        natural = torch.arange(inputs) // self.group
        return natural[torch.randperm(inputs, generator=torch.Generator().manual_seed(inputs))] if self.act_order else natural

    def quantise(self, key: str, weight: torch.Tensor) -> State | None:
        """What stands in the files."""
        if not is_linear(key):
            return None
        weight, order = weight.t(), self.order(weight.shape[1])
        groups = torch.stack([weight[order == group] for group in range(math.ceil(weight.shape[0] / self.group))])
        low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
        scales = ((high - low) / (2**self.bits - 1)).half()
        zeros = torch.round(-low / scales.float()).clamp(0, 2**self.bits - 1).long()
        codes = (torch.round(weight / scales.float()[order]) + zeros[order]).clamp(0, 2**self.bits - 1).long()
        if self.method == "awq":
            place = torch.arange(codes.shape[1]).unflatten(0, (-1, 8))[:, self.ORDER].flatten()
            words = [packed(held[:, place].t(), 4).t() for held in (codes, zeros)]
            return prefixed(key, {"qweight": words[0], "qzeros": words[1], "scales": scales})
        stored = (zeros - 1) % 2**self.bits if self.version == "gptq" else zeros
        zero_words = packed(torch.nn.functional.pad(stored, (0, -stored.shape[1] % 32)).t(), self.bits).t()
        zero_words = zero_words[:, : math.ceil(stored.shape[1] * self.bits / 32)]
        return prefixed(key, {"qweight": packed(codes, self.bits), "qzeros": zero_words, "scales": scales, "g_idx": order.int()})

    def values(self, key: str, state: State) -> torch.Tensor:
        """The values by the formula, in fp32."""
        held = own(key, state)
        outputs = held["scales"].shape[1]
        if self.method == "awq":
            place = torch.argsort(torch.arange(outputs).unflatten(0, (-1, 8))[:, self.ORDER].flatten())
            codes, zeros = (unpacked(held[name].t(), 4).t()[:, place] for name in ("qweight", "qzeros"))
            order = torch.arange(codes.shape[0]) // self.group
        else:
            codes, order = unpacked(held["qweight"], self.bits), held["g_idx"].long()
            words = torch.nn.functional.pad(held["qzeros"], (0, -held["qzeros"].shape[1] % self.bits))
            zeros = unpacked(words.t(), self.bits).t()[:, :outputs]
            zeros = (zeros + (self.version == "gptq")) % 2**self.bits
        return ((codes - zeros[order]).float() * held["scales"].float()[order]).t().contiguous()


class ModelOpt:
    """NVFP4 of ModelOpt: `e2m1 * (scale * scale_2)`, `NVFP4QTensor.dequantize`."""

    def settings(self) -> dict:
        """What config.json says."""
        return {"quant_method": "modelopt", "quant_algo": "NVFP4"}

    def quantise(self, key: str, weight: torch.Tensor) -> State | None:
        """What stands in the files."""
        if not is_linear(key):
            return None
        common = weight.abs().max() / (6.0 * 448.0)
        scale = (weight.unflatten(1, (-1, 16)).abs().amax(2) / (6.0 * common)).to(torch.float8_e4m3fn)
        scaled = weight / (scale.float() * common).repeat_interleave(16, 1)
        codes = (scaled.abs()[..., None] - E2M1).abs().argmin(-1) + 8 * (scaled < 0)
        return prefixed(key, {"weight": (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8), "weight_scale": scale, "weight_scale_2": common})

    def values(self, key: str, state: State) -> torch.Tensor:
        """The values by the formula, in fp32."""
        held = own(key, state)
        codes = torch.stack((held["weight"] & 15, held["weight"] >> 4), -1).flatten(1).long()
        values = torch.cat((E2M1, -E2M1))[codes]
        return values * (held["weight_scale"].float() * held["weight_scale_2"]).repeat_interleave(16, 1)


INT = {"type": "int"}
FLOAT = {"type": "float", "num_bits": 4, "symmetric": True}
LIBRARIES = {
    "packed-int4-group": Compressed("pack-quantized", torch.bfloat16, num_bits=4, strategy="group", group_size=16, symmetric=True, **INT),
    "packed-int4-zeros": Compressed("pack-quantized", torch.bfloat16, num_bits=4, strategy="group", group_size=16, symmetric=False, **INT),
    "packed-int8-channel": Compressed("pack-quantized", torch.float32, num_bits=8, strategy="channel", symmetric=True, **INT),
    "packed-int8-zeros": Compressed("pack-quantized", torch.float16, num_bits=8, strategy="channel", symmetric=False, **INT),
    "gptq-4": Grouped("gptq", 4, version="gptq"),
    "gptq-4-order": Grouped("gptq", 4, version="gptq_v2", act_order=True),
    "gptq-3": Grouped("gptq", 3, version="gptq"),
    "gptq-2": Grouped("gptq", 2, version="gptq"),
    "gptq-8": Grouped("gptq", 8, version="gptq_v2"),
    "awq": Grouped("awq", 4, version="gemm"),
    "nf4": FourBits("nf4", nested=False),
    "nf4-nested": FourBits("nf4", nested=True),
    "fp4-nested": FourBits("fp4", nested=True),
    "int8": EightBits(),
    "nvfp4": Compressed("nvfp4-pack-quantized", torch.float32, strategy="tensor_group", group_size=16, **FLOAT),
    "nvfp4-modelopt": ModelOpt(),
    "mxfp4-packed": Compressed("mxfp4-pack-quantized", torch.float32, strategy="group", group_size=32, **FLOAT),
}
