#!/usr/bin/env bash
# packages.sh PROGRAM=PACKAGE...: installs those of Debian's packages whose program is missing here, as root, without starting
# the services that they bring. A name without `=` is both.
set -euo pipefail
missing=()
for pair; do
  command -v "${pair%%=*}" > /dev/null || missing+=("${pair##*=}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0
if ((EUID != 0)) || ! command -v apt-get > /dev/null; then
  echo "error: missing here: ${missing[*]}; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "== installing ${missing[*]}" >&2
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
fi
apt-get update -qq >&2
DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends "${missing[@]}" >&2
