"""transformers' Llama, and models made like it, in true double precision.

`model.double()` is not enough: RMSNorm and the rotary embedding compute in fp32 whatever the dtype, and converting the module also
converts the rotary frequencies. Here the parameters become double, both functions keep double, and the frequencies keep the fp32
values that transformers computes. As in every engine the angle is one fp32 product, position times frequency.
"""

import torch


def norm_forward(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def frequencies(self, position_ids):
    """longrope: by the length of the sequence, as transformers does in its own forward."""
    if self.rope_type != "longrope":
        return self.inv_freq
    original = self.config.rope_parameters["original_max_position_embeddings"]
    length = int(position_ids.max()) + 1
    return ROPE_INIT_FUNCTIONS["longrope"](self.config, position_ids.device, seq_len=length)[0] if length > original else self.original_inv_freq


def rotary_forward(self, x, position_ids):
    angle = (position_ids[:, :, None].float() * frequencies(self, position_ids)[None, None, :].float()).to(x.dtype)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos() * self.attention_scaling, angle.sin() * self.attention_scaling


def make_exact(model: torch.nn.Module) -> None:
    """Changes this model, and the classes of its norms and rotary embedding for the rest of the process."""
    for module in model.modules():
        for ending, forward in (("RMSNorm", norm_forward), ("RotaryEmbedding", rotary_forward)):
            if type(module).__name__.endswith(ending):
                type(module).forward = forward
    for parameter in model.parameters():
        parameter.data = parameter.data.double()


def relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """The 2-norm of the difference, relative to that of the reference."""
    return float((ours.double() - reference.double()).norm() / reference.double().norm().clamp_min(1e-300))


def logits_of(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """(tokens, vocabulary) of one document, positions from 0."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def loss_of(logits: list[torch.Tensor], documents: list[dict]) -> torch.Tensor:
    """Sum over documents of the target cross entropies, divided by all targets; position t predicts the label of t + 1."""
    total, targets = 0.0, 0
    for z, document in zip(logits, documents):
        labels = torch.tensor(document["labels"][1:])
        total = total + torch.nn.functional.cross_entropy(z[:-1], labels, ignore_index=-100, reduction="sum")
        targets += int((labels != -100).sum())
    return total / targets


def adapter_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """By the names that PEFT writes to a file: those of the module tree without the adapter's own name."""
    whole = ".modules_to_save.default."
    return {
        name.replace(whole, ".").replace(".default.", "."): p
        for name, p in model.named_parameters()
        if ".lora_" in name or whole in name
    }


def adapter_gradients(model: torch.nn.Module, documents: list[dict]) -> tuple[list[torch.Tensor], torch.Tensor, dict[str, torch.Tensor]]:
    """Logits of each document, the loss, and its gradient by adapter tensor."""
    return gradients_by(adapter_parameters(model), model, documents)


def gradients_by(parameters: dict[str, torch.nn.Parameter], model: torch.nn.Module, documents: list[dict]) -> tuple[list[torch.Tensor], torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    logits = [logits_of(model, d["input_ids"]) for d in documents]
    loss = loss_of(logits, documents)
    loss.backward()
    gradients = {name: p.grad.detach().clone() for name, p in parameters.items()}
    return [z.detach() for z in logits], loss.detach(), gradients
