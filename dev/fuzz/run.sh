#!/usr/bin/env bash
# Runs the fuzzers that `make fuzz` built, one after another, and prints a row for each:
#
#   dev/fuzz/run.sh [RUNS [FUZZER...]]      the large files, then RUNS inputs (1000), of these fuzzers (all)
#
# The first finding of a fuzzer ends it. Its input lies in build/fuzz/found/, or is the large file that the row names, and is run
# again by build/fuzz_FUZZER FILE. The exit code is 1 if there is any. Inputs that reached new code stay in build/fuzz/corpus/, where
# the next run starts from.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
runs=${1:-1000}
shift || true
[ $# -gt 0 ] || set -- $(basename -s .cpp dev/fuzz/*.cpp)
work=$build/fuzz
TMPDIR=$(mktemp -d /dev/shm/fuzz_XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
export ASAN_OPTIONS=detect_stack_use_after_return=0:handle_abort=1:quarantine_size_mb=8:malloc_context_size=1
export LLVM_PROFILE_FILE=/dev/null
llvm=$(dirname "$(readlink -f "$(command -v "${FUZZ_CXX:-$(command -v clang++-19 clang++-16 clang++ | head -1)}")")")
mkdir -p "$work/found" "$work/log" "$work/seeds"
"$build/fuzz_seeds" "$work/seeds"
# A single allocation above malloc_limit_mb, or all of them above rss_limit_mb, is a finding. So are 2 s of processor time, which
# fuzz.h measures; -timeout, by the clock, only ends what hangs.
limits="-timeout=60 -malloc_limit_mb=256 -rss_limit_mb=1024"

echo "| fuzzer | runs | runs/s | corpus | lines reached of what it covers | peak memory | slowest | slowest large file | findings |"
echo "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |"
bad=0
for name in "$@"; do
  mkdir -p "$work/corpus/$name"
  log=$work/log/$name
  found=none
  stat() { sed -nE "s/^stat::$1: *//p" "$log" | tail -1; }
  large=0
  for file in "$work/seeds/large/$name"/*; do
    [ -e "$file" ] || continue
    "$build/fuzz_$name" $limits "$file" >"$log" 2>&1 || { bad=1; found=$file; cp "$log" "$log.large"; break; }
    took=$(stat slowest_input_ms)
    [ "$took" -le "$large" ] || large=$took
  done
  LLVM_PROFILE_FILE=$work/$name.profraw "$build/fuzz_$name" -runs="$runs" $limits -max_len=8192 -print_final_stats=1 \
    -artifact_prefix="$work/found/$name-" "$work/corpus/$name" "$work/seeds/small/$name" >"$log" 2>&1 ||
    { bad=1; found=$(grep -aoE "$work/found/[^ ]+" "$log" | tail -1); }
  "$llvm/llvm-profdata" merge "$work/$name.profraw" -o "$work/$name.profdata" 2>/dev/null || true
  lines=$("$llvm/llvm-cov" export -summary-only -instr-profile="$work/$name.profdata" "$build/fuzz_$name" \
    $(sed -n 's|^// Covers: ||p' "dev/fuzz/$name.cpp") 2>/dev/null |
    grep -oE '"filename":"[^"]*"|"lines":\{"count":[0-9]+,"covered":[0-9]+' | tr -d '\n' | sed 's/"filename"/\n&/g' |
    sed -nE 's/"filename":"([^"]*\/)?([^"/]+)"+"lines":\{"count":([0-9]+),"covered":([0-9]+).*/\2 \4\/\3/p' | paste -sd, | sed 's/,/, /g')
  echo "| $name | $(stat number_of_executed_units) | $(stat average_exec_per_sec) | $(ls "$work/corpus/$name" | wc -l) | ${lines:-?} |" \
    "$(stat peak_rss_mb) MB | $(stat slowest_input_ms) ms | $large ms | $found |"
done
exit $bad
