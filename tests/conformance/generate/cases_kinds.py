"""Cases of the kinds beside LoRA whose merge is a formula on one weight."""

from pathlib import Path

import peft.tuners.boft.layer
import torch
from peft import (
    BeftConfig,
    BOFTConfig,
    C3AConfig,
    DeloraConfig,
    GraloraConfig,
    HiraConfig,
    HRAConfig,
    LoKrConfig,
    MissConfig,
    OFTConfig,
    PveraConfig,
    RandLoraConfig,
    ShiraConfig,
    UniLoraConfig,
    VBLoRAConfig,
)

from .adapters import Adapter, rewrite
from .cases_lora import ALL7, CONV1D, lora
from .merges import Merge

MLP = ["q_proj", "v_proj", "down_proj"]


class BlockDiagonal:
    """What BOFT's kernel for a GPU computes. Without it PEFT makes one factor of several."""

    @staticmethod
    def forward(blocks: torch.Tensor) -> list[torch.Tensor]:
        """[factors, blocks, side, side] to [factors, all, all]."""
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]


peft.tuners.boft.layer._FBD_CUDA = BlockDiagonal


def fp32_indices(folder: Path) -> None:
    """The places of SHiRA as fp32."""
    floats = lambda name, tensor: tensor.float() if name.endswith("shira_indices") else tensor  # noqa: E731
    rewrite(folder, lambda tensors: {name: floats(name, tensor) for name, tensor in tensors.items()})


LOKR = [
    Merge("lokr", "LoKr", "w1 whole, w2 whole or in two factors; patterns of rank and alpha", "llama-f32",
          [Adapter(LoKrConfig(r=2, alpha=6, target_modules=MLP, rank_pattern={"v_proj": 6}, alpha_pattern={"down_proj": 3}))]),
    Merge("lokr-both", "LoKr", "both matrices in two factors, another division", "llama-f32",
          [Adapter(LoKrConfig(r=1, alpha=2, target_modules=ALL7, decompose_both=True, decompose_factor=8))]),
    Merge("lokr-bf16", "LoKr", "onto bf16", "llama-bf16", [Adapter(LoKrConfig(r=2, alpha=4, target_modules=ALL7))]),
    Merge("lokr-conv2d", "LoKr", "convolutions, w2 in two factors", "resnet-f32",
          [Adapter(LoKrConfig(r=1, alpha=2, target_modules=["convolution"]))]),
    Merge("lokr-conv2d-whole", "LoKr", "convolutions, w2 with the kernel's dimensions", "resnet-f32",
          [Adapter(LoKrConfig(r=4, alpha=4, target_modules=["convolution"]))]),
    Merge("lokr-conv2d-tucker", "LoKr", "convolutions, w2 in Tucker's form", "resnet-f32",
          [Adapter(LoKrConfig(r=1, alpha=2, target_modules=["convolution"], use_effective_conv2d=True))]),
    Merge("lokr-conv1d-layer", "LoKr", "nn.Conv1d, w2 in two factors, fp16", "whisper-f16",
          [Adapter(LoKrConfig(r=2, alpha=2, target_modules=["conv1", "conv2"]))]),
    Merge("lora-then-lokr", "LoKr", "on top of a LoRA", "llama-f32",
          [Adapter(lora(["q_proj"])), Adapter(LoKrConfig(r=2, alpha=4, target_modules=["q_proj", "up_proj"]))]),
]  # fmt: skip

OFT = [
    Merge("oft", "OFT", "the series of 5 terms, blocks of 8", "llama-f32", [Adapter(OFTConfig(oft_block_size=8, target_modules=MLP))]),
    Merge("oft-bf16", "OFT", "onto bf16, by the number of blocks", "llama-bf16",
          [Adapter(OFTConfig(r=4, oft_block_size=0, target_modules=ALL7))]),
    Merge("oft-exact", "OFT", "without the series", "llama-f32",
          [Adapter(OFTConfig(oft_block_size=16, target_modules=MLP, use_cayley_neumann=False))]),
    Merge("oft-terms", "OFT", "the series of 3 terms", "llama-f32",
          [Adapter(OFTConfig(oft_block_size=4, target_modules=["k_proj"], num_cayley_neumann_terms=3))]),
    Merge("oft-share", "OFT", "one block for all, longer than coft allows", "llama-f32",
          [Adapter(OFTConfig(oft_block_size=8, target_modules=MLP, block_share=True, coft=True, eps=0.3))]),
    Merge("oft-coft", "OFT", "blocks longer than coft allows", "llama-f32",
          [Adapter(OFTConfig(oft_block_size=8, target_modules=MLP, coft=True, eps=0.5))]),
    Merge("oft-conv2d", "OFT", "convolutions: the kernel's places are inputs too", "resnet-f32",
          [Adapter(OFTConfig(oft_block_size=12, target_modules=["convolution"]))]),
    Merge("oft-embedding", "OFT", "an embedding turns the other way", "llama-f32",
          [Adapter(OFTConfig(oft_block_size=8, target_modules=["embed_tokens", "q_proj"]))]),
    Merge("oft-then-lora", "OFT", "a LoRA on top of it", "llama-f32",
          [Adapter(OFTConfig(oft_block_size=8, target_modules=["q_proj"])), Adapter(lora(["q_proj"]))]),
]  # fmt: skip

BOFT = [
    Merge("boft", "BOFT", "one factor, and a gain for each output", "llama-f32", [Adapter(BOFTConfig(boft_block_size=4, target_modules=MLP))]),
    Merge("boft-butterfly", "BOFT", "three factors; PEFT with a stand-in for its GPU kernel", "llama-f32",
          [Adapter(BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=3, target_modules=["q_proj", "down_proj"]))],
          notes=["PEFT ran with block_diag in the place of its kernel for a GPU, without which it takes one factor"]),
    Merge("boft-bf16", "BOFT", "onto bf16, two factors, by the number of blocks", "llama-bf16",
          [Adapter(BOFTConfig(boft_block_num=4, boft_block_size=0, boft_n_butterfly_factor=2, target_modules=ALL7))]),
    Merge("boft-conv2d", "BOFT", "convolutions", "resnet-f32", [Adapter(BOFTConfig(boft_block_size=4, target_modules=["layer.0.convolution", "layer.1.convolution"]))]),
]  # fmt: skip

HRA = [
    Merge("hra", "HRA", "four reflections", "llama-f32", [Adapter(HRAConfig(r=4, target_modules=MLP))]),
    Merge("hra-gs", "HRA", "made orthogonal first", "llama-f32", [Adapter(HRAConfig(r=4, target_modules=MLP, apply_GS=True))]),
    Merge("hra-bf16", "HRA", "onto bf16, an odd number", "llama-bf16", [Adapter(HRAConfig(r=3, target_modules=ALL7))]),
    Merge("hra-conv2d", "HRA", "convolutions", "resnet-f32", [Adapter(HRAConfig(r=4, target_modules=["convolution"]))]),
]  # fmt: skip

MISS = [
    Merge("miss", "MiSS", "the rank divides the inputs", "llama-f32", [Adapter(MissConfig(r=8, target_modules=MLP))]),
    Merge("miss-remainder", "MiSS", "the rank does not divide the inputs, bf16", "llama-bf16",
          [Adapter(MissConfig(r=7, target_modules=ALL7))]),
    Merge("miss-mini", "MiSS", "`mini`: the block is repeated over outputs too", "llama-f32",
          [Adapter(MissConfig(r=8, mini_r=4, target_modules=MLP, init_weights="mini"))]),
    Merge("miss-bat", "MiSS", "`bat`: the block is multiplied by the weight", "llama-f32",
          [Adapter(MissConfig(r=8, target_modules=MLP, init_weights="bat"))]),
    Merge("miss-bat-bf16", "MiSS", "`bat` onto bf16", "llama-bf16",
          [Adapter(MissConfig(r=16, target_modules=ALL7, init_weights="bat"))]),
]  # fmt: skip

OTHERS = [
    Merge("hira", "HiRA", "the delta times the weight; PEFT takes no notice of rank_pattern", "llama-f32",
          [Adapter(HiraConfig(r=4, target_modules=MLP, rank_pattern={"v_proj": 2}))]),
    Merge("hira-bf16", "HiRA", "onto bf16, an embedding too", "llama-bf16",
          [Adapter(HiraConfig(r=4, target_modules=[*ALL7, "embed_tokens"]))]),
    Merge("hira-conv1d", "HiRA", "GPT-2's transposed layers", "gpt2-f32",
          [Adapter(HiraConfig(r=4, target_modules=list(CONV1D), fan_in_fan_out=True))]),
    Merge("hira-conv2d", "HiRA", "convolutions", "resnet-f32", [Adapter(HiraConfig(r=4, target_modules=["convolution"]))]),
    Merge("hira-twice", "HiRA", "the second is trained on what the first left", "llama-f32",
          [Adapter(HiraConfig(r=4, target_modules=["q_proj"])), Adapter(HiraConfig(r=2, target_modules=["q_proj"]))]),
    Merge("delora", "DeLoRA", "parts of a bounded norm, ranks by pattern", "llama-f32",
          [Adapter(DeloraConfig(r=4, delora_lambda=3, target_modules=MLP, rank_pattern={"v_proj": 2}))]),
    Merge("delora-bf16", "DeLoRA", "onto bf16", "llama-bf16", [Adapter(DeloraConfig(r=8, target_modules=ALL7))]),
    Merge("gralora", "GraLoRA", "a grid of 2 x 2 blocks", "llama-f32", [Adapter(GraloraConfig(r=4, alpha=8, target_modules=MLP))]),
    Merge("gralora-hybrid", "GraLoRA", "4 x 4 blocks, and a LoRA over all", "llama-bf16",
          [Adapter(GraloraConfig(r=8, hybrid_r=3, gralora_k=4, alpha=12, target_modules=ALL7))]),
    Merge("gralora-conv1d", "GraLoRA", "GPT-2's transposed layers, and a LoRA over all", "gpt2-f32",
          [Adapter(GraloraConfig(r=4, hybrid_r=2, gralora_k=2, alpha=6, target_modules=list(CONV1D), fan_in_fan_out=True))]),
    Merge("pvera", "PVeRA", "the mean of two matrices for modules of all sizes", "llama-bf16",
          [Adapter(PveraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]))]),
    Merge("c3a", "C3A", "circulant blocks, sizes by pattern", "llama-f32",
          [Adapter(C3AConfig(block_size=8, target_modules=MLP, block_size_pattern={"v_proj": 4}))]),
    Merge("c3a-bf16", "C3A", "onto bf16", "llama-bf16", [Adapter(C3AConfig(block_size=16, target_modules=ALL7))]),
]  # fmt: skip

SPARSE = [
    Merge("shira", "SHiRA", "single values of square and other weights", "llama-f32",
          [Adapter(ShiraConfig(r=2, random_seed=3, target_modules=MLP))]),
    Merge("shira-bf16", "SHiRA", "onto bf16", "llama-bf16", [Adapter(ShiraConfig(r=4, random_seed=5, target_modules=ALL7))]),
    Merge("shira-fp32-indices", "SHiRA", "the places as fp32, as PEFT saves them on Windows", "llama-f32",
          [Adapter(ShiraConfig(r=1, random_seed=7, target_modules=["k_proj", "up_proj"]), disguise=fp32_indices)]),
    Merge("shira-twice", "SHiRA", "one sparse adapter after another", "llama-f32",
          [Adapter(ShiraConfig(r=2, random_seed=1, target_modules=["q_proj"])), Adapter(ShiraConfig(r=1, random_seed=2, target_modules=["q_proj"]))]),
]  # fmt: skip

VBLORA = [
    Merge("vblora", "VB-LoRA", "the two largest logits of each piece", "llama-f32",
          [Adapter(VBLoRAConfig(r=3, num_vectors=12, vector_length=8, target_modules=MLP))]),
    Merge("vblora-topk", "VB-LoRA", "saved with three weights for each piece, onto bf16", "llama-bf16",
          [Adapter(VBLoRAConfig(r=2, num_vectors=300, vector_length=4, topk=3, target_modules=ALL7, save_only_topk_weights=True))]),
    Merge("vblora-top-1", "VB-LoRA", "one vector for each piece, whose weight is not saved", "llama-f32",
          [Adapter(VBLoRAConfig(r=3, num_vectors=12, vector_length=8, topk=1, target_modules=["q_proj", "down_proj"], save_only_topk_weights=True))]),
    Merge("vblora-conv1d", "VB-LoRA", "GPT-2's transposed layers", "gpt2-f32",
          [Adapter(VBLoRAConfig(r=2, num_vectors=10, vector_length=8, target_modules=list(CONV1D), fan_in_fan_out=True))]),
]  # fmt: skip

UNILORA = [
    Merge("unilora", "Uni-LoRA", "factors picked from one vector", "llama-f32",
          [Adapter(UniLoraConfig(r=3, theta_d_length=64, target_modules=MLP, save_indices=True))]),
    Merge("unilora-bf16", "Uni-LoRA", "onto bf16", "llama-bf16",
          [Adapter(UniLoraConfig(r=4, theta_d_length=100, target_modules=ALL7, save_indices=True))]),
    Merge("unilora-conv1d", "Uni-LoRA", "GPT-2's transposed layers", "gpt2-f32",
          [Adapter(UniLoraConfig(r=2, theta_d_length=50, target_modules=list(CONV1D), fan_in_fan_out=True, save_indices=True))]),
]  # fmt: skip

RANDLORA = [
    Merge("randlora", "RandLora", "a rank that does not divide, weights with more inputs than outputs and with fewer", "llama-f32",
          [Adapter(RandLoraConfig(r=5, randlora_alpha=8, target_modules=[*MLP, "up_proj"]))]),
    Merge("randlora-bf16", "RandLora", "onto bf16, sparse matrices", "llama-bf16",
          [Adapter(RandLoraConfig(r=8, randlora_alpha=8, sparse=True, target_modules=["q_proj", "k_proj"]))]),
]  # fmt: skip

BEFT = [
    Merge("beft", "BEFT", "biases of a BERT", "bert-f32", [Adapter(BeftConfig(target_modules=["query", "value", "output.dense"]))]),
    Merge("beft-bf16", "BEFT", "biases onto bf16", "qwen2-bf16", [Adapter(BeftConfig(target_modules=["q_proj", "v_proj"]))]),
]  # fmt: skip

CASES = LOKR + OFT + BOFT + HRA + MISS + OTHERS + SPARSE + VBLORA + UNILORA + RANDLORA + BEFT
