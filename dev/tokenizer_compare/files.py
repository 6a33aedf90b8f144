"""Tokenizer files made from the real ones: the tokenizer.json forms of Llama 2 and 3, variants of SmolLM2's, altered sentencepiece models."""
import base64
import copy
import json
import os
import random

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
NORMAL, USER_DEFINED, UNUSED, BYTE = 1, 4, 5, 6


def llama3_special(i):
    named = {0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id", 7: "end_header_id", 8: "eom_id", 9: "eot_id",
             10: "python_tag"}
    return f"<|{named[i]}|>" if i in named else f"<|reserved_special_token_{i - sum(n < i for n in named)}|>"


def write(directory, name, content):
    path = os.path.join(directory, name.replace(" ", "_") + ".json")
    with open(path, "w") as f:
        json.dump(content, f)
    return name, path


def tokenizer(vocab, merges, added=(), normalizer=None, pre=None, post=None, decoder=None, **model):
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                             for i, c in added],
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": decoder,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges, **model}}


def alphabet():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def byte_level(use_regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


def llama3_json(path):
    letters = alphabet()
    ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in open(path, "rb"))}
    spelled = {token: "".join(letters[b] for b in token) for token in ranks}
    merges = []
    for token in ranks:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += [[spelled[a], spelled[b]] for a, b in sorted(cuts, key=lambda c: (ranks[c[0]], ranks[c[1]]))]
    added = [(len(ranks) + i, llama3_special(i)) for i in range(256)]
    return tokenizer({spelled[t]: r for t, r in ranks.items()}, merges, added, pre=sequence(split(LLAMA3), byte_level(False)),
                     decoder=byte_level(True), ignore_merges=True)


def llama2_json(path):
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(open(path, "rb").read())
    vocab = {p.piece: i for i, p in enumerate(model.pieces)}
    merges = []
    for i, p in enumerate(model.pieces):
        if p.type == NORMAL:
            cuts = [(p.piece[:k], p.piece[k:]) for k in range(1, len(p.piece)) if p.piece[:k] in vocab and p.piece[k:] in vocab]
            merges += [(p.score, a, b) for a, b in sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))]
    merges.sort(key=lambda m: (m[0], len(m[1]), len(m[2])), reverse=True)
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                                                   {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    decoder = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                                                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return tokenizer(vocab, [list(m[1:]) for m in merges], [(0, "<unk>"), (1, "<s>"), (2, "</s>")], normalizer=prepend, decoder=decoder,
                     unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def llama_jsons(llama2, llama3, directory):
    yield write(directory, "Llama 3 json", llama3_json(llama3))
    legacy = llama2_json(llama2)
    yield write(directory, "Llama 2 json legacy", legacy)
    for scheme, cut in (("first", False), ("always", True), ("never", False)):
        form = copy.deepcopy(legacy)
        form["normalizer"], form["pre_tokenizer"] = None, metaspace(scheme, cut)
        if scheme == "always":
            form["decoder"] = form["pre_tokenizer"]
        yield write(directory, f"Llama 2 json {scheme}", form)
    letters = random.Random(3)
    for fuse, keep_bytes, unk in ((True, 0.0, "<unk>"), (False, 0.5, "<unk>"), (True, 0.5, "<unk>"), (False, 0.0, None)):
        form = copy.deepcopy(legacy)
        gone = [t for t in form["model"]["vocab"] if t.startswith("<0x") and letters.random() >= keep_bytes]
        for token in gone:
            del form["model"]["vocab"][token]
        form["model"].update(fuse_unk=fuse, unk_token=unk)
        yield write(directory, f"Llama 2 json {len(gone)} bytes gone{' fused' if fuse else ''}{'' if unk else ' no unk'}", form)
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            form = copy.deepcopy(legacy)
            form["pre_tokenizer"] = {"type": "Split", "pattern": {"String": "▁"}, "behavior": behavior, "invert": invert}
            yield write(directory, f"Llama 2 json {behavior}{' inverted' if invert else ''}", form)


def smollm2_jsons(path, directory):
    published = json.load(open(path))
    yield write(directory, "SmolLM2", published)
    variants = {
        "SmolLM2 without Digits": (None, byte_level(True)),
        "SmolLM2 Qwen-like": ({"type": "NFC"}, sequence(split(QWEN2), byte_level(False))),
        "SmolLM2 prefix space": (None, sequence({"type": "Digits", "individual_digits": False}, byte_level(True, prefix=True))),
        "SmolLM2 no cuts": (None, byte_level(False)),
        "SmolLM2 removed between": (None, sequence({**split(LLAMA3), "behavior": "Removed", "invert": True}, byte_level(False))),
    }
    for name, (normalizer, pre) in variants.items():
        form = copy.deepcopy(published)
        form["normalizer"], form["pre_tokenizer"] = normalizer, pre
        yield write(directory, name, form)
    form = copy.deepcopy(published)
    form["model"]["ignore_merges"] = True
    yield write(directory, "SmolLM2 whole pieces", form)


def altered_sentencepiece(path, directory):
    from sentencepiece import sentencepiece_model_pb2
    original = sentencepiece_model_pb2.ModelProto()
    original.ParseFromString(open(path, "rb").read())
    r = random.Random(5)

    def save(name, change):
        model = sentencepiece_model_pb2.ModelProto()
        model.CopyFrom(original)
        change(model)
        out = os.path.join(directory, name.replace(" ", "_") + ".model")
        with open(out, "wb") as f:
            f.write(model.SerializeToString())
        return name, out

    def keep(model, wanted):
        """Without the pieces of bytes and what else is not wanted."""
        kept = [p for p in model.pieces if p.type != BYTE and wanted(p)]
        del model.pieces[:]
        model.pieces.extend(kept)
        model.trainer_spec.byte_fallback = False

    def drop_bytes(model):
        keep(model, lambda p: True)

    def drop_characters(model):
        """Some characters are in pieces without being pieces; with the bytes gone they become unk."""
        keep(model, lambda p: p.type != NORMAL or len(p.piece) > 1 or p.piece not in "etaoin▁" or r.random() < 0.5)

    def retype(kind, share):
        def change(model):
            for p in model.pieces:
                if p.type == NORMAL and len(p.piece) > 1 and r.random() < share:
                    p.type = kind
        return change

    def spaces(model):
        model.normalizer_spec.remove_extra_whitespaces = True

    def no_prefix(model):
        model.normalizer_spec.add_dummy_prefix = False

    def equal_scores(model):
        for p in model.pieces:
            p.score = round(p.score / 500)

    yield save("Llama 2 spaces removed", spaces)
    yield save("Llama 2 no dummy prefix", no_prefix)
    yield save("Llama 2 no bytes", drop_bytes)
    yield save("Llama 2 characters gone", drop_characters)
    yield save("Llama 2 unused pieces", retype(UNUSED, 0.2))
    yield save("Llama 2 user-defined pieces", retype(USER_DEFINED, 0.01))
    yield save("Llama 2 equal scores", equal_scores)
