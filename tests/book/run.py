"""Runs the commands of the documentation: run.py BINARY [PAGE...].

Every page has a scratch folder with `examples/` in it and one shell, in which its blocks run in order, so that a page can be followed
from its first line to its last. `shardfuse` is BINARY, and `python` is that of tests/conformance (torch, PEFT, transformers). Ports of the
text are replaced by free ones. A page that works with S3 starts a server in its setup (`s3.sh`). A block fails if a command in it fails, or ends otherwise than the page says, or prints otherwise.

Of blocks that cannot run here the flags are held against `--help`. At the end every command of shardfuse must have run.
`pages.py` tells how blocks are marked.
"""

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pages import Block, Unreadable, blocks, shows

ROOT = Path(__file__).resolve().parents[2]
# Not read: the decisions are records of their time, and the models page is written by tests/conformance/survey.py.
LEFT_OUT = ("docs/decisions/", "docs/models.md")
BESIDE = ("README.md", "README.zh-CN.md", "examples/README.md")
# Settings of the person who runs the test, which would change what commands do.
LEFT_OUT_OF_ENVIRONMENT = (
    "SHARDFUSE_COORDINATOR",
    "SHARDFUSE_LOG",
    "SHARDFUSE_TLS",
    "SHARDFUSE_ALLOW",
    "AWS_",
    "OTEL_",
    "HF_",
)
PORTS = re.compile(r"\b(?:70[67]\d|18300)\b")
SECONDS = 180
# How much of what a block printed is shown when it fails.
SHOWN = 4000


def pages() -> list[Path]:
    """Every page that is read."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / name for name in BESIDE if (ROOT / name).exists()] + [
        page for page in found if not str(page.relative_to(ROOT)).startswith(LEFT_OUT)
    ]


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(in_a_row: int = 1) -> int:
    """A port that nobody listens on, below those that the system gives to connections; of several in a row the first."""
    while True:
        first = random.randrange(20000, 30000)
        if all(is_free(first + more) for more in range(in_a_row)):
            return first


class Shell:
    """One bash for a page."""

    def __init__(self, folder: Path, binary: Path, python: str) -> None:
        # The coordinator's own default has to give way too, and SeaweedFS takes eight ports.
        self.folder, self.ports = folder, {"7070": str(free_port()), "18300": str(free_port(in_a_row=8))}
        shutil.copytree(ROOT / "examples", folder / "examples")
        (folder / "tests").symlink_to(ROOT / "tests")
        programs = folder / ".bin"
        programs.mkdir()
        (programs / "shardfuse").symlink_to(binary)
        left = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT_OF_ENVIRONMENT)}
        environment = left | {
            "PATH": f"{programs}:{Path(python).parent}:{left['PATH']}",
            "SHARDFUSE_LISTEN": f"127.0.0.1:{self.ports['7070']}",
            "S3_PORT": self.ports["18300"],
            "GOLDEN": str(ROOT / "tests/conformance/golden"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE, text=True, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # Which command failed last, in whichever function; the pages themselves need no `set -e`.
        self.say(". tests/book/s3.sh")
        self.say("set -E; trap '__failed=$?' ERR")

    def say(self, line: str) -> None:
        """Have the shell run a line."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def port(self, match: re.Match[str]) -> str:
        """The free port that stands for one of the text."""
        if match[0] not in self.ports:
            self.ports[match[0]] = str(free_port())
        return self.ports[match[0]]

    def run(self, number: int, block: Block) -> tuple[int, str]:
        """The status of the last command that failed, else 0, and what was printed."""
        script, printed, ended = (self.folder / f".{number}.{end}" for end in ("sh", "out", "rc"))
        text = PORTS.sub(self.port, block.text)
        if block.language == "python":
            text = f"python - <<'__PYTHON__'\n{text}__PYTHON__\n"
        script.write_text(text)
        self.say(
            f"__failed=0; . {script} </dev/null >{printed} 2>&1; echo $__failed >{ended}.new; mv {ended}.new {ended}"
        )
        until = time.monotonic() + SECONDS
        while not ended.exists():
            if time.monotonic() > until or self.process.poll() is not None:
                return 124, (
                    printed.read_text() if printed.exists() else ""
                ) + f"\n(no end after {SECONDS} s, or the shell ended)"
            time.sleep(0.02)
        return int(ended.read_text()), printed.read_text()

    def end(self) -> None:
        """End the shell and what it left in the background."""
        for pid in self.folder.glob("*/pid"):
            subprocess.run([ROOT / "tests/services/stop.sh", pid.parent], check=True)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signum)
            except ProcessLookupError:
                break
            time.sleep(0.3)
        self.process.stdin.close()
        self.process.wait()


class Flags:
    """The flags of the binary's commands, by their help."""

    def __init__(self, binary: Path) -> None:
        self.binary, self.known = binary, {}
        listed = self.help().partition("\nOptions:")[0]
        self.commands = set(re.findall(r"^ +([a-z]+) {2,}\S", listed, re.MULTILINE)) - {"help"}
        if "merge" not in self.commands:
            raise SystemExit(f"{binary} --help lists no command `merge`, so it is read wrongly: {sorted(self.commands)}")

    def help(self, *command: str) -> str:
        """What `--help` prints."""
        return subprocess.run([self.binary, *command, "--help"], check=True, capture_output=True, text=True).stdout

    def of(self, command: str) -> set[str]:
        """The flags of a command."""
        if command not in self.known:
            self.known[command] = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])\b", self.help(command)))
        return self.known[command]

    def used(self, text: str) -> list[tuple[str, list[str]]]:
        """The commands of shardfuse in a block, with their flags."""
        found = []
        for line in text.replace("\\\n", " ").splitlines():
            for piece in re.split(r"\||&&|;|\$\(|[()]", line):
                try:
                    words = shlex.split(piece, comments=True)
                except ValueError:
                    words = piece.split()
                at = next((n for n, word in enumerate(words) if word.rpartition("/")[2] == "shardfuse"), None)
                if at is not None and (rest := [word for word in words[at + 1 :] if word.strip("-")]):
                    command = next((word for word in rest if word in self.commands), None)
                    if command is not None:
                        found.append(
                            (command, [word.partition("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)])
                        )
        return found

    def unknown(self, text: str) -> list[str]:
        """The flags in a block that the binary does not have."""
        return [
            f"{command} has no {flag}"
            for command, flags in self.used(text)
            for flag in flags
            if flag not in self.of(command)
        ]


def page_problems(
    page: Path, scratch: Path, arguments: argparse.Namespace, flags: Flags, counts: Counter, ran: set[str]
) -> list[str]:
    """Run a page; what went wrong."""
    name = str(page.relative_to(ROOT))
    try:
        found = blocks(page)
    except Unreadable as problem:
        return [str(problem)]
    problems, shell = [], None
    try:
        for number, block in enumerate(found):
            where = f"{name}:{block.line}"
            if block.reason is not None:
                counts[f"not run: {block.reason}"] += 1
                problems += [f"{where}: {problem}" for problem in flags.unknown(block.text)]
                continue
            if shell is None:
                folder = scratch / name.replace("/", "-").removesuffix(".md")
                folder.mkdir()
                shell = Shell(folder, arguments.binary, arguments.python)
            status, printed = shell.run(number, block)
            if not block.hidden:
                counts["run"] += 1
                ran |= {command for command, _ in flags.used(block.text)}
            if arguments.verbose:
                print(f"-- {where}\n{block.text}{printed}", flush=True)
            if status != block.status:
                problems.append(
                    f"{where}: ended with {status} instead of {block.status}\n{block.text}{printed[-SHOWN:]}"
                )
                break  # what follows builds on it
            if block.output is not None:
                counts["output compared"] += 1
                if (line := shows(block.output, printed)) is not None:
                    problems.append(f"{where}: did not print, in its place: {line}\n{printed[-SHOWN:]}")
    finally:
        if shell is not None:
            shell.end()
    return problems


def main() -> None:
    """Run the pages; end with 1 if a block fails or a command of shardfuse was never run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=lambda text: Path(text).resolve())
    parser.add_argument("pages", nargs="*", type=lambda text: Path(text).resolve(), help="instead of all")
    parser.add_argument("--python", help="what `python` means in the pages")
    parser.add_argument("--verbose", action="store_true", help="print every block and its output")
    arguments = parser.parse_args()
    if arguments.python is None:
        command = [ROOT / "tests/prepare.sh", ROOT / "tests/conformance/setup.sh"]
        arguments.python = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    flags, counts, ran, problems = Flags(arguments.binary), Counter(), set(), []
    with tempfile.TemporaryDirectory() as scratch:
        for page in arguments.pages or pages():
            began, before = time.monotonic(), counts["run"]
            found = page_problems(page, Path(scratch), arguments, flags, counts, ran)
            if counts["run"] > before or found:
                said = "FAILED" if found else "ok"
                print(
                    f"{said:6} {time.monotonic() - began:6.1f} s  {counts['run'] - before:2} blocks  {page.relative_to(ROOT)}",
                    flush=True,
                )
            problems += found
    if not arguments.pages and (never := flags.commands - ran):
        problems.append(f"no page runs these commands of shardfuse: {', '.join(sorted(never))}")
    for what, count in sorted(counts.items()):
        print(f"{count:4} {what}")
    for problem in problems:
        print(f"\n{problem}", file=sys.stderr)
    sys.exit(bool(problems) or not counts["run"])


if __name__ == "__main__":
    main()
