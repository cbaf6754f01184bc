#!/usr/bin/env bash
# The GPU path on a machine without a GPU, over the stand-in driver of tests/cuda-shim.
#
#   tests/cuda/run.sh [BINARY]        default: target/release/shardfuse
#
# Builds the stand-in (outside the checkout), runs the golden conformance set with --device cuda, holds the bytes against
# the CPU's, and lets each fault happen once. Needs cargo, a C++ compiler and the Python of tests/conformance/setup.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
binary=$(realpath "${1:-$root/target/release/shardfuse}")
golden=$root/tests/conformance/golden
target=${SHARDFUSE_CUDA_SHIM_TARGET:-$HOME/.cache/shardfuse/cuda-shim}
python=$("$root/tests/conformance/setup.sh")
export PYTHONDONTWRITEBYTECODE=1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
library() { # FOLDER FEATURES...: the stand-in under both names
  (cd "$here/../cuda-shim" && CARGO_TARGET_DIR=$target cargo build --quiet "${@:2}")
  mkdir -p "$scratch/$1"
  cp "$target/debug/libcuda_shim.so" "$scratch/$1/libcuda.so.1"
  ln -s libcuda.so.1 "$scratch/$1/libcublas.so.12"
}
library old --features without-gemm
library lib
mkdir "$scratch/alone" && cp "$scratch/lib/libcuda.so.1" "$scratch/alone/"

wrapper=$scratch/shardfuse
printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@" --device cuda\n' "$scratch/lib" "$binary" > "$wrapper"
chmod +x "$wrapper"

failed=0
say() { # NAME CONDITION...
  if "${@:2}"; then echo "ok   $1"; else echo "FAIL $1"; failed=1; fi
}

echo "the golden set, every piece of queued work delayed:"
CUDA_SHIM_DELAY_US=300 "$python" "$root/tests/conformance/shared_set.py" "$golden" "$wrapper" > "$scratch/golden.log" || failed=1
grep -v '^ok ' "$scratch/golden.log" || true

# One model in several shapes: DoRA (norms of rows), Conv1D (norms of columns), two adapters, an embedding.
merge() { # CASE OUTPUT OPTIONS...: prints stderr
  local args
  mapfile -t args < <("$python" -c 'import json, sys; print(*json.load(open(sys.argv[1]))["args"], sep="\n")' "$golden/$1/case.json")
  rm -rf "$2"
  (cd "$golden/$1" && LD_LIBRARY_PATH=${LIBRARY:-$scratch/lib} "$binary" merge "${args[@]}" --output "$2" --quiet "${@:3}" 2>&1)
}
same() { # FOLDER FOLDER: the weights
  (cd "$1" && find . -name '*.safetensors' -exec cmp {} "$2/{}" \;) && [ -n "$(find "$1" -name '*.safetensors')" ]
}

for case in dora-bf16 dora-conv1d dora-embedding conv2d embedding all-linear comma-list; do
  merge "$case" "$scratch/cpu" --device cpu
  merge "$case" "$scratch/gpu" --device cuda
  say "$case: the bytes of the CPU" same "$scratch/cpu" "$scratch/gpu"
  merge "$case" "$scratch/other" --device cuda --part-size 4KiB --memory 16MiB --threads 1
  say "$case: the same with parts of 4 KiB, 16 MiB of memory, one thread" same "$scratch/gpu" "$scratch/other"
  CUDA_SHIM_MEMORY=$((130 << 20)) merge "$case" "$scratch/other" --device cuda
  say "$case: the same on a device with room for one slot" same "$scratch/gpu" "$scratch/other"
  for stream in 0 1 2 3; do
    CUDA_SHIM_DELAY_US=2000 CUDA_SHIM_SLOW_STREAM=$stream merge "$case" "$scratch/other" --device cuda
    say "$case: the same with stream $stream slow" same "$scratch/gpu" "$scratch/other"
  done
done

# Killed a few times on the way, then finished.
args=(all-linear "$scratch/killed" --device cuda --part-size 4KiB --memory 16MiB)
merge all-linear "$scratch/whole" --device cuda --part-size 4KiB --memory 16MiB
for after in 0.3 0.5 0.7 0.9; do
  (cd "$golden/all-linear" && mapfile -t a < <("$python" -c 'import json; print(*json.load(open("case.json"))["args"], sep="\n")') &&
    CUDA_SHIM_DELAY_US=3000 LD_LIBRARY_PATH=$scratch/lib timeout -s KILL "$after" "$binary" merge "${a[@]}" \
      --output "$scratch/killed" --quiet "${args[@]:2}") > "$scratch/kill.log" 2>&1 || true
done 2> "$scratch/killed.log"
(cd "$golden/all-linear" && mapfile -t a < <("$python" -c 'import json; print(*json.load(open("case.json"))["args"], sep="\n")') &&
  LD_LIBRARY_PATH=$scratch/lib "$binary" merge "${a[@]}" --output "$scratch/killed" --quiet "${args[@]:2}")
say "the same after kills" same "$scratch/whole" "$scratch/killed"

ends() { # NAME CODE PATTERN OPTIONS...: exit code and message
  local code=0 text
  text=$(timeout 120 env "${ENVIRONMENT[@]}" bash -c "$(declare -f merge); merge \"\$@\"" - all-linear "$scratch/fault" "${@:4}") || code=$?
  if [ "$code" = "$2" ] && grep -q "$3" <<< "$text"; then echo "ok   $1"; else echo "FAIL $1: exit $code: $text"; failed=1; fi
}
export scratch golden python binary
export LIBRARY
fault() { # VARIABLES... -- NAME CODE PATTERN OPTIONS...
  ENVIRONMENT=()
  while [ "$1" != -- ]; do ENVIRONMENT+=("$1"); shift; done
  shift
  ends "$@"
}
LIBRARY=$scratch/lib
fault CUDA_SHIM_DEVICES=0 -- "no device" 2 "finds no device" --device cuda
fault CUDA_SHIM_DEVICES=0 -- "no device, auto: the CPU" 0 "" --device auto
fault CUDA_SHIM_DEVICES=2 -- "a device that is not there" 2 "no device 5" --device cuda:5
fault CUDA_SHIM_DEVICES=2 -- "two devices" 0 "" --device cuda
fault CUDA_SHIM_DRIVER=11080 -- "an old driver" 2 "for CUDA 11.8" --device cuda
fault CUDA_SHIM_CAPABILITY=61 -- "an old card" 2 "capability 6.1" --device cuda
fault CUDA_SHIM_CUBLAS=130000 -- "another cuBLAS" 2 "version 13" --device cuda
fault CUDA_SHIM_WRONG_BITS=1 -- "wrong bits are found by the self-test" 2 "wrong bits" --device cuda
fault CUDA_SHIM_WRONG_BITS=1 -- "wrong bits, auto: the CPU" 0 "" --device auto
fault NVIDIA_TF32_OVERRIDE=1 -- "an override of the arithmetic" 2 "NVIDIA_TF32_OVERRIDE" --device cuda
fault CUDA_SHIM_GEMM_LAUNCH=13 -- "a cuBLAS that fails" 2 "cuBLAS answers" --device cuda
fault CUDA_SHIM_MEMORY=$((16 << 20)) -- "a device that is too small" 2 "memory is full" --device cuda
fault CUDA_SHIM_ILLEGAL_AT=3 -- "an illegal address in the self-test" 2 "illegal" --device cuda
# The self-test is done after 54 launches.
fault CUDA_SHIM_ILLEGAL_AT=70 -- "an illegal address on the way" 1 "illegal memory access" --device cuda
# The first are the ring's and its slots', then come those of the self-test, then factors.
for k in $(seq 1 45); do
  code=0
  (export CUDA_SHIM_FAIL_ALLOC=$k && merge all-linear "$scratch/fault" --device cuda > "$scratch/alloc.log") || code=$?
  if [ "$code" = 0 ]; then
    same "$scratch/fault" "$scratch/whole" || { echo "FAIL allocation $k: other bytes"; failed=1; }
  elif [ "$code" != 2 ] || ! grep -q "memory" "$scratch/alloc.log"; then
    echo "FAIL allocation $k: exit $code: $(cat "$scratch/alloc.log")"; failed=1
  fi
done
echo "ok   one allocation of 45 fails: the same bytes, or refused at the start"
LIBRARY=$scratch/old
fault A=1 -- "a library without a function" 2 "no cublasGemmEx" --device cuda
LIBRARY=$scratch/alone
fault A=1 -- "a driver without cuBLAS" 2 "libcublas.so.12 cannot be loaded" --device cuda
LIBRARY=$scratch/none
fault A=1 -- "no driver" 2 "libcuda.so.1 cannot be loaded" --device cuda
fault A=1 -- "no driver, auto: the CPU" 0 "" --device auto

tail -1 "$scratch/golden.log"
[ "$failed" = 0 ] && echo "all as described"
exit "$failed"
