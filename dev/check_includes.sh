#!/usr/bin/env bash
# Includes run one way: a room uses those above it in this list, and itself. Prints each include that does not, and their number;
# exit code 1 if there are any. Tests and dev/ may include everything, and nothing here may include them.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
# room: the rooms that it may use
rooms='
src/base:
kernels:      src/base emulator
tokenizer:    src/base
data:         src/base tokenizer
src/files:    src/base kernels
src/ranks:    src/base kernels
src/model:    src/base kernels src/files src/ranks
src/train:    src/base kernels tokenizer data src/files src/ranks src/model
src/report:   src/base kernels src/files src/ranks src/model
src/options:  src/base kernels data src/files src/ranks src/model src/train src/report
src/commands: src/base kernels tokenizer data src/files src/ranks src/model src/train src/report src/options
.:            src/base src/ranks src/report src/options src/commands
'
without=$(grep -rl --include='*.h' --include='*.cpp' 'fmt::join' kernels src tokenizer data tests dev | xargs grep -L 'fmt/ranges.h' || true)
[[ -z $without ]] || { echo "these use fmt::join without <fmt/ranges.h>, where {fmt} 11 and later have it:" $without; exit 1; }
find kernels src tokenizer data train_llama_lora.cu -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort |
  xargs grep -n '^ *# *include "' | awk -F: -v rooms="$rooms" '
    function room_of(path) { return path ~ /\// ? substr(path, 1, match(path, /\/[^\/]*$/) - 1) : "." }
    BEGIN {
      n = split(rooms, lines, "\n")
      for (i = 1; i <= n; i++) {
        if (lines[i] !~ /:/) continue
        split(lines[i], parts, ":")
        allowed[parts[1]] = " " parts[1] " " parts[2] " "
      }
    }
    {
      split($3, quoted, "\"")
      room = room_of($1)
      if (!(room in allowed)) { print $1 ": " room " is no room of this list"; bad++; next }
      if (index(allowed[room], " " room_of(quoted[2]) " ") == 0) { print $1 ":" $2 ": " room " must not use " quoted[2]; bad++ }
      all++
    }
    END { printf "%d includes, %d against the order of rooms\n", all, bad; exit bad > 0 }'
