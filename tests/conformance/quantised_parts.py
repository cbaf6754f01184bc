"""What the checks of quantised bases share: checkpoints, adapters, and how tensors and logits are compared."""

import json
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import binary
import tensors
from generate import adapters
from generate.bases import TORCH
from live import run

State = dict[str, torch.Tensor]
# of the largest element: what fp32 leaves of a sum
NOISE = 1e-6


def write(folder: Path, state: State, config: dict) -> None:
    """A checkpoint of one file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors", {"format": "pt"})


def read(folder: Path) -> State:
    """The tensors of a checkpoint of one file."""
    return load_file(folder / "model.safetensors")


def config_of(folder: Path) -> dict:
    """What config.json says."""
    return json.loads((folder / "config.json").read_text())


def adapted(values: Path, targets: list[str] | str, folder: Path, *, by_name: bool = False, **more: object) -> PeftModel:
    """A PeftModel with random weights, and its files. PEFT takes a `gate_proj` anywhere in a mixture of experts for that of the experts, and
    with `by_name` for what its name says, as for models that it does not know."""
    config = LoraConfig(r=3, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", **more)
    plain = run.load(values)
    kind = plain.config.model_type
    plain.config.model_type = "unknown" if by_name else kind
    model = get_peft_model(plain, config)
    plain.config.model_type = kind
    adapters.randomise(model, seed=1)
    model.save_pretrained(folder)
    return model.eval()


def exact(got: State, expected: State, dtype: str) -> str | None:
    """What is wrong with a set of tensors; None if nothing is."""
    if got.keys() != expected.keys():
        return f"tensors {sorted(got.keys() ^ expected.keys())[:4]} are in one of them only"
    for name, tensor in expected.items():
        if got[name].dtype != TORCH[dtype]:
            return f"{name} is {got[name].dtype}"
        want, have = tensor.double().numpy(), got[name].double().numpy()
        if (abs(have - want) > tensors.ulp(want, dtype) / 2 + NOISE * abs(want).max()).any():
            return f"{name} is more than half a unit away"
    return None


def other_bytes(got: State, base: State) -> list[str]:
    """The tensors that are not the same bytes in both, or in one of them only."""
    same = [name for name in got.keys() & base.keys() if same_bytes(got[name], base[name])]
    return sorted((got.keys() | base.keys()) - set(same))


def same_bytes(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors are the same bytes in the same form."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))


def merge(program: Path, base: Path, adapter: Path, output: Path, *more: str) -> binary.Outcome:
    """One run of the binary."""
    return binary.merge(program, ["--base", str(base), "--lora", str(adapter), "--output", str(output), *more])


def close(got: torch.Tensor, live: torch.Tensor, without: torch.Tensor) -> tuple[bool, str]:
    """Whether logits are those of the adapted model, and not those of the model without its adapter."""
    off, moved = run.apart(got, live), run.apart(without, live)
    return off < run.LIMITS["BF16"] < moved, f"{off:.1e}, without the adapter {moved:.1e}"


def quantised_modules(model: torch.nn.Module, classes: tuple[type, ...]) -> set[str]:
    """The modules of these classes."""
    return {name for name, module in model.named_modules() if isinstance(module, classes)}


def plain_model(config: Path) -> transformers.PreTrainedModel:
    """The model of a checkpoint without weights and without quantisation."""
    held = transformers.AutoConfig.from_pretrained(config)
    if hasattr(held, "quantization_config"):
        del held.quantization_config
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(held)
