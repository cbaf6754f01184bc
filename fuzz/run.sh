#!/usr/bin/env bash
# Fuzzes the readers of files and messages, one target after the other, and fails where a property breaks.
#
#   fuzz/run.sh [--seconds 60] [TARGET...]     all targets by default; --list names them
#
# Starts from fuzz/corpus and from what earlier runs found (fuzz/found, not checked in). A file that breaks a property is left in
# fuzz/artifacts/TARGET: copy it to fuzz/corpus/TARGET, and `cargo test --test corpora` fails until it is mended.
#
# Installs cargo-fuzz into ~/.cache/shardfuse/fuzz. No sanitizer: the readers are safe Rust, and tests/properties/src/memory.rs counts what they
# allocate. So the stable toolchain is enough. Needs a C++ compiler for libFuzzer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
VERSION=0.13.2
tools=${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/fuzz
all=(header index pickle config patterns spec assignment)

seconds=60 targets=()
while (($#)); do
  case $1 in
    --seconds) seconds=$2; shift ;;
    --list) printf '%s\n' "${all[@]}"; exit 0 ;;
    -*) echo "error: unknown argument $1" >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
[[ ${#targets[@]} -gt 0 ]] || targets=("${all[@]}")

[[ $("$tools/bin/cargo-fuzz" fuzz --version 2> /dev/null || true) == "cargo-fuzz $VERSION" ]] ||
  ../tests/prepare.sh cargo install --quiet --locked --force --root "$tools" "cargo-fuzz@$VERSION"
fuzz=(env "PATH=$tools/bin:$PATH" cargo fuzz)
../tests/prepare.sh "${fuzz[@]}" build --sanitizer none

mkdir -p found
printf '%-12s %12s %10s %8s %8s\n' target executions "a second" edges files > found/table
failed=0
for target in "${targets[@]}"; do
  mkdir -p "found/$target"
  log=found/$target.log
  if ! "${fuzz[@]}" run --sanitizer none "$target" "found/$target" "corpus/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 > "$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "error: $target breaks its property; the log is fuzz/$log" >&2
    failed=1
  fi
  awk -v target="$target" '
    /stat::number_of_executed_units/ { runs = $2 }
    /stat::average_exec_per_sec/ { rate = $2 }
    match($0, /cov: [0-9]+/) { edges = substr($0, RSTART + 5, RLENGTH - 5) }
    match($0, /corp: [0-9]+/) { files = substr($0, RSTART + 6, RLENGTH - 6) }
    END { printf "%-12s %12d %10d %8d %8d\n", target, runs, rate, edges, files }' "$log" | tee -a found/table
done
cat found/table
exit $failed
