"""Makes a model directory of random bf16 weights from a config.json, for measurements of shapes whose weights are not at hand.

    random_model.py CONFIG.json DIRECTORY [--layers N] [--seed 42]

--layers N keeps the first N layers of the configuration.
"""

import argparse
import json
import pathlib

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    values = json.loads(options.config.read_text())
    if options.layers is not None:
        if not 1 <= options.layers <= values["num_hidden_layers"]:
            raise SystemExit(f"error: --layers {options.layers}: {options.config} has {values['num_hidden_layers']}")
        values["num_hidden_layers"] = options.layers
    options.directory.mkdir(parents=True, exist_ok=True)
    (options.directory / "config.json").write_text(json.dumps(values))
    config = transformers.AutoConfig.from_pretrained(options.directory)
    torch.manual_seed(options.seed)
    torch.set_default_dtype(torch.bfloat16)  # the type in which transformers makes random weights
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(options.directory)


if __name__ == "__main__":
    main()
