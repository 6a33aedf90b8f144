"""Training speed of transformers + peft on the CPU, to compare ours with. Prints one JSON line.

    reference.py --model DIR [--seq-len 512] [--batch-size 1] [--rank 16] [--dtype bf16|fp32] [--compile] [--data FILE.jsonl]
                 [--weights nf4] [--optimizer adamw|adamw8bit] [--recompute none|full]

LoRA on all seven targets, every token trained, clip 1.0, AdamW: forward, backward and update are timed together. Steps of the warm-up
are left out; the figure is the median over the others. The tokens are random unless --data names a tokenised .jsonl, whose
documents are then joined and cut into rows. --weights nf4 (double quantised) and adamw8bit are those of bitsandbytes.
"""

import argparse
import json
import pathlib
import re
import statistics
import time

import peft
import torch
import transformers

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def lora_settings(options: argparse.Namespace) -> peft.LoraConfig:
    return peft.LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules=TARGETS, task_type="CAUSAL_LM")


def with_lora(model, options: argparse.Namespace):
    model = peft.get_peft_model(model, lora_settings(options))
    model.config.use_cache = False
    model.train()
    return model


def training_step(model, batch: dict, parameters: list, optimizer) -> torch.Tensor:
    """Forward, backward and update; returns the loss."""
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def load_model(options: argparse.Namespace):
    """The model without an adapter."""
    dtype, quantization = DTYPES[options.dtype], None
    if options.weights == "nf4":
        quantization = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    return transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, quantization_config=quantization)


def make_optimizer(name: str, parameters: list):
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(parameters, lr=2e-4, weight_decay=0.0)


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM the most so far."""
    return 1024 * int(re.search(rf"{field}:\s*(\d+)", pathlib.Path("/proc/self/status").read_text())[1])


def versions() -> dict:
    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What every program that trains with these libraries takes."""
    parser.add_argument("--model", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--weights", choices=["as-dtype", "nf4"], default="as-dtype")
    parser.add_argument("--steps", type=int, default=5, help="those of the warm-up are not among them")
    parser.add_argument("--warmup-steps", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=300, help="stop measuring with the step in which this is over")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--optimizer", choices=["adamw", "adamw8bit"], default="adamw")
    parser.add_argument("--recompute", choices=["none", "full"], default="none")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--data")
    return parser.parse_args()


def rows(options: argparse.Namespace, vocab: int) -> torch.Tensor:
    """(steps, batch, seq_len) token ids."""
    shape = (options.warmup_steps + options.steps, options.batch_size, options.seq_len)
    if not options.data:
        return torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(options.seed))
    with open(options.data, encoding="utf-8-sig") as lines:
        ids = torch.tensor([i for line in lines if line.strip() for i in json.loads(line)["input_ids"]])
    wanted = shape[0] * shape[1] * shape[2]
    return ids.repeat(-(-wanted // len(ids)))[:wanted].reshape(shape)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    resident_before = resident("VmRSS")
    model = load_model(options)
    if options.recompute == "full":
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model = with_lora(model, options)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(options.optimizer, parameters)
    batches = rows(options, model.config.vocab_size)
    step_model = torch.compile(model) if options.compile else model

    seconds, processor_seconds, losses = [], [], []
    for i, batch in enumerate(batches):
        start, processor_start = time.perf_counter(), time.process_time()
        losses.append(float(training_step(step_model, {"input_ids": batch, "labels": batch}, parameters, optimizer)))
        if i >= options.warmup_steps:
            seconds.append(time.perf_counter() - start)
            processor_seconds.append(time.process_time() - processor_start)
            if sum(seconds) > options.seconds:
                break
    median = statistics.median(seconds)
    result = {
        "tokens_per_second": options.batch_size * options.seq_len / median,
        "seconds_per_step": median,
        "processor_seconds_per_step": statistics.median(processor_seconds),  # near threads * seconds_per_step on an idle machine
        "step_seconds": seconds,
        "seq_len": options.seq_len,
        "batch_size": options.batch_size,
        "rank": options.rank,
        "dtype": options.dtype,
        "weights": options.weights,
        "optimizer": options.optimizer,
        "recompute": options.recompute,
        "adapter_dtype": str(parameters[0].dtype).removeprefix("torch."),
        "compiled": options.compile,
        "threads": torch.get_num_threads(),
        "trained_parameters": sum(p.numel() for p in parameters),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "peak_rss_bytes": resident("VmHWM"),
        "peak_rss_over_start": resident("VmHWM") - resident_before,
        **versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
