"""Fresh adapters against PEFT and transformers: `fresh.py BINARY [--seed N] [--only PREFIX] [--keep FOLDER]`.

Makes adapters with new random weights, merges them with the binary, compares every tensor with PEFT's merge, loads the
result with transformers and compares its logits with the PeftModel's; then the same with a real model, all-MiniLM-L6-v2,
and adapters fine-tuned on it; and checks that transformers cannot load an unfinished output.

One line a check; the last line counts them. The seed is printed, and `--seed` repeats a run.
"""

import argparse
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
warnings.filterwarnings("ignore")

import torch
import transformers

from generate import bases
from live import real, run, scenarios, unfinished
from live.report import Report


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--only", default="", metavar="PREFIX", help="such as llama-f32, real or unfinished")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave everything that was made there")
    args = parser.parse_args()
    program = args.binary.resolve()
    if not program.is_file():
        parser.error(f"{args.binary} is not there")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"seed {args.seed}")
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        root = args.keep or Path(scratch)
        known = scenarios.fresh_bases()
        bases.make(root / "bases", known, seed=str(args.seed))
        for scenario in scenarios.scenarios(args.seed):
            if scenario.name.startswith(args.only):
                report.guarded(scenario.name, lambda s=scenario: run.run(s, root, known, args.seed, program, report))
        for name, work in (("real", real.run), ("unfinished", unfinished.run)):
            if name.startswith(args.only):
                report.guarded(name, lambda w=work: w(root, args.seed, program, report))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
