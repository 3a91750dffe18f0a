"""Optimisers, and which parameters decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eyebright.training.recipe import TrainingSection


def make_optimizer(model: nn.Module, training: TrainingSection) -> Optimizer:
    """The recipe's optimiser over a model's trainable parameters, in two groups: those that decay, and the rest.

    Biases and the scales and shifts of normalisation (everything with one dimension) do not decay unless `decay_all`
    is set.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decaying = [parameter for parameter in trainable if training.decay_all or parameter.ndim > 1]
    spared = [parameter for parameter in trainable if not (training.decay_all or parameter.ndim > 1)]
    groups: list[dict[str, Any]] = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decaying, training.weight_decay), (spared, 0.0))
        if group
    ]
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=training.learning_rate, momentum=training.momentum, nesterov=training.nesterov, fused=True
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=training.learning_rate, betas=training.betas, fused=True)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as flat tensors: ``"<parameter's number>.<what>"`` → tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, values in state.items() for key, value in values.items()
            if value is not None}  # fmt: skip


def check_optimizer_tensors(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Compares names, shapes and number formats with those that this optimiser keeps.

    Raises:
        ValueError: they differ; it says in what.
    """
    kept = ("momentum_buffer",) if isinstance(optimizer, torch.optim.SGD) else ("step", "exp_avg", "exp_avg_sq")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = {f"{i}.{key}": parameter for i, parameter in enumerate(parameters) for key in kept}
    for name, tensor in tensors.items():
        if name not in expected:
            raise ValueError(f"it has the unknown tensor optimizer.{name}")
        shape = torch.Size() if name.endswith(".step") else expected[name].shape
        if (tensor.shape, tensor.dtype) != (shape, torch.float32):
            raise ValueError(f"optimizer.{name} is {tensor.dtype} {list(tensor.shape)}, not float32 {list(shape)}")
    for number in {name.partition(".")[0] for name in tensors}:
        if missing := [key for key in kept if f"{number}.{key}" not in tensors]:
            raise ValueError(f"it lacks optimizer.{number}.{missing[0]}")


def load_optimizer_tensors(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave.

    A tensor of its parameter's shape gets its parameter's layout in memory: fused updates walk through both side by
    side, and a file knows nothing of channels-last.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        parameter = parameters[int(number)]
        alike = tensor.shape == parameter.shape
        state.setdefault(int(number), {})[key] = torch.empty_like(parameter).copy_(tensor) if alike else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
