#!/usr/bin/env bash
# tree.sh BINARY DIR: lays out below DIR what an installation has, as in /usr: the binary, man pages, completions, licence. Used by
# the archive and by the Debian package.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$1") dir=$2

install -D -m 755 "$binary" "$dir/bin/shardfuse"
"$binary" man --dir "$dir/share/man/man1"
completion() { # SHELL FILE
  mkdir -p "$dir/share/$(dirname "$2")"
  "$binary" completions "$1" > "$dir/share/$2"
}
completion bash bash-completion/completions/shardfuse
completion zsh zsh/vendor-completions/_shardfuse
completion fish fish/vendor_completions.d/shardfuse.fish
install -D -m 644 "$root/LICENSE" "$dir/share/doc/shardfuse/LICENSE"
install -D -m 644 "$root/CHANGELOG.md" "$dir/share/doc/shardfuse/CHANGELOG.md"
