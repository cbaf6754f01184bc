#!/usr/bin/env python3
"""Merges of an attention-only LoRA into a large mixture of experts, from S3 to S3, where the store copies what does not change.

The outputs of four merges have to be the same bytes: without copies, with copies in one process, on a fleet with an index of the
base, and in one process with the index. Of each is shown how many bytes its workers moved, and what manifest and `verify` say.
Then a merge is killed while it copies, again and again, and at last the base is overwritten under a merge.
"""

import argparse
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import checkpoint  # makes the modules of tests/faults known
import accidents
import checks
import shapes
from checkpoint import Checkpoint
from fleet import Fleet, free_port
from line import Line
from moved import bound, made, percent
from place import Place

PART = "64MiB"
WORKERS = 3
# The most that one task makes.
TASK = 4 * (64 << 20)
# Requests, headers, state, and what the plan reads, which the line counts too.
BESIDES = 8 << 20
GB = 1_000_000_000


class Workers(Fleet):
    """Four parts of 64 MiB fit into each, and none is given up on a machine with much to do."""

    LEASE = 30.0
    MEMORY = "384MiB"


class Campaign:
    def __init__(self, place: Place, base: Checkpoint, folder: Path, data: Path, full: bool) -> None:
        self.place, self.base, self.folder, self.data, self.full = place, base, folder, data, full
        self.expected: dict[str, str] = {}

    def say(self, what: str, since: float, text: str) -> None:
        used = room(self.data) / GB
        print(f"{what}: {text} ({time.monotonic() - since:.1f} s; the server has {used:.1f} GB on the disk)", flush=True)

    def inputs(self) -> None:
        began = time.monotonic()
        self.place.upload(self.base, "base")
        lora = checkpoint.adapter(self.folder / "lora", self.base, "qkvo")
        self.lora = sum(file.stat().st_size for file in lora.iterdir())
        self.place.upload_folder(lora, "lora")
        self.flags = ["--base", self.place.url("base"), "--lora", self.place.url("lora")]
        must, most = made(self.base), bound(self.base)
        text = f"{percent(self.base.size, self.base)} in {len(self.base.files)} files; an adapter of {self.lora / 1e6:.1f} MB changes attention"
        text += f"; parts of {PART}; {percent(must, self.base)} must be made, at most {percent(most, self.base)}"
        self.say("base", began, text)
        if self.full:
            assert most <= 0.04 * self.base.size, "the shapes do not show what they should"

    def equal(self, prefix: str) -> None:
        """The output has the bytes of the merge without copies."""
        found = self.place.digests(prefix)
        assert set(found) == {file.name for file in self.base.files}, f"the output has the files {sorted(found)}"
        assert found == self.expected, f"{prefix} differs from the merge without copies: {found}, expected {self.expected}"
        self.place.nothing_is_left(prefix)

    def moved(self, read: float, put: float, copied: float, besides: int) -> str:
        """The bytes that workers moved are as few as the shapes allow. `besides` is what may come on top."""
        most = bound(self.base) + besides
        assert put <= most, f"{put:.0f} bytes were put, at most {most} were to be"
        assert read <= most + WORKERS * self.lora, f"{read:.0f} bytes were read, at most {most} and the adapter were to be"
        least = (0.9 if self.full else 1 - bound(self.base) / self.base.size) * self.base.size
        assert copied >= least, f"{copied:.0f} bytes were copied, at least {least:.0f} were to be"
        if self.full:
            assert max(read, put) <= 0.04 * self.base.size + besides, f"more than 4 %: {read:.0f} read, {put:.0f} put"
        each = (f"{what} {percent(value, self.base)}" for what, value in (("read", read), ("put", put), ("copied", copied)))
        return ", ".join(each)

    def without(self) -> None:
        """No copies. The short form shows on it that the line counts."""
        began = time.monotonic()
        line = None if self.full else Line(self.place.target)
        merge = ["merge", *self.flags, "--output", self.place.url("none"), "--part-size", PART, "--store-copies", "none"]
        self.place.result(*merge, endpoint=line.url if line else None)
        took = time.monotonic() - began
        self.expected = self.place.digests("none")
        text = f"merge in {took:.1f} s"
        if line:
            assert min(line.received, line.sent) >= self.base.size and not line.copies, "all bytes were to pass the line"
            text += f", read {percent(line.received, self.base)}, put {percent(line.sent, self.base)}"
            line.close()
        self.place.nothing_is_left("none")
        self.place.remove("none")
        self.say("without copies, one process", began, text)

    def local(self, prefix: str) -> str:
        """A merge in one process, whose bytes pass a line that counts them."""
        began, line = time.monotonic(), Line(self.place.target)
        self.place.result("merge", *self.flags, "--output", self.place.url(prefix), "--part-size", PART, endpoint=line.url)
        took = time.monotonic() - began
        text = self.moved(line.received, line.sent, line.copied, BESIDES)
        line.close()
        self.equal(prefix)
        return f"merge in {took:.1f} s, {text}; equal digests"

    def copies(self) -> None:
        began = time.monotonic()
        text = self.local("copies")
        text += "; " + checks.without_digests(self.place, "copies")
        if not self.full:
            text += "; " + checks.damaged(self.place, "copies")
        self.place.remove("copies")
        self.say("copies, one process, no index", began, text)

    def index(self) -> None:
        began = time.monotonic()
        self.place.result("index", self.place.url("base"))
        size = len(self.place.s3.get(self.place.bucket, "base/shardfuse.index.json"))
        self.say("index", began, f"{size / 1e3:.0f} kB")

    def fleet(self) -> None:
        began = time.monotonic()
        allowed = [self.place.url("")]
        fleet = Workers(self.place.binary, self.folder / "fleet", self.place.url("state"), allowed, self.place.environment)
        try:
            ports = [free_port() for _ in range(WORKERS)]
            for port in ports:
                fleet.add_worker(more=("--http", f"127.0.0.1:{port}"))
            merge = fleet.call("submit", *self.flags, "--output", self.place.url("fleet"), "--part-size", PART)["id"]
            while (now := fleet.get(merge))["state"] != "done":
                assert now["state"] not in ("failed", "cancelled"), f"the merge ended as {now['state']}: {now.get('failure')}"
                time.sleep(0.1)
            took = time.monotonic() - began
            each = [{what: metric(port, f"shardfuse_{what}_bytes_total") for what in ("read", "put", "copied")} for port in ports]
        finally:
            fleet.close()
        shutil.rmtree(fleet.folder)
        tries = f"{now['tasks_total']} tasks, {now['retries']} retried, {now['repeated']} repeated"
        # A worker with nothing to do repeats a slow task, which has at most four parts that are made.
        again = (now["retries"] + now["repeated"]) * TASK
        text = self.moved(*(sum(of[what] for of in each) for what in ("read", "put", "copied")), again)
        self.equal("fleet")
        text += f"; equal digests; {checks.with_digests(self.place, 'fleet')}"
        self.place.remove("fleet")
        self.say(f"copies, {WORKERS} workers, index", began, f"merge in {took:.1f} s, {tries}, {text}")

    def indexed(self) -> None:
        began = time.monotonic()
        text = self.local("indexed")
        text += "; " + checks.with_digests(self.place, "indexed")
        self.place.remove("indexed")
        self.say("copies, one process, index", began, text)

    def accidents(self) -> None:
        began = time.monotonic()
        self.say("kills", began, accidents.killed(self.place, self.flags, self.expected))
        began = time.monotonic()
        self.say("a base that is overwritten", began, accidents.overwritten(self.place, self.base, "base", self.flags))


def room(folder: Path) -> int:
    """Bytes on the disk of the files below a folder, which come and go meanwhile."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += 512 * os.stat(os.path.join(root, name)).st_blocks
    return total


def metric(port: int, name: str) -> float:
    """The sum over all series of a name, 0 if there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("data", type=Path, help="the folder that the server has its data in")
    parser.add_argument("--full", action="store_true", help="a base of 10.9 GB, which takes up to 45 GB of disk; otherwise one of 0.7 GB")
    options = parser.parse_args()
    server = tuple(os.environ[f"SHARDFUSE_TEST_S3_{name}"] for name in ("ENDPOINT", "KEY", "SECRET"))
    names = ("AWS_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment = {**os.environ, **dict(zip(names, server, strict=True)), "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    base = shapes.mixture(2, 140, 5 * GB) if options.full else shapes.mixture(1, 14, 5 * GB)
    place = Place(options.binary.resolve(), server, os.environ["SHARDFUSE_TEST_S3_BUCKET"], environment)
    with tempfile.TemporaryDirectory(prefix="shardfuse-copies-") as folder:
        campaign = Campaign(place, base, Path(folder), options.data, options.full)
        for scene in ("inputs", "without", "copies", "index", "fleet", "indexed", "accidents"):
            getattr(campaign, scene)()
    print("copies: all passed")


if __name__ == "__main__":
    sys.exit(main())
