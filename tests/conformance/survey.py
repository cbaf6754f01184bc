#!/usr/bin/env python3
"""Which model types of transformers merge: a tiny model of each, an adapter by PEFT, merged by PEFT and by shardfuse.

    PYTHON tests/conformance/survey.py BINARY [--types llama,vit] [--kinds lora,dora] [--jobs 2] [--json FILE] [--markdown FILE]
    PYTHON tests/conformance/survey.py BINARY --sample
    PYTHON tests/conformance/survey.py --read FILE --markdown FILE

PYTHON is what tests/conformance/setup.sh prints. Kinds of adapters: `lora` on all linear layers, `dora` on the same, `embedding` on
the input embedding, `parameters` on stacked experts (`target_parameters`). Each type runs in a process of its own with a time
limit. `--json` writes the results, which `--read` takes instead of a run; `--markdown` writes them as docs/models.md. Results:

| | |
|---|---|
| exact | every tensor that PEFT's merge changes is the same within fp32's noise, every other one bit by bit |
| refused | by its kind of error |
| apart | several names of one tied embedding have an adapter each, and PEFT's merge is not what the live model computes |
| WRONG | shardfuse wrote another value than PEFT |
| no adapter | PEFT finds nothing of this kind to train |
| PEFT fails | PEFT or transformers cannot merge the adapter, or cannot save it |
| not built | no tiny model was made of the type's configuration, or transformers does not load what it saved |

The exit code is 1 if a result is WRONG. `--sample` takes types of many families, and then anything but exact and no adapter is a failure.
"""

import argparse
import collections
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

KINDS = ("lora", "embedding", "dora", "parameters")
SAMPLE = (
    "llama", "gpt2", "gpt_neox", "falcon", "bloom", "gemma2", "bert", "t5", "bart", "whisper", "vit", "qwen2_vl",
    "mixtral", "qwen3_moe", "deepseek_v3", "glm4_moe", "gpt_oss", "llama4_text", "granitemoe", "nomic_bert", "minimax_m2",
    "kimi_k25", "inkling2_text", "tipsv2_text_model",
)  # fmt: skip
# Seconds for all kinds of a type.
LIMIT = 300


def adapter_config(kind: str, model):
    """What PEFT is asked for; None if the model has nothing of this kind."""
    from peft import LoraConfig

    common = {"r": 4, "lora_alpha": 8}
    if kind == "parameters":
        stacked = [n for n, p in model.named_parameters() if p.ndim == 3 and "expert" in n]
        if not stacked:
            return None
        names = sorted({".".join(n.split(".")[-2:]) for n in stacked})
        return LoraConfig(**common, target_modules=[], target_parameters=names)
    if kind == "embedding":
        try:
            embedding = model.get_input_embeddings()
        except NotImplementedError:
            return None
        name = next((n for n, m in model.named_modules() if m is embedding), None)
        return LoraConfig(**common, target_modules=[name.split(".")[-1]]) if name else None
    return LoraConfig(**common, target_modules="all-linear", use_dora=kind == "dora")


def said(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"


def one(binary: str, cls: type, folder: Path, kind: str) -> dict:
    """The result for one kind of adapter on the base in the folder."""
    import torch
    from peft import get_peft_model

    from generate.adapters import randomise

    base, adapter, right, ours = (folder / name for name in ("base", f"{kind}-adapter", f"{kind}-right", f"{kind}-ours"))
    model = cls.from_pretrained(base, dtype=torch.float32)
    config = adapter_config(kind, model)
    if config is None:
        return {"result": "no adapter", "why": "nothing of this kind"}
    try:
        peft = get_peft_model(model, config)
    except Exception as e:
        return {"result": "no adapter", "why": said(e)}
    try:
        randomise(peft, 11)
        peft.save_pretrained(adapter)
        peft.merge_and_unload().save_pretrained(right)
    except Exception as e:
        return {"result": "PEFT fails", "why": said(e)}
    run = subprocess.run(
        [binary, "merge", "--base", base, "--lora", adapter, "--output", ours, "--quiet", "--error-format", "json"],
        capture_output=True, text=True, check=False)  # fmt: skip
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["{}"])[-1]
        try:
            error = json.loads(last)["error"]
            return {"result": f"refused: {error['kind']}", "why": error["message"][:300]}
        except (ValueError, KeyError):
            return {"result": "WRONG", "why": f"exit {run.returncode}: {last[:200]}"}
    return compared(base, right, ours, adapter)


def apart(name: str, before: dict, expected: dict, got: dict, adapter: Path) -> bool:
    """Whether the names of one tied embedding have their deltas each, as in the live model. PEFT's merge adds all of them to the one tensor."""
    import tensors

    held = tensors.read(adapter / "adapter_model.safetensors")[0]
    factors = [key for key in held if key.endswith("lora_embedding_A")]
    # lora_alpha / r is 2.
    deltas = [2 * (held[key[:-1] + "B"].values() @ held[key].values()).T for key in factors]
    tied = [name] + [other for other in got if other not in expected and got[other].values().shape == got[name].values().shape]
    start, used = before[name].values(), set()
    for one in tied:
        change = got[one].values() - start
        near = [n for n, delta in enumerate(deltas) if abs(change - delta).max() <= 1e-5 * abs(start).max()]
        if not near and abs(change).max() > 0:
            return False
        used.update(near)
    return len(factors) > 1 and len(used) == len(factors)


def compared(base: Path, right: Path, ours: Path, adapter: Path) -> dict:
    """Our output against PEFT's, tensor by tensor."""
    import tensors

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
                why = "PEFT adds the deltas of several names to their one tensor; here each name has its own, as in the live model"
                return {"result": "apart", "why": why}
            return {"result": "WRONG", "why": f"{name} differs"}
    return {"result": "exact"}


def survey(binary: str, model_type: str, kinds: list[str], answer) -> None:
    """Sends the result of each kind; runs in a process of its own."""
    import torch

    from tiny_models import candidates

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    torch.set_num_threads(1)
    why: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        cls = saved(candidates(model_type, why), Path(folder) / "base", why)
        for kind in kinds:
            if cls is None:
                answer.send((kind, {"result": "not built", "why": "; ".join(dict.fromkeys(why))[:300]}))
                continue
            out = {"class": cls.__name__}
            try:
                answer.send((kind, out | one(binary, cls, Path(folder), kind)))
            except Exception as e:
                answer.send((kind, out | {"result": "WRONG", "why": f"the survey itself: {said(e)}"}))


def saved(models, base: Path, why: list[str]) -> type | None:
    """The class of the first model that is saved and loads again."""
    try:
        for model in models:
            cls = type(model)
            shutil.rmtree(base, ignore_errors=True)
            try:
                model.save_pretrained(base)
                # What loading changes by itself, such as the row of a padding token, is no part of a merge.
                loaded = cls.from_pretrained(base)
                shutil.rmtree(base)
                loaded.save_pretrained(base)
                return cls
            except Exception as e:
                why.append(f"{cls.__name__}: saving or loading it: {said(e)}")
    except Exception as e:
        why.append(said(e))
    return None


class Running:
    """The survey of a type, in a forked process: the libraries are imported once."""

    def __init__(self, binary: str, model_type: str, kinds: list[str]):
        self.type, self.kinds, self.found, self.until = model_type, kinds, {}, time.monotonic() + LIMIT
        self.answers, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=survey, args=(binary, model_type, kinds, theirs))
        self.process.start()
        theirs.close()

    def ended(self) -> bool:
        """Takes an answer, if there is one. Whether it was the last."""
        why = f"longer than {LIMIT} s"
        try:
            if self.answers.poll():
                kind, result = self.answers.recv()
                self.found[kind] = result
        except EOFError:
            self.process.join()
            why = f"the process ended with {self.process.exitcode}"
        else:
            if len(self.found) < len(self.kinds) and time.monotonic() < self.until:
                return False
        self.process.kill()
        self.process.join()
        self.answers.close()
        self.found = {kind: self.found.get(kind, {"result": "not built", "why": why}) for kind in self.kinds}
        return True


def run(args: argparse.Namespace) -> dict[str, dict]:
    import peft  # noqa: F401
    import torch
    import transformers.modeling_utils  # noqa: F401
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    torch.set_num_threads(1)
    types = args.types.split(",") if args.types else sorted(SAMPLE if args.sample else CONFIG_MAPPING_NAMES)
    kinds = args.kinds.split(",")
    found, running = {}, []
    while types or running:
        while types and len(running) < args.jobs:
            running.append(Running(args.binary, types.pop(0), kinds))
        multiprocessing.connection.wait([one.answers for one in running], timeout=1)
        for one in [one for one in running if one.ended()]:
            running.remove(one)
            for kind, result in one.found.items():
                found[f"{one.type} {kind}"] = result
                print(f"{one.type:32} {kind:10} {result['result']:28} {result.get('why', '')[:140]}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    return dict(sorted(found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--types", default="")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--note", default="", help="what the page says of how it was run")
    args = parser.parse_args()
    if (args.binary is None) == (args.read is None):
        parser.error("either BINARY or --read")
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    found = json.loads(args.read.read_text()) if args.read else run(args)
    if args.markdown:
        import survey_table

        args.markdown.write_text(survey_table.page(found, args.note))
    counts = collections.Counter(result["result"] for result in found.values())
    print(", ".join(f"{count} {result}" for result, count in counts.most_common()))
    bad = [key for key, result in found.items() if result["result"] not in ("exact", "no adapter")]
    if args.sample and bad:
        print(f"not as they were: {', '.join(bad)}")
        return 1
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
