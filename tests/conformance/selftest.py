"""The checker against itself: the right output of every case must pass, and every corruption of it must not."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cases
import check
import tensors
from cases import Case

Tensors = dict[str, tensors.Tensor]


def right_output(case: Case, held: Tensors, output: Path) -> None:
    """Write what a faultless tool would: the expected values rounded once, in two shards with an index."""
    output.mkdir()
    names = sorted(held)
    half, weight_map = len(names) // 2, {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        tensors.write(output / file, [(name, held[name]) for name in part])
        weight_map |= dict.fromkeys(part, file)
    size = sum(len(tensor.raw) for tensor in held.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (output / check.INDEX).write_text(json.dumps(index))
    config = json.loads((case.base / "config.json").read_text())
    (output / "config.json").write_text(json.dumps(config | case.config))
    sources = [case.base] + ([case.folder / case.sidecars_from] if case.sidecars_from else [])
    for file in (file for source in sources for file in source.iterdir()):
        if not file.name.endswith((*check.WEIGHTS, ".index.json")) and not file.name.startswith(("adapter_", "config")):
            shutil.copy(file, output)


def right_tensors(case: Case) -> Tensors:
    """The base's tensors with the expected ones in their place."""
    data = json.loads((case.folder / "case.json").read_text())
    held = tensors.read_folder(case.folder / data["unchanged_as_in"])
    return held | {name: tensors.encode(t.values(), case.wanted[name].dtype) for name, t in case.expected().items()}


def _changed(case: Case) -> str:
    return next(name for name, wanted in case.wanted.items() if wanted.sha256 is None)


def _off_by(ulps: float) -> Callable[[Case, Tensors], None]:
    """The largest element of a changed tensor off by so many units (in fp32 thousands of them)."""

    def corrupt(case: Case, held: Tensors) -> None:
        tensor = held[_changed(case)]
        values = tensor.values().copy()
        at = np.unravel_index(np.abs(values).argmax(), values.shape)
        unit = tensors.ulp(values[at], "BF16" if tensor.dtype == "BF16" else "F16")
        values[at] += np.sign(values[at]) * ulps * unit
        held[_changed(case)] = tensors.encode(values, tensor.dtype)

    return corrupt


def _value(number: float) -> Callable[[Case, Tensors], None]:
    def corrupt(case: Case, held: Tensors) -> None:
        values = held[_changed(case)].values().copy()
        values.reshape(-1)[-1] = number
        held[_changed(case)] = tensors.encode(values, held[_changed(case)].dtype)

    return corrupt


def _unchanged_bit(case: Case, held: Tensors) -> None:
    name = next(name for name, wanted in case.wanted.items() if wanted.sha256 is not None)
    raw = held[name].raw
    held[name] = tensors.Tensor(held[name].dtype, held[name].shape, raw[:-1] + bytes([raw[-1] ^ 1]))


def _not_merged(case: Case, held: Tensors) -> None:
    data = json.loads((case.folder / "case.json").read_text())
    base = tensors.read_folder(case.folder / data["unchanged_as_in"])
    held |= {_changed(case): base.get(_changed(case), next(iter(base.values())))}


def _missing(case: Case, held: Tensors) -> None:
    del held[next(iter(held))]


def _extra(case: Case, held: Tensors) -> None:
    held["one.too.many"] = tensors.encode(np.zeros(1), "F32")


def _dtype(case: Case, held: Tensors) -> None:
    name = next(name for name in held if held[name].dtype in ("F32", "BF16", "F16"))
    held[name] = tensors.encode(held[name].values(), "F32" if held[name].dtype != "F32" else "BF16")


def _config(key: str, value: object) -> Callable[[Path], None]:
    def corrupt(output: Path) -> None:
        config = json.loads((output / "config.json").read_text())
        (output / "config.json").write_text(json.dumps(config | {key: value}))

    return corrupt


def _total_size(output: Path) -> None:
    index = json.loads((output / check.INDEX).read_text())
    index["metadata"]["total_size"] += 1
    (output / check.INDEX).write_text(json.dumps(index))


def _sidecar(output: Path) -> None:
    (output / next(f.name for f in output.iterdir() if f.name not in check.OWN and f.suffix == ".json")).write_text(
        "{}"
    )


ON_CHANGED = [_off_by(3.0), _off_by(-3.0), _value(float("nan")), _value(float("inf")), _not_merged]
ON_TENSORS = [_unchanged_bit, _missing, _extra, _dtype]
ON_FILES = [
    _config("dtype", "float64"),
    _config("vocab_size", 7),
    _config("torch_dtype", "int4"),
    _total_size,
    lambda output: (output / "config.json").unlink(),
    lambda output: (output / check.INDEX).unlink(),
    lambda output: (output / ".shardfuse").mkdir(),
    lambda output: (output / "adapter_config.json").write_text("{}") and None,
    lambda output: (output / "model-00001-of-00002.safetensors").write_bytes(b"\0" * 8) and None,
]


def run(golden: Path) -> int:
    """All cases; the exit code."""
    passed, failed = 0, 0

    def count(good: bool, what: str) -> None:
        nonlocal passed, failed
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"FAIL {what}")

    for folder in sorted(file.parent for file in golden.glob("*/case.json")):
        case = cases.load(folder)
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "output"
            if not case.must_merge:
                count(not check.check_refused(case, case.kinds[0], output)[0], f"{case.name}: the right refusal")
                count(bool(check.check_refused(case, "internal", output)[0]), f"{case.name}: a wrong kind")
                output.mkdir()
                count(bool(check.check_merged(case, output)[0]), f"{case.name}: merged")
                (output / "model.safetensors").touch()
                count(bool(check.check_refused(case, case.kinds[0], output)[0]), f"{case.name}: a file left behind")
                continue
            right_output(case, right_tensors(case), output)
            problems, _ = check.check_merged(case, output)
            count(not problems, f"{case.name}: the right output: {problems}")
            for corrupt in (ON_CHANGED if case.expected() else []) + ON_TENSORS:
                held = right_tensors(case)
                corrupt(case, held)
                shutil.rmtree(output)
                right_output(case, held, output)
                name = getattr(corrupt, "__qualname__", "")
                count(bool(check.check_merged(case, output)[0]), f"{case.name}: {name} was not caught")
            sidecars = [_sidecar] if (case.base / "tokenizer.json").exists() else []
            for number, spoil in enumerate(ON_FILES + sidecars):
                shutil.rmtree(output)
                right_output(case, right_tensors(case), output)
                spoil(output)
                count(bool(check.check_merged(case, output)[0]), f"{case.name}: corruption of files {number}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
