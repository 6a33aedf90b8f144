#!/usr/bin/env bash
# Packs what `make dist` linked into train_llama_lora-VERSION-ARCH.tar.gz: dev/dist.sh BUILD
# BUILD/dist holds the program, BUILD/static the libraries in it.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1/dist/train_llama_lora
strip "$program"

# What every Linux with a new enough glibc has.
foreign=$(objdump -p "$program" | awk '$1 == "NEEDED" { print $2 }' | grep -vE '^(libc|libm|libdl|librt|libpthread|ld-linux-.*)\.so' || true)
[ -z "$foreign" ] || { echo "error: $program needs libraries that should be in it: ${foreign//$'\n'/ }"; exit 1; }
glibc=$(objdump -T "$program" | sed -n 's/.*(GLIBC_\([0-9.]*\)).*/\1/p' | sort -uV | tail -1)

version=$("$program" --version | awk 'NR == 1 { print $2 }')
name=train_llama_lora-$version-$(uname -m)
folder=$1/dist/$name
rm -rf "$folder"
mkdir -p "$folder/licences" "$folder/data"
cp "$program" LICENSE README.md "$folder"
cp -r data/demo "$folder/data"
# As Debian keeps them. The libraries of g++ are under the GPL with an exception that lets any program be linked with them.
for package in libfmt-dev nlohmann-json3-dev $(realpath "$1"/static/*.a | xargs dpkg -S | cut -d: -f1); do
  cp -L "/usr/share/doc/$package/copyright" "$folder/licences/$package.txt"
done
cat >"$folder/INSTALL" <<TEXT
$("$program" --version)

Runs on Linux ($(uname -m)) with glibc $glibc or later; no package needs to be installed. The first command:

    ./train_llama_lora --data data/demo/squad.json

licences/ is of what is linked into the program.
TEXT
tar -C "$1/dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" -czf "$name.tar.gz" "$name"
echo "$name.tar.gz: $(stat -c %s "$name.tar.gz") bytes; the program has $(stat -c %s "$program") and needs glibc $glibc"
