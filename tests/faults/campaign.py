#!/usr/bin/env python3
"""Merges on a real fleet against a real S3 server while something goes wrong, again and again.

Each run submits one merge to a coordinator with four workers, does one seeded fault to it while it works, asserts that
the fault took effect, and asserts at the end that the output is complete, has the very digests of the undisturbed merge
on one machine, and that neither state nor uploads are left. From the submission to the end the output is watched:
config.json may not be there before all weights are. Which attempts put parts is read from the workers' logs: where leases
end an epoch above 1 must have put one, where a coordinator ends an epoch of the next one.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
from pathlib import Path

import model
from faults import FAULTS, Run
from fleet import Fleet
from heldputs import HeldPuts
from proxy import Proxy
from s3 import S3
from watch import Watch

BUCKET = "campaign"
PART_SIZE = "8MiB"
WORKERS = 4
RATE = "10MiB"
SLOW_RATE = "512KiB"


def digests(manifest: dict) -> dict[str, str]:
    return {file["name"]: file["blake3"] for file in manifest["files"]}


def undisturbed(binary: Path, folder: Path, base: Path, lora: Path) -> dict[str, str]:
    """The digests of the merge on one machine, local files in and out."""
    output = folder / "undisturbed"
    command = [str(binary), "merge", "--base", str(base), "--lora", str(lora), "--output", str(output), "--part-size", PART_SIZE, "--quiet"]
    subprocess.run(command, check=True)
    found = digests(json.loads((output / "shardfuse.json").read_text()))
    shutil.rmtree(output)
    return found


def upload(s3: S3, folder: Path, prefix: str) -> str:
    for file in sorted(folder.iterdir()):
        s3.put(BUCKET, f"{prefix}/{file.name}", file.read_bytes())
    return f"s3://{BUCKET}/{prefix}"


def follow(run: Run) -> dict:
    """Waits for the merge's end."""
    deadline = time.monotonic() + 300
    while True:
        merge = run.fleet.get(run.merge)
        if merge["state"] in ("failed", "cancelled"):
            raise AssertionError(f"the merge ended as {merge['state']}: {merge.get('failure')}")
        if merge["state"] == "done":
            return merge
        assert time.monotonic() < deadline, f"not done after 300 s: {merge}"
        time.sleep(0.1)


def one(binary: Path, folder: Path, s3: S3, urls: tuple[str, str], expected: dict[str, str], seed: int, environment: dict[str, str]) -> str:
    rng = random.Random(seed)
    fault = FAULTS[seed % len(FAULTS)]()
    prefix = f"out-{seed}"
    base, lora = urls
    fleet = Fleet(binary, folder / f"run-{seed}", f"s3://{BUCKET}/state-{seed}", [f"s3://{BUCKET}/"], environment)
    proxies: list[Proxy] = []
    held: HeldPuts | None = None
    try:
        for number in range(WORKERS):
            slow = fault.slow_worker and number == 0
            port, own = None, {}
            if fault.proxied:
                proxies.append(Proxy(("127.0.0.1", fleet.port)))
                port = proxies[-1].port
            if fault.held and number == 0:
                server = urllib.parse.urlsplit(environment["AWS_ENDPOINT"])
                held = HeldPuts((server.hostname or "", server.port or 80))
                own = {"AWS_ENDPOINT": f"http://127.0.0.1:{held.port}"}
            fleet.add_worker(port, ("--limit-rate", SLOW_RATE if slow else RATE), own)
        watch = Watch(lambda: {key.removeprefix(prefix + "/") for key in s3.keys(BUCKET, prefix + "/")}, model.LAYERS)
        merge = fleet.submit(base, lora, f"s3://{BUCKET}/{prefix}", PART_SIZE)
        run = Run(fleet, merge, rng, proxies, held)
        effect = fault.inject(run)
        end = follow(run)
        looks = watch.end()
        epoch = fleet.highest_epoch()
        assert epoch >= fault.epoch, f"the highest epoch that put a part is {epoch}, below {fault.epoch}"
        manifest = json.loads(s3.get(BUCKET, f"{prefix}/shardfuse.json"))
        found = digests(manifest)
        weights = {name: digest for name, digest in expected.items() if name.endswith(".safetensors")}
        assert weights.items() <= found.items(), "the output's digests differ from the undisturbed merge's"
        assert found == expected, "sidecars differ from the undisturbed merge's"
        left = [key for key in s3.keys(BUCKET, prefix + "/") if "/.shardfuse/" in key]
        assert not left, f"state is left: {left[:3]}"
        uploads = s3.uploads(BUCKET, prefix + "/")
        assert not uploads, f"uploads are left: {uploads[:3]}"
        for key in s3.keys(BUCKET, prefix + "/"):
            s3.delete(BUCKET, key)
        p = end
        shutil.rmtree(fleet.folder)
        return f"{fault.name}: {effect}; {p['retries']} retries, {p['late']} late receipts, {p['parts_kept']} parts kept, epochs up to {epoch}, {looks} looks"
    finally:
        fleet.close()
        for proxy in [*proxies, *filter(None, [held])]:
            proxy.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed; a seed chooses fault and moment")
    parser.add_argument("--keep", type=Path, help="a folder for logs and models, kept")
    options = parser.parse_args()
    server = [os.environ[f"SHARDFUSE_TEST_S3_{name}"] for name in ("ENDPOINT", "KEY", "SECRET")]
    environment = dict(zip(("AWS_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), server, strict=True))
    environment |= {"AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    s3 = S3(*server)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="shardfuse-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    s3.make_bucket(BUCKET)
    base, lora = model.make(folder / "model")
    expected = undisturbed(options.binary.resolve(), folder, base, lora)
    urls = upload(s3, base, "base"), upload(s3, lora, "lora")
    passed = failed = 0
    for seed in range(options.first, options.first + options.runs):
        began = time.monotonic()
        try:
            effect = one(options.binary.resolve(), folder, s3, urls, expected, seed, environment)
            passed += 1
            print(f"ok    seed {seed}: {effect} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  seed {seed} ({FAULTS[seed % len(FAULTS)].name}), logs in {folder}/run-{seed}", flush=True)
            traceback.print_exc()
    if not options.keep and not failed:
        shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
