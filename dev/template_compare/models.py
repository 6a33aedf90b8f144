"""Tokenizers that the comparisons use: published ones, and ones like the published, made of what is at hand."""
import copy
import json
import os
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tokenizer_compare"))
import files
from transformers import PreTrainedTokenizerFast


def added(id_, content, special=True, **flags):
    return {"id": id_, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **flags}


class Model:
    """A tokenizer as our program reads it and as transformers does; and a twin whose special tokens have other names, so that
    those that a user's text spells are not found in it."""

    def __init__(self, name, tokenizer_json, config, our_file=None):
        self.name, self.config = name, config
        self.directory = tempfile.mkdtemp(prefix="template_compare_")
        json.dump(tokenizer_json, open(f"{self.directory}/tokenizer.json", "w"))
        json.dump(config, open(f"{self.directory}/tokenizer_config.json", "w"))
        if our_file:  # our program is to read another file of the same tokenizer
            os.remove(f"{self.directory}/tokenizer.json")
            os.symlink(os.path.abspath(our_file), f"{self.directory}/tokenizer.model")
        self.names = {t["content"]: f"\uf8f0{t['id']}\uf8f1" for t in tokenizer_json["added_tokens"] if t["special"]}
        self.plain = self.load(tokenizer_json, lambda text: text)
        twin = copy.deepcopy(tokenizer_json)
        for token in twin["added_tokens"]:
            token["content"] = self.renamed_token(token["content"])
        twin["model"]["vocab"] = {self.renamed_token(t): i for t, i in twin["model"]["vocab"].items()}
        if twin["model"].get("unk_token"):
            twin["model"]["unk_token"] = self.renamed_token(twin["model"]["unk_token"])
        self.twin = self.load(twin, self.renamed_token)

    def renamed_token(self, token):
        return self.names.get(token, token)

    def renamed(self, template):
        for token in sorted(self.names, key=len, reverse=True):
            template = template.replace(token, self.names[token])
        return template

    def load(self, content, rename):
        path = f"{self.directory}/twin.json"
        json.dump(content, open(path, "w"))
        tokens = {k: rename(v) for k, v in self.config.items() if k in ("bos_token", "eos_token")}
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=path, clean_up_tokenization_spaces=False, **tokens)
        os.remove(path)
        return tokenizer


def smollm2(options):
    return Model("SmolLM2", json.load(open(f"{options.smollm2}/tokenizer.json")), {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})


def qwen(options):
    form = json.load(open(f"{options.smollm2}/tokenizer.json"))
    form["normalizer"] = {"type": "NFC"}
    form["pre_tokenizer"] = files.sequence(files.split(files.QWEN2), files.byte_level(False))
    form["post_processor"] = {**files.byte_level(False), "trim_offsets": False}
    first = len(form["model"]["vocab"])
    names = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
    form["added_tokens"] = [t for t in form["added_tokens"] if t["content"] in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    form["added_tokens"] += [added(first + i, n, special=False) for i, n in enumerate(names)]
    return Model("Qwen-like", form, {"eos_token": "<|im_end|>"})


def llama3(options, tiktoken):
    path = f"{options.data}/llama3-tokenizer.model"
    config = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    return Model("Llama 3, tiktoken" if tiktoken else "Llama 3", files.llama3_json(path), config, our_file=path if tiktoken else None)


LLAMA2 = {"bos_token": "<s>", "eos_token": "</s>"}


def llama2(options, sentencepiece):
    path = f"{options.data}/llama2-tokenizer.model"
    if not sentencepiece:
        return Model("Llama 2", files.llama2_json(path), LLAMA2)
    return Model("Llama 2, SentencePiece", files.llama2_json(path), {**LLAMA2, "legacy": True}, our_file=path)


def phi3(options):
    form = files.llama2_json(f"{options.data}/llama2-tokenizer.model")
    names = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>", "<|system|>", "<|end|>",
             "<|placeholder5|>", "<|placeholder6|>", "<|user|>"]
    form["added_tokens"] += [added(32000 + i, n, rstrip=i > 0) for i, n in enumerate(names)]
    form["added_tokens"][2]["rstrip"] = True
    return Model("Phi-3-like", form, {"bos_token": "<s>", "eos_token": "<|endoftext|>"})


def mistral(options, name, file):
    from sentencepiece import sentencepiece_model_pb2
    path = f"{options.mistral}/{file}"
    form = files.llama2_json(path)
    pieces = sentencepiece_model_pb2.ModelProto.FromString(open(path, "rb").read()).pieces
    form["added_tokens"] = [added(i, p.piece) for i, p in enumerate(pieces) if p.type in (2, 3)]
    return Model(name, form, {**LLAMA2, "legacy": True}, our_file=path)


MODELS = {
    "SmolLM2": smollm2,
    "Qwen-like": qwen,
    "Llama 3": lambda o: llama3(o, False),
    "Llama 3, tiktoken": lambda o: llama3(o, True),
    "Llama 2": lambda o: llama2(o, False),
    "Llama 2, SentencePiece": lambda o: llama2(o, True),
    "Phi-3-like": phi3,
    "Mistral v1": lambda o: mistral(o, "Mistral v1", "tokenizer.model.v1"),
    "Mistral v3": lambda o: mistral(o, "Mistral v3", "mistral_instruct_tokenizer_240323.model.v3"),
}
