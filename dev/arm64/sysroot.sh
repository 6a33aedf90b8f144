#!/usr/bin/env bash
# Unpacks Debian's arm64 libraries into a directory, as the --sysroot of a cross compiler. Installs the cross compiler and qemu.
#
#   dev/arm64/sysroot.sh DIRECTORY
set -euo pipefail
root=$(realpath -m "$1")
libraries=(libc6-dev libfmt-dev libxxhash-dev libpcre2-dev zlib1g-dev libzstd-dev nlohmann-json3-dev libgtest-dev libboost-context-dev)
command -v aarch64-linux-gnu-g++ qemu-aarch64 >/dev/null 2>&1 || {
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends g++-aarch64-linux-gnu qemu-user
}
# A package list and cache of its own, in which nothing is installed: all that the libraries need is downloaded too.
mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial"
: >"$root/apt/status"
apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$root/apt" -o Dir::State::Lists="$root/apt/lists"
  -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
"${apt[@]}" install -y --download-only --no-install-recommends "${libraries[@]}"
for package in "$root"/apt/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
rm -r "$root/apt"
touch "$root/ready"
