#!/usr/bin/env bash
# Kills a run with SIGKILL at random moments and resumes it, N times (20); the adapter must have the bytes of an uninterrupted run,
# and metrics.jsonl every step once. Options behind N go to every run, e.g. --dropout 0.1 --grad-accum 2 --dtype bf16.
set -u
cd "$(dirname "$0")/.."
rounds=${1:-20}
options=("${@:2}")
model=tests/goldens/gqa_tied
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# exec: the program takes the place of the shell that calls this, so that the shell's process is the one to kill.
run() {
  exec ./train_llama_lora train --model $model --data $model/data.jsonl --valid-split 0 --seq-len 64 --batch-size 1 --rank 4 --lr 1e-2 \
    --dtype fp32 --max-steps 3000 --save-steps 20 --save-total-limit 2 --quiet "${options[@]}" --output "$work/$1" "${@:2}"
}
steps() { sed 's/"seconds".*//' "$work/$1/metrics.jsonl"; }  # without what depends on the clock

start=$(date +%s%N)
(run whole) || exit 1
whole=$((($(date +%s%N) - start) / 1000000))
passed=0 killed=0
for ((i = 1; i <= rounds; i++)); do
  rm -rf "$work/killed"
  kills=0
  while true; do
    run killed --resume 2>"$work/errors" & pid=$!
    sleep "$(awk -v most=$whole -v seed=$RANDOM 'BEGIN { srand(seed); print rand() * most / 1500 }')"
    if [ $kills -lt 3 ] && kill -9 $pid 2>/dev/null; then
      kills=$((kills + 1)) killed=$((killed + 1))
      wait $pid 2>/dev/null
    else
      wait $pid
      code=$?
      break
    fi
  done
  if [ "$code" = 0 ] && cmp -s "$work/whole/adapter_model.safetensors" "$work/killed/adapter_model.safetensors" &&
    cmp -s <(steps whole) <(steps killed); then
    passed=$((passed + 1))
  else
    echo "round $i: exit code $code, the adapter or the metrics differ or are missing"; cat "$work/errors"
  fi
done
echo "$passed of $rounds runs ($killed kills) resumed to the bytes of the uninterrupted run"
[ $passed = "$rounds" ]
