"""Several GPUs, over the stand-in driver: in one process, and in fleets of processes on loopback.

    fleets.py BINARY LIBRARIES

LIBRARIES is the folder with the stand-in. Two GPU workers give the bytes of one process; a CPU worker has no share in a
merge of a GPU class, nor the other way round; a worker whose device dies or hangs says so and leaves, and the other one
finishes. The same for two devices of one process. Needs the standard library only.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "faults"))
import model
from fleet import Fleet, Process, free_port

model.LAYERS = 2
PART = "512KiB"
# Launches of the self-test, and some tiles after it.
SELF_TEST = 54
LATER = "80"


class Worker:
    """A worker of a fleet, and what its metrics say."""

    def __init__(self, fleet: Fleet, device: str, *more: str, **environment: str) -> None:
        self.http = free_port()
        flags = ("--device", device, "--http", f"127.0.0.1:{self.http}", *more)
        self.process: Process = fleet.add_worker(more=flags, environment=environment)

    def log(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.process.log.read_text())

    def joined(self) -> None:
        until(lambda: "the coordinator took this worker" in self.log(), f"{self.process.name} joins")

    def metric(self, name: str) -> float | None:
        """The sum over all series of a name; None if there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, values)) if values else None


def until(condition: Callable[[], bool], what: str, within: float = 120) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.1)


class Stage:
    """Inputs, outputs and the way to a fleet."""

    def __init__(self, binary: Path, libraries: Path, scratch: Path) -> None:
        self.binary, self.libraries, self.scratch = binary, libraries, scratch
        self.base, self.lora = model.make(scratch / "model")
        self.count = 0
        self.whole = self.output("one-process")
        self.merge(self.whole)

    def merge(self, output: Path, *more: str, **environment: str) -> str:
        """Merges in one process; what it says on stderr."""
        places = ["--base", str(self.base), "--lora", str(self.lora), "--output", str(output)]
        command = [str(self.binary), "merge", *places, "--part-size", PART, "--device", "cuda", "--quiet", *more]
        environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries), "NO_COLOR": "1", **environment}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
        assert ran.returncode == 0, ran.stderr
        return ran.stderr

    def output(self, name: str) -> Path:
        return self.scratch / name

    def fleet(self) -> Fleet:
        self.count += 1
        allow = [f"file://{self.scratch}/"]
        environment = {"LD_LIBRARY_PATH": str(self.libraries), "NO_COLOR": "1"}
        state = f"file://{self.scratch}/state-{self.count}"
        return Fleet(self.binary, self.scratch / f"fleet-{self.count}", state, allow, environment)

    def submit(self, fleet: Fleet, output: Path, device: str) -> str:
        places = ["--base", f"file://{self.base}", "--lora", f"file://{self.lora}", "--output", f"file://{output}"]
        return fleet.call("submit", *places, "--part-size", PART, "--device", device)["id"]

    def finished(self, fleet: Fleet, merge: str, output: Path, class_: str) -> None:
        """Waits for the end; the bytes are those of one process, under the class that was asked for."""
        ended = ("done", "failed", "cancelled")
        until(lambda: fleet.get(merge)["state"] in ended, f"{output.name} ends", 240)
        view = fleet.get(merge)
        assert view["state"] == "done", view
        manifest = json.loads((output / "shardfuse.json").read_text())
        assert manifest["device_class"].split(":")[0] == class_, manifest["device_class"]
        self.same(output)

    def same(self, output: Path) -> None:
        names = sorted(path.name for path in self.whole.glob("*.safetensors"))
        assert names, "there are weights"
        for name in names:
            assert (output / name).read_bytes() == (self.whole / name).read_bytes(), f"{name}: other bytes"


def two_gpus(stage: Stage) -> None:
    """Two workers share a merge: the bytes of one process. What their metrics say of the cards is there too."""
    fleet = stage.fleet()
    try:
        workers = [Worker(fleet, "cuda", CUDA_SHIM_TEMPERATURE=str(50 + 10 * i)) for i in range(2)]
        for worker in workers:
            worker.joined()
        output = stage.output("two-gpus")
        stage.finished(fleet, stage.submit(fleet, output, "cuda"), output, "cuda")
        for i, worker in enumerate(workers):
            assert worker.metric("shardfuse_fused_bytes_total"), f"{worker.process.name} had no share"
            assert worker.metric("shardfuse_gpu_stage_seconds_count"), "stages are timed"
            assert worker.metric("shardfuse_gpu_temperature_celsius") == 50 + 10 * i
            assert worker.metric("shardfuse_gpu_utilization_ratio") == 0.25
            assert worker.metric("shardfuse_gpu_memory_total_bytes") == 1 << 30
            used = worker.metric("shardfuse_gpu_memory_used_bytes") or 0
            assert 100 << 20 < used < 1 << 30, used
    finally:
        fleet.close()


def two_devices(stage: Stage, name: str, says: str, *more: str, **fault: str) -> None:
    """Two devices of one process have a pipeline each; one that is lost leaves its share to the other."""
    output, counts = stage.output(name), stage.scratch / f"{name}.log"
    # The least memory for two: no device can take on all of the tasks at once.
    least = ("--memory", "161MiB", *more)
    devices = {"CUDA_SHIM_DEVICES": "2", "CUDA_SHIM_FAULTY_DEVICE": "1", "CUDA_SHIM_LOG": str(counts)}
    said = stage.merge(output, *least, **devices, **fault)
    assert not says or any(says in line and "GPU 1" in line for line in said.splitlines()), said
    stage.same(output)
    launches = dict(re.findall(r"^launches on (\d): (\d+)$", counts.read_text(), re.MULTILINE))
    assert len(launches) == 2, launches
    for device, count in launches.items():
        assert int(count) > SELF_TEST, f"device {device} had no share: {launches}"


def mixed(stage: Stage) -> None:
    """Classes never mix within a merge: whoever is of another one has no share in it. There is no NVML here."""
    bare = stage.scratch / "without-nvml"
    bare.mkdir()
    for name in ("libcuda.so.1", "libcublas.so.12"):
        (bare / name).symlink_to(stage.libraries / name)
    fleet = stage.fleet()
    try:
        cpu, gpu = Worker(fleet, "cpu"), Worker(fleet, "cuda", LD_LIBRARY_PATH=str(bare))
        cpu.joined()
        gpu.joined()
        for device, at_work, idle in (("cuda", gpu, cpu), ("cpu", cpu, gpu)):
            before = [worker.metric("shardfuse_put_bytes_total") or 0 for worker in (at_work, idle)]
            output = stage.output(f"mixed-{device}")
            stage.finished(fleet, stage.submit(fleet, output, device), output, device)
            after = [worker.metric("shardfuse_put_bytes_total") or 0 for worker in (at_work, idle)]
            assert after[0] > before[0], f"the {device} worker did it"
            assert after[1] == before[1], f"{idle.process.name} took part in a merge of class {device}"
        for worker in (cpu, gpu):
            assert worker.metric("shardfuse_gpu_temperature_celsius") is None, "no NVML, no figures"
            complaints = [line for line in worker.log().splitlines() if " WARN " in line and "figures" in line]
            assert not complaints, complaints
        assert gpu.metric("shardfuse_gpu_stage_seconds_count") and not cpu.metric("shardfuse_gpu_stage_seconds_count")
    finally:
        fleet.close()


def lost(stage: Stage, name: str, says: str, *more: str, **fault: str) -> None:
    """A worker's device is lost on the way: it says so and ends with 1, what it had goes to the other one."""
    fleet = stage.fleet()
    try:
        bad = Worker(fleet, "cuda", *more, **fault)
        good = Worker(fleet, "cuda")
        bad.joined()
        good.joined()
        output = stage.output(name)
        merge = stage.submit(fleet, output, "cuda")
        code = bad.process.popen.wait(120)
        assert code == 1, f"exit {code}: {bad.log()}"
        last = bad.log().strip().splitlines()[-2:]
        assert any(says in line and "GPU 0" in line for line in last), last
        assert any(line.startswith("hint:") for line in last), last
        stage.finished(fleet, merge, output, "cuda")
        assert good.process.alive()
        # It handed its tasks back, so that nobody had to wait for a lease.
        coordinator = (fleet.folder / "coordinator.log").read_text()
        assert "no sign of it for a lease" not in coordinator, coordinator
    finally:
        fleet.close()


def main() -> int:
    binary, libraries = (Path(argument).resolve() for argument in sys.argv[1:])
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        stage = Stage(binary, libraries, Path(scratch))
        for name, run in (
            ("two GPU workers give the bytes of one process", lambda: two_gpus(stage)),
            ("device classes do not mix", lambda: mixed(stage)),
            ("two devices of one process share a merge", lambda: two_devices(stage, "two", "")),
            (
                "two devices of one process, one dies",
                lambda: two_devices(stage, "two-dies", "illegal memory access", CUDA_SHIM_ILLEGAL_AT=LATER),
            ),
            (
                # What hangs near the end is done again by the other one before anybody's patience is over, and the
                # process ends without waiting for the device.
                "two devices of one process, one hangs",
                lambda: two_devices(stage, "two-hangs", "", CUDA_SHIM_HANG_AT=LATER),
            ),
            (
                "a worker whose device dies leaves, the other finishes",
                lambda: lost(stage, "dies", "illegal memory access", CUDA_SHIM_ILLEGAL_AT=LATER),
            ),
            (
                "a worker whose device hangs leaves, the other finishes",
                lambda: lost(stage, "hangs", "it hangs", "--gpu-patience", "20s", CUDA_SHIM_HANG_AT=LATER),
            ),
        ):
            try:
                run()
                print(f"ok   {name}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAIL {name}: {error!r}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
