"""Training speed of transformers + peft with random weights, to compare ours with. Prints one JSON line for each setting.

    hf_throughput.py --config dev/bench/configs/llama-3.1-8b.json [--seq-len 2048 4096] [--tokens 4096] [--recompute none full]
                     [--rank 16] [--steps 5] [--warmup-steps 3] [--device cuda|cpu] [--dtype bf16|fp32] [--compile] [--ceilings]

LoRA on all seven targets, every token trained, clip 1.0, sdpa attention, fused AdamW. A step is --tokens tokens: --tokens / seq-len
rows. Forward, backward and update are timed together; the figure is the median over the steps after the warm-up. Memory is the
largest that torch's allocator held. A setting that does not fit says so ("error") and the next one is tried.
--ceilings prints one more line first: the rate of torch's largest product and the bandwidth of its copy on the same device.
"""

import argparse
import gc
import json
import statistics
import sys
import time

import torch
import transformers

from reference import DTYPES, training_step, versions, with_lora


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seq-len", type=int, nargs="+", default=[4096, 2048])
    parser.add_argument("--tokens", type=int, default=4096, help="of a step")
    parser.add_argument("--recompute", choices=["none", "full"], nargs="+", default=["none", "full"])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--ceilings", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work, device: str, repeats: int) -> float:
    """Median seconds of one call."""
    work()
    times = []
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize(device)
        times.append((time.perf_counter() - start) / repeats)
    return statistics.median(times)


def ceilings(device: str, dtype: torch.dtype) -> dict:
    size, elements = (8192, 1 << 30) if device == "cuda" else (512, 1 << 22)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(elements, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    product = seconds_of(lambda: torch.mm(a, b), device, 5)
    copy = seconds_of(lambda: target.copy_(source), device, 5)
    return {
        "ceilings": True,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "matmul_size": size,
        "matmul_tflops": 2 * size**3 / product / 1e12,
        "copy_gb_per_second": 2 * 4 * elements / copy / 1e9,
    }


def make_model(options: argparse.Namespace):
    config = transformers.AutoConfig.from_pretrained(options.config)
    # transformers reads the dtype of random weights from the default; torch makes them on the device at once.
    torch.set_default_dtype(DTYPES[options.dtype])
    with torch.device(options.device):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    return with_lora(model, options)


def measure(model, options: argparse.Namespace, seq_len: int, recompute: str) -> dict:
    device = options.device
    if recompute == "full":
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True)
    step_model = torch.compile(model) if options.compile else model
    batch = max(1, options.tokens // seq_len)
    generator = torch.Generator().manual_seed(options.seed)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds, losses = [], []
    for step in range(options.warmup_steps + options.steps):
        ids = torch.randint(0, model.config.vocab_size, (batch, seq_len), generator=generator).to(device)
        synchronize(device)
        start = time.perf_counter()
        loss = training_step(step_model, {"input_ids": ids, "labels": ids}, parameters, optimizer)
        synchronize(device)
        losses.append(float(loss))
        if step >= options.warmup_steps:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return {
        "tokens_per_second": batch * seq_len / median,
        "seconds_per_step": median,
        "batch_size": batch,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None,
        "trained_parameters": sum(p.numel() for p in parameters),
        "adapter_dtype": str(parameters[0].dtype).removeprefix("torch."),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def main() -> int:
    options = arguments()
    torch.manual_seed(options.seed)
    if options.ceilings:
        print(json.dumps(ceilings(options.device, DTYPES[options.dtype])), flush=True)
    about = {
        "config": options.config,
        "rank": options.rank,
        "dtype": options.dtype,
        "compiled": options.compile,
        **versions(),
    }
    failed = 0
    model = make_model(options)
    for recompute in options.recompute:
        for seq_len in options.seq_len:
            setting = {"seq_len": seq_len, "recompute": recompute}
            try:
                result = measure(model, options, seq_len, recompute)
            except torch.OutOfMemoryError:
                result = {"error": "out of memory"}
                failed += 1
            print(json.dumps({**about, **setting, **result}), flush=True)
            gc.collect()
            if options.device == "cuda":
                torch.cuda.empty_cache()
    return 1 if failed == len(options.recompute) * len(options.seq_len) else 0


if __name__ == "__main__":
    sys.exit(main())
