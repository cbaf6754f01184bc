#!/usr/bin/env bash
# The GPU path on a machine without a GPU, over the stand-in driver of tests/cuda-shim.
#
#   tests/cuda/run.sh [BINARY]        default: target/release/shardfuse
#
# Holds the PTX that is checked in against a fresh build, builds the stand-in (outside the checkout), runs the golden
# conformance set with --device cuda, holds the bytes against the CPU's, lets each fault happen once, runs fleets whose
# workers have GPUs, and the suite and the bench for a real card. Needs cargo, a C++ compiler and the Python of
# tests/conformance/setup.sh. The compiler of the PTX is downloaded once (about 100 MB, to ~/.cache/shardfuse/cuda).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
binary=$(realpath "${1:-$root/target/release/shardfuse}")
golden=$root/tests/conformance/golden
target=${SHARDFUSE_CUDA_SHIM_TARGET:-$HOME/.cache/shardfuse/cuda-shim}
prepare=$root/tests/prepare.sh
python=$("$prepare" "$root/tests/conformance/setup.sh")
export PYTHONDONTWRITEBYTECODE=1

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
library() { # FOLDER FEATURES...: the stand-in under its three names
  (cd "$here/../cuda-shim" && CARGO_TARGET_DIR=$target "$prepare" cargo build --quiet "${@:2}")
  mkdir -p "$scratch/$1"
  cp "$target/debug/libcuda_shim.so" "$scratch/$1/libcuda.so.1"
  ln -s libcuda.so.1 "$scratch/$1/libcublas.so.12"
  ln -s libcuda.so.1 "$scratch/$1/libnvidia-ml.so.1"
}
library old --features without-gemm
library lib
# As CUDA 13 is installed.
mkdir "$scratch/newer" && cp "$scratch/lib/libcuda.so.1" "$scratch/newer/" && ln -s libcuda.so.1 "$scratch/newer/libcublas.so.13"
mkdir "$scratch/alone" && cp "$scratch/lib/libcuda.so.1" "$scratch/alone/"
# The least memory that one tile under way takes: half of it is page-locked.
least=81MiB

wrapper=$scratch/shardfuse
printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@" --device cuda\n' "$scratch/lib" "$binary" > "$wrapper"
chmod +x "$wrapper"

failed=0
say() { # NAME CONDITION...
  if "${@:2}"; then echo "ok   $1"; else echo "FAIL $1"; failed=1; fi
}

say "the PTX is what kernels.cu compiles to, and assembles for every architecture" "$root/worker/src/device/cuda/build-ptx.sh"

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
  merge "$case" "$scratch/other" --device cuda --part-size 4KiB --memory $least --threads 1
  say "$case: the same with parts of 4 KiB, the least memory, one thread" same "$scratch/gpu" "$scratch/other"
  CUDA_SHIM_MEMORY=$((130 << 20)) merge "$case" "$scratch/other" --device cuda
  say "$case: the same on a device with room for one slot" same "$scratch/gpu" "$scratch/other"
  for stream in 0 1 2 3; do
    CUDA_SHIM_DELAY_US=2000 CUDA_SHIM_SLOW_STREAM=$stream merge "$case" "$scratch/other" --device cuda
    say "$case: the same with stream $stream slow" same "$scratch/gpu" "$scratch/other"
  done
done

# Killed a few times on the way, then finished.
args=(all-linear "$scratch/killed" --device cuda --part-size 4KiB --memory $least)
merge all-linear "$scratch/whole" --device cuda --part-size 4KiB --memory $least
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
  if [ "$code" = "$2" ] && grep -q -e "$3" <<< "$text"; then echo "ok   $1"; else echo "FAIL $1: exit $code: $text"; failed=1; fi
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
fault CUDA_SHIM_DRIVER=11080 -- "an old driver" 2 "for CUDA 11.8" --device cuda
fault CUDA_SHIM_CAPABILITY=61 -- "an old card" 2 "capability 6.1" --device cuda
fault CUDA_SHIM_CUBLAS=140000 -- "a later cuBLAS than is known" 2 "version 14" --device cuda
fault CUDA_SHIM_WRONG_BITS=1 -- "wrong bits are found by the self-test" 2 "wrong bits" --device cuda
fault CUDA_SHIM_WRONG_BITS=1 -- "wrong bits, auto: the CPU" 0 "" --device auto
fault NVIDIA_TF32_OVERRIDE=1 -- "an override of the arithmetic" 2 "NVIDIA_TF32_OVERRIDE" --device cuda
fault CUDA_SHIM_GEMM_LAUNCH=13 -- "a cuBLAS that fails" 2 "cuBLAS answers" --device cuda
fault CUDA_SHIM_MEMORY=$((16 << 20)) -- "a device that is too small" 2 "memory is full" --device cuda
fault CUDA_SHIM_ILLEGAL_AT=3 -- "an illegal address in the self-test" 2 "illegal" --device cuda
# The self-test is done after 54 launches and 27 copies to the device.
fault CUDA_SHIM_ILLEGAL_AT=70 -- "an illegal address on the way" 1 "illegal memory access" --device cuda
fault CUDA_SHIM_HANG_AT=3 -- "a device that hangs in the self-test" 2 "hang" --device cuda --gpu-patience 10s
fault CUDA_SHIM_HANG_AT=3 -- "a device that hangs in the self-test, auto: the CPU" 0 "" --device auto --gpu-patience 10s
fault CUDA_SHIM_HANG_AT=70 -- "a kernel that never ends" 1 "it hangs" --device cuda --gpu-patience 10s
fault CUDA_SHIM_HANG_COPY_AT=28 -- "a factor that never arrives" 1 "it hangs" --device cuda --gpu-patience 10s
fault CUDA_SHIM_HANG_COPY_AT=40 -- "weights that never arrive" 1 "it hangs" --device cuda --gpu-patience 10s

# Page-locked memory is a part of --memory: as many buffers as fit, and a refusal that says the least.
small=(--device cuda --part-size 4KiB)
fault A=1 -- "too little memory for one buffer" 2 "--memory 81MiB is the smallest" "${small[@]}" --memory 80MiB
fault CUDA_SHIM_DEVICES=2 -- "too little memory for one buffer each" 2 "--memory 161MiB is the smallest" "${small[@]}" --memory 160MiB
for buffers in 1:81 1:160 2:161 3:300 4:321 4:512; do
  fault SHARDFUSE_LOG=shardfuse_worker=debug NO_COLOR=1 -- "${buffers#*:} MiB: ${buffers%:*} buffers" 0 "slots=${buffers%:*}" \
    "${small[@]}" --memory "${buffers#*:}MiB"
done

# What has no path on the device is fused on the CPU, and that is said once for all tensors like it: here, too many steps.
many=()
for i in $(seq 63); do
  # The same folder twice would be one adapter of twice the weight.
  cp -r "$golden/all-linear/adapter" "$scratch/adapter-$i"
  many+=(--lora "$scratch/adapter-$i")
done
said=$(SHARDFUSE_LOG=shardfuse_worker=info NO_COLOR=1 merge all-linear "$scratch/gpu" --device cuda "${many[@]}" | grep "no path for this" || true)
merge all-linear "$scratch/cpu" --device cpu "${many[@]}"
say "64 adapters: the bytes of the CPU" same "$scratch/cpu" "$scratch/gpu"
once() { [ "$(grep -c "64 steps, more than 63" <<< "$said")" = 1 ]; }
say "64 adapters: the CPU takes over, and says so once" once
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
fault A=1 -- "a driver without cuBLAS" 2 "neither libcublas.so.12 nor libcublas.so.13 can be loaded" --device cuda
LIBRARY=$scratch/newer
fault CUDA_SHIM_CUBLAS=130100 SHARDFUSE_LOG=shardfuse_worker=debug NO_COLOR=1 -- "cuBLAS of CUDA 13" 0 ":13.1.0" --device cuda
LIBRARY=$scratch/none # no such folder
fault A=1 -- "no driver" 2 "libcuda.so.1 cannot be loaded" --device cuda
fault A=1 -- "no driver, auto: the CPU" 0 "" --device auto

python3 "$here/fleets.py" "$binary" "$scratch/lib" || failed=1

# The suite and the bench for a real card, as programs: their figures here are a CPU's and mean nothing.
card() { # NAME PATTERN COMMAND...
  local text code=0
  text=$(cd "$root" && LD_LIBRARY_PATH=$scratch/lib "${@:3}" 2>&1) || code=$?
  if [ "$code" = 0 ] && grep -q -e "$2" <<< "$text"; then echo "ok   $1"; else echo "FAIL $1: exit $code: $text"; failed=1; fi
}
(cd "$root" && "$prepare" cargo test --quiet --workspace --test gpu --no-run)
(cd "$root" && "$prepare" cargo bench --quiet --profile dev --workspace --bench gpu --no-run)
card "the suite for a card" "4 passed" cargo test --quiet --workspace --test gpu -- --ignored gpu
# Summed in another order, as a card does: the largest differences are within their bounds, and are not 0.
backwards() {
  CUDA_SHIM_BACKWARDS=1 cargo test --quiet --workspace --test gpu -- --ignored gpu --nocapture --test-threads 1 |
    tee "$scratch/ulp" && awk '$2 == "F32" && $7 > 0 { n++ } END { exit n < 10 }' "$scratch/ulp"
}
export -f backwards && export scratch
card "the suite for a card, products summed in another order" "4 passed" bash -o pipefail -c backwards
card "the bench for a card" "TFLOP/s" cargo bench --quiet --profile dev --workspace --bench gpu -- 4
card "no device: the bench says so" "no device: the NVIDIA driver finds no device" \
  bash -c '! CUDA_SHIM_DEVICES=0 cargo bench --quiet --profile dev --workspace --bench gpu -- 4'

tail -1 "$scratch/golden.log"
[ "$failed" = 0 ] && echo "all as described"
exit "$failed"
