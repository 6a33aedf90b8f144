"""Planned memory against what a run takes on this machine, and what fitcheck-llm predicts for the same configuration.

    plan_errors.py --model DIR [--program ./train_llama_lora] [--steps 3] [--only TEXT] [--torch PYTHON]

Needs fitcheck-llm (PyPI). Each row trains a few steps on random token ids on the CPU and prints, in MiB: the plan; how much the process
grew from before that memory was taken to the largest at any time before the checkpoint; the growth by what holds it, from
/proc/PID/smaps at the largest sample (the plan's memory; the heap and other anonymous memory, code and
other pages of files); and the errors, prediction / growth - 1.

fitcheck-llm predicts transformers + peft + bitsandbytes on a GPU. A CPU has no context, so what is compared is its sum of tensors
(weights, adapter, gradients, optimizer, activations with flash attention), and beside it its total. --torch names an interpreter that has
transformers, peft and bitsandbytes: then the same configuration is trained there as well (reference.py), and fitcheck's error is also
given against the growth of that process.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

import fitcheck
from fitcheck.config_parser import _count_params, _parse_fields

MIB = 1 << 20
RANK = 16
# (words for our train, precision, nf4, adam8bit, recompute, batch, seq_len)
RUNS = [
    ("fp32", {"dtype": "fp32"}),
    ("bf16", {"dtype": "bf16"}),
    ("bf16, 4 x 256", {"dtype": "bf16", "batch-size": 4, "seq-len": 256}),
    ("bf16, recompute full", {"dtype": "bf16", "recompute": "full"}),
    ("bf16, AdamW8bit", {"dtype": "bf16", "optimizer": "adamw8bit"}),
    ("bf16, NF4", {"dtype": "bf16", "weights": "nf4"}),
    ("fp32, NF4", {"dtype": "fp32", "weights": "nf4"}),
    ("bf16, NF4, AdamW8bit, recompute full", {"dtype": "bf16", "weights": "nf4", "optimizer": "adamw8bit", "recompute": "full"}),
    ("bf16, NF4, recompute full, 4 x 512", {"dtype": "bf16", "weights": "nf4", "recompute": "full", "batch-size": 4}),
]
DEFAULTS = {"batch-size": 1, "seq-len": 512, "recompute": "none", "weights": None, "optimizer": "adamw"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="directory with config.json and weights")
    parser.add_argument("--program", default="./train_llama_lora")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", default="", help="only the rows whose name has this text")
    parser.add_argument("--torch", metavar="PYTHON")
    return parser.parse_args()


def predicted(model: pathlib.Path, run: dict) -> tuple[float, float]:
    """MiB: fitcheck's sum of tensors, and its total."""
    fields = _parse_fields(json.loads((model / "config.json").read_text()))
    config = fitcheck.ModelConfig(name=model.name, num_params=_count_params(fields), **vars(fields))
    report = fitcheck.estimate(
        config,
        fitcheck.TrainingConfig(
            precision=run["dtype"],
            quantization=run["weights"] or "none",
            double_quant=run["weights"] == "nf4",
            optimizer={"adamw": "adamw", "adamw8bit": "adam8bit"}[run["optimizer"]],
            batch_size=run["batch-size"],
            seq_len=run["seq-len"],
            lora_rank=RANK,
            lora_targets=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            grad_checkpoint=run["recompute"] == "full",
            flash_attn=True,
        ),
        fitcheck.get_gpu("h100"),
    )
    return report.total_mib - report.overhead_mib, report.total_mib


def resident_by_kind(pid: int) -> dict[str, int]:
    """Bytes; "largest" is the largest anonymous mapping, which is the plan's memory."""
    sizes, name = {"largest": 0, "other anonymous": 0, "files": 0}, ""
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        header = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)", line)
        if header:
            name = header[1]
        elif line.startswith("Rss:"):
            size = int(line.split()[1]) * 1024
            if name.startswith("/"):
                sizes["files"] += size
            elif size > sizes["largest"]:
                sizes["other anonymous"] += sizes["largest"]
                sizes["largest"] = size
            else:
                sizes["other anonymous"] += size
    return sizes


def train(options: argparse.Namespace, run: dict, data: pathlib.Path, output: pathlib.Path) -> tuple[dict, dict]:
    """What run.json measured, and the resident bytes by kind when they were most."""
    words = [options.program, "train", "--model", options.model, "--data", data, "--output", output, "--device", "cpu", "--quiet",
             "--rank", RANK, "--max-steps", options.steps, "--valid-split", 0]  # fmt: skip
    words += [x for name, value in run.items() if value for x in (f"--{name}", value)]
    process = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    most: dict[str, int] = {}
    while process.poll() is None and not list(output.glob("checkpoint-*")):  # reading back a checkpoint to check it maps the file
        try:
            now = resident_by_kind(process.pid)
        except (FileNotFoundError, ProcessLookupError):
            break
        if sum(now.values()) > sum(most.values()):
            most = now
        time.sleep(0.02)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: exit {process.returncode}: {errors.strip()}")
    return json.loads((output / "run.json").read_text())["measured"], most


def growth_of_torch(options: argparse.Namespace, run: dict) -> float:
    words = [options.torch, "-W", "ignore", pathlib.Path(__file__).parent / "reference.py", "--model", options.model, "--steps", 1,
             "--warmup-steps", 1, "--rank", RANK, "--dtype", run["dtype"], "--optimizer", run["optimizer"], "--recompute",
             run["recompute"], "--batch-size", run["batch-size"], "--seq-len", run["seq-len"]]  # fmt: skip
    words += ["--weights", run["weights"]] if run["weights"] else []
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["peak_rss_over_start"] / MIB


def main() -> None:
    options = arguments()
    model = pathlib.Path(options.model)
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    columns = ["run", "planned", "growth", "of it plan's", "other anonymous", "files", "our error", "fitcheck tensors", "total"]
    columns += ["their error (tensors)", "(total)"] + (["growth of torch", "their error on it (tensors)", "(total)"] if options.torch else [])
    print("| " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (len(columns) - 1))
    with tempfile.TemporaryDirectory() as temporary:
        data = pathlib.Path(temporary) / "ids.jsonl"
        ids = random.Random(1)
        data.write_text(
            "".join(json.dumps({"input_ids": [ids.randrange(vocabulary) for _ in range(512)]}) + "\n" for _ in range(64))
        )
        for i, (name, changed) in enumerate(RUNS):
            if options.only not in name:
                continue
            run = DEFAULTS | changed
            measured, most = train(options, run, data, pathlib.Path(temporary) / f"run{i}")
            planned, growth = (measured[key] / MIB for key in ("planned_bytes", "peak_resident_over_start"))
            tensors, total = predicted(model, run)
            cells = [f"{x:,.1f}" for x in (planned, growth, *(x / MIB for x in most.values()))]
            cells += [f"{planned / growth - 1:+.1%}", f"{tensors:,.1f}", f"{total:,.1f}"]
            cells += [f"{x / growth - 1:+.1%}" for x in (tensors, total)]
            if options.torch:
                torch_growth = growth_of_torch(options, run)
                cells += [f"{torch_growth:,.1f}", *(f"{x / torch_growth - 1:+.1%}" for x in (tensors, total))]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
