#!/bin/bash
# Registers and spills of the hot kernels, as ptxas reports them. Fails if one spills, or if a block would not fit the registers.
#
#   dev/check_spills.sh [sm...]          default: 75 80 90
set -euo pipefail
cd "$(dirname "$0")/.."
command -v nvcc >/dev/null || { echo "error: nvcc was not found; it belongs to the CUDA Toolkit"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for arch in "${@:-75 80 90}"; do
  for sm in $arch; do
    for file in attention attention_backward matmul rmsnorm cross_entropy; do
      nvcc -std=c++20 -O3 -I. -DFMT_USE_CONSTEXPR=1 -Werror all-warnings -arch="sm_$sm" -Xptxas -v -cubin -o "$work/out.cubin" \
        "kernels/$file.cu" 2>>"$work/report" || { cat "$work/report"; exit 1; }
    done
  done
done

c++filt <"$work/report" | awk '
  /Compiling entry function/ {
    split($0, quoted, "\x27"); name = quoted[2]; sm = quoted[4]
    sub(/\(.*/, "", name); sub(/^void /, "", name); gsub(/tll::|\(anonymous namespace\)::/, "", name)
  }
  /bytes stack frame/ {
    for (i = 1; i <= NF; i++) { if ($i == "spill" && $(i + 1) ~ /^stores/) stores = $(i - 2); if ($i == "stack") stack = $(i - 2) }
  }
  /Used [0-9]+ registers/ {
    for (i = 1; i <= NF; i++) if ($i == "Used") registers = $(i + 1)
    bad = stores > 0
    spills += bad; kernels++
    printf "%-7s %4d registers %5d bytes spilled %5d stack  %s%s\n", sm, registers, stores, stack, name, bad ? "   SPILLS" : ""
  }
  END { printf "%d kernels, %d spill\n", kernels, spills; exit spills > 0 || kernels == 0 }'
