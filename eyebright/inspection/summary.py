"""What a network is made of: every layer with its settings, output, parameters and multiply-adds."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from eyebright.errors import ModelError
from eyebright.layers.network import Network
from eyebright.layers.norm import LocalResponseNorm

if TYPE_CHECKING:
    from rich.table import Table

LARGEST_SIZE_TRIED = 4096  # pixels: where the search for a pool's real maps gives up


@dataclass(frozen=True)
class Layer:
    """One layer that a picture passes through.

    Attributes:
        path: its state-dict prefix.
        stage: the stage it is part of; ``"training only"`` for one that evaluation does not use.
        kind: its type, for example ``"Conv2d"``.
        settings: for example ``"3→64, 11×11, stride 4, padding 2"``.
        output_shape: of one picture, without the batch dimension: `(C, H, W)` or `(features,)`.
        parameters: how many numbers it has learned or will learn.
        trainable: how many of them are not frozen.
        multiply_adds: of one picture; convolutions and matrix products only.
        share: of all the network's parameters, 0…1.
    """

    path: str
    stage: str
    kind: str
    settings: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    share: float


@dataclass(frozen=True)
class Summary:
    """What a network is made of, for one size of picture.

    Attributes:
        model: the network's name.
        input_shape: of one picture, `(C, H, W)`.
        layers: in the order in which a picture passes through them; one that is used twice stands there twice and
            counts its parameters once.
        parameters: of the whole network.
        trainable: how many of them are not frozen.
        frozen: how many of them are.
        multiply_adds: of one picture; convolutions and matrix products only.
        notes: what a reader should know about this network at this size.
    """

    model: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    frozen: int
    multiply_adds: int
    notes: tuple[str, ...]

    def largest(self, n: int = 3) -> tuple[Layer, ...]:
        """The `n` layers that hold most parameters, the largest first: where to shrink."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.parameters)[:n])

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON, with the paths of the largest layers."""
        return {**asdict(self), "largest": [layer.path for layer in self.largest()]}


def summarise(model: Network, input_size: int | None = None, in_channels: int | None = None) -> Summary:
    """Lists every layer of a network with its settings, output shape, parameters and multiply-adds.

    Nothing is computed: a copy without weights is applied to a picture without pixels. The model itself is not run, and
    its mode, hooks, buffers and the random generators stay as they are.

    Args:
        model: the network; layers of it may be frozen.
        input_size: height and width of the picture in pixels; by default what the network was designed for.
        in_channels: channels of the picture; by default what the network takes.

    Raises:
        InputSizeError: the picture is smaller than the network can take.
        ModelError: the network takes another number of channels.
    """
    name = model.model_name or type(model).__name__
    size = model.default_input if input_size is None else input_size
    channels = model.in_channels
    if in_channels not in (None, channels):
        raise ModelError(
            f"{name} was to be summarised for pictures of {in_channels} channels",
            expected=f"{channels}, as it was built",
            remedy=f"build it with `in_channels={in_channels}`",
        )
    shadow = _without_weights(model)
    steps = _trace(shadow, size)
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    paths = {module: path for path, module in shadow.named_modules()}
    stages = {
        layer: stage for stage, modules in shadow.stages().items() for module in modules for layer in module.modules()
    }
    used = {step.module for step in steps}
    unused = (m for m in shadow.modules() if m not in used and list(m.parameters(recurse=False)))
    seen: set[nn.Parameter] = set()
    layers = []
    for step in chain(steps, (_Step(module, (), (), 0) for module in unused)):
        own = [p for p in step.module.parameters() if p not in seen]
        seen.update(own)
        count = sum(p.numel() for p in own)
        layers.append(
            Layer(
                path=paths[step.module],
                stage=stages.get(step.module, "training only"),
                kind=type(step.module).__name__,
                settings=_settings(step.module),
                output_shape=step.output_shape,
                parameters=count,
                trainable=sum(p.numel() for p in own if p.requires_grad),
                multiply_adds=step.multiply_adds,
                share=count / total,
            )
        )
    return Summary(
        model=name,
        input_shape=(channels, size, size),
        layers=tuple(layers),
        parameters=total,
        trainable=trainable,
        frozen=total - trainable,
        multiply_adds=sum(step.multiply_adds for step in steps),
        notes=tuple(_notes(shadow, size, steps, paths)),
    )


def render(summary: Summary) -> Table:
    """The summary as a table for the terminal, with a line between stages and the totals at its end."""
    from rich.box import SIMPLE
    from rich.table import Table

    decimals = 1 if summary.multiply_adds >= 10_000_000 else 3
    channels, height, width = summary.input_shape
    table = Table(
        title=f"{summary.model} for {channels}×{height}×{width}",
        caption="\n".join(summary.notes) or None,
        caption_justify="left",
        box=SIMPLE,
        show_edge=False,
        pad_edge=False,
    )
    for column in ("stage", "layer", "type", "output"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", *(["trainable"] if summary.frozen else []), "share", "MMAC"):
        table.add_column(column, justify="right", no_wrap=True)

    def numbers(row: Layer | Summary, share: float) -> list[str]:
        trainable = [f"{row.trainable:,}" if row.parameters else ""] if summary.frozen else []
        return [
            f"{row.parameters:,}" if row.parameters else "",
            *trainable,
            f"{share:.1%}" if row.parameters else "",
            f"{row.multiply_adds / 1e6:,.{decimals}f}" if row.multiply_adds else "",
        ]

    before = None
    for layer in summary.layers:
        if before not in (None, layer.stage):
            table.add_section()
        shape = "×".join(map(str, layer.output_shape))
        table.add_row(
            layer.stage if layer.stage != before else "",
            layer.path,
            f"{layer.kind} {layer.settings}".strip(),
            shape,
            *numbers(layer, layer.share),
        )
        before = layer.stage
    table.add_section()
    table.add_row("total", "", "", "", *numbers(summary, 1.0), style="bold")
    return table


@dataclass(frozen=True)
class _Step:
    module: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    multiply_adds: int


class _MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts by torch's own table of operations, which counts a multiply-add as two; only in this thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
        return out


def _without_weights(model: Network) -> Network:
    """A copy in evaluation mode on the meta device, without hooks; no weight is copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            memo[id(hooks)] = OrderedDict()
    return copy.deepcopy(model, memo).eval()


def _trace(shadow: Network, size: int) -> list[_Step]:
    """Every layer that a picture of `size` pixels passes through, in order."""
    steps: list[_Step] = []
    counter = _MultiplyAdds()
    starts: dict[nn.Module, int] = {}

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        starts[module] = counter.total

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])
        steps.append(_Step(module, *shapes, counter.total - starts[module]))

    leaves = [m for m in shadow.modules() if not list(m.children()) and not _does_nothing(m)]
    handles = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    handles += [leaf.register_forward_hook(after) for leaf in leaves]
    weight = next(shadow.parameters())
    with torch.no_grad(), counter:
        shadow(torch.empty(1, shadow.in_channels, size, size, dtype=weight.dtype, device="meta"))
    for handle in handles:
        handle.remove()
    return steps


def _does_nothing(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity | nn.Sequential) or (isinstance(layer, nn.Dropout) and layer.p == 0)


def _notes(shadow: Network, size: int, steps: list[_Step], paths: dict[nn.Module, str]) -> Iterable[str]:
    """Says where an adaptive pool has fewer values than it gives out, and from which size on it has enough."""
    for step in steps:
        if not isinstance(step.module, nn.AdaptiveAvgPool2d) or not _repeats(step):
            continue
        (_, height, width), (_, rows, columns) = step.input_shape, step.output_shape
        fills = (
            f"repeats it {rows * columns} times"
            if height * width == 1
            else f"repeats its values to fill {rows}×{columns}"
        )
        enough = _smallest_real(shadow, size, step.module)
        real = f"; real {rows}×{columns} maps come from {enough}×{enough} pixels up" if enough else ""
        yield (
            f"at {size}×{size} pixels the map before {paths[step.module]} is {height}×{width}, "
            f"and the pool {fills}{real}"
        )


def _repeats(step: _Step) -> bool:
    return any(had < gives for had, gives in zip(step.input_shape[1:], step.output_shape[1:], strict=True))


def _smallest_real(shadow: Network, size: int, pool: nn.Module) -> int | None:
    """The least picture size at which `pool` repeats nothing, by bisection; None if there is none."""

    def enough(candidate: int) -> bool:
        return not any(_repeats(step) for step in _trace(shadow, candidate) if step.module is pool)

    low, high = size, LARGEST_SIZE_TRIED
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _settings(layer: nn.Module) -> str:
    """What a reader wants to know of a layer, in few words."""
    match layer:
        case nn.Conv2d():
            parts = [f"{layer.in_channels}→{layer.out_channels}", _side(layer.kernel_size)]
            parts += _unless("stride", layer.stride, 1) + _unless("padding", layer.padding, 0)
            parts += _unless("dilation", layer.dilation, 1) + _unless("groups", layer.groups, 1)
            parts += _without_bias(layer)
        case nn.MaxPool2d() | nn.AvgPool2d():
            parts = [_side(layer.kernel_size), f"stride {_number(layer.stride)}"]
            parts += _unless("padding", layer.padding, 0)
        case nn.AdaptiveAvgPool2d():
            parts = [f"to {_side(layer.output_size)}"]
        case nn.Linear():
            parts = [f"{layer.in_features}→{layer.out_features}"]
            parts += _without_bias(layer)
        case nn.BatchNorm2d():
            parts = [f"{layer.num_features}"]
        case nn.Dropout():
            parts = [f"{layer.p}"]
        case nn.LeakyReLU():
            parts = [f"{layer.negative_slope}"]
        case LocalResponseNorm():
            parts = [f"{layer.size} channels", *_unless("groups", layer.groups, 1)]
        case nn.Flatten():
            parts = []
        case _:
            parts = [layer.extra_repr()]
    return ", ".join(parts)


def _without_bias(layer: nn.Module) -> list[str]:
    return [] if "bias" in dict(layer.named_parameters(recurse=False)) else ["no bias"]


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)


def _side(value: Any) -> str:
    height, width = _pair(value)
    return f"{height}×{width}"


def _number(value: Any) -> str:
    height, width = _pair(value)
    return f"{height}" if height == width else f"{height}×{width}"


def _unless(name: str, value: Any, usual: int) -> list[str]:
    return [] if _number(value) == str(usual) else [f"{name} {_number(value)}"]
