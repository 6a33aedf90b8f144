#!/bin/bash
# Makes data/demo from nothing: the sample set, the tokenizer and the model. Run it from the root of the repository, with
# ./train_llama_lora built and spm_train (Debian: sentencepiece) installed. About 20 minutes on two cores.
set -euo pipefail

here=dev/demo
demo=data/demo
work=${1:-output-demo}
documents=${DOCUMENTS:-48000}
mkdir -p "$work" "$demo"

# 1. The sample set.
python3 $here/generate.py squad --articles 24 --seed 1 > "$work/squad.json"

# 2. The tokenizer: BPE with byte fallback and the flags of Llama 2's (identity normaliser, all spaces kept, a space put in front).
python3 $here/generate.py lines --documents 20000 --seed 1 > "$work/lines.txt"
spm_train --input="$work/lines.txt" --model_prefix="$work/tokenizer" --model_type=bpe --vocab_size=1024 --byte_fallback \
  --normalization_rule_name=identity --add_dummy_prefix=true --remove_extra_whitespaces=false --split_digits=true \
  --character_coverage=1.0 --num_threads=1 --minloglevel=2
cp "$work/squad.json" $demo/squad.json
cp "$work/tokenizer.model" $demo/tokenizer.model
cp $here/config.json $demo/config.json

# 3. The corpus as token ids with labels. No document is seen twice.
python3 $here/generate.py corpus --documents "$documents" --seed 1 |
  ./train_llama_lora tokenize --model $demo --add-special |
  python3 $here/generate.py label > "$work/corpus.jsonl"

# 4. The model: every weight, from random values, one pass over the corpus.
./train_llama_lora train --train full --init random --config $here/config.json --model $demo --data "$work/corpus.jsonl" \
  --output "$work/model" --epochs 1 --batch-size 2 --seq-len 1024 --lr 2e-3 --schedule cosine --warmup-ratio 0.03 \
  --beta2 0.99 --clip 1 --valid-split 0.005 --seed 1 --dtype fp32 --weights bf16
cp "$work/model/model.safetensors" $demo/model.safetensors
ls -l $demo
