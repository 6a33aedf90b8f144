"""Seconds of a training step over NF4 weights: this program's against its own over 16-bit weights, and against peft + bitsandbytes.

    quantized_speed.py --model DIR --torch PYTHON [--program ./train_llama_lora] [--rounds 3] [--steps 5] [--seq-len 512]
                       [--torch-dtype bf16 fp32]

On the CPU, LoRA of rank 16 on all seven targets, one row a step, every token trained. A round runs each of them in turn, as processes of
their own, so that all see the same state of the machine; a figure is the fastest of a run's steps after the first, which other
programs disturb least; a ratio is taken within a round. Printed are the rounds, and of each ratio the median and the range. PYTHON has
transformers, peft and bitsandbytes.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile

RANK = 16


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--torch", required=True, metavar="PYTHON")
    parser.add_argument("--program", default="./train_llama_lora")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--torch-dtype", nargs="+", choices=["bf16", "fp32"], default=["fp32"], help="of activations and products")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def ours(options: argparse.Namespace, weights: str, data: pathlib.Path) -> float:
    with tempfile.TemporaryDirectory() as output:
        words = [options.program, "train", "--model", options.model, "--data", data, "--output", output, "--device", "cpu", "--dtype", "bf16",
                 "--weights", weights, "--rank", RANK, "--seq-len", options.seq_len, "--batch-size", 1, "--max-steps", options.steps + 1,
                 "--valid-split", 0, "--threads", options.threads, "--overwrite", "--quiet"]  # fmt: skip
        subprocess.run([str(w) for w in words], check=True, capture_output=True)
        lines = (pathlib.Path(output) / "metrics.jsonl").read_text().splitlines()
    return min(json.loads(line)["seconds"] for line in lines[1:])


def of_torch(options: argparse.Namespace, dtype: str) -> float:
    words = [options.torch, "-W", "ignore", pathlib.Path(__file__).parent / "reference.py", "--model", options.model, "--weights", "nf4",
             "--dtype", dtype, "--rank", RANK, "--seq-len", options.seq_len, "--warmup-steps", 1, "--steps", max(2, options.steps // 2),
             "--threads", options.threads]  # fmt: skip
    done = subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["fastest_step"]


def main() -> None:
    options = arguments()
    vocabulary = json.loads((pathlib.Path(options.model) / "config.json").read_text())["vocab_size"]
    theirs = [f"peft + bitsandbytes {dtype}" for dtype in options.torch_dtype]
    ratios: dict[str, list[float]] = {}
    print("| round | bf16 weights | NF4 weights | " + " | ".join(theirs) + " |")
    print("| ---: |" + " ---: |" * (2 + len(theirs)))
    with tempfile.TemporaryDirectory() as temporary:
        data, ids = pathlib.Path(temporary) / "ids.jsonl", random.Random(1)
        rows = [[ids.randrange(vocabulary) for _ in range(options.seq_len)] for _ in range(options.steps + 1)]
        data.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
        for i in range(options.rounds):
            dense, nf4 = (ours(options, weights, data) for weights in ("bf16", "nf4"))
            libraries = [of_torch(options, dtype) for dtype in options.torch_dtype]
            print(f"| {i + 1} | " + " | ".join(f"{s:.2f} s" for s in (dense, nf4, *libraries)) + " |", flush=True)
            ratios.setdefault("speed of NF4 / bf16 weights", []).append(dense / nf4)
            for name, seconds in zip(theirs, libraries):
                ratios.setdefault(f"speed of NF4 / {name}", []).append(seconds / nf4)
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
