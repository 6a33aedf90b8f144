#!/usr/bin/env bash
# Files that are compiled several at a time ("unity build"), which reads their headers and instantiates their templates once.
#
#   dev/batches.sh BUILD ROOM...     writes BUILD/batches/ROOM-N.cpp, which include SIZE files of src/ROOM each, and prints their objects
set -euo pipefail
SIZE=8
build=$1
shift
mkdir -p "$build/batches"
for room in "$@"; do
  files=(src/"$room"/*.cpp)
  for ((first = 0; first < ${#files[@]}; first += SIZE)); do
    batch=$build/batches/$room-$((first / SIZE)).cpp
    text=$(printf '#include "%s"\n' "${files[@]:first:SIZE}")
    # Only what changed is written, so that only that is compiled again.
    [ "$(cat "$batch" 2>/dev/null)" = "$text" ] || echo "$text" >"$batch"
    echo "${batch%.cpp}.o"
  done
done
