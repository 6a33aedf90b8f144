#!/usr/bin/env python3
"""What transformers and PEFT answer to one question, greedily, in the model's own chat template: to be compared with `generate --chat`.

    dev/chat/answer.py MODEL "How do I dry wet boots?" [ADAPTER] [--max-new-tokens 60]

Prints {"ids": [...], "text": ...}: ids of the answer, without the end mark.
"""
import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("question")
parser.add_argument("adapter", nargs="?")
parser.add_argument("--max-new-tokens", type=int, default=60)
options = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
if options.adapter:
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, options.adapter)
model.eval()
messages = [{"role": "user", "content": options.question}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
with torch.no_grad():
    out = model.generate(**prompt, max_new_tokens=options.max_new_tokens, do_sample=False)
ids = out[0, prompt["input_ids"].shape[1]:].tolist()
if ids and ids[-1] == tokenizer.eos_token_id:
    ids.pop()
print(json.dumps({"ids": ids, "text": tokenizer.decode(ids)}, ensure_ascii=False))
