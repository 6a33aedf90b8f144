#!/usr/bin/env bash
# Which lines of the readers the unit tests reach: builds those tests as the fuzzers are built, runs them, and prints the share of
# each file, then every line that refuses an input and was not reached.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
make --no-print-directory "$build/fuzz_reader_tests" >/dev/null
llvm=$(dirname "$(readlink -f "$(command -v "${FUZZ_CXX:-$(command -v clang++-19 clang++-16 clang++ | head -1)}")")")
profile=$build/fuzz/reader_tests
LLVM_PROFILE_FILE=$profile.profraw ASAN_OPTIONS=detect_leaks=0 "$build/fuzz_reader_tests" --gtest_brief=1 | tail -1
"$llvm/llvm-profdata" merge "$profile.profraw" -o "$profile.profdata"
files=$(ls src/base/json*.cpp src/base/file*.cpp src/files/*.cpp data/*.cpp tokenizer/*.cpp src/train/checkpoint.cpp)
# shellcheck disable=SC2086
"$llvm/llvm-cov" show -instr-profile="$profile.profdata" "$build/fuzz_reader_tests" $files |
  awk -F'|' '
    /\.cpp:$/ { file = $0; sub(/:$/, "", file); sub(/^.*\/(src|data|tokenizer)\//, "&", file); match(file, /(src|data|tokenizer)\/[^:]*$/); file = substr(file, RSTART); order[++n] = file }
    NF >= 3 && $2 ~ /[0-9]/ {
      all[file]++
      count = $2; gsub(/ /, "", count)
      if (count == "0") {
        line = $1; gsub(/ /, "", line)
        text = $0; sub(/^[^|]*\|[^|]*\|/, "", text)
        if (text ~ /bad_file|fail\(|refuse|wrong\(|expected\(|not_supported|contradict/) missed[++m] = file ":" line ":" text
      } else reached[file]++
    }
    END {
      for (i = 1; i <= n; i++) { f = order[i]; if (all[f]) printf "%5.1f %%  %4d of %4d  %s\n", 100 * reached[f] / all[f], reached[f], all[f], f; r += reached[f]; a += all[f] }
      printf "%5.1f %%  %4d of %4d  all\n", 100 * r / a, r, a
      for (i = 1; i <= m; i++) print missed[i]
    }'
