#!/usr/bin/env python3
"""Merge time as a ratio to copying the base, in one run, and peak memory.

    benches/local.py --base DIR --lora DIR [--lora DIR ...] --work DIR [--binary PATH] [--against PATH] [--runs 3]
                     [-- MERGE FLAGS...]

Each round copies the base (`cp -r`, then `sync -f` of the copy), then merges into a fresh folder (which syncs before it
ends). Both start with the base in the page cache or not at all: `--cold` drops the cache before each (needs root). With
`--against` another binary merges in each round too, before or after in turn, and the geometric mean of the ratios of the
two is printed; take an even number of runs, since the one that goes first is some percent slower.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time


def drop_caches() -> None:
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def timed(command: list[str]) -> tuple[float, float, float]:
    """Seconds of wall time and CPU, and peak resident MiB, of one command."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--lora", action="append", required=True)
    parser.add_argument("--work", required=True, help="a folder on the disk that is measured")
    parser.add_argument("--binary", default="target/release/shardfuse")
    parser.add_argument("--against", help="another binary, such as an older one")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    copy, merged = os.path.join(args.work, "copy"), os.path.join(args.work, "merged")
    loras = [x for lora in args.lora for x in ("--lora", lora)]
    binaries = [args.binary] + ([args.against] if args.against else [])

    def fresh(*folders: str) -> None:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["sync", "-f", args.work], check=True)
        if args.cold:
            drop_caches()

    ratios, peaks, versus = [], {binary: [] for binary in binaries}, []
    for i in range(args.runs):
        fresh(copy, merged)
        copied, _, _ = timed(["sh", "-c", f"cp -r '{args.base}' '{copy}' && sync -f '{copy}'"])
        took = {}
        for binary in binaries if i % 2 == 0 else reversed(binaries):
            fresh(copy, merged)
            took[binary], cpu, peak = timed([binary, "merge", "--quiet", "--base", args.base, *loras, "--output", merged, *args.flags])
            peaks[binary].append(peak)
            print(f"run {i + 1}: cp + sync {copied:.1f} s, {binary} {took[binary]:.1f} s ({cpu:.1f} s CPU), ratio {took[binary] / copied:.2f}, peak {peak:.0f} MiB", flush=True)
        ratios.append(took[args.binary] / copied)
        if args.against:
            versus.append(took[args.binary] / took[args.against])
    shutil.rmtree(merged, ignore_errors=True)
    result = {"median_ratio": median(ratios), "peak_rss_mib": max(peaks[args.binary])}
    if args.against:
        result |= {"ratio_to_other": math.exp(sum(map(math.log, versus)) / len(versus)), "peak_rss_mib_of_other": max(peaks[args.against])}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
