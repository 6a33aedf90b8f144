#!/bin/bash
# Measures every rung on a GPU and writes the tables between the markers of dev/ladder/README.md.
#
#   dev/ladder/fill_readme.sh                       builds build/ladder with nvcc and runs it
#   dev/ladder/fill_readme.sh build/ladder_tests    no GPU: the bytes that rungs ask for, without times
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-build/ladder}
[ $# -gt 0 ] || command -v nvcc >/dev/null || { echo "error: nvcc was not found; it belongs to the CUDA Toolkit"; exit 2; }
[ $# -gt 0 ] || make --no-print-directory "$program"

readme=dev/ladder/README.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" --tables >"$work/tables"
for marker in '<!-- tables: ' '<!-- end of tables -->'; do
  [ "$(grep -c "^$marker" $readme)" = 1 ] || { echo "error: $readme should have one line '$marker'"; exit 1; }
done
awk -v tables="$work/tables" '
  /^<!-- end of tables -->/ { skip = 0 }
  !skip { print }
  /^<!-- tables: / { while ((getline line < tables) > 0) print line; skip = 1 }' $readme >"$work/readme"
cp "$work/readme" $readme
