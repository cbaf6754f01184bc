"""One adapter of the survey, merged by shardfuse and held against PEFT's merge."""

import json
import shutil
import subprocess
from pathlib import Path

import tensors
from survey_peft import ADAPTER, RIGHT


def merged(binary: str, folder: Path, kind: str) -> dict:
    """The result for the adapter of a kind in a type's folder."""
    base, adapter, right, ours = (folder / name for name in ("base", ADAPTER.format(kind), RIGHT.format(kind), f"{kind}-ours"))
    shutil.rmtree(ours, ignore_errors=True)
    run = subprocess.run(
        [binary, "merge", "--base", base, "--lora", adapter, "--output", ours, "--quiet", "--error-format", "json"],
        capture_output=True, text=True, check=False)  # fmt: skip
    try:
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["{}"])[-1]
            try:
                error = json.loads(last)["error"]
                return {"result": f"refused: {error['kind']}", "why": error["message"][:300]}
            except (ValueError, KeyError):
                return {"result": "WRONG", "why": f"exit {run.returncode}: {last[:200]}"}
        return compared(base, right, ours, adapter)
    finally:
        shutil.rmtree(ours, ignore_errors=True)


def apart(name: str, before: dict, expected: dict, got: dict, adapter: Path) -> bool:
    """Whether the names of one tied embedding have their deltas each, as in the live model. PEFT's merge adds all of them to the one tensor."""
    held = {key: tensor.values() for key, tensor in tensors.read(adapter / "adapter_model.safetensors")[0].items()}
    start = before[name].values()
    near = lambda one, other: abs(one - other).max() <= 1e-5 * abs(other).max()  # noqa: E731
    changed = []
    for key, down in held.items():
        for end, other, turned in (("lora_embedding_A", "lora_embedding_B", True), ("lora_A.weight", "lora_B.weight", False)):
            if key.endswith(end):
                up = held[key.removesuffix(end) + other]
                if (up.shape[0], down.shape[1]) != (start.shape[::-1] if turned else start.shape):
                    continue
                # lora_alpha / r is 2.
                new = start + 2 * ((up @ down).T if turned else up @ down)
                if (magnitude := held.get(key.removesuffix(end) + "lora_magnitude_vector")) is not None:
                    new *= (magnitude / (new**2).sum(1) ** 0.5)[:, None]
                changed.append(new)
    tied = [got[name].values()]
    tied += [tensor.values() for other, tensor in got.items() if other not in expected and tensor.shape == got[name].shape]
    used = {n for one in tied for n, new in enumerate(changed) if near(one, new)}
    known = all((one == start).all() or any(near(one, new) for new in changed) for one in tied)
    return len(tied) > 1 and known and len(used) == len(changed) > 0


def compared(base: Path, right: Path, ours: Path, adapter: Path) -> dict:
    """Our output against PEFT's, tensor by tensor."""
    before, expected, got = (tensors.read_folder(f) for f in (base, right, ours))
    for name, tensor in expected.items():
        if name not in got:
            return {"result": "WRONG", "why": f"{name} is missing"}
        if name in before and before[name].raw == tensor.raw:
            if got[name].raw != tensor.raw:
                return {"result": "WRONG", "why": f"{name} is changed"}
            continue
        a, b = tensor.values(), got[name].values()
        if a.shape != b.shape or abs(a - b).max() > 1e-5 * abs(a).max():
            if name in before and a.shape == b.shape and apart(name, before, expected, got, adapter):
                why = "PEFT adds all deltas to the one tensor of several names; here each name has its own, as in the live model"
                return {"result": "apart", "why": why}
            return {"result": "WRONG", "why": f"{name} differs"}
    return {"result": "exact"}
