#!/usr/bin/env bash
# Changes the code one place at a time and looks whether a test fails: cargo-mutants over merge/ and the schedule.
#
#   tests/mutants.sh --sample 100 [--seed 1]     a random sample; the same seed gives the same mutants of the same code
#   tests/mutants.sh --since REF                 the mutants of lines that changed since a commit
#   tests/mutants.sh --match REGEX               the mutants whose names match, such as 'plan/cost.rs'
#   tests/mutants.sh --shard K/N                 one of N shares, K from 0 on
#   tests/mutants.sh                             all of them; the options above can be combined
#
#   --at-least PERCENT   fail if fewer of the viable mutants are caught (default 90)
#   --rounds 1           only the tests of the mutant's own crate
#   --output FOLDER      where lists and logs go (default target/mutants); missed.txt has the mutants that no test catches
#   -- OPTIONS           for cargo mutants, such as `--baseline skip --timeout 300`
#
# Two rounds. First the tests of the mutant's own crate, which take seconds. What they miss is tried again with the tests of all
# crates, the golden cases and the end-to-end tests. A test that runs too long counts as a failure, so the mutant is caught.
# Works on a copy of the checkout. Installs cargo-mutants into ~/.cache/shardfuse/mutants.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VERSION=27.1.0
tools=${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/mutants

sample="" seed=1 shard=0/1 since="" match="" least=90 rounds=2 output=$root/target/mutants
while (($#)) && [[ $1 != -- ]]; do
  [[ $# -gt 1 ]] || { echo "error: $1 needs a value, or is not known; see the head of $0" >&2; exit 2; }
  case $1 in
    --sample) sample=$2 ;;
    --seed) seed=$2 ;;
    --shard) shard=$2 ;;
    --since) since=$2 ;;
    --match) match=$2 ;;
    --at-least) least=$2 ;;
    --rounds) rounds=$2 ;;
    --output) output=$(realpath -m "$2") ;;
    *) echo "error: unknown argument $1" >&2; exit 2 ;;
  esac
  shift 2
done
options=("${@:2}")

[[ $("$tools/bin/cargo-mutants" mutants --version 2> /dev/null || true) == "cargo-mutants $VERSION" ]] ||
  "$root/tests/prepare.sh" cargo install --quiet --locked --force --root "$tools" "cargo-mutants@$VERSION"
mutants() { PATH=$tools/bin:$PATH cargo mutants --workspace --colors never "$@"; }

cd "$root"
rm -rf "$output"
mkdir -p "$output"
mutants --list > "$output/all.txt"
if [[ -n $since ]]; then
  git diff "$since" > "$output/since.diff"
  mutants --list --in-diff "$output/since.diff" > "$output/chosen.txt"
else
  cp "$output/all.txt" "$output/chosen.txt"
fi
python3 - "$output/chosen.txt" "$match" "$shard" "${sample:-all}" "$seed" <<'PY'
import hashlib
import re
import sys

path, match, shard, sample, seed = sys.argv[1:]
names = [name for name in open(path).read().splitlines() if re.search(match, name)]
share, shares = map(int, shard.split("/"))
names = names[share::shares]
if sample != "all":
    names = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[: int(sample)]
open(path, "w").writelines(f"{name}\n" for name in sorted(names))
PY
[[ -s $output/chosen.txt ]] || { echo "no mutant is chosen"; exit 0; }

# round NAME MUTANTS OPTIONS...: tries the mutants of a file. cargo-mutants goes on as if it had caught all others before: its
# patterns for names let some kinds of mutants through.
round() {
  local name=$1 list=$2 status=0
  shift 2
  mkdir -p "$output/$name/mutants.out"
  grep -vxFf "$list" "$output/all.txt" > "$output/$name/mutants.out/previously_caught.txt" || true
  echo "== tests of $name: $(wc -l < "$list") mutants"
  mutants --no-shuffle --iterate --output "$output/$name" "$@" || status=$?
  # 2 and 3: mutants were missed, or ran too long. Both are counted below.
  ((status == 0 || status == 2 || status == 3)) || { echo "error: cargo mutants ended with $status" >&2; exit 1; }
  cp "$output/$name/mutants.out/missed.txt" "$output/missed.txt"
}

round own-crate "$output/chosen.txt" "${options[@]}"
if [[ -s $output/missed.txt && $rounds != 1 ]]; then
  cp "$output/missed.txt" "$output/again.txt"
  round all-crates "$output/again.txt" --test-workspace true "${options[@]}" -- --lib --bins --test hub --test conformance --test e2e
fi
chosen=$(wc -l < "$output/chosen.txt") missed=$(wc -l < "$output/missed.txt")
unviable=$(wc -l < "$output/own-crate/mutants.out/unviable.txt")
viable=$((chosen - unviable))
caught=$((viable - missed))
echo "== $chosen of $(wc -l < "$output/all.txt") mutants: $unviable do not compile; of the other $viable, $caught are caught and $missed are not"
sed 's/^/missed: /' "$output/missed.txt"
((caught * 100 >= viable * least)) || { echo "fewer than $least % are caught" >&2; exit 1; }
