"""Make the golden set with PEFT: golden/bases/, one folder for each case, cases.json and README.md.

$(tests/conformance/setup.sh) tests/conformance/make_golden.py [--only PREFIX --into FOLDER]
"""

import argparse
import json
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is looked up anywhere
warnings.filterwarnings("ignore")

import torch
import transformers

from generate import (
    bases,
    cases_experts,
    cases_kinds,
    cases_lora,
    cases_pieces,
    cases_several,
    cases_starts,
    cases_variants,
    merges,
    readme,
    refusal_list,
    refusals,
)

HERE = Path(__file__).resolve().parent


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=HERE / "golden")
    parser.add_argument("--only", default="", metavar="PREFIX", help="cases whose name begins so (never into golden/)")
    args = parser.parse_args()
    if args.only and args.into == HERE / "golden":
        parser.error("--only makes a part of the set: name another folder with --into")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    started = time.monotonic()
    shutil.rmtree(args.into, ignore_errors=True)
    bases.make(args.into / "bases")
    entries = []
    files = (cases_lora, cases_variants, cases_kinds, cases_several, cases_starts, cases_experts, cases_pieces)
    for case in (case for file in files for case in file.CASES):
        if case.name.startswith(args.only):
            entries.append(merges.build(case, args.into))
    for case in refusal_list.CASES:
        if f"err-{case.name}".startswith(args.only):
            entries.append(refusals.build(case, args.into))
    assert len({entry["name"] for entry in entries}) == len(entries), "a name stands twice"
    shown = ("name", "args", "expected")
    lines = ",\n".join("  " + json.dumps({key: entry[key] for key in shown}) for entry in entries)
    (args.into / "cases.json").write_text(f"[\n{lines}\n]\n")
    readme.write(args.into, entries)
    for file in args.into.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    size = sum(file.stat().st_size for file in args.into.rglob("*") if file.is_file())
    print(f"{len(entries)} cases, {size / 1e6:.2f} MB, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
