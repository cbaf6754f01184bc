"""A coordinator and workers as real processes on loopback."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


EPOCH = re.compile(r"\bepoch=(\d+)")


class Process:
    """One process with its log."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.name, self.command, self.log, self.environment = name, command, log, environment
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self.environment
            )

    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        if self.alive():
            self.popen.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def end(self, within: float = 40) -> int:
        """Asks it to stop and waits for its exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {within} s of SIGTERM") from None


class Fleet:
    """A coordinator and `workers` workers; each worker may reach the coordinator by an address of its own."""

    LEASE = 2.0
    # The budget of a worker.
    MEMORY = "128MiB"

    def __init__(
        self, binary: Path, folder: Path, state: str, allow: list[str], environment: dict[str, str], more: tuple[str, ...] = ()
    ) -> None:
        self.binary, self.folder, self.state, self.allow = binary, folder, state, allow
        self.environment = {**os.environ, "SHARDFUSE_LOG": "info,shardfuse_worker=debug", **environment}
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.workers: list[Process] = []
        flags = [flag for prefix in allow for flag in ("--allow", prefix)]
        self.coordinator = Process(
            "coordinator",
            [str(binary), "coordinator", "--listen", f"127.0.0.1:{self.port}", "--state", state, "--lease", f"{self.LEASE:g}s", *flags, *more],
            folder / "coordinator.log",
            self.environment,
        )

    def add_worker(self, port: int | None = None, more: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> Process:
        number = len(self.workers) + 1
        flags = [flag for prefix in self.allow for flag in ("--allow", prefix)]
        worker = Process(
            f"worker {number}",
            [
                str(self.binary), "worker", "--coordinator", f"http://127.0.0.1:{port or self.port}", "--name", f"w{number}",
                "--threads", "1", "--memory", self.MEMORY, "--slots", "2", *flags, *more,
            ],
            self.folder / f"worker-{number}.log",
            {**self.environment, **(environment or {})},
        )
        self.workers.append(worker)
        return worker

    def call(self, *arguments: str) -> dict:
        """A client command with a JSON answer. The coordinator may be down for a moment."""
        command = [str(self.binary), *arguments, "--coordinator", f"http://127.0.0.1:{self.port}", "--format", "json"]
        deadline = time.monotonic() + 60
        while True:
            ran = subprocess.run(command, capture_output=True, text=True, env=self.environment)
            if ran.returncode == 0:
                return json.loads(ran.stdout)
            if time.monotonic() > deadline:
                raise AssertionError(f"{arguments[0]} ended with {ran.returncode}: {ran.stderr.strip()}")
            time.sleep(0.2)

    def submit(self, base: str, lora: str, output: str, part_size: str) -> str:
        return self.call("submit", "--base", base, "--lora", lora, "--output", output, "--part-size", part_size)["id"]

    def get(self, merge: str) -> dict:
        return self.call("get", merge)

    def highest_epoch(self) -> int:
        """The highest epoch of an attempt that put a part, as the workers logged it."""
        logs = (self.folder / f"worker-{number + 1}.log" for number in range(len(self.workers)))
        puts = (line for log in logs for line in log.read_text().splitlines() if ": put file=" in line)
        return max((int(found[1]) for line in puts if (found := EPOCH.search(line))), default=0)

    def close(self) -> None:
        for process in [*self.workers, self.coordinator]:
            process.signal(signal.SIGCONT)
            process.kill()
