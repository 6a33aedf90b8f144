"""Makes gpu_check.json and the table that dev/gpu_check.sh prints last, from the files of its stages: report.py WORK OUTPUT"""

import json
import math
import pathlib
import statistics
import sys

MEMORY_TARGET, ATTENTION_TARGET = 0.7, 250
SHARE_TARGETS = {"llama-3.1-8b": 0.45, "llama-3.2-1b": 0.35}
RANK = 16


def read_json(path: pathlib.Path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def read_lines(path: pathlib.Path) -> list:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    except (OSError, ValueError):
        return []


def flops_per_token(config: dict, seq_len: int) -> float:
    """Of a training step with frozen weights: forward, and the gradient of every input. Recomputation does not count."""
    C, F, H, G = (config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    D, L, V = config.get("head_dim") or C // H, config["num_hidden_layers"], config["vocab_size"]
    layers = [(C, H * D), (C, G * D), (C, G * D), (H * D, C), (C, F), (C, F), (F, C)]
    weights = L * sum(i * o for i, o in layers) + C * V
    adapters = L * RANK * sum(i + o for i, o in layers)
    attention = L * H * D * (seq_len + 1) / 2  # per token, causal: multiply-adds of Q·Kᵀ, and as many of P·V
    return 4 * weights + 6 * adapters + (4 + 10) * attention


def ours(work: pathlib.Path, run: dict) -> dict:
    directory = pathlib.Path(run["directory"])
    record = read_json(directory / "run.json") or {}
    measured, device = record.get("measured") or {}, record.get("device") or {}
    steps = [m for m in read_lines(directory / "metrics.jsonl") if "tokens_per_second" in m]
    steady = [m["tokens_per_second"] for m in (steps[3:] or steps)]  # after the warm-up, as with transformers
    result = {
        **{k: run[k] for k in ("model", "seq_len", "recompute", "exit_code")},
        "tokens_per_second": statistics.median(steady) if steady else None,
        "steps": len(steps),
        "losses": [m.get("loss") for m in steps],
        "planned_bytes": measured.get("planned_bytes"),
        "taken_bytes": measured.get("gpu_bytes_taken"),  # decrease of the GPU's free memory from before the arena to the end
        "loaded_bytes": device.get("loaded_bytes"),  # kernels and libraries
        "peak_flops": device.get("peak_flops"),
    }
    try:
        used = [int(line) << 20 for line in directory.with_name(directory.name + ".memory").read_text().split()]
        result["process_bytes"] = max(used) - used[0]  # as reported by nvidia-smi, with the context
    except (OSError, ValueError, IndexError):
        pass
    return result


def gib(value) -> str:
    return f"{value / 2**30:.2f}" if value is not None else "-"


def number(value, form: str) -> str:
    return format(value, form) if value is not None else "-"


def print_predictions(ops: list) -> None:
    """Measured and predicted microseconds of each op, the worst prediction first, and by kind of op how far off they are."""
    known = [op for op in ops if op.get("predicted_microseconds")]
    if not known:
        print("predicted times: none; this GPU is not in src/report/known_gpus.cpp")
        return
    ratio = lambda op: op["microseconds"] / op["predicted_microseconds"]
    print(f"measured beside predicted (kernels/gpu_time.h), {len(known)} ops; a ratio above 1: slower than predicted")
    names = sorted({op["op"] for op in known})
    for name in names:
        ratios = sorted(ratio(op) for op in known if op["op"] == name)
        print(f"  {name:<20} {len(ratios):>3} shapes, ratio {ratios[0]:.2f} to {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}")
    for op in sorted(known, key=lambda op: -abs(math.log(ratio(op)))):
        print(f"  {ratio(op):>6.2f}  {op['microseconds']:>10.1f} us, predicted {op['predicted_microseconds']:>10.1f}  {op['op']} {op['shape']}")


def main() -> int:
    work, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    stages_file = work / "stages.tsv"
    stages = [line.split("\t") for line in stages_file.read_text().splitlines()] if stages_file.exists() else []
    probe, bench = read_lines(work / "probe.out"), read_json(work / "bench.out")
    theirs = read_lines(work / "transformers.jsonl")
    ceilings = next((r for r in theirs if r.get("ceilings")), None)
    theirs = [r for r in theirs if not r.get("ceilings")]
    mine = [ours(work, run) for run in read_lines(work / "ours.jsonl")]

    rates = [r["peak_flops"] / 1e12 for r in mine if r["peak_flops"]]
    if bench:
        rates.append(bench["matmul_tflops"]["bf16"])
    if ceilings:
        rates.append(ceilings["matmul_tflops"])
    rate = max(rates, default=None)  # the largest that was reached here

    print("\n---- results")
    if probe:
        verdicts = {"ok": 0, "differs": 0, "skipped": 0, "noted": 0}
        for line in probe:
            verdicts[line["verdict"]] += 1
            if line["verdict"] != "ok":
                print(f"probe: {line['point']}: {line['verdict']}: {line['text']}")
        print("probe: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items() if n))
    if bench:
        line = f"ceilings: copy {bench['copy_gb_per_second']:.0f} GB/s, product {bench['matmul_tflops']['bf16']:.3g} TFLOP/s"
        if ceilings:
            line += f"; torch: copy {ceilings['copy_gb_per_second']:.0f} GB/s, product {ceilings['matmul_tflops']:.3g} TFLOP/s"
        print(line)
        memory = [op for op in bench["ops"] if op["bound"] == "memory"]
        slow = [op for op in memory if op["share_of_roof"] < MEMORY_TARGET]
        print(f"memory-bound ops: {len(memory) - len(slow)} of {len(memory)} reach {MEMORY_TARGET} of copy")
        for op in sorted(slow, key=lambda op: op["share_of_roof"])[:12]:
            print(f"  {op['share_of_roof']:.2f}  {op['op']} {op['shape']}  {op['microseconds']:.1f} us")
        print_predictions(bench["ops"])
        for op in bench["ops"]:
            if op["op"].startswith("attention_") and "S 4096" in op["shape"] and "D 128" in op["shape"]:
                target = f" (target {ATTENTION_TARGET})" if op["op"] == "attention_forward" else ""
                print(f"{op['op']} {op['shape']}: {op['tflops']:.0f} TFLOP/s{target}")
    if mine or theirs:
        print(f"share: of {number(rate, '.3g')} TFLOP/s, the largest product measured here; useful work: nothing for recomputing")
        print(f"{'model':<14}{'S':>6}{'recompute':>10} |{'tokens/s':>10}{'share':>7}{'planned':>9}{'taken':>9}{'process':>9} GiB |"
              f"{'transformers':>13}{'share':>7}{'GiB':>7} | ratio")
    keys = [(r["model"], r["seq_len"], r["recompute"]) for r in mine]
    keys += [k for r in theirs if (k := (r["model"], r["seq_len"], r["recompute"])) not in keys]
    missed = []
    for model, seq_len, recompute in keys:
        same = lambda r: (r["model"], r["seq_len"], r["recompute"]) == (model, seq_len, recompute)
        us, them = next(filter(same, mine), {}), next(filter(same, theirs), {})
        config = read_json(pathlib.Path("dev/bench/configs") / f"{model}.json")
        work_per_token = flops_per_token(config, seq_len)
        shares = []
        for r in (us, them):
            speed = r.get("tokens_per_second")
            r["share"] = speed * work_per_token / 1e12 / rate if speed and rate else None
            shares.append(number(r["share"], ".3f"))
        if recompute == "none" and us.get("share") is not None and us["share"] < SHARE_TARGETS.get(model, 0):
            missed.append(f"{model} at S {seq_len}: share {us['share']:.3f}, target {SHARE_TARGETS[model]}")
        ratio = us["tokens_per_second"] / them["tokens_per_second"] if us.get("tokens_per_second") and them.get("tokens_per_second") else None
        speed = {3: "no room"}.get(us.get("exit_code"), number(us.get("tokens_per_second"), ".0f"))
        print(f"{model:<14}{seq_len:>6}{recompute:>10} |{speed:>10}{shares[0]:>7}{gib(us.get('planned_bytes')):>9}"
              f"{gib(us.get('taken_bytes')):>9}{gib(us.get('process_bytes')):>9}     |"
              f"{them.get('error', number(them.get('tokens_per_second'), '.0f')):>13}{shares[1]:>7}{gib(them.get('peak_bytes')):>7} |"
              f" {number(ratio, '.2f')}")
    for text in missed:
        print("below target: " + text)
    for name, verdict, _, text in stages:
        if verdict in ("failed", "timeout", "skipped"):
            print(f"{verdict}: {name}: {text}")
    print(f"stages: {sum(s[1] == 'ok' for s in stages)} ok of {len(stages)}, {sum(int(s[2]) for s in stages)} s")
    everything = {"stages": stages, "probe": probe, "bench": bench, "ceilings": ceilings, "ours": mine, "transformers": theirs}
    (output / "gpu_check.json").write_text(json.dumps(everything, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
