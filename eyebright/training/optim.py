"""Optimisers, and which parameters decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from eyebright.device import Plan
from eyebright.kernels.copies import Copies
from eyebright.layers.network import Network
from eyebright.training.muon import Muon
from eyebright.training.recipe import TrainingSection


def make_optimizer(model: Network, training: TrainingSection) -> Optimizer:
    """The recipe's optimiser over a model's trainable parameters, in two groups: those that decay, and the rest.

    Biases and the scales and shifts of normalisation (everything with one dimension) do not decay unless `decay_all`
    is set; with `start_decay` nothing decays but the head. With a `stage_factor` each stage has such groups of its own.
    Muon has four groups, see `_make_muon`.
    """
    if training.optimizer == "muon":
        return _make_muon(model, training)
    shares = _stage_shares(model, training.stage_factor)
    heads = {id(parameter) for parameter in model.standing_head.parameters()} if training.start_decay else set()
    chosen: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = training.decay_all or parameter.ndim > 1
            decays &= not training.start_decay or id(parameter) in heads
            chosen.setdefault((shares.get(id(parameter), 1.0), decays), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": chosen[share, decays], "weight_decay": training.weight_decay if decays else 0.0, "share": share}
        for share, decays in sorted(chosen, reverse=True)
    ]
    if training.optimizer == "sgd":
        sgd = torch.optim.SGD(
            groups, lr=training.learning_rate, momentum=training.momentum, nesterov=training.nesterov, fused=True
        )
        if training.head_epochs and training.momentum:  # torch's fused step takes no group in which some have none yet
            for parameter in (parameter for group in groups for parameter in group["params"]):
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=training.learning_rate, betas=training.betas, fused=True)


def _stage_shares(model: Network, factor: float) -> dict[int, float]:
    """What part of the learning rate each parameter gets, by its id: stages before the head less and less."""
    if factor == 1:
        return {}
    shares: dict[int, float] = {}
    share = 1.0
    for modules in reversed(model.stages().values()):
        own = {id(parameter) for module in modules for parameter in module.parameters()}
        shares |= {key: share for key in own if key not in shares}
        if own:
            share *= factor
    return shares


def _make_muon(model: Network, training: TrainingSection) -> Muon:
    """Filters go to Muon; dense layers, biases and normalisation to SGD with the rates that the recipe gives them."""
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = {id(parameter) for parameter in model.standing_head.parameters()}
    head = [parameter for parameter in trainable.values() if id(parameter) in heads]
    others = [parameter for parameter in trainable.values() if id(parameter) not in heads]
    rate, momentum, decay = training.learning_rate, training.sgd_momentum, training.weight_decay
    head_share = (training.head_learning_rate or rate) / rate
    bias_share = (training.bias_learning_rate or rate) / rate
    groups: list[dict[str, Any]] = [
        {"params": [x for x in others if x.ndim == 4], "momentum": training.momentum, "orthogonal": True, "share": 1.0},
        {"params": [x for x in others if x.ndim in (2, 3)], "momentum": momentum, "weight_decay": decay, "share": 1.0},
        {"params": [x for x in others if x.ndim < 2], "momentum": momentum, "share": bias_share}
        | ({"weight_decay": decay} if training.decay_all else {}),
        {"params": head, "momentum": momentum, "weight_decay": decay, "share": head_share},
    ]
    return Muon([group for group in groups if group["params"]])


def make_copies(model: Network, training: TrainingSection, plan: Plan) -> Copies:
    """Copies in bfloat16 of the large dense weights, where the plan multiplies in it by our kernels.

    None where gradients are added up, pulled or clipped before the optimiser sees them: they would be rounded twice.
    """
    seen_as_they_are = training.accumulate == 1 and training.clip_norm is None and not training.start_decay
    known_optimizer = training.optimizer in ("adam", "adamw") or (training.optimizer == "sgd" and training.momentum > 0)
    in_bfloat16 = plan.device == "cpu" and plan.number_format == "bfloat16" and plan.has_kernels
    if not (seen_as_they_are and known_optimizer and in_bfloat16):
        return Copies()
    return Copies(layer.weight for layer in model.modules() if type(layer) is nn.Linear)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of all groups; a group with a share of its own gets that many times as much."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("share", 1.0)


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
    kept = ("momentum_buffer",) if isinstance(optimizer, torch.optim.SGD | Muon) else ("step", "exp_avg", "exp_avg_sq")
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
