"""Run a whole set of cases with a binary and check every outcome.

    shared_set.py SET BINARY [--only PREFIX]

SET is a folder with one folder a case: `golden/`, or a self-contained set (`base/` in each case). Needs numpy only.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import binary
import cases
import check


def run_case(folder: Path, program: Path, scratch: Path) -> tuple[list[str], str]:
    """Problems and a summary of one case."""
    case, output = cases.load(folder), scratch / "output"
    outcome = binary.merge(program, [*case.args, "--output", str(output)], cwd=folder)
    if outcome.merged:
        return check.check_merged(case, output)
    if outcome.kind is None:
        return [f"exit code {outcome.code} without a kind of error: {outcome.stderr[-300:].strip()}"], ""
    problems, summary = check.check_refused(case, outcome.kind, output)
    return problems + ([f"({outcome.message})"] if problems else []), summary


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--only", default="", metavar="PREFIX")
    args = parser.parse_args()
    passed, failed = 0, 0
    for folder in sorted(file.parent for file in args.set.glob("*/case.json")):
        if not folder.name.startswith(args.only):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            problems, summary = run_case(folder, args.binary.resolve(), Path(scratch))
        print(check.verdict(cases.load(folder), problems, summary))
        passed, failed = passed + (not problems), failed + bool(problems)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
