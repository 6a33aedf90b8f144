#!/usr/bin/env bash
# Installs the packages that are missing, where apt-get can; elsewhere lists them by each distribution's names and leaves it at that.
#
#   dev/setup.sh [COMPILER]      as `make setup` and `make train` call it
set -euo pipefail
cxx=${1:-g++}
compiler='new                     g++                   gcc-c++             gcc            gxx'
if [[ $cxx == *clang* ]]; then
  compiler='new                   clang                 clang               clang          clangxx'
fi
# What a file includes, and the packages that have it. Only the tests need the last two.
packages="$compiler
fmt/format.h                      libfmt-dev            fmt-devel           fmt            fmt
nlohmann/json.hpp                 nlohmann-json3-dev    json-devel          nlohmann-json  nlohmann_json
xxhash.h                          libxxhash-dev         xxhash-devel        xxhash         xxhash
pcre2.h                           libpcre2-dev          pcre2-devel         pcre2          pcre2
zlib.h                            zlib1g-dev            zlib-devel          zlib           zlib
zstd.h                            libzstd-dev           libzstd-devel       zstd           zstd
gtest/gtest.h                     libgtest-dev          gtest-devel         gtest          gtest
boost/context/detail/fcontext.hpp libboost-context-dev  boost-devel         boost          libboost-devel"

if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
  missing=()
  for package in $(awk '{ gsub(",", " ", $2); print $2 }' <<<"$packages"); do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  ((${#missing[@]})) || exit 0
  root=()
  if (($(id -u))); then root=(sudo); fi
  if ((${#root[@]} == 0)) || command -v sudo >/dev/null; then
    echo "installing ${missing[*]}"
    "${root[@]}" apt-get update -q
    exec "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  fi
fi

# Without a compiler every header is missing.
found=$(awk '{ print "#if __has_include(<" $1 ">)\nfound " $1 "\n#endif" }' <<<"$packages" |
  $cxx -std=c++20 -E -P -x c++ - 2>/dev/null) || true
missing=$(while read -r header names; do grep -qx "found $header" <<<"$found" || echo "$header $names"; done <<<"$packages")
[[ $missing ]] || exit 0
{
  echo "note: headers were not found; the build goes on without them as far as it comes. The packages that have them:"
  { echo "header Debian Fedora Arch conda-forge"; echo "$missing"; } | awk '{ printf "  %-34s%-22s%-20s%-15s%s\n", $1, $2, $3, $4, $5 }'
} >&2
