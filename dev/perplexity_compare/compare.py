#!/usr/bin/env python3
"""Compares `evaluate --stride N` with transformers, by the recipe of its guide "Perplexity of fixed-length models", in fp32 on the CPU.

    pip install torch transformers
    python3 dev/perplexity_compare/compare.py ./train_llama_lora --model DIRECTORY --text FILE --length 256 --strides 64,128,256

FILE is a text, SQuAD's JSON (its contexts are the texts), or rows of {"text"}. Texts are joined by an empty line and tokenised as one.
Prints both perplexities for each stride, and exits with 1 if two differ by more than 1e-4.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--model", required=True)
parser.add_argument("--text", required=True)
parser.add_argument("--length", type=int, default=256)
parser.add_argument("--strides", default="64,128,256")
parser.add_argument("--characters", type=int, default=20000, help="of the text, from its beginning")
parser.add_argument("--batch-size", type=int, default=1, help="windows that the program computes at once")
parser.add_argument("--device", default="cpu", help="of the program")
options = parser.parse_args()


def texts(path):
    with open(path, encoding="utf-8") as file:
        whole = file.read()
    if path.endswith(".jsonl"):
        return [json.loads(line)["text"] for line in whole.splitlines()]
    if path.endswith(".json"):
        return [p["context"] for article in json.loads(whole)["data"] for p in article["paragraphs"]]
    return [whole]


def perplexity(model, ids, length, stride):
    total, count, before = 0.0, 0, 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + length, ids.size(1))
        new = end - before
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, :-new] = -100
        with torch.no_grad():
            loss = model(window, labels=labels).loss
        weight = (labels != -100).sum().item() - labels.size(0)
        total += loss * weight
        count += weight
        before = end
        if end == ids.size(1):
            break
    return torch.exp(total / count).item()


text = "\n\n".join(texts(options.text))[: options.characters]
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
ids = tokenizer(text, return_tensors="pt").input_ids
worst = 0.0
with tempfile.TemporaryDirectory() as directory:
    file = os.path.join(directory, "text.txt")
    with open(file, "w", encoding="utf-8", newline="") as out:
        out.write(text)
    for stride in map(int, options.strides.split(",")):
        command = [options.program, "evaluate", "--model", options.model, "--data", file, "--format", "text", "--dtype", "fp32",
                   "--device", options.device, "--seq-len", str(options.length), "--stride", str(stride),
                   "--batch-size", str(options.batch_size), "--json"]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        if found["tokens"] != ids.size(1):
            sys.exit(f"{found['tokens']} tokens here, {ids.size(1)} in transformers")
        expected = perplexity(model, ids, options.length, stride)
        worst = max(worst, abs(found["perplexity"] - expected))
        print(f"length {options.length} stride {stride}: {found['perplexity']:.6f} here, {expected:.6f} in transformers, difference "
              f"{abs(found['perplexity'] - expected):.1e}; by token {found['token_perplexity']:.6f}", flush=True)
print(f"{ids.size(1)} tokens, largest difference {worst:.1e}")
sys.exit(worst > 1e-4)
