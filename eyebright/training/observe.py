"""What goes on inside a network while it trains: how the inputs of its layers lie, and how far its weights move.

Every so many steps the same few training pictures pass through the network as in evaluation, and what each convolution
and dense layer is given is measured; of the step's own gradients and changes, the lengths are kept. Training computes
the same bits whether it is observed or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from eyebright.device import Plan
from eyebright.layers.network import Network
from eyebright.random import generator

PICTURES = 64  # that are looked at, the same ones each time
VALUES = 8192  # of a layer's inputs, from which mean, spread and quantiles are told
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SATURATED = 0.95  # of the largest answer that a bounded nonlinearity can give


@dataclass(frozen=True)
class InputState:
    """How the values lie that a layer is given.

    Attributes:
        mean, std: of these values.
        quantiles: at `QUANTILES`.
        silent: share of the input channels that are one and the same number at every place of all pictures looked at:
            after a ReLU, units that are dead, at least for these; of pictures, channels that are never used.
        saturated: share of the answers of the bounded nonlinearity before the layer that lie beyond 95 % of the bound;
            of several since the layer before, the most saturated one; None where none has a bound.
    """

    mean: float
    std: float
    quantiles: tuple[float, ...]
    silent: float
    saturated: float | None


@dataclass(frozen=True)
class LayerState:
    """One convolution or dense layer in one step.

    Attributes:
        name: its state-dict prefix.
        weight_norm: Euclidean length of its weights after the step, biases left out.
        gradient_norm: of the loss's gradient by these weights, as the optimiser was given it; None where there is none:
            the layer is frozen.
        update_norm: of what the step changed in them.
        inputs: what it is given.
    """

    name: str
    weight_norm: float
    gradient_norm: float | None
    update_norm: float
    inputs: InputState

    @property
    def update_ratio(self) -> float:
        """How far the step moved the weights, in lengths of them; about 0.001 where SGD does well."""
        return self.update_norm / self.weight_norm if self.weight_norm else math.inf


@dataclass(frozen=True)
class Observation:
    """All layers in one step, in the order in which a picture passes through them.

    Attributes:
        step: updates so far, this one included.
        epoch: counted from 1.
        layers: their states.
    """

    step: int
    epoch: int
    layers: tuple[LayerState, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to five digits; what is no finite number is its name, as JSON has none for it."""
        values: dict[str, Any] = _plain(asdict(self))
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Observation:
        """The observation that `as_dict` made plain."""
        rows = ({key: _number(value) for key, value in row.items()} for row in values["layers"])
        layers = (LayerState(**row | {"inputs": InputState(**row["inputs"])}) for row in rows)
        return cls(values["step"], values["epoch"], tuple(layers))


class Observer:
    """Looks at a network's layers in chosen steps.

    Args:
        model: the network that is trained.
        pictures: float `[N, C, H, W]`, prepared as for validation, on the device.
        plan: how it computes.
    """

    def __init__(self, model: Network, pictures: Tensor, plan: Plan):
        self.model, self.pictures, self.plan = model, pictures, plan

    @contextmanager
    def watch(self, step: int, epoch: int) -> Iterator[list[Observation]]:
        """Within the block the optimiser makes its step; afterwards the list holds the observation.

        Args:
            step: updates so far, this one included.
            epoch: counted from 1.
        """
        found: list[Observation] = []
        weights = {name: layer.weight for name, layer in weighted_layers(self.model)}
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        gradients = {name: _norm(weight.grad) for name, weight in weights.items() if weight.grad is not None}
        yield found
        states = (
            LayerState(name, _norm(weights[name]), gradients.get(name), _norm(weights[name] - before[name]), inputs)
            for name, inputs in measure_inputs(self.model, self.pictures, self.plan).items()
        )
        found.append(Observation(step, epoch, tuple(states)))


def measure_inputs(model: Network, pictures: Tensor, plan: Plan) -> dict[str, InputState]:
    """What each convolution and dense layer is given in evaluation, in the order in which they are computed.

    Args:
        model: stays as it is.
        pictures: float `[N, C, H, W]`, prepared, on the device.
        plan: how it computes.

    Returns:
        State-dict prefix → its inputs.
    """
    names: dict[nn.Module, str] = {layer: name for name, layer in weighted_layers(model)}
    found: dict[str, InputState] = {}
    saturated: list[float] = []  # what the nonlinearities since the last layer are

    def meet(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if names[module] not in found:
            found[names[module]] = _describe(inputs[0], max(saturated, default=None))
        saturated.clear()

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        bound = _bound(module)
        if bound is not None:
            saturated.append(float((output.abs() > SATURATED * bound).float().mean()))

    hooks = [layer.register_forward_pre_hook(meet) for layer in names]
    hooks += [module.register_forward_hook(leave) for module in model.modules() if _is_nonlinearity(module)]
    with evaluating(model, plan, hooks):
        model(pictures)
    return found


@contextmanager
def evaluating(model: Network, plan: Plan, hooks: Sequence[RemovableHandle] = ()) -> Iterator[None]:
    """Within the block the model is in evaluation, without gradients; afterwards in its own mode, and the hooks gone.

    Args:
        model: what is looked into.
        plan: how it computes.
        hooks: on its modules.
    """
    was_training = model.training
    try:
        with torch.no_grad(), plan.arithmetic():
            model.eval()
            yield
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def weighted_layers(model: Network) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """The convolutions and dense layers with their state-dict prefixes."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


def _describe(inputs: Tensor, saturated: float | None) -> InputState:
    """Of what a layer is given, `[N, C, …]`."""
    over = (0, *range(2, inputs.dim()))
    silent = inputs.amax(dim=over) == inputs.amin(dim=over)
    values = inputs.movedim(1, -1).flatten()  # channels-last maps are not copied
    if len(values) > VALUES:
        some = torch.randint(len(values), (VALUES,), generator=generator(0, "observe", len(values)))
        values = values[some.to(values.device)]
    values = values.float()
    quantiles = values.quantile(torch.tensor(QUANTILES, device=values.device)).tolist()
    share = float(silent.float().mean())
    return InputState(float(values.mean()), float(values.std()), tuple(quantiles), share, saturated)


def _is_nonlinearity(module: nn.Module) -> bool:
    return isinstance(module, nn.ReLU | nn.LeakyReLU | nn.GELU | nn.SiLU) or _bound(module) is not None


def _bound(module: nn.Module) -> float | None:
    """The largest answer of a bounded nonlinearity."""
    if isinstance(module, nn.Tanh | nn.Sigmoid):
        return 1.0
    bound = getattr(module, "bound", None)
    return bound if isinstance(bound, float) else None


def _norm(values: Tensor) -> float:
    return float(values.detach().float().norm())


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _number(one) for key, one in value.items()}
    if isinstance(value, list):
        return tuple(_number(one) for one in value)
    return float(value) if value in ("inf", "-inf", "nan") else value
