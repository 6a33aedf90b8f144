#!/usr/bin/env python3
"""Prints data/known_templates.inc: fingerprints of published templates that show what ours show, on random conversations. See README.md."""
import argparse
import subprocess
import sys
import tempfile

import models
from conversations import Conversations
from forms import forms
from ours import DATE, ours
from published import collect
from transformers.utils.chat_template_utils import render_jinja_template

parser = argparse.ArgumentParser()
models.arguments(parser)
parser.add_argument("--fingerprint", default="build/template_fingerprint")
parser.add_argument("--count", type=int, default=400)
options = parser.parse_args()
published = collect(options)
ENUM = {"chatml": "kChatml", "smollm2": "kSmollm2", "qwen2.5": "kQwen25", "qwen3": "kQwen3", "llama2": "kLlama2", "llama3": "kLlama3",
        "llama3.1": "kLlama31", "mistral": "kMistral", "mistral0.1": "kMistral01", "mixtral": "kMixtral", "mistral3": "kMistral3",
        "mistral-nemo": "kMistralNemo", "phi3": "kPhi3", "phi3.5": "kPhi35", "zephyr": "kZephyr"}


def rendered(template, conversation, model, answer_follows):
    return render_jinja_template([conversation], chat_template=template, add_generation_prompt=answer_follows, enable_thinking=False, date_string=DATE,
                                 bos_token=model.config.get("bos_token", ""), eos_token=model.config["eos_token"])[0][0]


def usual(form, conversation):
    """Without what templates of one name treat differently and our code refuses or documents."""
    roles = [m["role"] for m in conversation]
    if not all(r in ("system", "user", "assistant") for r in roles) or "system" in roles[1:]:
        return False
    return form["name"] not in ("mistral3", "mistral-nemo") or roles[0] != "system" or roles[-1] == "user"


def fingerprint(template):
    with tempfile.NamedTemporaryFile("w", newline="") as file:
        file.write(template)
        file.flush()
        return subprocess.run([options.fingerprint, file.name], stdout=subprocess.PIPE, check=True).stdout.decode().strip()


cases = {}
for name, form in forms(published).items():
    form["name"] = name
    source = Conversations(f"fingerprints {options.seed} {name}")
    conversations = [c for c in (source.conversation(form) for _ in range(options.count)) if usual(form, c)]
    model = models.MODELS[form["tokenizers"][0]](options)
    cases[name] = model, conversations, [o["text"] for o in ours(options.program, model, name, conversations)]
seen = {}
for (package, title), template in sorted(published.items()):
    matching = []
    for name, (model, conversations, texts) in cases.items():
        try:
            if all(rendered(template, c, model, False) == t for c, t in zip(conversations, texts)):
                matching.append(name)
        except Exception:
            continue
    if not matching:
        continue
    value = fingerprint(template)
    note = f"{package}: {title.split('/')[-1][:70]}"
    if len(matching) > 1:
        print(f"several: {matching}: {note}", file=sys.stderr)
    seen.setdefault((value, matching[0]), []).append(note)
for (value, name), notes in sorted(seen.items(), key=lambda item: list(cases).index(item[0][1])):
    print(f"    {{0x{value}, TemplateName::{ENUM[name]}}},  // {notes[0]}")
