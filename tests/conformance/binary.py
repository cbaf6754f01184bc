"""Running `shardfuse merge` and reading how it ended."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """An exit code, and the error that the last line of stderr tells with `--error-format json`."""

    code: int
    kind: str | None
    message: str
    stderr: str

    @property
    def merged(self) -> bool:
        """The tool reported success."""
        return self.code == 0


def merge(program: Path, args: list[str], cwd: Path | None = None) -> Outcome:
    """One run of `shardfuse merge`; one that takes more than five minutes is stopped.

    PEFT merges an adapter that changes nothing, so that is allowed.
    """
    command = [str(program), "merge", *args, "--allow-no-change", "--error-format", "json", "--quiet"]
    try:
        run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(-1, None, "", "stopped after 300 s")
    try:
        error = json.loads(run.stderr.strip().splitlines()[-1])["error"]
        return Outcome(run.returncode, error["kind"], error["message"], run.stderr)
    except (IndexError, ValueError, KeyError, TypeError):
        return Outcome(run.returncode, None, "", run.stderr)
