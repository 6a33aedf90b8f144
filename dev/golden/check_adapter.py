"""Does peft compute the same with our adapter? Loads base + adapter in fp32 and compares with what `dump` wrote.

    check_adapter.py --model DIR --adapter DIR [--dump FILE --data FILE.jsonl --docs N] [--grads] [--double]

Prints one JSON line. Exit 1 when the adapter has missing or unexpected keys, when a logit differs by more than --tolerance, or, with
--grads, when the loss or a gradient differs by more than --grad-tolerance relative to its 2-norm.
"""

import argparse
import json
import sys

import peft
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

import exact


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--dump", help="what `dump --output` wrote; without it only the keys are checked")
    parser.add_argument("--data", help="the tokenised .jsonl that was dumped")
    parser.add_argument("--docs", type=int, help="compare the first N documents; with --grads they must be all that were dumped")
    parser.add_argument("--grads", action="store_true", help="compare loss and gradients as well")
    parser.add_argument("--double", action="store_true", help="compute the reference in double instead of fp32")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--grad-tolerance", type=float, default=1e-5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.dump and not options.data:
        parser.error("--dump needs --data")
    return options


def read_documents(path: str, count: int | None) -> list[dict]:
    documents = []
    with open(path, encoding="utf-8-sig") as lines:
        for line in lines:
            if line.strip():
                document = json.loads(line)
                document.setdefault("labels", document["input_ids"])
                documents.append(document)
    return documents[:count]


def key_differences(model: torch.nn.Module, path: str) -> tuple[list[str], list[str]]:
    """peft only warns about these, so the two sets are compared here."""
    wanted = set(peft.get_peft_model_state_dict(model))
    with safe_open(path, "pt") as file:
        found = set(file.keys())
    return sorted(wanted - found), sorted(found - wanted)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    base = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, options.adapter, is_trainable=options.grads).eval()
    missing, unexpected = key_differences(model, f"{options.adapter}/adapter_model.safetensors")
    report = {"missing_keys": len(missing), "unexpected_keys": len(unexpected)}
    for kind, keys in (("missing", missing), ("unexpected", unexpected)):
        for key in keys[:5]:
            print(f"{kind}: {key}", file=sys.stderr)
    good = not missing and not unexpected

    if options.dump:
        documents = read_documents(options.data, options.docs)
        dump = load_file(options.dump)
        if options.double:
            exact.make_exact(model)
        if options.grads:
            logits, loss, gradients = exact.adapter_gradients(model, documents)
        else:
            with torch.no_grad():
                logits = [exact.logits_of(model, d["input_ids"]) for d in documents]
                loss = exact.loss_of(logits, documents)
        differences = [float((dump[f"logits.{i}"] - z).abs().max()) for i, z in enumerate(logits)]
        report |= {
            "documents": len(documents),
            "tokens": sum(len(d["input_ids"]) for d in documents),
            "max_logit_difference": max(differences),
            "largest_logit": max(float(z.abs().max()) for z in logits),
            "same_argmax": sum(int((dump[f"logits.{i}"].argmax(-1) == z.argmax(-1)).sum()) for i, z in enumerate(logits)),
            "loss_reference": float(loss),
        }
        good = good and report["max_logit_difference"] <= options.tolerance
        if options.grads:
            worst = {name: exact.relative(dump[f"grad.{name}"], g) for name, g in gradients.items()}
            name = max(worst, key=worst.get)
            every = [torch.cat([x.flatten().double() for x in xs]) for xs in zip(*((dump[f"grad.{n}"], g) for n, g in gradients.items()))]
            report |= {
                "loss_difference": exact.relative(dump["loss"].reshape(()), loss),
                "gradient_difference": exact.relative(*every),
                "worst_gradient": name,
                "worst_gradient_difference": worst[name],
            }
            good = good and max(worst[name], report["loss_difference"]) <= options.grad_tolerance
    print(json.dumps(report | {"good": good}))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
