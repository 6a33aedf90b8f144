#!/usr/bin/env python3
"""Compares the tokenizers with sentencepiece, tiktoken and tokenizers on random strings and ids; prints the differences of each.

    pip install tokenizers tiktoken sentencepiece protobuf
    make build/encode_lines && python3 dev/tokenizer_compare/compare.py build/encode_lines --data DIRECTORY [--smollm2 DIRECTORY]

DIRECTORY holds llama2-tokenizer.model and llama3-tokenizer.model; --smollm2 a model directory with its tokenizer.json.
Exits with 1 when anything differs.
"""
import argparse
import base64
import functools
import json
import os
import sys
import tempfile
import time

import files
import sentencepiece
import tiktoken
import tokenizers
import trained
from program import Program
from random_strings import Strings

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("--data", default="../shared/data")
parser.add_argument("--smollm2", default="models/smollm2-135m")
parser.add_argument("--strings", type=int, default=100000)
parser.add_argument("--ids", type=int, default=30000)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--only", default="")
options = parser.parse_args()
program = Program(options.program)
ours, report = program.answers, program.report


@functools.lru_cache
def strings_and_texts():
    strings = Strings(options.seed, lines)
    return strings, strings.texts(options.strings)


def compare(name, path, encode, decode, often, decode_all=None, broken=None, around=None):
    """encode(texts) and decode(list of ids) are the reference; decode_all keeps special tokens; broken encodes bytes; around adds
    what comes before and after a text."""
    if options.only and options.only not in name:
        return
    strings, texts = strings_and_texts()
    expected = encode(texts)
    report(name, "encode", texts, expected, ours(path, "encode", texts))
    if around:
        report(name, "encode-special", texts[:1000], around(texts[:1000]), ours(path, "encode-special", texts[:1000]))
    vocabulary = max(max(ids, default=0) for ids in expected) + 1
    ids = strings.ids(options.ids, expected, vocabulary, often)
    plain = decode(ids)
    found = ours(path, "decode", ids)
    report(name, "decode", ids, plain, found)
    if decode_all:
        report(name, "decode-all", ids, decode_all(ids), ours(path, "decode-all", ids))
    report(name, "decode-stream", ids, found, ours(path, "decode-stream", ids))
    texts = strings.broken(options.strings // 5)
    if broken:
        report(name, "not UTF-8", texts, broken(texts), ours(path, "encode-hex", [t.hex() for t in texts]))


def compare_sentencepiece(name, path):
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    often = list(range(0, min(300, len(model)))) + [model.piece_to_id("▁"), model.piece_to_id("▁Hello")]
    compare(name, path, lambda texts: model.encode(texts), lambda ids: [model.decode(i) for i in ids], often,
            broken=lambda texts: [model.encode(t) for t in texts])


def compare_json(name, path):
    if path.endswith(".json"):
        reference = tokenizers.Tokenizer.from_file(path)
        reference.encode_special_tokens = True
        special = [t.id if hasattr(t, "id") else i for i, t in reference.get_added_tokens_decoder().items()]
        often = special + list(range(min(300, reference.get_vocab_size())))
        compare(name, path, lambda texts: [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)],
                lambda ids: reference.decode_batch(ids, skip_special_tokens=True), often,
                decode_all=lambda ids: reference.decode_batch(ids, skip_special_tokens=False),
                around=lambda texts: [e.ids for e in reference.encode_batch(texts)])


def compare_tiktoken(name, path):
    ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in open(path, "rb"))}
    special = {files.llama3_special(i): len(ranks) + i for i in range(256)}
    reference = tiktoken.Encoding(name, pat_str=files.LLAMA3, mergeable_ranks=ranks, special_tokens=special)
    often = list(range(256)) + list(special.values())[:20]
    keep = lambda ids: [i for i in ids if i < len(ranks)]
    compare(name, path, reference.encode_ordinary_batch, lambda ids: [reference.decode(keep(i)) for i in ids], often,
            decode_all=lambda ids: [reference.decode(i) for i in ids])


start = time.time()
with open(os.path.join(options.data, "squad-v2.0-dev-5-articles.json")) as f:
    lines = [p["context"] for a in json.load(f)["data"] for p in a["paragraphs"]]
llama2 = os.path.join(options.data, "llama2-tokenizer.model")
llama3 = os.path.join(options.data, "llama3-tokenizer.model")
with tempfile.TemporaryDirectory() as directory:
    compare_sentencepiece("Llama 2", llama2)
    for name, path in files.altered_sentencepiece(llama2, directory):
        compare_sentencepiece(name, path)
    compare_tiktoken("Llama 3", llama3)
    jsons = list(files.llama_jsons(llama2, llama3, directory))
    published = os.path.join(options.smollm2, "tokenizer.json")
    if os.path.exists(published):
        jsons += files.smollm2_jsons(published, directory)
    else:
        print(f"left out: {published} is not there")
    jsons += trained.jsons(lines, directory)
    for name, path in jsons:
        compare_json(name, path)
print(f"{program.differences} differences in all, {time.time() - start:.0f} s")
sys.exit(program.differences > 0)
