#!/usr/bin/env python3
"""Which model types of transformers merge: a tiny model of each, an adapter by PEFT, merged by PEFT and by shardfuse.

    PYTHON tests/conformance/survey.py BINARY [--types llama,vit] [--kinds lora,dora] [--jobs 2] [--keep FOLDER] [--json FILE] [--markdown FILE]
    PYTHON tests/conformance/survey.py BINARY --sample
    PYTHON tests/conformance/survey.py --keep FOLDER
    PYTHON tests/conformance/survey.py --read FILE --markdown FILE

PYTHON is what tests/conformance/setup.sh prints. Kinds of adapters: `lora` on all linear layers, `dora` on the same, `embedding` on
the input embedding, `parameters` on stacked experts (`target_parameters`). Each type runs in a process of its own with a time
limit. `--keep` holds the models, the adapters and PEFT's merges, which most of the time goes to, for further runs; without BINARY it only
makes them. `--json` writes a line for each result; a run with the same binary goes on where the last one ended, and `--read` takes
the lines instead of a run. `--markdown` writes the results as docs/models.md. Results:

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
import hashlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
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
    "kimi_k25", "inkling2_text", "tipsv2_text_model", "zamba",
)  # fmt: skip
# Seconds of a processor for all kinds of a type, and how many times as long it may take in all.
LIMIT, PATIENCE = 300, 10


def survey(binary: str | None, model_type: str, kinds: list[str], keep: Path | None, answer) -> None:
    """Sends the result of each kind; runs in a process of its own."""
    import torch

    from survey_merge import merged
    from survey_peft import Made, said

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep / model_type if keep else Path(temporary) / "type"
        made = Made(model_type, folder)
        for kind in kinds:
            try:
                result = made.kind(kind) or (merged(binary, folder, kind) if binary else {"result": "made"})
            except Exception as e:
                result = {"result": "WRONG", "why": f"the survey itself: {said(e)}"}
            answer.send((kind, result))


class Running:
    """The survey of a type, in a forked process: the libraries are imported once."""

    def __init__(self, model_type: str, args: argparse.Namespace):
        self.type, self.kinds, self.found, self.until = model_type, args.kinds.split(","), {}, time.monotonic() + PATIENCE * LIMIT
        self.answers, theirs = multiprocessing.Pipe()
        given = (args.binary, model_type, self.kinds, args.keep, theirs)
        self.process = multiprocessing.get_context("fork").Process(target=survey, args=given)
        self.process.start()
        theirs.close()

    def ended(self) -> bool:
        """Takes an answer, if there is one. Whether it was the last."""
        why = f"longer than {PATIENCE * LIMIT} s"
        try:
            if self.answers.poll():
                kind, result = self.answers.recv()
                self.found[kind] = result
        except EOFError:
            self.process.join()
            limit = self.process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
            why = f"longer than {LIMIT} s" if limit else f"the process ended with {self.process.exitcode}"
        else:
            if len(self.found) < len(self.kinds) and time.monotonic() < self.until:
                return False
        self.process.kill()
        self.process.join()
        self.answers.close()
        self.found = {kind: self.found.get(kind, {"result": "not built", "why": why}) for kind in self.kinds}
        return True


def run(args: argparse.Namespace) -> list[dict]:
    import torch
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    import generate.adapters  # noqa: F401
    import peft  # noqa: F401
    import survey_merge  # noqa: F401
    import transformers.modeling_utils  # noqa: F401

    # Made once and for all types. Otherwise each process would take seconds for it.
    get_checkpoint_conversion_mapping("legacy")
    torch.set_num_threads(1)
    types = args.types.split(",") if args.types else sorted(SAMPLE if args.sample else CONFIG_MAPPING_NAMES)
    digest = hashlib.sha256(Path(args.binary).read_bytes()).hexdigest() if args.binary else ""
    found = [line for line in lines(args.json) if line["binary"] == digest]
    # What was not built may have been broken off.
    done = {(line["type"], line["kind"]) for line in found if line["result"] != "not built"}
    types = [one for one in types if any((one, kind) not in done for kind in args.kinds.split(","))]
    running = []
    while types or running:
        while types and len(running) < args.jobs:
            running.append(Running(types.pop(0), args))
        multiprocessing.connection.wait([one.answers for one in running], timeout=1)
        for one in [one for one in running if one.ended()]:
            running.remove(one)
            for kind, result in one.found.items():
                found.append({"binary": digest, "type": one.type, "kind": kind} | result)
                print(f"{one.type:32} {kind:10} {result['result']:28} {result.get('why', '')[:140]}", flush=True)
                if args.json:
                    with args.json.open("a") as file:
                        file.write(json.dumps(found[-1]) + "\n")
    return found


def lines(file: Path | None) -> list[dict]:
    """The results of a file, if there is one."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file and file.exists() else []


def last(found: list[dict]) -> dict[str, dict]:
    """The last result of each type and kind. All must be of one binary."""
    if len({line["binary"] for line in found}) > 1:
        raise SystemExit("the results are of several binaries")
    return dict(sorted({f"{line['type']} {line['kind']}": line for line in found}.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?")
    parser.add_argument("--types", default="")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--note", default="", help="what the page says of how it was run")
    args = parser.parse_args()
    if (args.binary or args.keep) is None and args.read is None:
        parser.error("either BINARY, or --keep, or --read")
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    found = last(lines(args.read) if args.read else run(args))
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
