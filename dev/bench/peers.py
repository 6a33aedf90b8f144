"""Training speed of this program beside that of the libraries people use, on the same model, data and machine, on a CPU.

    peers.py --workload step|squad --model DIR|CONFIG.json [--layers N] [--data SQUAD.json] [--program ./train_llama_lora]
             [--torch PYTHON] [--run NAME ...] [--seq-len N] [--rounds 3] [--steps 5] [--warmup-steps 2] [--threads N] [--busy N]

NAME is PROGRAM:DTYPE[:WEIGHTS]: the type of activations and products, and that of the frozen weights where it is another:

    ours      this program:            ours:fp32  ours:fp32:bf16  ours:bf16  ours:bf16:nf4
    peft      transformers + peft:     peft:fp32  peft:bf16, and with bitsandbytes peft:fp32:nf4  peft:bf16:nf4
    compile   the same, torch.compile: compile:fp32  compile:bf16
    trl       TRL's SFTTrainer:        trl:fp32  trl:bf16, of --workload squad

Workloads, each LoRA of rank 16 on all seven targets, AdamW, gradients clipped to norm 1; nf4 is double quantised:

    step    one row of --seq-len (512) random tokens a step, all trained, the same rows for all. A figure is the seconds of a run's
            fastest step after the warm-up, since other work on the machine can only add to them. With --busy it is the median
            step: there the other work is what is measured.
    squad   the answerable questions of --data, loss on the answers: ours and TRL packed in rows of --seq-len (1280) tokens, one
            row a step; peft in batches of --batch-size samples padded to their longest. A figure is real tokens, without
            padding, a second: those of all steps after the warm-up by their time.

--model with a config.json means random weights, with --layers of its first N layers.

A round runs every one in turn, as processes of their own, every second round in reverse, so that all see the same states of the
machine; a ratio is taken within a round. --busy N keeps N more processes computing meanwhile. Rounds, and of each ratio the median
and the range, are a Markdown table on standard output, progress on standard error. What cannot run here is named as skipped, with
the reason; what fails, with the end of what it said, and is left out of later rounds: the exit code is 1 then. PYTHON has torch,
transformers and peft, and for the others bitsandbytes, or trl and datasets.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

RANK = 16
HERE = pathlib.Path(__file__).parent
PACKAGES = ["torch", "transformers", "peft"]
MORE_PACKAGES = {"nf4": ["bitsandbytes"], "trl": ["trl", "datasets"]}
DEFAULT_RUNS = {
    "step": ["ours:fp32", "ours:fp32:bf16", "ours:bf16", "ours:bf16:nf4", "peft:fp32", "compile:fp32", "peft:bf16", "compile:bf16",
             "peft:fp32:nf4"],
    "squad": ["ours:fp32", "ours:bf16", "peft:fp32", "peft:bf16", "trl:fp32", "trl:bf16"],
}  # fmt: skip


class Run(NamedTuple):
    """What is compared."""

    name: str
    program: str
    dtype: str
    weights: str | None

    def packages(self) -> list[str]:
        if self.program == "ours":
            return []
        return PACKAGES + MORE_PACKAGES.get(self.weights or "", []) + MORE_PACKAGES.get(self.program, [])


class Figure(NamedTuple):
    """What one process measured."""

    tokens_per_second: float
    shown: str  # in the column of its round
    first_loss: float | None = None
    padding: float | None = None  # its share of what is computed
    samples: int = 0  # of the whole data set
    tokens: int = 0


class Failed(Exception):
    pass


def run_of(name: str) -> Run:
    found = re.fullmatch(r"(ours):(fp32|bf16)(?::(fp32|bf16|int8|nf4))?|(peft|compile|trl):(fp32|bf16)(?::(nf4))?", name)
    if not found:
        raise argparse.ArgumentTypeError(f"{name!r}: expected PROGRAM:DTYPE[:WEIGHTS] as --help lists them")
    return Run(name, *(found.group(i) or found.group(i + 3) for i in (1, 2, 3)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = "; ".join(f"of {workload} {' '.join(names)}" for workload, names in DEFAULT_RUNS.items())
    parser.add_argument("--workload", choices=DEFAULT_RUNS, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--program", default="./train_llama_lora")
    parser.add_argument("--torch", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--data", type=pathlib.Path, help="of --workload squad: SQuAD v1.1 or v2.0 JSON")
    parser.add_argument("--run", type=run_of, nargs="+", metavar="NAME", help=f"default: {defaults}")
    parser.add_argument("--seq-len", type=int)
    parser.add_argument("--batch-size", type=int, default=8, help="samples of a padded batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="measured in each process")
    parser.add_argument("--warmup-steps", type=int, default=2, help="before them")
    parser.add_argument("--seconds", type=float, default=300, help="the libraries end with the measured step in which this is over")
    parser.add_argument("--limit", type=float, default=1200, help="seconds after which a process has failed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--busy", type=int, default=0, metavar="N")
    options = parser.parse_args()
    options.run = options.run or [run_of(name) for name in DEFAULT_RUNS[options.workload]]
    options.seq_len = options.seq_len or {"step": 512, "squad": 1280}[options.workload]
    random_weights = options.model.is_file()
    if not random_weights and not (options.model / "config.json").is_file():
        parser.error(f"--model {options.model} is neither a config.json nor a directory with one")
    if options.layers is not None and not random_weights:
        parser.error("--layers needs a config.json as --model: layers are taken from a configuration, not from weights")
    if options.workload == "squad" and (random_weights or not options.data):
        parser.error("--workload squad needs --data and a --model directory with a tokenizer")
    if options.workload == "step" and (options.data or any(run.program == "trl" for run in options.run)):
        parser.error("--workload step has tokens of its own: --data and trl are of --workload squad")
    if len({run.name for run in options.run}) < len(options.run):
        parser.error("--run names one twice")
    if min(options.rounds, options.steps) < 1 or min(options.warmup_steps, options.busy) < 0:
        parser.error("--rounds and --steps are at least 1, --warmup-steps and --busy at least 0")
    return options


def execute(words: list, options: argparse.Namespace) -> str:
    """What the program wrote on standard output."""
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [str(w) for w in words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=options.limit)
        if done.returncode == 0:
            return done.stdout
        reason, said = f"exit code {done.returncode}", done.stderr
    except subprocess.TimeoutExpired as late:
        reason, said = f"not over after {options.limit:.0f} s", (late.stderr or b"").decode(errors="replace")
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from None
    raise Failed("\n    ".join([f"{shlex.join(command)}: {reason}", *said.strip().splitlines()[-8:]]))


def versions(options: argparse.Namespace) -> tuple[dict[str, str], dict[str, str]]:
    """Of the packages that are needed: the version of each that can be imported, and why each other cannot."""
    found, missing = {}, {}
    for package in sorted({p for run in options.run for p in run.packages()}):
        code = f"import importlib.metadata as m, {package}; print(m.version({package!r}))"
        try:
            found[package] = execute([options.torch, "-W", "ignore", "-c", code], options).splitlines()[-1]
        except Failed as failure:
            missing[package] = str(failure).splitlines()[-1].strip()
    return found, missing


def ours(run: Run, model: pathlib.Path, data: pathlib.Path, options: argparse.Namespace) -> Figure:
    step = options.workload == "step"
    with tempfile.TemporaryDirectory() as output:
        words = [options.program, "train", "--model", model, "--data", data, "--output", output, "--device", "cpu", "--quiet",
                 "--dtype", run.dtype, "--rank", RANK, "--seq-len", options.seq_len, "--batch-size", 1, "--valid-split", 0,
                 "--threads", options.threads, "--max-steps", options.warmup_steps + options.steps,
                 "--shuffle", "off" if step else "on"]  # fmt: skip
        words += ["--weights", run.weights] if run.weights else []
        execute(words, options)
        lines = [json.loads(line) for line in (pathlib.Path(output) / "metrics.jsonl").read_text().splitlines()]
        about = json.loads((pathlib.Path(output) / "run.json").read_text())["data"]
    timed = lines[options.warmup_steps :]
    if step:
        return step_figure([line["seconds"] for line in timed], lines[0]["loss"], options)
    real, spent = (sum(line[key] for line in timed) for key in ("tokens", "seconds"))
    return squad_figure(real / spent, 1 - real / (len(timed) * options.seq_len), about["train_documents"], about["tokens"])


def of_torch(run: Run, model: pathlib.Path, data: pathlib.Path, options: argparse.Namespace) -> Figure:
    step = options.workload == "step"
    words = [options.torch, "-W", "ignore", HERE / ("reference.py" if step else "reference_squad.py"), "--model", model, "--data",
             data, "--dtype", run.dtype, "--rank", RANK, "--threads", options.threads, "--steps", options.steps, "--warmup-steps",
             options.warmup_steps, "--seconds", options.seconds]  # fmt: skip
    if step:
        words += ["--seq-len", options.seq_len]
    elif run.program == "trl":
        words += ["--pack", options.seq_len]
    else:
        words += ["--max-length", options.seq_len, "--batch-size", options.batch_size]
    words += ["--weights", run.weights] if run.weights else []
    words += ["--compile"] if run.program == "compile" else []
    result = json.loads(execute(words, options).splitlines()[-1])
    if step:
        return step_figure(result["step_seconds"], result["first_loss"], options)
    padding = 1 - result["tokens_per_second"] / result["tokens_per_second_with_padding"]
    return squad_figure(result["tokens_per_second"], padding, result["samples"], result["tokens"])


def step_figure(seconds: list[float], first_loss: float | None, options: argparse.Namespace) -> Figure:
    figure = statistics.median(seconds) if options.busy else min(seconds)
    return Figure(options.seq_len / figure, f"{figure:.3g} s", first_loss)


def squad_figure(tokens_per_second: float, padding: float, samples: int, tokens: int) -> Figure:
    return Figure(tokens_per_second, f"{tokens_per_second:.1f}", None, padding, samples, tokens)


def ratio(speeds: dict[int, Figure], others: dict[int, Figure]) -> str:
    """Of the rounds that have both: the median and the range."""
    values = [speeds[i].tokens_per_second / others[i].tokens_per_second for i in speeds if i in others]
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


def table(figures: dict[Run, dict[int, Figure]], options: argparse.Namespace) -> str:
    """A row for each run that has figures, which are by round; in its last columns, the speed of each of ours by its own."""
    step = options.workload == "step"
    fast = [run for run in figures if run.program == "ours"]
    rounds = range(options.rounds)
    columns = ["", *(f"round {i + 1}" for i in rounds), "tokens/s", *(["first loss"] if step else ["samples/s", "padding"])]
    columns += [f"{run.name} / this" for run in fast]
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    for run, of_run in figures.items():
        speed = statistics.median(f.tokens_per_second for f in of_run.values())
        first = next(iter(of_run.values()))
        cells = [run.name, *(of_run[i].shown if i in of_run else "" for i in rounds), f"{speed:,.1f}"]
        if step:
            cells.append("" if first.first_loss is None else f"{first.first_loss:.3f}")
        else:
            cells += [f"{speed * first.samples / first.tokens:.2f}", f"{first.padding:.0%}"]
        cells += ["" if run == other else ratio(figures[other], of_run) for other in fast]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def runnable(options: argparse.Namespace) -> tuple[list[Run], list[str], str]:
    """Which runs can be made here, a line for each of the others, and the versions of what is compared."""
    found, missing = versions(options)
    program = ""
    try:
        name, commit, *_ = execute([options.program, "--version"], options).splitlines()
        program = f"{name}, {' '.join(commit.split())}"
    except Failed as failure:
        missing[options.program] = str(failure)
    able, skipped = [], []
    for run in options.run:
        lacking = [p for p in run.packages() or [options.program] if p in missing]
        if lacking:
            skipped.append(f"skipped: {run.name}: {'; '.join(missing[p] for p in lacking)}")
        else:
            able.append(run)
    return able, skipped, ", ".join(filter(None, [program, *(f"{name} {version}" for name, version in found.items())]))


def write_rows(path: pathlib.Path, model: pathlib.Path, options: argparse.Namespace) -> None:
    vocabulary, ids = json.loads((model / "config.json").read_text())["vocab_size"], random.Random(1)
    rows = ([ids.randrange(vocabulary) for _ in range(options.seq_len)] for _ in range(options.warmup_steps + options.steps))
    path.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))


def measure(
    runs: list[Run], model: pathlib.Path, data: pathlib.Path, options: argparse.Namespace, figures: dict, failed: dict
) -> None:
    """Fills `figures`, and `failed` with the reason of each run that failed."""
    for i in range(options.rounds):
        say(f"round {i + 1} of {options.rounds}, load average {os.getloadavg()[0]:.1f}")
        for run in runs if i % 2 == 0 else reversed(runs):
            if run in failed:
                continue
            begin = time.monotonic()
            try:
                figure = (ours if run.program == "ours" else of_torch)(run, model, data, options)
                first = next((f for of_run in figures.values() for f in of_run.values()), figure)
                if (figure.samples, figure.tokens) != (first.samples, first.tokens):
                    raise Failed(f"{figure.samples} samples, {figure.tokens} tokens; other runs: {first.samples}, {first.tokens}")
            except (Failed, LookupError, TypeError, ValueError) as failure:  # the others: of a result that cannot be read
                failed[run] = f"failed: {run.name}: {failure if isinstance(failure, Failed) else repr(failure)}"
                say(failed[run])
                continue
            figures.setdefault(run, {})[i] = figure
            say(f"  {run.name}: {figure.shown}, {figure.tokens_per_second:,.1f} tokens/s; {time.monotonic() - begin:.0f} s in all")


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is ended, and what was measured is printed
    runs, skipped, about = runnable(options)
    for line in skipped:
        say(line)
    figures: dict[Run, dict[int, Figure]] = {}
    failed: dict[Run, str] = {}
    busy: list[subprocess.Popen] = []
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    with tempfile.TemporaryDirectory() as temporary:
        model, data = options.model, options.data
        if model.is_file():
            model = pathlib.Path(temporary) / "model"
            layers = ["--layers", options.layers] if options.layers is not None else []
            try:
                execute([options.torch, "-W", "ignore", HERE / "random_model.py", options.model, model, *layers], options)
            except Failed as failure:
                raise SystemExit(f"error: {failure}") from None
        if options.workload == "step":
            data = pathlib.Path(temporary) / "ids.jsonl"
            write_rows(data, model, options)
        load = os.getloadavg()[0]
        try:
            # Each ends by itself when this process is gone.
            spin = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
            busy += [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(options.busy)]
            measure(runs, model, data, options, figures, failed)
        finally:
            for process in busy:
                process.kill()
                process.wait()
            print(f"`{shlex.join(['peers.py', *sys.argv[1:]])}`\n")
            print(f"{time.strftime('%Y-%m-%d')}, {processor[1] if processor else platform.machine()}, {os.cpu_count()} cores, "
                  f"load average {load:.1f} before; {options.threads} threads each; {about}\n")  # fmt: skip
            if figures:
                print(table(figures, options), end="\n\n")
            for line in [*skipped, *failed.values()]:
                print(line)
            sys.stdout.flush()
    return 1 if failed or not figures else 0


if __name__ == "__main__":
    sys.exit(main())
