"""Adapters with PEFT: a config, random weights that matter, saved as PEFT saves them; then disguises."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model
from safetensors.torch import load_file, save_file

from . import oracle

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SETS = ("target_modules", "exclude_modules", "target_parameters")  # sets in PEFT, in any order
Disguise = Callable[[Path], None]
Begin = Callable[[torch.nn.Module, PeftConfig], None]


@dataclass(frozen=True)
class Adapter:
    """One adapter of a case. A disguise changes the files, not what they mean, after PEFT has merged them."""

    config: PeftConfig
    rows: int | None = None  # the vocabulary that it was trained with
    dtype: torch.dtype | None = None
    trained: bool = True  # otherwise as PEFT begins: B is zero
    retouch: Disguise | None = None  # other values, before PEFT merges them
    disguise: Disguise | None = None
    tokenizer: bool = False  # brings its own
    one_by_one: bool = False  # a pair for each expert
    architecture: str | None = None  # the class that it was trained on, if it is not the base's
    labels: int | None = None
    begin: Begin | None = None  # a start that changes the base; the adapter is converted when it is saved


def make(adapter: Adapter, base: Path, folder: Path, seed: int) -> None:
    """Write one adapter for `base`."""
    model = oracle.load(base, adapter.rows, adapter.architecture, adapter.labels, one_by_one=adapter.one_by_one)
    if hasattr(model, "name_or_path"):
        model.name_or_path = str(base)  # PEFT compares the vocabulary with that of the base
    torch.manual_seed(seed)  # some kinds begin at random
    if adapter.begin:
        adapter.begin(model, adapter.config)
    model = get_peft_model(model, adapter.config)
    with tempfile.TemporaryDirectory() as before:
        if adapter.begin:
            model.save_pretrained(before)
        if adapter.trained:
            randomise(model, seed)
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=before if adapter.begin else None)
    tidy(folder, base)
    if adapter.dtype is not None:
        rewrite(folder, lambda tensors: {name: tensor.to(adapter.dtype) for name, tensor in tensors.items()})
    if adapter.retouch:
        adapter.retouch(folder)


def tidy(folder: Path, base: Path) -> None:
    """Take away what differs from run to run or from machine to machine."""
    (folder / "README.md").unlink(missing_ok=True)  # an empty model card
    config = json.loads((folder / CONFIG).read_text())
    sets = {key: sorted(config[key]) for key in SETS if isinstance(config.get(key), list)}
    edit_config(folder, base_model_name_or_path=base.name, **sets)


def randomise(model: torch.nn.Module, seed: int, spread: float = 0.1) -> None:
    """Give every trained tensor values as after a training that went somewhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if not tensor.requires_grad:
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if "magnitude" in name:
                tensor.mul_(1 + 0.2 * noise)
            elif ".lora_" in name:
                tensor.copy_(noise * spread * (1 if "lora_A" in name or "embedding_A" in name else 2))
            elif ".hada_" in name:  # what PEFT begins with is random
                tensor.copy_(noise * spread * 3)
            else:  # biases, saved modules, tokens, and the factors of other kinds
                tensor.add_(noise * spread)


def edit_config(folder: Path, **changes: object) -> None:
    """Set keys of an adapter's config; a value of `...` removes the key."""
    config = json.loads((folder / CONFIG).read_text()) | changes
    config = {key: value for key, value in config.items() if value is not ...}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def rewrite(folder: Path, change: Callable[[oracle.State], oracle.State]) -> None:
    """Change an adapter's tensors."""
    tensors = change(load_file(folder / WEIGHTS))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})


def renamed(old: str, new: str) -> Disguise:
    """Other names for the tensors whose names end in `old`."""

    def apply(folder: Path) -> None:
        def change(tensors: oracle.State) -> oracle.State:
            out = {name.removesuffix(old) + new if name.endswith(old) else name: tensors[name] for name in tensors}
            assert out.keys() != tensors.keys(), f"no tensor ends in {old}"
            return out

        rewrite(folder, change)

    return apply


def under(pattern: str, replacement: str) -> Disguise:
    """Other names for all tensors: what the pattern matches is replaced in each."""

    def apply(folder: Path) -> None:
        def change(tensors: oracle.State) -> oracle.State:
            out = {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}
            assert not out.keys() & tensors.keys(), f"{pattern} matches not every tensor"
            return out

        rewrite(folder, change)

    return apply


def configured(**changes: object) -> Disguise:
    """Other keys in the config."""
    return lambda folder: edit_config(folder, **changes)


def as_bin(folder: Path) -> None:
    """The pickled form of earlier releases."""
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def minimal(*keys: str) -> Disguise:
    """Only these keys stay in the config, as first releases wrote it."""

    def apply(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({key: config[key] for key in keys}, indent=2) + "\n")

    return apply


def all_of(*disguises: Disguise) -> Disguise:
    """One after another."""

    def apply(folder: Path) -> None:
        for disguise in disguises:
            disguise(folder)

    return apply
