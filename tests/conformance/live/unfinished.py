"""An output that is not finished must not load, and a merge that was killed must end as if it had not been."""

import hashlib
import subprocess
import time
from pathlib import Path

from peft import LoraConfig
from transformers import AutoModel

from binary import merge
from generate import adapters
from generate.adapters import Adapter

from .real import TARGETS, base_folder
from .report import Report


def loads(folder: Path) -> bool:
    """Whether transformers makes a model of the folder."""
    try:
        AutoModel.from_pretrained(folder)
    except (OSError, ValueError):
        return False
    return True


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))}


def run(root: Path, seed: int, program: Path, report: Report) -> None:
    """A whole output without its config.json; then a merge that is killed, and goes on."""
    adapter, whole, killed = root / "unfinished-adapter", root / "unfinished-whole", root / "unfinished-killed"
    adapters.make(Adapter(LoraConfig(r=8, target_modules=TARGETS)), base_folder(), adapter, seed)
    args = ["--base", str(base_folder()), "--lora", str(adapter), "--part-size", "1MiB"]
    merge(program, [*args, "--output", str(whole)])
    report.check("unfinished: the whole output", loads(whole), "loads")
    config = (whole / "config.json").read_bytes()
    (whole / "config.json").unlink()
    report.check("unfinished: without config.json", not loads(whole), "must not load")
    (whole / "config.json").write_bytes(config)

    command = [str(program), "merge", *args, "--output", str(killed), "--limit-rate", "20MiB", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not killed.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)  # of more than four at this rate
    half_done = process.poll() is None
    process.kill()
    process.wait()
    left = sorted(file.name for file in killed.rglob("*") if file.is_file()) if killed.exists() else []
    report.check("unfinished: killed", half_done and bool(left), f"while it ran; {len(left)} files in the folder")
    report.check("unfinished: the killed output", not loads(killed), "must not load")
    outcome = merge(program, [*args, "--output", str(killed)])
    report.check("unfinished: run again", outcome.merged, outcome.message or "goes on to the end")
    same = digests(killed) == digests(whole) and bool(digests(whole))
    report.check("unfinished: bytes", same, "those of the merge that was not killed")
    report.check("unfinished: the output after that", loads(killed), "loads")
