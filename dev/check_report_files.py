#!/usr/bin/env python3
"""Reads what a run left for other programs with those programs, and compares it with metrics.jsonl.

    dev/check_report_files.py OUTPUT        needs the packages tensorboard and transformers

- OUTPUT/runs/RUN/events.out.tfevents.* with tensorboard's EventAccumulator: every scalar, in its order, also of a resumed run,
  and the texts.
- OUTPUT/trainer_state.json and those of the checkpoints with transformers' TrainerState.load_from_json.
Prints what was compared; exit code 1 if anything differs.
"""
import glob
import json
import math
import os
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers.trainer_callback import TrainerState

TAGS = {"train/loss": "loss", "train/grad_norm": "grad_norm", "train/learning_rate": "lr",
        "train/tokens_per_second": "tokens_per_second", "eval/loss": "eval_loss", "eval/perplexity": "eval_perplexity"}


def close(a, b, relative):
    return a == b or abs(a - b) <= relative * max(abs(a), abs(b))


def main(output):
    differences = 0

    def expect(condition, what):
        nonlocal differences
        if not condition:
            differences += 1
            print("differs:", what)

    lines = [json.loads(line) for line in open(os.path.join(output, "metrics.jsonl"))]
    run = json.load(open(os.path.join(output, "run.json")))["run"]
    state = TrainerState.load_from_json(os.path.join(output, "trainer_state.json"))
    every = state.logging_steps

    events = EventAccumulator(os.path.join(output, "runs", run), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    for tag, key in TAGS.items():
        expected = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        found = [(e.step, e.value) for e in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []
        if every > 1 and tag.startswith("train/"):  # means and speeds over several steps
            expect([s for s, _ in found] == sorted({min(-(-s // every) * every, state.global_step) for s, _ in expected}), tag)
        else:
            expect([s for s, _ in found] == [s for s, _ in expected], f"the steps of {tag}")
            expect(all(close(a, b, 1e-6) for (_, a), (_, b) in zip(found, expected)), f"the values of {tag}")
        print(f"{tag}: {len(found)} scalars")
    samples = [line["sample"] for line in lines if "sample" in line]
    texts = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("sample")] if "sample" in events.Tags()["tensors"] else []
    expect(["".join("    " + t for t in s.splitlines(True)) for s in samples] == [t.removesuffix("    ") for t in texts], "samples")
    print(f"sample: {len(texts)} texts")
    expect("args" in events.Tags()["tensors"], "args")

    for path in [output] + sorted(glob.glob(os.path.join(output, "checkpoint-*"))):
        state = TrainerState.load_from_json(os.path.join(path, "trainer_state.json"))
        steps = [line for line in lines if "loss" in line and line["step"] <= state.global_step]
        logged = [e for e in state.log_history if "learning_rate" in e]
        evaluations = [e for e in state.log_history if "eval_loss" in e]
        expect(state.global_step == steps[-1]["step"], f"{path}: the step")
        if every == 1:
            expect([e.get("loss") for e in logged] == [line["loss"] for line in steps], f"{path}: losses")
            expect([e["learning_rate"] for e in logged] == [line["lr"] for line in steps], f"{path}: learning rates")
        if state.best_metric is not None:
            expect(state.best_metric <= min(e["eval_loss"] for e in evaluations), f"{path}: the best evaluation")
        expect(all(math.isfinite(v) for e in state.log_history for v in e.values()), f"{path}: a value that is no number")
        print(f"{path}/trainer_state.json: step {state.global_step} of {state.max_steps}, {len(logged)} losses, "
              f"{len(evaluations)} evaluations, best {state.best_metric} at {state.best_global_step}")
    print(f"{differences} differences")
    return differences > 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
