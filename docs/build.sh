#!/usr/bin/env bash
# Builds the book of docs/ and checks its links.
#
#   docs/build.sh [FOLDER]     default: target/book
#
# mdBook is built once by cargo, at the version below and from its own lock file, into
# ${XDG_CACHE_HOME:-~/.cache}/shardfuse/mdbook-VERSION. SHARDFUSE_MDBOOK names another mdbook. Links to other hosts are not
# fetched.
set -euo pipefail

VERSION=0.5.4
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
book=$(realpath -m "${1:-$root/target/book}")

# Prints the path of an mdbook.
mdbook() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/mdbook-$VERSION
    if [[ -n ${SHARDFUSE_MDBOOK:-} ]]; then
        echo "$SHARDFUSE_MDBOOK"
        return
    fi
    mkdir -p "$cache"
    exec 9>"$cache.lock"
    flock 9 # two runs at once: the second waits and finds the work done
    # In the cache's folder, so that no configuration of the checkout applies to another project's build.
    if [[ ! -x $cache/bin/mdbook ]] &&
        ! (cd "$cache" && "$root/tests/prepare.sh" \
            cargo install --quiet --locked --no-default-features --root "$cache" "mdbook@$VERSION") >&2; then
        echo "docs/build.sh: mdbook $VERSION cannot be built; SHARDFUSE_MDBOOK may name one that is installed" >&2
        exit 1
    fi
    echo "$cache/bin/mdbook"
}

mdbook=$(mdbook)
"$mdbook" build "$root/docs" --dest-dir "$book"
rm "$book/book.toml" "$book/build.sh" # mdBook copies every file that is no page
python3 "$root/tests/book/links.py" "$book"
