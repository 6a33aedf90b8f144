#!/usr/bin/env python3
"""Prints data/known_templates.inc: fingerprints of published templates that show what ours show, on random conversations. See README.md."""
import argparse
import json
import subprocess
import sys
import tempfile

from conversations import Conversations
from forms import forms
from published import arguments, collect
from transformers.utils.chat_template_utils import render_jinja_template

parser = argparse.ArgumentParser()
parser.add_argument("program", help="build/template_lines")
arguments(parser)
parser.add_argument("--count", type=int, default=400)
options = parser.parse_args()
published = collect(options)
BOS, EOS = "<bos>", "<eos>"
ENUM = {"chatml": "kChatml", "smollm2": "kSmollm2", "qwen2.5": "kQwen25", "qwen3": "kQwen3", "llama2": "kLlama2", "llama3": "kLlama3",
        "llama3.1": "kLlama31", "mistral": "kMistral", "mistral0.1": "kMistral01", "mixtral": "kMixtral", "mistral3": "kMistral3",
        "mistral-nemo": "kMistralNemo", "phi3": "kPhi3", "phi3.5": "kPhi35", "zephyr": "kZephyr"}


def usual(name, conversation):
    """Without what published templates of one name treat differently: other roles, a system text that is not the first message, and, in
    Mistral's v3, a system text where an answer is last (README.md)."""
    roles = [m["role"] for m in conversation]
    if not all(r in ("system", "user", "assistant") for r in roles) or "system" in roles[1:]:
        return False
    return name not in ("mistral3", "mistral-nemo") or roles[0] != "system" or roles[-1] == "user"


def render(template, conversation):
    more = {"enable_thinking": False, "date_string": "26 Jul 2024", "bos_token": BOS, "eos_token": EOS}
    return [render_jinja_template([conversation], chat_template=template, add_generation_prompt=follows, **more)[0][0] for follows in (False, True)]


def matches(template, conversations, texts):
    try:
        return all(render(template, c) == t for c, t in zip(conversations, texts))
    except Exception:
        return False


def run(*command, lines=b""):
    return subprocess.run([options.program, *command], input=lines, stdout=subprocess.PIPE, check=True).stdout


def fingerprint(template):
    with tempfile.NamedTemporaryFile("w", newline="") as file:
        file.write(template)
        file.flush()
        return run("fingerprint", file.name).decode().strip()


cases = {}
for name, form in forms(published).items():
    source = Conversations(f"fingerprints {options.seed} {name}")
    conversations = [c for c in (source.conversation(form) for _ in range(options.count)) if usual(name, c)]
    lines = "".join(json.dumps(c) + "\n" for c in conversations).encode()
    cases[name] = conversations, [json.loads(line) for line in run("render", name, BOS, EOS, lines=lines).split(b"\n") if line]
found = {}
for (package, title), template in sorted(published.items()):
    names = [name for name, (conversations, texts) in cases.items() if matches(template, conversations, texts)]
    if len(names) > 1:
        print(f"several: {names}: {title}", file=sys.stderr)
    if names:
        found.setdefault((names[0], fingerprint(template)), f"{package}: {title.split('/')[-1].split(' (')[0]}")
for (name, value), note in sorted(found.items(), key=lambda item: list(cases).index(item[0][0])):
    print(f"    {{0x{value}, TemplateName::{ENUM[name]}}},  // {note}")
