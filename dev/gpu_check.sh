#!/usr/bin/env bash
# One check for any machine that has a GPU: builds, tests, compute-sanitizer, benches, throughput; one short table last.
#
#   dev/gpu_check.sh [--from DIR] [--stages A,B,…] [--budget SECONDS] [--output DIR]
#   dev/gpu_check.sh --bundle [DIR]      run elsewhere: gathers in DIR (.gpu_bundle) what such a machine may lack
#   dev/gpu_check.sh --dry-run           the stages on the emulator and the CPU, at tiny sizes: a test of this script
#
# Needed: the CUDA toolkit, a C++20 compiler, make, and for the comparison Python with PyTorch and transformers. No registry is
# asked: headers and libraries that are missing, peft and what it needs come from the bundle, --from DIR (.gpu_bundle, if it is there).
#
# Stages, in this order: build probe gradients bench throughput sanitizers tests. The whole takes less than --budget (470) seconds:
# each stage has its own limit, one for which no time is left is skipped and says so, one that fails does not stop the others.
# All of them together may not fit: --stages build,probe,gradients,sanitizers,tests and --stages build,bench,throughput do.
# Results: gpu_check.json and gpu_check.log in --output ($OUT if it is set, else build/gpu_check), everything else in build/gpu_check.
# Exit code: 0 all stages ok, 1 one failed or ran out of time, 2 no GPU, or a usage error.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

bundle=.gpu_bundle from="" stages=build,probe,gradients,bench,throughput,sanitizers,tests budget=470 dry="" gather=""
output=${OUT:-build/gpu_check} work=build/gpu_check

die() { echo "error: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case $1 in
    --bundle) gather=1; if [ -n "${2:-}" ] && [ "${2#--}" = "$2" ]; then bundle=$2; shift; fi ;;
    --from) from=${2:?--from needs a folder}; shift ;;
    --stages) stages=${2:?--stages needs names}; shift ;;
    --budget) budget=${2:?--budget needs seconds}; shift ;;
    --output) output=${2:?--output needs a folder}; shift ;;
    --dry-run) dry=1 ;;
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) die "unknown option '$1'; --help lists those there are" ;;
  esac
  shift
done
[[ $budget =~ ^[0-9]+$ ]] || die "--budget is a number of seconds, not '$budget'"
for s in ${stages//,/ }; do
  case $s in build|probe|gradients|bench|throughput|sanitizers|tests) ;; *) die "there is no stage '$s'; --help lists them" ;; esac
done

# ---- the bundle: Debian's packages, copied from where they are installed, and wheels -------------------------------------------
packages="libfmt-dev libfmt9 nlohmann-json3-dev libxxhash-dev libxxhash0 libpcre2-dev libpcre2-8-0 zlib1g-dev zlib1g libzstd-dev libzstd1 libgtest-dev ocl-icd-libopencl1 libboost-context1.74-dev"
wheels="peft accelerate psutil"
gather_bundle() {
  local p f size
  tree=$(mktemp -d) || exit 1
  trap 'rm -rf "$tree"' EXIT
  mkdir -p "$bundle" "$tree/include" "$tree/lib"
  for p in $packages; do
    dpkg -L "$p" > "$tree/list" 2> /dev/null || die "the package $p is not installed here; make setup installs what is needed"
    while read -r f; do
      if [ -d "$f" ]; then continue; fi
      case $f in
        /usr/include/*) mkdir -p "$tree/include/$(dirname "${f#/usr/include/}")"; cp -L "$f" "$tree/include/${f#/usr/include/}" ;;
        /usr/lib/*.a|/usr/lib/*.so|/usr/lib/*.so.*|/lib/*.so.*) cp -a "$f" "$tree/lib/" ;;
      esac
    done < "$tree/list"
  done
  # Of Boost's headers those that the emulator includes.
  g++ -std=c++20 -M -I. -Idev/emulator/include dev/emulator/*.cpp | grep -o '/usr/include/boost/[^ ]*' | sed 's|^/usr/include/||' | sort -u |
    while read -r f; do mkdir -p "$tree/include/$(dirname "$f")"; cp -L "/usr/include/$f" "$tree/include/$f"; done
  rm "$tree/list"
  tar -C "$tree" -czf "$bundle/root.tar.gz" include lib || die "$bundle/root.tar.gz could not be written"
  if python3 -m pip --version > /dev/null 2>&1; then
    local platforms=()
    for p in manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux_2_12_x86_64 manylinux2010_x86_64 manylinux1_x86_64; do
      platforms+=(--platform "$p")
    done
    # shellcheck disable=SC2086
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "${PYTHON_VERSION:-3.12}" --implementation cp \
      "${platforms[@]}" -d "$bundle/wheels" $wheels || echo "warning: no wheels of $wheels; the machine needs them itself" >&2
  else
    echo "warning: no pip here, so no wheels of $wheels" >&2
  fi
  if [ -n "${TLL_TEST_DATA:-}" ]; then mkdir -p "$bundle/data"; cp -r "$TLL_TEST_DATA/." "$bundle/data/"; fi
  size=$(du -sm "$bundle" | cut -f1)
  echo "$bundle: $size MiB"
  if [ "$size" -gt 60 ]; then die "the bundle should be at most 60 MiB"; fi
}
if [ -n "$gather" ]; then gather_bundle; exit 0; fi

# ---- the machine -----------------------------------------------------------------------------------------------------------------
if [ -z "$dry" ] && ! nvidia-smi -L 2> /dev/null | grep -q '^GPU'; then
  die "no GPU was found here (nvidia-smi lists none); --dry-run walks through the stages without one"
fi
deadline=$((SECONDS + budget))
mkdir -p "$work" "$output"
rm -rf "${work:?}"/*.log "$work"/*.out "$work"/*.json "$work"/*.jsonl "$work"/stages.tsv "$work"/runs
mkdir -p "$work/runs"
command -v nvcc > /dev/null || export PATH=$PATH:/usr/local/cuda/bin
nvcc=$(command -v nvcc || true)
if [ -n "$nvcc" ]; then
  cuda_home=$(dirname "$(dirname "$(realpath "$nvcc")")")
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$cuda_home/lib64
fi
# Other compilers have other warnings, which say nothing about the GPU.
flags=(CUDA_ARCH=native WARN=-w)
if [ -z "$from" ] && [ -d "$bundle" ]; then from=$bundle; fi
if [ -n "$from" ]; then
  [ -r "$from/root.tar.gz" ] || die "$from holds no root.tar.gz; dev/gpu_check.sh --bundle makes one"
  root=$PWD/$work/root
  mkdir -p "$root" || exit 1
  if [ ! -d "$root/lib" ] && ! tar -C "$root" -xzf "$from/root.tar.gz"; then die "$from/root.tar.gz cannot be unpacked"; fi
  export CPLUS_INCLUDE_PATH=$root/include LIBRARY_PATH=$root/lib LD_LIBRARY_PATH=$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  if [ -d "$from/data" ]; then export TLL_TEST_DATA=$PWD/$from/data; fi
  if [ -d "$from/wheels" ] && ! python3 -c 'import peft, accelerate' > /dev/null 2>&1; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$work/site" "$from"/wheels/*.whl > "$work/pip.log" 2>&1 &&
      export PYTHONPATH=$PWD/$work/site${PYTHONPATH:+:$PYTHONPATH}
  fi
fi

programs=(build/probe test_gradients_cuda build/bench_ops train_llama_lora) tests=build/run_tests_cuda device=cuda
probe=(build/probe --json) bench=(build/bench_ops --device cuda --quick --json) train=./train_llama_lora
gradients=(./test_gradients_cuda --device cuda)
models="llama-3.1-8b llama-3.2-1b llama-3.2-3b" lengths="4096 2048" tokens=4096 steps=8 dtype=bf16
# In groups: a process takes seconds to start under compute-sanitizer.
ops="attention matmul rmsnorm,qk_norm,cross_entropy,bias,sum_of_squares,attention_decode swiglu,rope,embedding,adamw,adamw8bit,cast,dropout,gather_scatter,copy_rows,join_adapters quantized_matmul"
hf=(--device cuda --dtype "$dtype" --steps 5 --warmup-steps 3)
if [ -n "$dry" ]; then
  programs=(build/probe_emulated test_gradients build/bench_ops_emulated train_llama_lora_emulated) tests=build/run_tests flags=()
  probe=(build/probe_emulated --quick --json) bench=(build/bench_ops_emulated --quick --json --gpu A100-80GB) train=./train_llama_lora_emulated
  gradients=(./test_gradients --device cuda-emulated --op cast) device=cuda
  ops="cast copy,swiglu"
  models=tiny lengths="32 16" tokens=64 steps=3
  hf=(--device cpu --dtype fp32 --steps 1 --warmup-steps 1)
fi

# ---- stages ----------------------------------------------------------------------------------------------------------------------
failed=0
left() { echo $((deadline - SECONDS)); }
# note NAME VERDICT SECONDS TEXT: a line on the terminal, and one for the table.
note() {
  printf '%-30s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >> "$work/stages.tsv"
  case $2 in failed|timeout) failed=1 ;; esac
}
wanted() { [[ ,$stages, == *,$1,* ]]; }
# limited LIMIT COMMAND…: runs it for LIMIT seconds at most, less where less is left.
limited() {
  local limit=$1 rest
  shift
  rest=$(left)
  if [ "$rest" -lt "$limit" ]; then limit=$rest; fi
  if [ "$limit" -lt 1 ]; then limit=1; fi  # 0 would be no limit
  timeout -k 5 "$limit" "$@"
}
# stage NAME LIMIT COMMAND…: output to NAME.out, errors to NAME.log, and a note.
stage() {
  local name=$1 limit=$2 begin=$SECONDS rc text
  shift 2
  if [ "$(left)" -lt 5 ]; then note "$name" skipped 0 "no time is left of $budget s"; return 1; fi
  limited "$limit" "$@" > "$work/$name.out" 2> "$work/$name.log"
  rc=$?
  text=$(tail -qn 1 "$work/$name.log" "$work/$name.out" 2> /dev/null | grep -v '^$' | tail -n 1 | cut -c1-150)
  if head -n 1 "$work/$name.out" | grep -q '^{'; then text=$(tail -n 1 "$work/$name.log" | cut -c1-150); fi  # JSON: for the table
  case $rc in
    0) note "$name" ok $((SECONDS - begin)) "$text" ;;
    124|137) note "$name" timeout $((SECONDS - begin)) "stopped after $((SECONDS - begin)) s" ;;
    *) note "$name" failed $((SECONDS - begin)) "exit code $rc: $text" ;;
  esac
  return $rc
}

if wanted build; then
  stage build 300 make -j"$(nproc)" "${flags[@]}" "${programs[@]}"
  # The unit tests are compiled beside the stages that do not measure time.
  if wanted tests && ! wanted bench && ! wanted throughput; then
    make -j"$(nproc)" "${flags[@]}" "$tests" > "$work/build_tests.log" 2>&1 &
    tests_build=$!
  fi
fi
if wanted probe; then
  stage probe 60 "${probe[@]}"
  # May fault, and no kernel relies on it: only noted.
  if ! limited 20 "${probe[@]}" --misaligned > "$work/misaligned.out" 2> "$work/misaligned.log" && ! [ -s "$work/misaligned.out" ]; then
    echo '{"point": "4 cp.async misaligned", "verdict": "noted", "text": "it faults"}' > "$work/misaligned.out"
  fi
  cat "$work/misaligned.out" >> "$work/probe.out"
fi
if wanted gradients; then stage gradients 100 "${gradients[@]}"; fi
if wanted bench; then stage bench 90 "${bench[@]}"; fi

# run_ours MODEL LENGTH RECOMPUTE
run_ours() {
  local name=$1-$2-$3 begin=$SECONDS rc sampler=""
  if [ "$(left)" -lt 10 ]; then note "ours $name" skipped 0 "no time is left of $budget s"; return; fi
  python3 - "$work/tokens-$2.jsonl" "$2" "$((steps * tokens / $2))" "dev/bench/configs/$1.json" <<'PY' || { note "ours $name" failed 0 "no data"; return; }
import json, random, sys
path, length, documents, config = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.load(open(sys.argv[4]))
random.seed(1)
with open(path, "w") as file:
    for _ in range(documents):
        file.write(json.dumps({"input_ids": [random.randrange(config["vocab_size"]) for _ in range(length)]}) + "\n")
PY
  if command -v nvidia-smi > /dev/null; then
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 100 > "$work/runs/$name.memory" 2> /dev/null &
    sampler=$!
  fi
  limited 75 "$train" train --device "$device" --init random --config "dev/bench/configs/$1.json" --data "$work/tokens-$2.jsonl" \
    --valid-split 0 --packing off --shuffle off --dtype "$dtype" --seq-len "$2" --batch-size $((tokens / $2)) --recompute "$3" \
    --max-steps $steps --output "$work/runs/$name" > "$work/runs/$name.log" 2>&1
  rc=$?
  if [ -n "$sampler" ]; then kill "$sampler" 2> /dev/null; wait "$sampler" 2> /dev/null; fi
  rm -f "$work/runs/$name"/*.safetensors
  rm -rf "$work/runs/$name"/checkpoint-*
  echo "{\"model\": \"$1\", \"seq_len\": $2, \"recompute\": \"$3\", \"exit_code\": $rc, \"directory\": \"$work/runs/$name\"}" >> "$work/ours.jsonl"
  case $rc in
    0) note "ours $name" ok $((SECONDS - begin)) "" ;;
    3) note "ours $name" ok $((SECONDS - begin)) "does not fit: $(tail -n 1 "$work/runs/$name.log" | cut -c1-120)" ;;
    124|137) note "ours $name" timeout $((SECONDS - begin)) "" ;;
    *) note "ours $name" failed $((SECONDS - begin)) "exit code $rc: $(tail -n 1 "$work/runs/$name.log" | cut -c1-120)" ;;
  esac
}
if wanted throughput; then
  if ! command -v python3 > /dev/null; then
    note throughput failed 0 "python3 is missing: it makes the data and reads the results"
  else
    first=--ceilings
    for model in $models; do
      for recompute in none full; do
        for length in $lengths; do run_ours "$model" "$length" "$recompute"; done
      done
      if ! python3 -c 'import torch, transformers, peft' > "$work/imports.log" 2>&1; then
        note "transformers $model" skipped 0 "$(tail -n 1 "$work/imports.log")"
        continue
      fi
      # shellcheck disable=SC2086
      stage "transformers-$model" 100 python3 -W ignore dev/bench/hf_throughput.py --config "dev/bench/configs/$model.json" \
        --seq-len $lengths --tokens $tokens "${hf[@]}" $first
      sed "s/^{/{\"model\": \"$model\", /" "$work/transformers-$model.out" 2> /dev/null | grep '^{' >> "$work/transformers.jsonl"
      first=""
    done
  fi
fi

# Each tool over groups of ops, so that what is done in its time counts.
if wanted sanitizers; then
  for tool in memcheck racecheck initcheck synccheck; do
    begin=$SECONDS clean=0 bad="" slow="" tool_deadline=$((SECONDS + 60)) missing=""
    for op in $ops; do
      rest=$((tool_deadline - SECONDS))
      if [ $rest -lt 5 ] || [ "$(left)" -lt 5 ]; then missing="$missing $op"; continue; fi
      IFS=, read -ra names <<< "$op"
      command=(compute-sanitizer --error-exitcode 9 --tool "$tool" ./test_gradients_cuda --device cuda "${names[@]/#/--op=}")
      if [ -n "$dry" ]; then command=(./test_gradients --device cuda-emulated "${names[@]/#/--op=}"); fi
      limited $((rest < 25 ? rest : 25)) "${command[@]}" > "$work/$tool-$op.log" 2>&1
      case $? in
        0) clean=$((clean + ${#names[@]})) ;;
        124|137) missing="$missing $op" slow=1 ;;
        *) if grep -q 'Device not supported' "$work/$tool-$op.log"; then missing="$missing (this device is not supported)"; break; fi
           bad="$bad $op" ;;
      esac
    done
    text="$clean ops clean${bad:+; faults in$bad}${missing:+; not done:$missing}"
    if [ -n "$bad" ]; then note $tool failed $((SECONDS - begin)) "$text"
    elif [ $clean = 0 ] && [ -n "$slow" ]; then note $tool timeout $((SECONDS - begin)) "$text"
    elif [ $clean = 0 ]; then note $tool skipped $((SECONDS - begin)) "$text"
    else note $tool ok $((SECONDS - begin)) "$text"; fi
  done
fi
if wanted tests; then
  if [ -n "${tests_build:-}" ]; then limited 300 tail --pid="$tests_build" -f /dev/null; elif wanted build; then stage build_tests 200 make -j"$(nproc)" "${flags[@]}" "$tests"; fi
  if [ -x "$tests" ]; then stage tests 150 "$tests" --gtest_brief=1 ${dry:+--gtest_filter='Json*'}; else note tests skipped 0 "$tests is not there; the stage build makes it"; fi
fi

# ---- results ---------------------------------------------------------------------------------------------------------------------
if command -v python3 > /dev/null; then python3 dev/gpu/report.py "$work" "$output" || failed=1; else echo "python3 is missing: no table"; fi
for f in "$work"/*.log "$work"/gradients.out "$work"/tests.out "$work"/runs/*.log; do
  if [ -s "$f" ]; then echo "==== $f"; tail -c 200000 "$f"; fi
done | tail -c 12000000 > "$output/gpu_check.log"
exit $failed
