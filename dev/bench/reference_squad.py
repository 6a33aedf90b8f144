"""Trains transformers + peft on SQuAD as people usually do, to compare ours with. Prints one JSON line.

    reference_squad.py --model DIR --data SQUAD.json [--steps 5] [--batch-size 8] [--lr 5e-4] [--dtype bf16|fp32]
                       [--weights nf4] [--pad-to N] [--compile] [--pack N] [--output DIR]

The answerable questions, prompt `Context: …\\nQuestion: …\\nAnswer:`, loss on the answer and the end token only, LoRA on all seven
targets, cosine rate, clip 1.0. A batch is padded to its longest sample (or to --pad-to); real tokens are those before padding.
Samples longer than --max-length are left out and counted. Steps of the warm-up are left out of the speeds.

--pack N trains the same tokens with TRL's SFTTrainer instead: rows of at most N tokens in which samples are kept apart (its
default, "bfd", which pads nothing), one row a step. Recomputation, which is on there by default, is off.
"""

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from typing import NamedTuple

import torch
import transformers

from reference import add_common_arguments, load_model, lora_settings, training_step, versions, with_lora


class Step(NamedTuple):
    seconds: float
    loss: float
    samples: int
    real: int  # tokens without padding
    computed: int  # tokens with it


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    parser.set_defaults(warmup_steps=1)
    parser.add_argument("--data", required=True, help="SQuAD v1.1 or v2.0 JSON")
    parser.add_argument("--hold-out", action="append", default=[], metavar="TITLE", help="leave this article out; may be repeated")
    parser.add_argument("--schedule-steps", type=int, help="length of the cosine, when only its beginning is run")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--pad-to", type=int)
    parser.add_argument("--pack", type=int, metavar="N")
    parser.add_argument("--compile", action="store_true", help="for lengths that change, unless --pad-to is given; not with --pack")
    parser.add_argument("--max-length", type=int, default=1024)
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
                if len(prompt_ids) + len(answer_ids) > (options.pack or options.pad_to or options.max_length):
                    too_long += 1
                    continue
                samples.append({"ids": prompt_ids + answer_ids, "labels": [-100] * len(prompt_ids) + answer_ids})
    return samples, too_long


def collate(samples: list[dict], length: int, pad: int) -> dict[str, torch.Tensor]:
    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([s[key] + [fill] * (length - len(s[key])) for s in samples])

    mask = torch.tensor([[1] * len(s["ids"]) + [0] * (length - len(s["ids"])) for s in samples])
    return {"input_ids": padded("ids", pad), "labels": padded("labels", -100), "attention_mask": mask}


def train_padded(options: argparse.Namespace, model, tokenizer, samples: list[dict]) -> tuple[list[Step], object]:
    model = with_lora(model, options)
    step_model = torch.compile(model, dynamic=options.pad_to is None) if options.compile else model
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.0)
    steps = options.warmup_steps + options.steps
    total = options.schedule_steps or steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * min(k / total, 1))))

    order, shuffle, done = [], random.Random(options.seed), []
    while len(done) < steps and sum(s.seconds for s in done[options.warmup_steps :]) < options.seconds:
        if len(order) < options.batch_size:
            order = shuffle.sample(range(len(samples)), len(samples))
        chosen = [samples[order.pop()] for _ in range(options.batch_size)]
        batch = collate(chosen, options.pad_to or max(len(s["ids"]) for s in chosen), tokenizer.pad_token_id)
        start = time.perf_counter()
        loss = float(training_step(step_model, batch, parameters, optimizer))
        schedule.step()
        seconds = time.perf_counter() - start
        done.append(Step(seconds, loss, len(chosen), int(batch["attention_mask"].sum()), batch["input_ids"].numel()))
    return done, model


def train_packed(options: argparse.Namespace, model, tokenizer, samples: list[dict]) -> tuple[list[Step], object]:
    import datasets
    import trl

    data = datasets.Dataset.from_dict({"input_ids": [s["ids"] for s in samples], "labels": [s["labels"] for s in samples]})
    steps = options.warmup_steps + options.steps
    seconds: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_, **__) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, _, __, control, **___) -> None:
            seconds.append(time.perf_counter() - self.start)
            if sum(seconds[options.warmup_steps :]) > options.seconds:
                control.should_training_stop = True

    with tempfile.TemporaryDirectory() as output:
        settings = trl.SFTConfig(
            output_dir=output,
            max_steps=steps,
            per_device_train_batch_size=1,
            packing=True,
            max_length=options.pack,
            learning_rate=options.lr,
            lr_scheduler_type="cosine",
            optim="adamw_torch",
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=options.dtype == "bf16",
            gradient_checkpointing=False,
            use_cpu=True,
            seed=options.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = trl.SFTTrainer(
            model=model,
            args=settings,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=lora_settings(options),
            callbacks=[Clock()],
        )
        # What a step is made of is known to the collator alone. Its batches come in the order of the steps.
        rows, collate_rows = [], trainer.data_collator

        def counting(examples: list[dict]) -> dict:
            batch = collate_rows(examples)
            real = sum(len(e["input_ids"]) for e in examples)
            rows.append((sum(len(e["seq_lengths"]) for e in examples), real, batch["input_ids"].numel()))
            return batch

        trainer.data_collator = counting
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [Step(s, loss, *row) for s, loss, row in zip(seconds, losses, rows)], trainer.model


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    samples, too_long = read_samples(options, tokenizer)
    train = train_packed if options.pack else train_padded
    steps, model = train(options, load_model(options), tokenizer, samples)
    if options.output:
        model.save_pretrained(options.output)
    timed = steps[options.warmup_steps :]
    spent = sum(s.seconds for s in timed)
    result = {
        "samples_per_second": sum(s.samples for s in timed) / spent,
        "tokens_per_second": sum(s.real for s in timed) / spent,
        "tokens_per_second_with_padding": sum(s.computed for s in timed) / spent,
        "tokens_per_sample": sum(s.real for s in steps) / sum(s.samples for s in steps),
        "median_seconds_per_step": statistics.median(s.seconds for s in timed),
        "steps": len(timed),
        "batch_size": options.batch_size,
        "samples": len(samples),
        "samples_too_long": too_long,
        "tokens": sum(len(s["ids"]) for s in samples),
        "padded_to": options.pad_to or "longest",
        "packed_in": options.pack,
        "dtype": options.dtype,
        "weights": options.weights,
        "compiled": options.compile,
        "threads": torch.get_num_threads(),
        "first_loss": steps[0].loss,
        "last_loss": steps[-1].loss,
        **versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
