#!/usr/bin/env bash
# Kills runs with SIGKILL at random moments and resumes them, N kills in all (40). The moments lie anywhere in a run: loading, evaluating
# before the steps, training, checkpoints, evaluating between and after them. What a killed run had reported as done must be there
# when it is resumed. In the end the adapter must have the bytes of an uninterrupted run, metrics.jsonl and the result in run.json the
# same content. Options behind N go to every run, e.g. --dropout 0.1 --grad-accum 2 --dtype bf16.
set -u
cd "$(dirname "$0")/.."
kills=${1:-40}
options=("${@:2}")
model=tests/goldens/gqa_tied
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for ((i = 0; i < 400; i++)); do cat $model/data.jsonl; done >"$work/valid.jsonl"
# exec: the program takes the place of the shell that calls this, so that the shell's process is the one to kill.
run() {
  exec ./train_llama_lora train --model $model --data $model/data.jsonl --valid-data "$work/valid.jsonl" --seq-len 64 --batch-size 1 \
    --rank 4 --lr 1e-2 --dtype fp32 --max-steps 1500 --save-steps 50 --save-total-limit 2 --eval-steps 500 --quiet "${options[@]}" \
    --output "$work/$1" "${@:2}"
}
metrics() { sed -E 's/"seconds":[^,]*,"tokens_per_second":[^,}]*,//' "$work/$1/metrics.jsonl"; } # without what depends on the clock
result() { sed -n '/"result"/,$p' "$work/$1/run.json" | grep -v '"output"'; }
newest() { find "$work/$1" -maxdepth 1 -name 'checkpoint-*' 2>/dev/null | sed 's/.*-//' | sort -n | tail -1; }
phase() { # what a killed run was doing
  local steps evaluations
  steps=$(grep -c '"loss"' "$work/killed/metrics.jsonl" 2>/dev/null) || { echo "loading"; return; }
  evaluations=$(grep -c '"eval_loss"' "$work/killed/metrics.jsonl")
  if [ "$evaluations" = 0 ]; then echo "evaluating before"
  elif [ "$steps" = 1500 ]; then echo "evaluating after"
  elif [ $((steps % 500)) = 0 ] && [ "$steps" != 0 ]; then echo "evaluating between"
  else echo "training"; fi
}

start=$(date +%s%N)
(run whole >/dev/null) || exit 1
whole=$((($(date +%s%N) - start) / 1000000))
rounds=0 passed=0 killed=0
while [ $killed -lt "$kills" ]; do
  rm -rf "$work/killed"
  rounds=$((rounds + 1)) lost= here=0
  while true; do
    before=$(newest killed)
    (run killed --resume >/dev/null 2>"$work/errors") & pid=$!
    sleep "$(awk -v most=$whole -v seed=$RANDOM 'BEGIN { srand(seed); print rand() * most / 1100 }')"
    if [ $here -lt 4 ] && [ $killed -lt "$kills" ] && kill -9 $pid 2>/dev/null; then
      here=$((here + 1)) killed=$((killed + 1))
      wait $pid 2>/dev/null
      phase >>"$work/phases"
      after=$(newest killed)
      [ "${after:-0}" -ge "${before:-0}" ] || lost="checkpoint $before"
    else
      wait $pid
      code=$?
      break
    fi
  done
  if [ -z "$lost" ] && [ "$code" = 0 ] && cmp -s "$work/whole/adapter_model.safetensors" "$work/killed/adapter_model.safetensors" &&
    cmp -s <(metrics whole) <(metrics killed) && cmp -s <(result whole) <(result killed); then
    passed=$((passed + 1))
  else
    echo "round $rounds: exit code $code, lost: ${lost:-nothing}; the adapter, the metrics or the result differ"; cat "$work/errors"
    diff <(metrics whole) <(metrics killed) | head -8
    diff <(result whole) <(result killed) | head -20
  fi
done
sort "$work/phases" | uniq -c
echo "$passed of $rounds runs ($killed kills) resumed to the bytes of the uninterrupted run"
[ $passed = "$rounds" ]
