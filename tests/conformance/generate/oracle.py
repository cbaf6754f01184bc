"""What the merge must be: PEFT's own, run in fp32 on the upcast base."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

State = dict[str, torch.Tensor]


def stored(base: Path) -> State:
    """The tensors of a safetensors base as they lie on disk."""
    out: State = {}
    for file in sorted(base.glob("*.safetensors")):
        out |= load_file(file)
    return out


class Tree(nn.Module):
    """A checkpoint as plain modules: a linear for every matrix but the embedding, under the checkpoint's own names.

    For checkpoints that transformers stores otherwise than it runs them: it stacks the experts of a Qwen3-MoE, while
    adapters of earlier releases, and the files, have a linear for each.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, tensor in state.items():
            *path, leaf = name.split(".")
            if leaf == "weight" and tensor.ndim == 2:
                rows, columns = tensor.shape
                embeds = path[-1] == "embed_tokens"
                layer = nn.Embedding(rows, columns) if embeds else nn.Linear(columns, rows, bias=False)
                layer.weight = nn.Parameter(tensor)
                self._at(path[:-1]).add_module(path[-1], layer)
            else:
                self._at(path).register_parameter(leaf, nn.Parameter(tensor))

    def _at(self, path: Sequence[str]) -> nn.Module:
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        return module


def apart(state: State) -> State:
    """The experts that a state has stacked, each under a name of its own."""
    out: State = {}
    for name, tensor in state.items():
        module, _, parameter = name.rpartition(".")
        if parameter not in ("gate_up_proj", "down_proj") or not module.endswith(".experts"):
            out[name] = tensor
            continue
        parts = ["gate_proj", "up_proj"] if parameter == "gate_up_proj" else ["down_proj"]
        for number, expert in enumerate(tensor):
            for part, rows in zip(parts, expert.chunk(len(parts)), strict=True):
                out[f"{module}.{number}.{part}.weight"] = rows.contiguous()
    return out


def older(base: Path) -> Path:
    """The same weights as a checkpoint stores them, for a base under the names of modules."""
    return base.with_name(base.name.replace("-modules-", "-"))


def load(
    base: Path, rows: int | None = None, architecture: str | None = None, labels: int | None = None, one_by_one: bool = False
) -> nn.Module:
    """The base in fp32: with its vocabulary resized to `rows`, as another class with so many labels, with a linear for each matrix."""
    config = json.loads((base / "config.json").read_text())
    if base.name.startswith("qwen3moe-") or one_by_one:
        return Tree({name: tensor.float() for name, tensor in apart(stored(older(base))).items()})
    if architecture:
        torch.manual_seed(0)  # its new head is random
    options = {"num_labels": labels} if labels else {}
    cls = getattr(transformers, architecture or config["architectures"][0])
    model = cls.from_pretrained(base, dtype=torch.float32, **options)
    if rows:
        torch.manual_seed(rows)
        model.resize_token_embeddings(rows, mean_resizing=False)
    return model.eval()


def in_sequence(base: Path, adapters: Sequence[Path], rows: int | None = None) -> State:
    """One adapter after another, each loaded onto the merge so far."""
    model = load(base, rows)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return state_of(model)


def saved_between(base: Path, adapters: Sequence[Path], rows: int | None = None) -> State:
    """One adapter after another: each merge but the last is saved in the base's dtype and loaded again."""
    dtype = next(tensor.dtype for tensor in stored(base).values() if tensor.is_floating_point())
    with tempfile.TemporaryDirectory() as folder:
        standing = base
        for number, adapter in enumerate(adapters, start=1):
            model = PeftModel.from_pretrained(load(standing, rows if number == 1 else None), adapter).merge_and_unload()
            if number == len(adapters):
                break
            standing = Path(folder) / str(number)
            model.to(dtype).save_pretrained(standing)
        return state_of(model)


def saved(base: Path, adapters: Sequence[Path]) -> State:
    """As `in_sequence`, under the names that transformers saves: those of its modules may be other ones."""
    model = load(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return stored(Path(folder))


def one_by_one(base: Path, adapters: Sequence[Path]) -> State:
    """Adapters with a pair for each expert, on a base that may have the experts stacked."""
    model = load(base, one_by_one=True)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged = state_of(model)
    out: State = {}
    for name, tensor in stored(base).items():
        held = [merged.pop(part) for part in apart({name: tensor})]
        # The parts of an expert follow each other, and the experts do.
        out[name] = held[0] if len(held) == 1 else torch.cat(held).reshape(tensor.shape)
    return out | merged


def in_modules(base: Path, adapters: Sequence[Path]) -> State:
    """As `saved`, for a base that is stored under the names of transformers' modules."""
    model = load(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return state_of(model)


def joined(base: Path, adapters: Sequence[Path]) -> State:
    """Adapters of the checkpoint's own modules, on a base that is stored under the names of transformers' modules."""
    model = load(base, one_by_one=True)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    with tempfile.TemporaryDirectory() as folder:
        save_file(state_of(model), Path(folder) / "model.safetensors", {"format": "pt"})
        shutil.copy(base / "config.json", folder)
        return state_of(load(Path(folder)))


def written(base: Path, adapters: Sequence[Path]) -> State:
    """As `in_sequence`; a name that the base does not hold is left out while its parameter has a name that it holds."""
    model = load(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    held, state = stored(base), model.state_dict()
    places = {tensor.data_ptr() for name, tensor in state.items() if name in held}
    return {
        name: tensor.detach().contiguous()
        for name, tensor in state.items()
        if name in held or tensor.data_ptr() not in places
    }


def as_class(architecture: str, labels: int) -> Callable[[Path, Sequence[Path]], State]:
    """As `in_sequence`, onto another class than the base's, whose head the adapter brings."""

    def merge(base: Path, adapters: Sequence[Path]) -> State:
        model = load(base, None, architecture, labels)
        for adapter in adapters:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        return state_of(model)

    return merge


def together(base: Path, adapters: Sequence[Path]) -> State:
    """All adapters loaded into one model, then merged."""
    model = PeftModel.from_pretrained(load(base), adapters[0], adapter_name="a0")
    names = [f"a{number}" for number in range(len(adapters))]
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(adapter, adapter_name=name)
    return state_of(model.merge_and_unload(adapter_names=names))


def weighted(base: Path, adapters: Sequence[Path], weights: Sequence[float]) -> State:
    """The exact weighted sum: PEFT's `cat`."""
    model = PeftModel.from_pretrained(load(base), adapters[0], adapter_name="a0")
    names = [f"a{number}" for number in range(len(adapters))]
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(adapter, adapter_name=name)
    model.add_weighted_adapter(names, list(weights), "sum", combination_type="cat")
    return state_of(model.merge_and_unload(adapter_names=["sum"]))


def state_of(model: nn.Module) -> State:
    """The tensors of a model as its checkpoint would name them; a tied copy of the embedding is left out."""
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    for head, embedding in (
        ("lm_head.weight", "model.embed_tokens.weight"),
        ("lm_head.weight", "transformer.wte.weight"),
        ("proj_out.weight", "model.decoder.embed_tokens.weight"),
    ):
        if head in state and embedding in state and torch.equal(state[head], state[embedding]):
            del state[head]
    return state
