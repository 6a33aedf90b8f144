"""Trains transformers + peft on SQuAD as people usually do, to compare ours with. Prints one JSON line.

    reference_squad.py --model DIR --data SQUAD.json [--steps 5] [--batch-size 8] [--lr 5e-4] [--dtype bf16|fp32] [--pad-to N] [--output DIR]

The answerable questions, prompt `Context: …\\nQuestion: …\\nAnswer:`, loss on the answer and the end token only, a batch padded to its
longest sample (or to --pad-to), LoRA on all seven targets, cosine rate, clip 1.0. Real tokens are those before padding. Samples
longer than --max-length are left out and counted.
"""

import argparse
import json
import math
import random
import statistics
import time

import torch
import transformers

from reference import DTYPES, training_step, versions, with_lora


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="SQuAD v1.1 or v2.0 JSON")
    parser.add_argument("--hold-out", action="append", default=[], metavar="TITLE", help="leave this article out; may be repeated")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--schedule-steps", type=int, help="length of the cosine, when only its beginning is run")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--pad-to", type=int)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=600, help="stop after this long, with at least one step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", help="save the adapter here")
    return parser.parse_args()


def read_samples(options: argparse.Namespace, tokenizer) -> tuple[list[dict], int]:
    with open(options.data, encoding="utf-8") as file:
        articles = json.load(file)["data"]
    unknown = set(options.hold_out) - {a["title"] for a in articles}
    if unknown:
        raise SystemExit(f"error: no article {sorted(unknown)} in {options.data}")
    samples, too_long = [], 0
    for article in articles:
        if article["title"] in options.hold_out:
            continue
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                if not question["answers"]:
                    continue
                prompt = f"Context: {paragraph['context']}\nQuestion: {question['question']}\nAnswer:"
                prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
                answer_ids = tokenizer.encode(" " + question["answers"][0]["text"], add_special_tokens=False)
                answer_ids.append(tokenizer.eos_token_id)
                if len(prompt_ids) + len(answer_ids) > (options.pad_to or options.max_length):
                    too_long += 1
                    continue
                samples.append({"ids": prompt_ids + answer_ids, "labels": [-100] * len(prompt_ids) + answer_ids})
    return samples, too_long


def collate(samples: list[dict], length: int, pad: int) -> dict[str, torch.Tensor]:
    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([s[key] + [fill] * (length - len(s[key])) for s in samples])

    mask = torch.tensor([[1] * len(s["ids"]) + [0] * (length - len(s["ids"])) for s in samples])
    return {"input_ids": padded("ids", pad), "labels": padded("labels", -100), "attention_mask": mask}


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    samples, too_long = read_samples(options, tokenizer)
    model = with_lora(transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=DTYPES[options.dtype]), options)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.0)
    total = options.schedule_steps or options.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * min(k / total, 1))))

    order, shuffle = [], random.Random(options.seed)
    seconds, losses, real, computed = [], [], [], []
    begin = time.perf_counter()
    for _ in range(options.steps):
        if len(order) < options.batch_size:
            order = shuffle.sample(range(len(samples)), len(samples))
        chosen = [samples[order.pop()] for _ in range(options.batch_size)]
        batch = collate(chosen, options.pad_to or max(len(s["ids"]) for s in chosen), tokenizer.pad_token_id)
        start = time.perf_counter()
        losses.append(float(training_step(model, batch, parameters, optimizer)))
        schedule.step()
        seconds.append(time.perf_counter() - start)
        real.append(int(batch["attention_mask"].sum()))
        computed.append(batch["input_ids"].numel())
        if time.perf_counter() - begin > options.seconds:
            break
    if options.output:
        model.save_pretrained(options.output)
    # The first step sets up the libraries: it counts only when it is the only one.
    timed = slice(1 if len(seconds) > 1 else 0, None)
    spent = sum(seconds[timed])
    result = {
        "samples_per_second": options.batch_size * len(seconds[timed]) / spent,
        "tokens_per_second": sum(real[timed]) / spent,
        "tokens_per_second_with_padding": sum(computed[timed]) / spent,
        "tokens_per_sample": sum(real) / (options.batch_size * len(real)),
        "median_seconds_per_step": statistics.median(seconds[timed]),
        "steps": len(seconds),
        "batch_size": options.batch_size,
        "samples": len(samples),
        "samples_too_long": too_long,
        "mean_tokens_of_all_samples": statistics.mean(len(s["ids"]) for s in samples),
        "padded_to": options.pad_to or "longest",
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        **versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
