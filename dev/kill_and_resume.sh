#!/usr/bin/env bash
# Kills a run with SIGKILL at random moments and resumes it, N times (20); the adapter must have the bytes of an uninterrupted run.
set -u
cd "$(dirname "$0")/.."
rounds=${1:-20}
model=tests/goldens/gqa_tied
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() {
  ./train_llama_lora train --model $model --data $model/data.jsonl --valid-split 0 --seq-len 64 --batch-size 1 --rank 4 --lr 1e-2 \
    --dtype fp32 --max-steps 3000 --save-steps 20 --save-total-limit 2 --quiet --output "$work/$1" "${@:2}"
}
start=$(date +%s%N)
run whole || exit 1
whole=$((($(date +%s%N) - start) / 1000000))
passed=0
for ((i = 1; i <= rounds; i++)); do
  rm -rf "$work/killed"
  kills=0
  while true; do
    run killed --resume 2>"$work/errors" & pid=$!
    sleep "$(awk -v most=$whole -v seed=$RANDOM 'BEGIN { srand(seed); print rand() * most / 1500 }')"
    if kill -9 $pid 2>/dev/null; then kills=$((kills + 1)); wait $pid 2>/dev/null; else wait $pid; code=$?; break; fi
    [ $kills -ge 3 ] && { run killed --resume; code=$?; break; }
  done
  if [ "$code" = 0 ] && cmp -s "$work/whole/adapter_model.safetensors" "$work/killed/adapter_model.safetensors" &&
    cmp -s <(grep -c . "$work/whole/metrics.jsonl") <(grep -c . "$work/killed/metrics.jsonl"); then
    passed=$((passed + 1))
  else
    echo "round $i: exit code $code, the adapter differs or is missing"; cat "$work/errors"
  fi
done
echo "$passed of $rounds runs killed at random moments and resumed have the bytes of the uninterrupted run"
[ $passed = "$rounds" ]
