"""Makes tests/goldens/quantized: tiny random Llamas with an adapter, their frozen weights in NF4 or int8, and what they compute.

    make_quantized.py [DIR]

As make_golden.py: deterministic, and computed in double, here from the dequantised weights. That these are the results of
transformers + peft + bitsandbytes is checked on the CPU in fp32. The losses of bitsandbytes' own AdamW8bit, whose rule on the CPU is
another (quantized.py), are stored as well. tests/goldens/README.md says what is in a directory.
"""

import pathlib
import shutil
import sys

import bitsandbytes
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

import exact
import make_golden
import quantized
from make_golden import ALL, LEARNING_RATE, adamw, config, default_rope

# bitsandbytes' CPU kernels dequantise a weight whose inner size is a multiple of 16 but not of 64 wrongly, so there is none.
# Ranks that make q and down 8-bit under AdamW8bit (4096 elements or more, also no multiple of 256), the others not.
MODELS = {
    # Groups, tied head, whole blocks. Double quantisation.
    "nf4_double": (
        config(64, 64, 128, 4, 2, 16, default_rope(100000.0), "bfloat16", tied=True),
        {"r": 4, "lora_alpha": 8, "target_modules": ALL, "rank_pattern": {"q_proj": 64, "down_proj": 66}},
        True,
    ),
    # Blocks that cross rows, a short last one in every matrix; biases.
    "nf4_odd": (
        config(67, 60, 100, 6, 3, 10, default_rope(10000.0), "float16", biases=True),
        {"r": 3, "lora_alpha": 6, "target_modules": ALL, "rank_pattern": {"q_proj": 69, "down_proj": 69}},
        False,
    ),
}


def is_frozen_matrix(name: str) -> bool:
    return name.endswith("_proj.weight")


def with_adapter(base: torch.nn.Module, directory: pathlib.Path) -> torch.nn.Module:
    return peft.PeftModel.from_pretrained(base, directory / "adapter", is_trainable=True).train()


def by_hand(directory: pathlib.Path, weights: str, double_quant: bool) -> torch.nn.Module:
    """In double, the frozen matrices as they are after they were held in nf4 or int8."""
    base = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if is_frozen_matrix(name):
                parameter.copy_(torch.from_numpy(quantized.held_in(weights, parameter.numpy(), double_quant)))
    model = with_adapter(base, directory)
    exact.make_exact(model)
    return model


def by_bitsandbytes(directory: pathlib.Path, double_quant: bool, dtype=torch.float32) -> torch.nn.Module:
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double_quant, bnb_4bit_compute_dtype=dtype
    )
    return transformers.LlamaForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="sdpa", quantization_config=settings
    )


def linears(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}


def check_bytes(model: torch.nn.Module, directory: pathlib.Path, double_quant: bool) -> None:
    """What bitsandbytes holds is what quantized.py makes. The seed is one for which the CPU library's table finds the nearest codes of
    absmax, and for which its mean of absmax is the sum in double, rounded once."""
    weights = load_file(directory / "model.safetensors")
    for name, module in linears(model).items():
        packed, absmax = quantized.quantize_nf4(weights[f"{name}.weight"].float().numpy())
        state = module.weight.quant_state
        assert (module.weight.data.numpy().reshape(-1) == packed).all(), name
        if double_quant:
            assert np.float32(state.offset.item()) == quantized.mean_of(absmax), name
            absmax, nested = quantized.quantize_absmax(absmax, quantized.mean_of(absmax))
            assert (state.state2.absmax.numpy() == nested).all(), name
        assert (state.absmax.numpy() == absmax).all(), name


class ByTheCudaRule:
    """quantized.AdamW8bit over all adapter tensors."""

    def __init__(self, parameters: list[torch.nn.Parameter]):
        self.tensors = [(p, quantized.AdamW8bit(p.numel(), LEARNING_RATE)) for p in parameters]

    def step(self) -> None:
        for p, optimizer in self.tensors:
            value, gradient = (x.detach().float().numpy().reshape(-1) for x in (p, p.grad))
            p.data.copy_(torch.from_numpy(optimizer.update(value, gradient)).reshape(p.shape))


def train(model: torch.nn.Module, documents: list[dict], make_optimizer) -> dict[str, torch.Tensor]:
    """make_golden.train(). The adapter starts anew each time."""
    parameters = list(exact.adapter_parameters(model).values())
    start = [p.detach().clone() for p in parameters]
    losses, norms = make_golden.train(model, documents, make_optimizer)
    with torch.no_grad():
        for p, value in zip(parameters, start):
            p.copy_(value)
    return {"losses": torch.tensor(losses, dtype=torch.float64), "grad_norms": torch.tensor(norms, dtype=torch.float64)}


def bitsandbytes_adamw8bit(parameters) -> torch.optim.Optimizer:
    return bitsandbytes.optim.AdamW8bit(parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)


OPTIMIZERS = {"": adamw, "_adamw8bit": ByTheCudaRule}  # by what follows "losses" and "grad_norms" in the file


def results(model: torch.nn.Module, documents: list[dict], optimizers: dict) -> dict[str, torch.Tensor]:
    logits, loss, gradients = exact.adapter_gradients(model, documents)
    golden = {f"logits.{i}": z for i, z in enumerate(logits)} | {"loss": loss}
    golden |= {f"grad.{name}": g for name, g in gradients.items()}
    for suffix, make_optimizer in optimizers.items():
        golden |= {name + suffix: x for name, x in train(model, documents, make_optimizer).items()}
    return golden


def save(golden: dict[str, torch.Tensor], path: pathlib.Path) -> None:
    save_file({k: v.float().contiguous() for k, v in golden.items()}, path, {"format": "pt"})


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], kind: str) -> float:
    return max(exact.relative(a[k], v) for k, v in b.items() if k == kind or (kind[-1] == "." and k.startswith(kind)))


def main() -> None:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "tests/goldens") / "quantized"
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    shutil.rmtree(root, ignore_errors=True)
    documents, shipped = {}, {}
    for name, (settings, adapter, double_quant) in MODELS.items():
        make_golden.MODELS[name] = (settings, adapter, 1)
        documents[name] = make_golden.make_files(root, name)
        by_bitsandbytes(root / name, double_quant, getattr(torch, settings["dtype"])).save_pretrained(root / name / "bitsandbytes")
        (root / name / "bitsandbytes/generation_config.json").unlink()
        base = by_bitsandbytes(root / name, double_quant)
        check_bytes(base, root / name, double_quant)
        shipped[name] = results(with_adapter(base, root / name), documents[name], OPTIMIZERS | {"_bitsandbytes": bitsandbytes_adamw8bit})
    for name, (_, _, double_quant) in MODELS.items():  # make_exact changes the classes
        golden = results(by_hand(root / name, "nf4", double_quant), documents[name], OPTIMIZERS)
        print(f"{name}: loss {golden['losses'][0]:.4f} -> {golden['losses'][-1]:.4f}; largest difference of transformers + peft + bitsandbytes:")
        for kind in ("logits.", "loss", "grad.", "losses", "grad_norms", "losses_adamw8bit", "grad_norms_adamw8bit"):
            worst = largest_difference(shipped[name], golden, kind)
            print(f"  {kind:22} {worst:.1e}")
            assert worst < 1e-5, (name, kind, worst)
        for kind in ("losses", "grad_norms"):
            own, eight, full = shipped[name][f"{kind}_bitsandbytes"], golden[f"{kind}_adamw8bit"], golden[kind]
            print(f"  {kind}: its own AdamW8bit {exact.relative(own, eight):.1e}, AdamW {exact.relative(full, eight):.1e} from AdamW8bit")
            golden[f"{kind}_bitsandbytes"] = own
        save(golden, root / name / "nf4.safetensors")
        save(results(by_hand(root / name, "int8", double_quant), documents[name], {"": adamw}), root / name / "int8.safetensors")


if __name__ == "__main__":
    main()
