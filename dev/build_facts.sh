#!/bin/sh
# Writes what `--version` says of this build as options of the compiler: dev/build_facts.sh FILE [NVCC CUDA_ARCHS]
# The file is written only if it changes, so that what depends on it is compiled again then alone.
set -eu
cd "$(dirname "$0")/.."
commit=unknown
if [ -e .git ]; then
  commit=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
else # an archive that `git archive` made has the commit in the file
  read -r archived <dev/commit.txt
  case $archived in *Format*) ;; *) commit=$archived ;; esac
fi
cuda=none
[ -z "${2:-}" ] || cuda="$("$2" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') for $3"
facts=$(printf "'-DTLL_COMMIT=\"%s\"'\n'-DTLL_CUDA=\"%s\"'" "$commit" "$cuda")
[ -e "$1" ] && [ "$facts" = "$(cat "$1")" ] || printf '%s\n' "$facts" >"$1"
