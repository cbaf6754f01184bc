"""Cases of starts that change the base: adapters that PEFT converted when it saved them merge onto the base as it is."""

import dataclasses
import sys

import torch
from peft import LoraConfig
from peft.tuners.lora.config import CordaConfig, LoraGAConfig

sys.modules.setdefault("attr", dataclasses)  # CorDA takes its decorator from attrs, which the environment does not have

from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga

from .adapters import Adapter
from .cases_lora import lora
from .merges import Merge

TARGETS = ["q_proj", "v_proj", "down_proj"]


def _nothing(model: torch.nn.Module, config: LoraConfig) -> None:
    """The weight alone tells the start."""


def _words() -> torch.Tensor:
    return torch.randint(96, (1, 48))


def _corda(model: torch.nn.Module, config: LoraConfig) -> None:
    preprocess_corda(model, config, run_model=lambda: [model(_words()) for _ in range(8)])


def _lora_ga(model: torch.nn.Module, config: LoraConfig) -> None:
    def step() -> None:
        words = _words()
        model(words, labels=words).loss.backward()

    preprocess_loraga(model, config, step)


def _starts(kind: str, **more: object) -> LoraConfig:
    return lora(TARGETS, init_lora_weights=kind, **more)


CASES = [
    Merge("start-pissa", "starts", "PiSSA, converted: twice the rank", "llama-f32", [Adapter(_starts("pissa"), begin=_nothing)]),
    Merge("start-pissa-rslora", "starts", "PiSSA by a few steps, rsLoRA, converted", "llama-bf16",
          [Adapter(_starts("pissa_niter_4", use_rslora=True), begin=_nothing)]),
    Merge("start-olora", "starts", "OLoRA, converted", "llama-f32", [Adapter(_starts("olora"), begin=_nothing)]),
    Merge("start-corda", "starts", "CorDA, converted", "llama-f32",
          [Adapter(_starts("corda", corda_config=CordaConfig(corda_method="kpm")), begin=_corda)]),
    Merge("start-lora-ga", "starts", "LoRA-GA, converted", "llama-f32",
          [Adapter(_starts("lora_ga", lora_ga_config=LoraGAConfig()), begin=_lora_ga)]),
]  # fmt: skip
