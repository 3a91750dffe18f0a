"""What a network is made of: every layer with its settings, output, parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch import nn

from eyebright.errors import ModelError
from eyebright.inspection.describe import field_text, settings, shape_text
from eyebright.inspection.trace import Step, trace, without_weights
from eyebright.layers.network import Network

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
        receptive_field: height and width, in pixels, of what one value of the output is computed from; None: all.
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
    receptive_field: tuple[int, int] | None
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
    shadow = without_weights(model)
    steps = _layers(shadow, size)
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
    for step in chain(steps, (Step(m, type(m).__name__, paths[m], (), (), (), 0, None, None) for m in unused)):
        assert step.module is not None
        own = [p for p in step.module.parameters() if p not in seen]
        seen.update(own)
        count = sum(p.numel() for p in own)
        layers.append(
            Layer(
                path=step.path,
                stage=stages.get(step.module, "training only"),
                kind=step.operation,
                settings=settings(step.module),
                output_shape=step.output_shape,
                receptive_field=step.receptive_field,
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
    for column in ("sees", "parameters", *(["trainable"] if summary.frozen else []), "share", "MMAC"):
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
        table.add_row(
            layer.stage if layer.stage != before else "",
            layer.path,
            f"{layer.kind} {layer.settings}".strip(),
            shape_text(layer.output_shape),
            field_text(layer.receptive_field) if layer.output_shape else "",
            *numbers(layer, layer.share),
        )
        before = layer.stage
    table.add_section()
    table.add_row("total", "", "", "", "", *numbers(summary, 1.0), style="bold")
    return table


def _layers(shadow: Network, size: int) -> list[Step]:
    return [step for step in trace(shadow, size) if step.module is not None]


def _notes(shadow: Network, size: int, steps: list[Step], paths: dict[nn.Module, str]) -> Iterable[str]:
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


def _repeats(step: Step) -> bool:
    return any(had < gives for had, gives in zip(step.input_shape[1:], step.output_shape[1:], strict=True))


def _smallest_real(shadow: Network, size: int, pool: nn.Module) -> int | None:
    """The least picture size at which `pool` repeats nothing, by bisection; None if there is none."""

    def enough(candidate: int) -> bool:
        return not any(_repeats(step) for step in _layers(shadow, candidate) if step.module is pool)

    low, high = size, LARGEST_SIZE_TRIED
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
