#!/usr/bin/env python3
"""Compares tokenizer directories with transformers' AutoTokenizer: tokens that only the files beside a tokenizer add, their flags
and numbers, the names of special tokens, SentencePiece models with added tokens. Prints the differences of each.

    pip install transformers sentencepiece protobuf tiktoken      (version 5; and in another environment 4, for the slow tokenizer)
    make build/encode_lines && python3 dev/tokenizer_compare/directories.py build/encode_lines --data DIRECTORY

DIRECTORY holds llama2-tokenizer.model, llama3-tokenizer.model and a SQuAD file. Exits with 1 when anything differs.
"""
import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time

import files
import transformers
from program import Program
from random_strings import Strings
from tokenizers import Tokenizer, models, trainers
from transformers import AutoTokenizer

VERSION = int(transformers.__version__.split(".")[0])
MODEL = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 200000, "hidden_size": 16, "intermediate_size": 32,
         "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 128}
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def flags(content, *on, special=False, normalized=False):
    return {"content": content, "special": special, "normalized": normalized, **{f: f in on for f in ("lstrip", "rstrip", "single_word")}}


def decoder(first, *tokens):
    """added_tokens_decoder with the ids from `first` on; a pair gives its own id."""
    out, next_id = {}, first
    for token in tokens:
        if isinstance(token, tuple):
            next_id, token = token
        out[str(next_id)] = token
        next_id += 1
    return {"added_tokens_decoder": out}


def small_json(lines):
    """A byte-level vocabulary, trained on the lines."""
    tokenizer = Tokenizer(models.BPE())
    from tokenizers import decoders, pre_tokenizers
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return json.loads(tokenizer.to_str())


def own(form, *tokens):
    """The form with added tokens of its own, (id, flags)."""
    form = json.loads(json.dumps(form))
    form["added_tokens"] += [{"id": i, **t} for i, t in tokens]
    return form


TOOLS = [flags("<tool>"), flags("[call", "lstrip"), flags("call]", "rstrip"), flags("<both>", "lstrip", "rstrip"), flags("Word", "single_word"),
         flags("<pad>", special=True), flags(" spaced "), flags("<tool>x")]


def json_directories(lines, data):
    """(name, {file: content})"""
    small = small_json(lines)
    n = len(small["model"]["vocab"])
    llama2 = files.llama2_json(os.path.join(data, "llama2-tokenizer.model"))
    bases = {"small": small, "llama 2": llama2}
    yield "small alone", {"tokenizer.json": small}
    for name, base in bases.items():
        size = len(base["model"]["vocab"])
        for normalized in (False, True):
            tools = [{**t, "normalized": normalized and not t["special"]} for t in TOOLS]
            yield f"{name} added by config{' normalized' * normalized}", {"tokenizer.json": base, "tokenizer_config.json": {**FAST, **decoder(size, *tools)}}
        yield f"{name} added_tokens.json", {"tokenizer.json": base, "tokenizer_config.json": {**FAST, "pad_token": "<pad>"},
                                            "added_tokens.json": {"<pad>": size, "<tool>": size + 1, "Word": size + 2}}
    plain = own(small, (n, flags("<tool>")), (n + 1, flags("<im_end>", special=True)), (n + 2, flags("Word")))
    both = lambda **config: {"tokenizer.json": plain, "tokenizer_config.json": {**FAST, **config}}
    yield "small flags changed by config", both(**decoder(n, flags("<tool>", "rstrip"), flags("<im_end>", special=True), flags("Word", "single_word")))
    yield "small made special by config", both(**decoder(n, flags("<tool>", special=True), flags("<im_end>", special=True)))
    yield "small names", both(eos_token="<im_end>", pad_token="<pad>", bos_token={"__type": "AddedToken", **flags("<b>", special=True)})
    yield "small name of one not special", both(pad_token="<tool>")
    yield "small additional", both(additional_special_tokens=["<n>", "<im_end>"])
    yield "small extra", both(extra_special_tokens={"image_token": "<n>", "tool_token": "<tool>"})
    yield "small pieces added", both(**decoder(n, (300, flags(" the".replace(" ", "Ġ"))), (301, flags("he"))))
    yield "small wrong ids in config", both(**decoder(n, (n + 9, flags("<u>")), (n + 5, flags("<t>"))))
    yield "small wrong ids", {"tokenizer.json": own(small, (n + 1, flags("<tool>")), (n, flags("<u>")), (5, flags("<t>"))), "tokenizer_config.json": FAST}
    yield "small map", {**both(eos_token="</s>"), "special_tokens_map.json": {"eos_token": "<im_end>", "pad_token": flags("<tool>", "rstrip")}}
    yield "small map not read", {**both(eos_token="</s>", **decoder(n, flags("<tool>"))), "special_tokens_map.json": {"eos_token": "<im_end>"}}
    cut = {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
           "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"}}
    yield "small truncation and padding", {"tokenizer.json": {**plain, **cut}, "tokenizer_config.json": FAST}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}
    yield "small bos", {"tokenizer.json": {**plain, "post_processor": template}, "tokenizer_config.json": {**FAST, "bos_token": "<s>"}}
    llama3 = files.llama3_json(os.path.join(data, "llama3-tokenizer.model"))
    yield "llama 3 added by config", {"tokenizer.json": llama3, "tokenizer_config.json": {**FAST, **decoder(128256, *TOOLS)}}


def tiktoken_directory():
    """(name, files) beside Llama 3's ranks: the special tokens, one under another name. transformers makes every added token special here."""
    specials = [flags("<renamed>" if i == 5 else files.llama3_special(i), special=True) for i in range(256)]
    return "llama 3 ranks", {"tokenizer_config.json": {**FAST, "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", **decoder(128000, *specials, flags("<pad>", special=True))}}


def model_directories(data):
    """(name, files, settings): directories with Llama 2's tokenizer.model. settings: which references count (fast, slow) and
    for which texts: `legacy` is the key's value or its default, `old`: the fast one keeps a space in front of a text."""
    size = 32000
    legacy_tools = [flags("<tool>"), flags("[call", "lstrip"), flags("call]", "rstrip"), flags("<both>", "lstrip", "rstrip"),
                    flags("<pad>", special=True), flags("<tool>x")]
    for legacy in (True, False, None):
        head = LLAMA if legacy is None else {**LLAMA, "legacy": legacy}
        word = "legacy absent" if legacy is None else f"legacy {legacy}".lower()
        old = legacy is not False
        settings = lambda **more: {"legacy": old, "old": old, **more}
        yield f"model {word}", {"tokenizer_config.json": head}, settings()
        yield f"model {word} added", {"tokenizer_config.json": {**head, **decoder(size, *legacy_tools)}}, settings()
        yield f"model {word} added flags", {"tokenizer_config.json": {**head, **decoder(size, *TOOLS)}}, settings(slow=False)
        yield f"model {word} added_tokens.json", {"tokenizer_config.json": {**head, "pad_token": "<pad>"},
                                                  "added_tokens.json": {"<pad>": size, "<tool>": size + 1, "<word>": size + 2}}, settings(fast=not old)
        yield f"model {word} no prefix", {"tokenizer_config.json": {**head, "add_prefix_space": False, **decoder(size, *legacy_tools)}}, settings(old=True, slow=not old)
    yield "model names", {"tokenizer_config.json": {**LLAMA, "bos_token": {"__type": "AddedToken", **flags("<s>", special=True)}, "pad_token": "<pad>",
                                                    "additional_special_tokens": ["<x>"], "add_eos_token": True}}, {"legacy": True, "old": True}
    yield "model map", {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False},
                        "special_tokens_map.json": {"eos_token": flags("<unk>", special=True), "pad_token": "<pad>"}}, {"legacy": True, "old": True}


def with_tokens(texts, tokens, seed):
    """The texts, and with tokens in them: everywhere, once and often, with and without spaces."""
    r = random.Random(seed)
    out = list(texts)
    for text in texts:
        for _ in range(r.randint(1, 3)):
            at = r.choice([0, len(text), r.randint(0, len(text))])
            token = "".join(r.choice(tokens) for _ in range(r.choice([1, 1, 1, 2, 3])))
            text = text[:at] + r.choice(["", " ", "  ", "\n", "\t", "\u3000"]) + token + r.choice(["", " ", "  ", "\n", "a", "."]) + text[at:]
        out.append(text)
    return out


def slow_encode(tokenizer):
    """Special tokens are text in a text, as here; the others are found."""
    special = set(tokenizer.all_special_tokens)
    named = {c: i for c, i in tokenizer._added_tokens_encoder.items() if c not in special and not tokenizer._added_tokens_decoder[i].special}
    tokenizer._added_tokens_encoder = named
    tokenizer.tokens_trie = type(tokenizer.tokens_trie)(named.keys())
    return lambda texts: [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(t)) for t in texts]


def fast_encode(tokenizer):
    return lambda texts: tokenizer(texts, add_special_tokens=False, split_special_tokens=True).input_ids


parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--data", default="../shared/data")
parser.add_argument("--strings", type=int, default=2000)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--only", default="")
parser.add_argument("--more", nargs="*", default=[], help="directories of real tokenizers")
options = parser.parse_args()
transformers.logging.set_verbosity_error()
program = Program(options.program)
start = time.time()
with open(os.path.join(options.data, "squad-v2.0-dev-5-articles.json")) as f:
    lines = [p["context"] for a in json.load(f)["data"] for p in a["paragraphs"]]
plain_texts = Strings(options.seed, lines).texts(options.strings)


def write(root, name, contents, model=None):
    directory = os.path.join(root, name.replace(" ", "_"))
    os.mkdir(directory)
    for file, content in {**contents, "config.json": MODEL}.items():
        with open(os.path.join(directory, file), "w") as f:
            json.dump(content, f)
    if model:
        shutil.copy(model, os.path.join(directory, "tokenizer.model"))
    return directory


def compare(name, directory, tokenizer, encode, keep=lambda text: True, names=True):
    tokens = [t.content for t in tokenizer.added_tokens_decoder.values() if not t.special] or ["<tool>"]
    tokens += [t.content for t in tokenizer.added_tokens_decoder.values()][-5:]
    texts = [t for t in with_tokens(plain_texts, tokens, options.seed) if keep(t)]
    expected = encode(texts)
    program.report(name, "encode", texts, expected, program.answers(directory, "encode", texts))
    some = [e[:40] for e in expected[-500:]]
    found = program.answers(directory, "decode-all", some)
    # A normalized token decodes to its normalized content since tokenizers 0.23.
    if VERSION >= 5 and os.path.exists(os.path.join(directory, "tokenizer.json")):
        program.report(name, "decode-all", some, tokenizer.batch_decode(some, clean_up_tokenization_spaces=False), found)
    plain = program.answers(directory, "decode", some)
    program.report(name, "decode-stream", some, plain, program.answers(directory, "decode-stream", some))
    ids = lambda t: {"bos": t.bos_token_id, "eos": t.eos_token_id, "pad": t.pad_token_id}
    if names:
        program.report(name, "names", [name], [ids(tokenizer)], program.answers(directory, "names", [0]))


def starts_with_mark(text):
    return text.startswith((" ", "▁"))


with tempfile.TemporaryDirectory() as root:
    for name, contents in json_directories(lines, options.data):
        if options.only not in name or ("extra" in name and VERSION < 5):
            continue
        directory = write(root, name, contents)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        # Without a tokenizer_config.json transformers 4 has names of its own; its padding section names a token that nobody uses.
        compare(name, directory, tokenizer, fast_encode(tokenizer), names="alone" not in name and "padding" not in name)
        if VERSION >= 5:
            texts = plain_texts[:200]
            program.report(name, "encode-special", texts, tokenizer(texts, split_special_tokens=True).input_ids,
                           program.answers(directory, "encode-special", texts))
    name, contents = tiktoken_directory()
    if options.only in name and VERSION >= 5:
        directory = write(root, name, contents, os.path.join(options.data, "llama3-tokenizer.model"))
        tokenizer = AutoTokenizer.from_pretrained(directory)
        compare(name, directory, tokenizer, fast_encode(tokenizer))
    for directory in options.more:
        name = os.path.basename(os.path.normpath(directory))
        is_json = os.path.exists(os.path.join(directory, "tokenizer.json"))
        if options.only not in name or (VERSION >= 5 and not is_json):
            continue
        tokenizer = AutoTokenizer.from_pretrained(directory, use_fast=is_json)
        encode = fast_encode(tokenizer) if is_json else slow_encode(tokenizer)
        compare(name, directory, tokenizer, encode, lambda t: is_json or not any(c in t for c in "\x1c\x1d\x1e\x1f"), names=VERSION >= 5)
    # transformers 5 has no SentencePiece tokenizer, and numbers the merges of runs of spaces by id: 4 is the reference.
    for name, contents, settings in model_directories(options.data) if VERSION == 4 else ():
        if options.only not in name:
            continue
        directory = write(root, name, contents, os.path.join(options.data, "llama2-tokenizer.model"))
        if settings.get("fast", True):
            tokenizer = AutoTokenizer.from_pretrained(directory)
            # With `legacy` false the fast one loses a space in front of a text; SentencePiece does not.
            compare(name + " (fast)", directory, tokenizer, fast_encode(tokenizer), lambda t: settings["old"] or not starts_with_mark(t))
        if settings.get("slow", True):
            tokenizer = AutoTokenizer.from_pretrained(directory, use_fast=False)
            tokens = tuple(t.content for t in tokenizer.added_tokens_decoder.values())
            # The slow one takes U+001C to U+001F for white space. With `legacy` false it puts a mark before an added token that
            # begins a text, and makes every mark a space before it looks for added tokens.
            keep = lambda t: not any(c in t for c in "\x1c\x1d\x1e\x1f") and (settings["legacy"] or not (t.lstrip().startswith(tokens) or "▁" in t))
            compare(name + " (slow)", directory, tokenizer, slow_encode(tokenizer), keep, names=False)
print(f"transformers {transformers.__version__}: {program.differences} differences in all, {time.time() - start:.0f} s")
sys.exit(program.differences > 0)
