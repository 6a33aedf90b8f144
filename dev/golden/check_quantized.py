"""Are our NF4 bytes those of bitsandbytes, and do the two programs read each other's checkpoints?

    check_quantized.py [--program ./train_llama_lora] [--keep DIR]

Writes tiny models whose linear layers have awkward sizes and values, in bf16, fp16 and fp32, exports them with and without double
quantisation, and counts what differs from bitsandbytes on the CPU: packed bytes, absmax, 8-bit codes of absmax (and those from the
rule of quantized.py, which the program follows). Then: logits of an exported model in transformers against those of weights
dequantised by hand and against `dump`; the same for what transformers' save_pretrained writes. At last: the codes of AdamW8bit's
moments in checkpoints, against the rule and against bitsandbytes given the same gradients. Prints tables; exit 1 when something that
must be equal is not.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import bitsandbytes.functional
import numpy as np
import torch
import torch._dynamo
import transformers
from safetensors.torch import load_file, save_file

import exact
import quantized
from make_golden import config, default_rope, write_json

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# (hidden, inner, heads, key/value heads, head size). Inner sizes of matrices are multiples of 64, or no multiples of 16: others are
# dequantised wrongly by bitsandbytes' CPU kernels.
SHAPES = {
    "blocks of 64": (64, 128, 4, 2, 16),
    "odd": (39, 29, 3, 1, 6),
    "even": (100, 52, 5, 5, 10),
    "many blocks": (320, 1088, 5, 1, 64),
}
KINDS = ("normal", "heavy tails", "constant", "outliers", "denormals", "zeros", "zero blocks")
LOGIT_TOLERANCE = 1e-5  # relative, both in fp32; as the goldens


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="./train_llama_lora")
    parser.add_argument("--keep", help="write the models here and leave them")
    return parser.parse_args()


def values(kind: str, shape: tuple[int, int], dtype: torch.dtype, rng: np.random.Generator) -> torch.Tensor:
    x = rng.standard_normal(shape) / np.sqrt(shape[1])
    if kind == "heavy tails":
        x = np.clip(rng.standard_t(1.2, shape), -6e4, 6e4)
    elif kind == "constant":
        x = np.full(shape, rng.choice([-0.37, 0.021]))
    elif kind == "outliers":
        x[rng.random(shape) < 0.01] *= 300
    elif kind == "denormals":
        x *= float(torch.finfo(dtype).tiny)
    elif kind == "zeros":
        x = np.where(rng.random(shape) < 0.5, -0.0, 0.0)
    elif kind == "zero blocks":
        x.reshape(-1)[: x.size // 3] = -0.0
    return torch.from_numpy(x).to(dtype)


def write_model(directory: pathlib.Path, shape: tuple, dtype: str, kinds: tuple, rng: np.random.Generator) -> None:
    hidden, inner, heads, kv, head_dim = shape
    directory.mkdir(parents=True)
    settings = config(40, hidden, inner, heads, kv, head_dim, default_rope(10000.0), dtype)
    write_json(directory / "config.json", settings)
    model = transformers.LlamaForCausalLM(transformers.AutoConfig.from_pretrained(directory))
    weights, i = {}, 0
    for name, parameter in model.named_parameters():
        size = tuple(parameter.shape)
        if "norm" in name:
            weights[name] = torch.from_numpy(1 + 0.2 * rng.standard_normal(size)).to(DTYPES[dtype])
            continue
        kind = kinds[i % len(kinds)] if name.endswith("_proj.weight") else "normal"
        i += name.endswith("_proj.weight")
        weights[name] = values(kind, size, DTYPES[dtype], rng)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})


QUANT_STATE = "quant_state.bitsandbytes__"


def quant_state(stored: dict[str, torch.Tensor], name: str) -> dict | None:
    """None: the weight is not quantised."""
    texts = [tensor for key, tensor in stored.items() if key.startswith(f"{name}.{QUANT_STATE}")]
    return json.loads(bytes(texts[0].numpy())) if texts else None


def run(program: str, *words) -> None:
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stderr.strip()}")


def absmax_of(stored: dict[str, torch.Tensor], name: str) -> np.ndarray:
    """As the file says: with the maps that are in it."""
    absmax = stored[f"{name}.absmax"].numpy()
    if f"{name}.nested_absmax" not in stored:
        return absmax
    offset = np.float32(quant_state(stored, name)["nested_offset"])
    nested = np.repeat(stored[f"{name}.nested_absmax"].numpy(), quantized.NESTED_BLOCK)[: absmax.size]
    return stored[f"{name}.nested_quant_map"].numpy()[absmax] * nested + offset


def compare_tensor(weight: torch.Tensor, plain: dict, double: dict, name: str, count: dict) -> None:
    """Adds to `count` what differs between bitsandbytes' bytes of this tensor and those in our two files."""
    packed, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=False)
    absmax = state.absmax.numpy()
    if weight.numel() % quantized.BLOCK:
        # bitsandbytes' CPU library raises the absmax of a short last block to 1e-38, where its CUDA library has the true one.
        absmax[-1] = weight.reshape(-1)[-(weight.numel() % quantized.BLOCK) :].abs().max()
    count["tensors"] += 1
    count["packed bytes"] += packed.numel()
    for ours in (plain, double):
        count["packed differ"] += int((ours[name] != packed).sum())
    count["absmax"] += absmax.size
    count["absmax differ"] += int((plain[f"{name}.absmax"].numpy().view(np.uint32) != absmax.view(np.uint32)).sum())

    codes, nested = (double[f"{name}.{x}"].numpy() for x in ("absmax", "nested_absmax"))
    offset = np.float32(quant_state(double, name)["nested_offset"])
    rule_codes, rule_nested = quantized.quantize_absmax(absmax, offset)
    _, theirs = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    count["offset differs from rule"] += int(offset != quantized.mean_of(absmax))
    count["offset differs from library"] += int(offset != np.float32(theirs.offset.item()))
    count["codes differ from rule"] += int((codes != rule_codes).sum())
    count["nested absmax differ from rule"] += int((nested != rule_nested).sum())
    library_codes, _ = bitsandbytes.functional.quantize_blockwise(torch.from_numpy(absmax - offset), blocksize=quantized.NESTED_BLOCK)
    count["codes differ from library"] += int((codes != library_codes.numpy()).sum())
    maps = (f"{name}.quant_map", quantized.NF4), (f"{name}.nested_quant_map", quantized.SIGNED)
    count["maps differ"] += sum(int((double[key].numpy() != book).sum()) for key, book in maps)


def check_bytes(program: str, root: pathlib.Path) -> bool:
    rng = np.random.Generator(np.random.PCG64(1))
    must_be_zero = ("packed differ", "absmax differ", "maps differ", "offset differs from rule", "codes differ from rule")
    must_be_zero += ("nested absmax differ from rule",)
    columns = ("tensors", "packed bytes", "packed differ", "absmax", "absmax differ", "maps differ", "offset differs from rule")
    columns += ("offset differs from library", "nested absmax differ from rule", "codes differ from rule", "codes differ from library")
    total, rows = dict.fromkeys(columns, 0), []
    for dtype in DTYPES:
        for label, shape in SHAPES.items():
            directory = root / f"{dtype} {label}"
            write_model(directory / "model", shape, dtype, KINDS, rng)
            for double in ("on", "off"):
                run(program, "export", "--quiet", "--model", directory / "model", "--format", "bnb-4bit", "--double-quant", double,
                    "--output", directory / double)  # fmt: skip
            weights, plain, double = (load_file(directory / x / "model.safetensors") for x in ("model", "off", "on"))
            count = dict.fromkeys(columns, 0)
            for name, weight in weights.items():
                if name.endswith("_proj.weight"):
                    compare_tensor(weight, plain, double, name, count)
            rows.append((f"{dtype}, {label}", count))
            total = {c: total[c] + count[c] for c in columns}
    print("| values | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for label, count in [*rows, ("all", total)]:
        print(f"| {label} | " + " | ".join(f"{count[c]:,}" for c in columns) + " |")
    return all(total[c] == 0 for c in must_be_zero)


def by_hand(original: pathlib.Path, stored: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The model in fp32 with the stored codes dequantised by quantized.py."""
    model = transformers.LlamaForCausalLM.from_pretrained(original, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if quant_state(stored, name):
                packed = stored[name].contiguous().view(torch.uint8).numpy().reshape(-1)
                book = stored[f"{name}.quant_map"].numpy()
                weight = quantized.dequantize_4bit(packed, absmax_of(stored, name), tuple(parameter.shape), book)
                parameter.copy_(torch.from_numpy(weight))
    return model


def compute_in_fp32(model: torch.nn.Module) -> None:
    """A model that comes quantised keeps the dtypes of its config, whatever was asked for."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and not isinstance(parameter, bitsandbytes.nn.Params4bit):  # whose codes may be stored as bf16
            parameter.data = parameter.data.float()
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.compute_dtype = torch.float32


def dumped(program: str, model: pathlib.Path, documents: list[list[int]], root: pathlib.Path) -> list[torch.Tensor]:
    (root / "data.jsonl").write_text("".join(json.dumps({"input_ids": ids}) + "\n" for ids in documents))
    run(program, "dump", "--quiet", "--model", model, "--data", root / "data.jsonl", "--docs", len(documents), "--dtype", "fp32",
        "--rank", 2, "--device", "cpu", "--output", root / "dump")  # fmt: skip
    dump = load_file(root / "dump")
    return [dump[f"logits.{i}"] for i in range(len(documents))]


def quantized_while_loading(model: pathlib.Path, dtype: torch.dtype, **settings) -> torch.nn.Module:
    settings = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype} | settings
    config = transformers.BitsAndBytesConfig(load_in_4bit=True, **settings)
    return transformers.LlamaForCausalLM.from_pretrained(model, dtype=dtype, quantization_config=config)


def check_logits(program: str, root: pathlib.Path) -> bool:
    """In fp32, so that nothing hides a wrong code; in train mode, since in eval mode bitsandbytes' CPU kernels round absmax to bf16."""
    rng = np.random.Generator(np.random.PCG64(2))
    good = True
    print("\n| checkpoint | written by | transformers against weights by hand | program against transformers |")
    print("| --- | --- | ---: | ---: |")
    for dtype in DTYPES:
        for label, shape in SHAPES.items():
            directory = root / f"logits {dtype} {label}"
            write_model(directory / "model", shape, dtype, ("normal",), rng)
            documents = [rng.integers(0, 40, n).tolist() for n in (5, 33)]
            saved = {"double": {"bnb_4bit_use_double_quant": True}, "plain": {"bnb_4bit_use_double_quant": False}}
            if label == "blocks of 64":
                saved["stored as bf16"] = {"bnb_4bit_use_double_quant": True, "bnb_4bit_quant_storage": torch.bfloat16}
                saved["a matrix left out"] = {"llm_int8_skip_modules": ["lm_head", "model.layers.0.mlp.up_proj"]}
                saved["fp4"] = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True}
            checkpoints = []
            for name, settings in saved.items():
                checkpoints.append((name, "save_pretrained", directory / name))
                quantized_while_loading(directory / "model", DTYPES[dtype], **settings).save_pretrained(directory / name)
            for name, double in (("double", "on"), ("plain", "off")):
                checkpoints.append((name, "export", directory / f"export {name}"))
                run(program, "export", "--quiet", "--model", directory / "model", "--format", "bnb-4bit", "--double-quant", double,
                    "--output", checkpoints[-1][2])  # fmt: skip
            for name, writer, checkpoint in checkpoints:
                model = transformers.LlamaForCausalLM.from_pretrained(checkpoint).train()
                compute_in_fp32(model)
                reference = by_hand(directory / "model", load_file(checkpoint / "model.safetensors"))
                with torch.no_grad():
                    logits, expected = ([exact.logits_of(m, ids) for ids in documents] for m in (model, reference))
                library = max(float((a - b).abs().max()) for a, b in zip(logits, expected))
                got = dumped(program, checkpoint, documents, directory)
                ours = max(exact.relative(a, b) for a, b in zip(got, logits))
                print(f"| {dtype}, {label}, {name} | {writer} | {library:.1e} | {ours:.1e} |")
                good = good and library == 0 and ours < LOGIT_TOLERANCE
    return good


def check_moments(program: str, root: pathlib.Path) -> bool:
    """The gradients are those of `dump`, which for one document are those of the step, to the bit."""
    golden = pathlib.Path(__file__).parents[2] / "tests/goldens/quantized/nf4_double"
    data, output, lr, steps = root / "one.jsonl", root / "moments", 1e-2, 5
    data.write_text((golden / "data.jsonl").read_text().splitlines()[-1] + "\n")
    common = ["--quiet", "--model", golden, "--data", data, "--weights", "nf4", "--dtype", "fp32", "--seq-len", 40, "--device", "cpu"]
    run(program, "train", *common, "--init-adapter", golden / "adapter", "--optimizer", "adamw8bit", "--batch-size", 1, "--packing", "off",
        "--shuffle", "off", "--lr", lr, "--schedule", "constant", "--valid-split", 0, "--clip", 1e9, "--max-steps", steps, "--save-steps", 1,
        "--output", output)  # fmt: skip
    before, tensors, libraries, good = golden / "adapter", {}, {}, True
    print("\n| step | codes of each moment | differ from rule | absmax differ | parameters differ | by the guard | differ from bitsandbytes: m | v |")
    print("| ---: |" + " ---: |" * 7)
    for step in range(1, steps + 1):
        run(program, "dump", *common, "--adapter", before, "--docs", 1, "--output", root / "dump")
        gradients = {k[5:]: g for k, g in load_file(root / "dump").items() if k.startswith("grad.")}
        values, after = (load_file(d / "adapter_model.safetensors") for d in (before, output / f"checkpoint-{step}"))
        state, at, count = load_file(output / f"checkpoint-{step}/optimizer.safetensors"), 0, [0] * 7
        for name in in_the_order_of_training(gradients):
            g, size = gradients[name], gradients[name].numel()
            if step == 1:
                tensors[name] = [quantized.AdamW8bit(size, lr, guard=guard) for guard in (True, False)]
                parameter = torch.nn.Parameter(values[name].clone())
                libraries[name] = (parameter, bitsandbytes.optim.AdamW8bit([parameter], lr=lr, weight_decay=0.0))
            ruled, without_guard = tensors[name]
            without_guard.moments = list(ruled.moments)
            parameter, library = libraries[name]
            parameter.grad = g.clone()
            library.step()
            expected = ruled.update(*(x.numpy().reshape(-1) for x in (values[name], g)))
            without_guard.update(*(x.numpy().reshape(-1) for x in (values[name], g)))
            count[3] += int((after[name].numpy().reshape(-1) != expected).sum())
            if size < quantized.SMALLEST_8BIT:
                continue
            blocks = -(-size // quantized.OPTIMIZER_BLOCK)
            first, theirs = at * quantized.OPTIMIZER_BLOCK, library.state[parameter]
            count[0] += size
            for i, moment in enumerate("mv"):
                codes = state[f"{moment}.codes"].numpy()[first : first + size]
                count[1] += int((codes != ruled.codes[i]).sum())
                count[2] += int((state[f"{moment}.absmax"].numpy()[at : at + blocks] != ruled.absmax[i]).sum())
                count[4] += int((ruled.codes[i] != without_guard.codes[i]).sum())
                count[5 + i] += int((codes != theirs[f"state{i + 1}"].numpy().reshape(-1)).sum())
            at += blocks
        before = output / f"checkpoint-{step}"
        print(f"| {step} | " + " | ".join(f"{x:,}" for x in count) + " |")
        good = good and count[1:4] == [0, 0, 0]
    return good


def in_the_order_of_training(names) -> list[str]:
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return sorted(names, key=lambda name: (int(name.split(".")[4]), kinds.index(name.split(".")[6]), name))


def main() -> None:
    options = arguments()
    transformers.logging.set_verbosity_error()
    torch._dynamo.config.disable = True  # bitsandbytes compiles its dequantisation anew for every odd shape
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    root = pathlib.Path(options.keep or tempfile.mkdtemp())
    try:
        good = check_bytes(options.program, root)
        good = check_logits(options.program, root) and good
        good = check_moments(options.program, root) and good
    finally:
        if not options.keep:
            shutil.rmtree(root)
    print("\nall equal" if good else "\nNOT equal")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
