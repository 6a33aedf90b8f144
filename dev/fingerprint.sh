#!/usr/bin/env bash
# Fingerprints of what the program computes, to compare two commits: SHA-256 of adapters, last checkpoints, dumps, prepared data and
# answers, and of `plan --json` of twenty configurations. A change of structure alone must change none of them.
#
#   make train_llama_lora train_llama_lora_emulated && dev/fingerprint.sh > after.txt
#
# The bits depend on the processor's instruction set, so both commits must run on the same kind of machine.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
goldens=tests/goldens
print() { printf '%-60s %s\n' "$1" "$(sha256sum | cut -c1-64)"; }
files() { for f in "$@"; do print "${f#"$work"/}" < "$f"; done; }
# A run's adapter or weights, every file of its last checkpoint, and the lines of its metrics without what depends on the clock.
train() {
  local name=$1 program=$2
  shift 2
  "$program" train --threads 2 --valid-split 0.1 --quiet --output "$work/$name" "$@" > "$work/printed" 2> "$work/errors" || { cat "$work/errors" >&2; exit 1; }
  local f
  for f in adapter_model.safetensors adapter_config.json model.safetensors; do
    if [ -e "$work/$name/$f" ]; then files "$work/$name/$f"; fi
  done
  files "$(find "$work/$name" -maxdepth 1 -name 'checkpoint-*' | sort -V | tail -1)"/*
  sed 's/"seconds".*//' "$work/$name/metrics.jsonl" | print "$name/metrics.jsonl"
}

./train_llama_lora prepare --data data/demo/squad.json --output "$work/squad.bin" --quiet
files "$work/squad.bin"
train demo ./train_llama_lora --data "$work/squad.bin" --dtype fp32 --max-steps 8 --save-steps 4 --eval-samples 2
train lora ./train_llama_lora --model $goldens/gqa_tied --data $goldens/gqa_tied/data.jsonl --seq-len 64 --dtype fp32 --rank 4 --lr 1e-2 \
  --max-steps 20 --save-steps 10
train full ./train_llama_lora --model $goldens/mha_biases --data $goldens/mha_biases/data.jsonl --seq-len 64 --dtype fp32 --train full \
  --lr 1e-3 --recompute full --max-steps 20 --save-steps 10
train dropout_accumulation_bf16 ./train_llama_lora --model $goldens/llama3_rope --data $goldens/llama3_rope/data.jsonl --seq-len 64 \
  --dtype bf16 --dropout 0.1 --grad-accum 2 --batch-size 2 --targets q,v,gate,down --rslora --max-steps 20 --save-steps 10
train emulated_fp16 ./train_llama_lora_emulated --device cuda --model $goldens/gqa_tied --data $goldens/gqa_tied/data.jsonl \
  --seq-len 64 --dtype fp16 --rank 4 --lr 1e-2 --max-steps 4 --save-steps 2

for model in gqa_tied mha_biases llama3_rope fp16_sharded old_config; do
  at=$goldens/$model
  ./train_llama_lora dump --threads 2 --model $at --init-adapter $at/adapter --data $at/data.jsonl --docs 3 --dtype fp32 --quiet \
    --output "$work/$model.dump"
  files "$work/$model.dump"
done
./train_llama_lora evaluate --threads 2 --dtype fp32 --adapter "$work/demo" --data "$work/squad.bin" --max-samples 4 --json | print evaluate
./train_llama_lora generate --threads 2 --dtype fp32 --adapter "$work/demo" --prompt 'Context: ' --max-new-tokens 12 --json | print generate
./train_llama_lora show --data "$work/squad.bin" --docs 5 --json | print show
./train_llama_lora completion bash | print completion
./train_llama_lora train --man | print manual

plan() { ./train_llama_lora plan --threads 2 --memory 1000GiB --json "$@" | print "plan $*"; }
configs=dev/bench/configs
plan --dtype fp32
plan --dtype bf16 --seq-len 256 --batch-size 4 --eval-samples 10
plan --model $goldens/gqa_tied --dtype fp32 --seq-len 64
plan --model $goldens/gqa_tied --dtype fp32 --seq-len 64 --train full
plan --model $goldens/mha_biases --dtype bf16 --seq-len 64 --dropout 0.1
plan --model $goldens/mha_biases --dtype bf16 --seq-len 64 --train full --recompute full
plan --model $goldens/llama3_rope --dtype fp32 --seq-len 33 --targets v,o,up --rank 3
plan --model $goldens/fp16_sharded --device cuda --dtype fp16 --seq-len 64
plan --model $goldens/old_config --init-adapter $goldens/old_config/adapter --dtype fp32 --seq-len 64
plan --config dev/bench/smollm2-135m.json --dtype fp32 --seq-len 512
plan --config dev/bench/smollm2-135m.json --dtype bf16 --weights fp16 --seq-len 1024 --recompute full
plan --config dev/bench/smollm2-135m.json --dtype bf16 --device cuda --seq-len 1024 --eval-samples 8
for size in 1b 3b; do
  plan --config $configs/llama-3.2-$size.json --dtype bf16 --device cuda --seq-len 2048 --recompute full
  plan --config $configs/llama-3.2-$size.json --dtype fp32 --weights bf16 --seq-len 512 --rank 64 --targets q,k,v,o
  plan --config $configs/llama-3.2-$size.json --dtype bf16 --device cuda --seq-len 1024 --train full
done
plan --config $configs/llama-3.1-8b.json --dtype bf16 --device cuda --seq-len 4096 --batch-size 2 --recompute selective
plan --config $configs/tiny.json --dtype fp32 --seq-len 7 --batch-size 3 --rank 1 --targets down
