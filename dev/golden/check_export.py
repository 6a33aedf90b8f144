#!/usr/bin/env python3
"""Exports a model with an adapter in every format, and compares the files with what transformers, PEFT, gguf-py and, where
llama-cpp-python is installed, llama.cpp make of the same two.

    check_export.py PROGRAM MODEL ADAPTER [DIR]

Prints: tensors whose bits are those of PEFT's merge rounded once, and the largest difference; missing and unexpected keys;
quantised tensors whose bytes are gguf-py's of the F32 file; greedy tokens and logits of llama.cpp and of transformers.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, quants
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["The capital of France is", "1. First, 22 + 20 =", "def add(a, b):\n    return"]
TOKENS = 16


def export(program, model, adapter, fmt, output, *more):
    line = [program, "export", "--quiet", "--json", "--overwrite", "--model", model, "--format", fmt, "--output", output, *more]
    if adapter:
        line += ["--adapter", adapter]
    return json.loads(subprocess.run(list(map(str, line)), check=True, capture_output=True, text=True).stdout)


def check_merged(directory, merged):
    made = {}
    for file in directory.glob("*.safetensors"):
        made.update(load_file(file))
    # The program sums W + scale · B · A in another order than torch, so a value in the middle of two may go to the other.
    differ, largest = 0, 0.0
    for name, tensor in made.items():
        want = merged.state_dict()[name].to(tensor.dtype)
        differ += int((want != tensor).sum())
        largest = max(largest, float((want.float() - tensor.float()).abs().max()))
    print(f"merged: {len(made)} tensors, {differ} of {sum(t.numel() for t in made.values())} elements differ, by {largest:.1e}")
    _, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    print("merged:", {key: sorted(value) for key, value in info.items()})


def check_blocks(f32, other):
    values = {t.name: t for t in GGUFReader(f32).tensors}
    same = different = 0
    for t in GGUFReader(other).tensors:
        want = quants.quantize(np.ascontiguousarray(values[t.name].data), GGMLQuantizationType(t.tensor_type))
        equal = np.array_equal(want.view(np.uint8).ravel(), np.ascontiguousarray(t.data).view(np.uint8).ravel())
        same, different = same + equal, different + (not equal)
    print(f"{other.name}: {same} tensors as gguf-py has them, {different} otherwise")


@torch.no_grad()
def greedy(model, tokenizer):
    model.generation_config.eos_token_id = None
    found = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        found.append(model.generate(**ids, max_new_tokens=TOKENS, do_sample=False)[0].tolist())
    return found


def check_transformers(name, file, tokenizer, want):
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    got = greedy(model, tokenizer)
    print(f"{name}: transformers, {sum(a == b for x, y in zip(got, want) for a, b in zip(x, y))} of {sum(map(len, want))} greedy tokens are PEFT's")


def check_llama_cpp(name, file, tokenizer, want, **more):
    try:
        import llama_cpp
    except ImportError:
        print(f"{name}: llama.cpp is not installed")
        return
    llama = llama_cpp.Llama(str(file), n_ctx=128, n_threads=2, verbose=False, type_k=0, type_v=0, **more)
    equal = total = ids_equal = 0
    for prompt, tokens in zip(PROMPTS, want):
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=False)
        ids_equal += ids == tokenizer(prompt, add_special_tokens=False).input_ids
        llama.reset()
        made = list(ids)
        for token in llama.generate(ids, temp=0.0):
            made.append(token)
            if len(made) == len(tokens):
                break
        equal, total = equal + sum(a == b for a, b in zip(made, tokens)), total + len(tokens)
    print(f"{name}: llama.cpp, {ids_equal} of {len(PROMPTS)} prompts have the same ids, {equal} of {total} greedy tokens are PEFT's")


def main():
    torch.set_num_threads(2)
    program, model, adapter = sys.argv[1:4]
    at = pathlib.Path(sys.argv[4] if len(sys.argv) > 4 else tempfile.mkdtemp())
    tokenizer = AutoTokenizer.from_pretrained(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    want = greedy(merged, tokenizer)
    export(program, model, adapter, "merged", at / "merged")
    check_merged(at / "merged", merged)
    for kind in ("f32", "f16", "bf16", "q8_0", "q4_0"):
        export(program, model, adapter, "gguf", at / f"{kind}.gguf", "--gguf-type", kind)
        check_blocks(at / "f32.gguf", at / f"{kind}.gguf")
    check_transformers("f32.gguf", at / "f32.gguf", tokenizer, want)
    for kind in ("f32", "q8_0", "q4_0"):
        check_llama_cpp(f"{kind}.gguf", at / f"{kind}.gguf", tokenizer, want)
    export(program, model, None, "gguf", at / "base.gguf", "--gguf-type", "f32")
    export(program, model, adapter, "gguf-adapter", at / "lora.gguf")
    check_llama_cpp("base.gguf with lora.gguf", at / "base.gguf", tokenizer, want, lora_path=str(at / "lora.gguf"))


if __name__ == "__main__":
    main()
