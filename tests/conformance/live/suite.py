"""The command line of a suite that runs the binary over cases."""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import torch
import transformers

from live.report import Report


class Named(Protocol):
    """A case."""

    name: str


def run_cases(about: str, cases: Iterable[Named], work: Callable[[Named, Path, Path, Report], None]) -> int:
    """Run `work` for each chosen case, with a folder of its own, the binary and the report; the exit code."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--only", default="", metavar="PREFIX")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave everything that was made there")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            if case.name.startswith(args.only):
                work(case, (args.keep or Path(scratch)) / case.name, args.binary.resolve(), report)
    return report.close()
