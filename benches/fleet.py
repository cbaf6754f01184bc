#!/usr/bin/env python3
"""How merge time falls with the number of workers when the network is the limit.

    sudo benches/fleet.py --base DIR --lora DIR --work DIR [--binary PATH] [--rate 20] [--workers 1,4] [--part-size 64MiB] [--rounds 1]

Each worker runs in a network namespace of its own, whose link is limited to `--rate` MB/s in each direction (tbf on both
ends of a veth pair); an S3 server (SeaweedFS, started by tests/services) and the coordinator are reached over a bridge.
For each number of workers the same merge runs into a fresh prefix of the same server, and the time from submission to
publication is taken. Printed: what one link carries at the most (curl, four downloads and four uploads at once), the
times, their ratio, and what each link carried by the kernel's own counters. The closer the latter is to the former, the
more the network was the limit. Needs root, curl, iproute2 and the tbf queue.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "faults"))

from fleet import Process  # noqa: E402
from s3 import S3  # noqa: E402

BRIDGE, ADDRESS = "sfbench0", "10.231.7.1"
BUCKET = "bench"
PORT = 7070


def sh(command: str, check: bool = True) -> str:
    return subprocess.run(command.split(), check=check, capture_output=True, text=True).stdout


class Network:
    """A bridge, and a namespace with a limited link for each worker."""

    def __init__(self, workers: int, rate: int, stack: ExitStack) -> None:
        self.names = [f"sfbench-w{number}" for number in range(1, workers + 1)]
        stack.callback(self.remove)
        self.remove()
        sh(f"ip link add {BRIDGE} type bridge")
        sh(f"ip addr add {ADDRESS}/24 dev {BRIDGE}")
        sh(f"ip link set {BRIDGE} up")
        for number, name in enumerate(self.names, start=1):
            inside, outside = f"sfb{number}i", f"sfb{number}o"
            sh(f"ip netns add {name}")
            sh(f"ip link add {outside} type veth peer name {inside} netns {name}")
            sh(f"ip link set {outside} master {BRIDGE} up")
            sh(f"ip -n {name} addr add 10.231.7.{10 + number}/24 dev {inside}")
            sh(f"ip -n {name} link set {inside} up")
            sh(f"ip -n {name} link set lo up")
            # What leaves the outer end is what the worker receives, and the other way round.
            limit = f"root tbf rate {rate * 8}mbit burst 512k latency 100ms"
            sh(f"tc qdisc add dev {outside} {limit}")
            sh(f"ip netns exec {name} tc qdisc add dev {inside} {limit}")

    def carried(self) -> list[tuple[int, int]]:
        """Bytes that each worker received and sent so far."""
        counts = []
        for number in range(1, len(self.names) + 1):
            link = json.loads(sh(f"ip -j -s link show dev sfb{number}o"))[0]["stats64"]
            counts.append((link["tx"]["bytes"], link["rx"]["bytes"]))
        return counts

    def remove(self) -> None:
        for line in sh("ip netns list", check=False).splitlines():
            if line.startswith("sfbench-w"):
                sh(f"ip netns del {line.split()[0]}", check=False)
        sh(f"ip link del {BRIDGE}", check=False)


def ceiling(options: argparse.Namespace, s3: S3, environment: dict[str, str]) -> float:
    """MB/s in each direction at once that a link carries for a program that does nothing else."""
    blob = options.work / "blob"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(os.urandom(1 << 20) * max(1, options.rate * 5 // 4))
    s3.put(BUCKET, "blob", blob.read_bytes())
    with ExitStack() as stack:
        network = Network(1, options.rate, stack)
        sign = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{environment['AWS_ACCESS_KEY_ID']}:{environment['AWS_SECRET_ACCESS_KEY']}"]
        curl = ["ip", "netns", "exec", network.names[0], "curl", "-sf", *sign, "-o", "/dev/null"]
        url = f"{environment['AWS_ENDPOINT']}/{BUCKET}/"
        before, began = network.carried()[0], time.monotonic()
        down = [subprocess.Popen([*curl, f"{url}blob"]) for _ in range(4)]
        up = [subprocess.Popen([*curl, "-T", str(blob), f"{url}blob-{number}"]) for number in range(4)]
        if any([process.wait() for process in down + up]):
            sys.exit("curl failed")
        took, after = time.monotonic() - began, network.carried()[0]
    blob.unlink()
    for key in ("blob", *(f"blob-{number}" for number in range(4))):
        s3.delete(BUCKET, key)
    return min(a - b for a, b in zip(after, before)) / took / 1e6


def measure(options: argparse.Namespace, workers: int, s3: S3, environment: dict[str, str], turn: str) -> tuple[float, list[tuple[int, int]]]:
    with ExitStack() as stack:
        network = Network(workers, options.rate, stack)
        logs = options.work / f"logs-{turn}"
        logs.mkdir(parents=True, exist_ok=True)
        allow = ["--allow", f"s3://{BUCKET}/"]
        coordinator = Process(
            "coordinator",
            [str(options.binary), "coordinator", "--listen", f"{ADDRESS}:{PORT}", "--insecure", "--state", f"s3://{BUCKET}/state-{turn}", *allow],
            logs / "coordinator.log",
            environment,
        )
        stack.callback(coordinator.kill)
        for name in network.names:
            worker = Process(
                name,
                ["ip", "netns", "exec", name, str(options.binary), "worker", "--coordinator", f"http://{ADDRESS}:{PORT}", "--insecure",
                 "--name", name, "--memory", "1GiB", "--threads", "1", *allow],
                logs / f"{name}.log",
                environment,
            )
            stack.callback(worker.kill)
        time.sleep(3)  # Workers join; their time to start is not what is measured.
        before = network.carried()
        began = time.monotonic()
        merged = subprocess.run(
            [str(options.binary), "merge", "--coordinator", f"http://{ADDRESS}:{PORT}", "--insecure", "--base", f"s3://{BUCKET}/base",
             "--lora", f"s3://{BUCKET}/lora", "--output", f"s3://{BUCKET}/out-{turn}", "--part-size", options.part_size, "--quiet"],
            env=environment, capture_output=True, text=True,
        )
        took = time.monotonic() - began
        if merged.returncode != 0:
            sys.exit(f"the merge failed: {merged.stderr}")
        after = network.carried()
        carried = [(a[0] - b[0], a[1] - b[1]) for a, b in zip(after, before)]
    for key in s3.keys(BUCKET, f"out-{turn}/"):
        s3.delete(BUCKET, key)
    return took, carried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--binary", type=Path, default=Path("target/release/shardfuse"))
    parser.add_argument("--rate", type=int, default=20, help="MB/s of each link, in each direction")
    parser.add_argument("--workers", default="1,4")
    parser.add_argument("--part-size", default="64MiB")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    if os.geteuid() != 0 or not shutil.which("tc"):
        sys.exit("needs root and iproute2 (tc, ip)")
    if "SHARDFUSE_TEST_S3_ENDPOINT" not in os.environ:
        sys.exit("start the S3 server first: SHARDFUSE_TEST_HOST=0.0.0.0 tests/services/start.sh seaweedfs PORT FOLDER, and take its variables")
    endpoint, key, secret = (os.environ[f"SHARDFUSE_TEST_S3_{name}"] for name in ("ENDPOINT", "KEY", "SECRET"))
    port = endpoint.rsplit(":", 1)[1].rstrip("/")
    s3 = S3(f"http://127.0.0.1:{port}", key, secret)
    environment = {
        **os.environ, "AWS_ENDPOINT": f"http://{ADDRESS}:{port}", "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
    }
    s3.make_bucket(BUCKET)
    for folder, prefix in ((options.base, "base"), (options.lora, "lora")):
        for file in sorted(folder.iterdir()):
            s3.put(BUCKET, f"{prefix}/{file.name}", file.read_bytes())
    counts = [int(count) for count in options.workers.split(",")]
    size = sum(file.stat().st_size for file in options.base.iterdir())
    print(f"base {size / 1e6:.0f} MB, links of {options.rate} MB/s in each direction")
    print(f"a link carries {ceiling(options, s3, environment):.1f} MB/s in each direction at once", flush=True)
    for turn in range(options.rounds):
        times = {}
        for workers in counts:
            took, carried = measure(options, workers, s3, environment, f"{turn}-{workers}")
            times[workers] = took
            received, sent = (sum(c[side] for c in carried) for side in (0, 1))
            print(
                f"{workers} workers: {took:.1f} s; received {received / 1e6:.0f} MB, sent {sent / 1e6:.0f} MB: "
                f"{max(received, sent) / took / workers / 1e6:.1f} MB/s a link", flush=True,
            )
        print(f"ratio {times[counts[0]] / times[counts[-1]]:.2f} of {counts[-1] / counts[0]:.0f}", flush=True)


if __name__ == "__main__":
    main()
