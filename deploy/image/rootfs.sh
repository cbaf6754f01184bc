#!/usr/bin/env bash
# rootfs.sh BINARY DIR: collects into DIR what the image holds: the binary without its debugging symbols, every library that
# the loader names for it, the name resolution that glibc loads by itself, certificate authorities, and a user.
set -euo pipefail
binary=$1 dir=$2

rm -rf "$dir"
mkdir -p "$dir"/{usr/bin,etc/ssl/certs,tmp}
chmod 1777 "$dir/tmp"
strip --strip-debug -o "$dir/usr/bin/shardfuse" "$binary"

# Each library at the place where the loader found it. `ldd` prints `name => path (address)`, and the loader itself as a path.
copy_library() {
  local place=$1
  mkdir -p "$dir$(dirname "$place")"
  install -m 755 "$(readlink -f "$place")" "$dir$place"
}
libraries=$(ldd "$binary")
if grep -q "not found" <<< "$libraries"; then
  echo "error: a library of $binary is missing here: $libraries" >&2
  exit 1
fi
while read -r place; do
  copy_library "$place"
done < <(grep -o '/[^ ]*' <<< "$libraries")
# dlopen'ed by name: thread cancellation wants libgcc_s, look-ups want libresolv and the two services of nsswitch.conf, and
# CUDA's libraries want the old stubs of libdl, librt and libpthread.
libc=$(grep -o '/[^ ]*libc\.so\.6' <<< "$libraries")
for name in libgcc_s.so.1 libresolv.so.2 libnss_dns.so.2 libnss_files.so.2 libdl.so.2 librt.so.1 libpthread.so.0; do
  place=$(dirname "$libc")/$name
  [[ -e $place ]] && copy_library "$place"
done

echo "hosts: files dns" > "$dir/etc/nsswitch.conf"
echo "shardfuse:x:65532:65532::/nonexistent:/sbin/nologin" > "$dir/etc/passwd"
echo "shardfuse:x:65532:" > "$dir/etc/group"
authorities=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
install -m 644 "$authorities" "$dir/etc/ssl/certs/ca-certificates.crt"
