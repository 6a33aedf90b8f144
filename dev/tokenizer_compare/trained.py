"""Small tokenizer.json files of every kind that is supported, trained here, so that no published file is needed."""
import itertools
import json
import os
import random

import files
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPECIAL = ["<s>", "</s>", "<|endoftext|>"]


def split(regex):
    return pre_tokenizers.Split(Regex(regex), "isolated")


def byte_level(use_regex, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


def template(tokenizer, after):
    end = " </s>" if after else ""
    return processors.TemplateProcessing(single="<s> $A" + end, pair=f"<s> $A{end} <s> $B{end}",
                                         special_tokens=[(t, tokenizer.token_to_id(t)) for t in SPECIAL[:2]])


def train(texts, pre, normalizer=None, alphabet=(), size=1500, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=list(alphabet), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def add_tokens(tokenizer, seed):
    """Tokens that are not special, with every flag, some inside of others or of special ones.

    None begins with white space: where the token before swallows it, the library panics.
    """
    r = random.Random(seed)
    contents = ["<s", "s>", "don't", "the", "THE", "12", "the quick", "ﬁ", "é", "<tool>", "<tool>>", "[INST]", "=====", "👍", "na"]
    for content in r.sample(contents, 9):
        tokenizer.add_tokens([AddedToken(content, **{flag: r.random() < 0.4 for flag in ("lstrip", "rstrip", "single_word", "normalized")})])
    tokenizer.add_special_tokens([AddedToken("<|eot|>", lstrip=True, rstrip=True), AddedToken("a<tool>b", normalized=True)])


def byte_level_forms():
    digits = pre_tokenizers.Digits
    chain = lambda *steps: pre_tokenizers.Sequence(list(steps))
    yield "GPT-2", byte_level(True), None
    yield "GPT-2 prefix", byte_level(True, True), None
    yield "no regex", byte_level(False), None
    yield "no regex prefix", byte_level(False, True), None
    yield "Split GPT-2", chain(split(GPT2), byte_level(False)), None
    yield "Split Llama 3", chain(split(files.LLAMA3), byte_level(False)), None
    yield "Split Llama 3 prefix", chain(split(files.LLAMA3), byte_level(False, True)), None
    yield "Split Llama 3 and GPT-2", chain(split(files.LLAMA3), byte_level(True)), None
    yield "Split Qwen2 NFC", chain(split(files.QWEN2), byte_level(False)), normalizers.NFC()
    yield "Digits", chain(digits(individual_digits=True), byte_level(True)), None
    yield "Digits runs prefix", chain(digits(individual_digits=False), byte_level(True, True)), None
    yield "Digits Split", chain(digits(individual_digits=True), split(files.LLAMA3), byte_level(False)), None
    yield "Split Digits NFC", chain(split(files.LLAMA3), digits(individual_digits=True), byte_level(False)), normalizers.NFC()
    yield "Digits Split String", chain(digits(), pre_tokenizers.Split(" ", "merged_with_next"), byte_level(False)), None


def character_forms():
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    metaspace = pre_tokenizers.Metaspace
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    yield "legacy", legacy, None, decoders.Sequence(strip)
    yield "legacy NFC", normalizers.Sequence([normalizers.NFC(), legacy]), None, decoders.Sequence(strip)
    for scheme, cut in itertools.product(("first", "always", "never"), (True, False)):
        yield f"Metaspace {scheme}{' cut' if cut else ''}", None, metaspace(prepend_scheme=scheme, split=cut), decoders.Sequence(strip)
    yield "Metaspace decoder", None, metaspace(), decoders.Metaspace()
    yield "Gemma", normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence(strip[:3])


def jsons(texts, directory):
    """Yields (name, path) of saved tokenizers."""
    def save(name, tokenizer, seed, change=None):
        if seed % 2:
            add_tokens(tokenizer, seed)
        tokenizer.post_processor = template(tokenizer, seed % 4 > 1)
        content = json.loads(tokenizer.to_str())
        if seed % 3 == 0:
            content["model"]["merges"] = [" ".join(m) if not any(" " in part for part in m) else m for m in content["model"]["merges"]]
        if change:
            content["model"].update(change)
        path = os.path.join(directory, name.replace(" ", "_") + ".json")
        with open(path, "w") as f:
            json.dump(content, f)
        return name, path

    seed = 0
    for name, pre, normalizer in byte_level_forms():
        for whole in (False, True):
            alphabet = pre_tokenizers.ByteLevel.alphabet() if seed % 5 else ()
            tokenizer = train(texts, pre, normalizer, alphabet)
            tokenizer.decoder = decoders.ByteLevel()
            yield save(f"trained {name}{' whole' if whole else ''}", tokenizer, seed, {"ignore_merges": whole})
            seed += 1
    for name, normalizer, pre, decoder in character_forms():
        for fallback in (True, False):
            alphabet = [f"<0x{b:02X}>" for b in range(256)] if fallback else ()
            tokenizer = train(texts, pre, normalizer, (), unk_token="<|endoftext|>", fuse_unk=seed % 4 > 1)
            content = json.loads(tokenizer.to_str())
            vocabulary = content["model"]["vocab"]
            for token in alphabet:
                vocabulary[token] = len(vocabulary)
            content["model"].update(byte_fallback=fallback, ignore_merges=seed % 5 == 1)
            tokenizer = Tokenizer.from_str(json.dumps(content))
            tokenizer.decoder = decoder
            yield save(f"trained {name}{' fallback' if fallback else ''}", tokenizer, seed)
            seed += 1
