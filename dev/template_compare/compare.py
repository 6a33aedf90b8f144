#!/usr/bin/env python3
"""Compares `tokenize --chat` with transformers' apply_chat_template on random conversations: text, ids and mask. See README.md.

Exits with 1 when anything differs.
"""
import argparse
import functools
import sys

import models
from conversations import Conversations
from forms import forms
from ours import ours
from published import arguments, collect

parser = argparse.ArgumentParser()
parser.add_argument("program")
arguments(parser)
parser.add_argument("--smollm2", required=True, help="model directory")
parser.add_argument("--data", required=True, help="directory with llama2-tokenizer.model and llama3-tokenizer.model")
parser.add_argument("--mistral", required=True, help="mistral_common's directory data")
parser.add_argument("--count", type=int, default=10000)
parser.add_argument("--only", default="", help="templates whose name has this in it")
options = parser.parse_args()


@functools.lru_cache
def model_of(name):
    return models.MODELS[name](options)


def theirs(tokenizer, template, conversations, form):
    out = tokenizer.apply_chat_template(conversations, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True,
                                        **form.get("arguments", {}))
    return out["input_ids"], out["assistant_masks"]


def report(name, model, what, conversations, expected, found):
    wrong = [i for i in range(len(conversations)) if expected[i] != found[i]]
    print(f"{name:12} {model.name:24} {what:22} {len(conversations):7} compared {len(wrong):6} differ", flush=True)
    for i in wrong[:2]:
        print(f"    {conversations[i]!r:.2000}\n    expected {expected[i]!r:.2000}\n    found    {found[i]!r:.2000}")
    return len(wrong)


def compare(name, form, model, conversations):
    template, marked = form["template"], form["marked"]
    found = ours(options.program, model, name, conversations)
    texts = model.plain.apply_chat_template(conversations, chat_template=template, tokenize=False, **form.get("arguments", {}))
    ids, masks = theirs(model.twin, model.renamed(marked), conversations, form)
    parsed = ours(options.program, model, name, conversations, "--parse-special")
    parsed_ids, parsed_masks = theirs(model.plain, marked, conversations, form)
    check = functools.partial(report, name, model)
    return (check("text", conversations, texts, [o["text"] for o in found]) + check("ids", conversations, ids, [o["ids"] for o in found]) +
            check("mask", conversations, masks, [o["mask"] for o in found]) +
            check("ids, markers parsed", conversations, parsed_ids, [o["ids"] for o in parsed]) +
            check("mask, markers parsed", conversations, parsed_masks, [o["mask"] for o in parsed]))


differences = 0
for name, form in forms(collect(options)).items():
    if options.only not in name:
        continue
    if not form["template"]:
        print(f"{name:12} no copy of the published template was given: left out")
        continue
    source = Conversations(f"{options.seed} {name}")
    conversations = [source.conversation(form) for _ in range(options.count)]
    for tokenizer in form["tokenizers"]:
        differences += compare(name, form, model_of(tokenizer), conversations)
sys.exit(1 if differences else 0)
