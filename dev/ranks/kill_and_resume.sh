#!/usr/bin/env bash
# Kills one rank of a run with SIGKILL at a random moment and resumes the run on another number of ranks, N kills in all (20). The
# adapter and the last checkpoint must have the bytes of an uninterrupted run on one rank, and the run that lost a rank must end with
# exit code 1 and name it. Prints the seconds until it did. `--mpirun` before N: the ranks are started by mpirun.
# Options behind N go to every run, e.g. --dropout 0.1 --shard optimizer.
set -u
cd "$(dirname "$0")/../.."
mpirun=
[ "${1:-}" = --mpirun ] && { mpirun=1; shift; }
kills=${1:-20}
options=("${@:2}")
model=tests/goldens/gqa_tied
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
run() { # RANKS OUTPUT [OPTION]…
  local start=(./train_llama_lora) several=(--ranks "$1")
  [ -n "$mpirun" ] && start=(mpirun --oversubscribe --bind-to none -np "$1" ./train_llama_lora) several=()
  exec "${start[@]}" train "${several[@]}" --model $model --data $model/data.jsonl --seq-len 64 --batch-size 1 --grad-accum $((4 / $1)) \
    --rank 32 --lr 1e-2 --dtype fp32 --threads 1 --max-steps 1000 --save-steps 20 --save-total-limit 2 --eval-steps 100 --quiet \
    "${options[@]}" --output "$work/$2" "${@:3}"
}
ranks_of() { # the processes of a run's ranks: those that have its output among their arguments, and are no mpirun
  pgrep -f "^\./train_llama_lora .*--output $work/killed( |\$)"
}
(run 1 whole >/dev/null) || exit 1
killed=0 passed=0 rounds=0 named=0 slowest=0
while [ $killed -lt "$kills" ]; do
  rounds=$((rounds + 1))
  rm -rf "$work/killed"
  here=0 ranks=4
  while true; do
    (run $ranks killed --resume >/dev/null 2>"$work/errors") & pid=$!
    sleep "0.$((RANDOM % 9))$((RANDOM % 9))"
    mapfile -t processes < <(ranks_of)
    # Not rank 0, whose message it is; and only once all have come.
    mapfile -t others < <(for p in "${processes[@]}"; do [ "$p" != $pid ] && echo "$p"; done)
    if [ $here -lt 5 ] && [ $killed -lt "$kills" ] && [ $ranks -gt 1 ] && [ "${#processes[@]}" = $ranks ] &&
      kill -9 "${others[$((RANDOM % ${#others[@]}))]}" 2>/dev/null; then
      at=$(date +%s%N)
      wait $pid
      code=$?
      took=$((($(date +%s%N) - at) / 1000000))
      [ $took -gt $slowest ] && slowest=$took
      here=$((here + 1)) killed=$((killed + 1))
      if [ $code != 0 ] && grep -Eq 'rank [0-9]+ .*(ended|killed|exited)' "$work/errors"; then
        named=$((named + 1))
      else
        echo "after a kill: exit code $code"; cat "$work/errors"
      fi
    elif wait $pid; then
      break
    else
      echo "a run ended with exit code $?"; cat "$work/errors"
      break
    fi
    ranks=$((1 << RANDOM % 3))
  done
  newest=$(ls -d "$work"/whole/checkpoint-* | sort -V | tail -1)
  if cmp -s "$work/whole/adapter_model.safetensors" "$work/killed/adapter_model.safetensors" &&
    cmp -s "$newest/optimizer.safetensors" "$work/killed/${newest##*/}/optimizer.safetensors"; then
    passed=$((passed + 1))
  else
    echo "round $rounds: the bytes differ"
  fi
done
echo "$killed kills: $named of them named, the slowest after $slowest ms; $passed of $rounds runs resumed to the bytes of the uninterrupted run"
[ $passed = $rounds ] && [ $named = $killed ]
