"""Gradients and steps of each layer over training: whether they vanish, explode, or move layers too far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyebright.inspection.style import BLUE, GREY, ORANGE, make_figure, name_layers, tidy
from eyebright.training.observe import LayerState, Observation

Values = NDArray[np.float64]
USUAL = (1e-3, 1e-2)  # of a layer's length: what a step moves where training goes well
WEAK = 1e-4  # of the strongest layer's gradient


def gradient_lengths(observations: Sequence[Observation]) -> tuple[list[str], Values, Values]:
    """How long the gradients are, and the steps, in lengths of the layer's weights.

    Args:
        observations: of a run.

    Returns:
        The layers that were trained, in the order in which a picture passes through them; float64
        `[observations, layers]` of gradients; and of steps.
    """
    names = [layer.name for layer in observations[-1].layers if layer.gradient_norm is not None]
    return names, _table(observations, names, _gradient), _table(observations, names, lambda x: x.update_ratio)


def say_gradients(observations: Sequence[Observation]) -> list[str]:
    """What there is to see, in sentences."""
    names, gradients, steps = gradient_lengths(observations)
    if not names:
        return ["no layer was trained"]
    usual = np.nanmedian(gradients, axis=0)
    weakest, strongest = int(np.nanargmin(usual)), int(np.nanargmax(usual))
    found = [
        f"in lengths of the weights, {names[strongest]} has the strongest gradients, {usual[strongest]:.2g} in the "
        f"median, and {names[weakest]} the weakest, {usual[weakest]:.2g}: {usual[weakest] / usual[strongest]:.2g} of it"
    ]
    if usual[weakest] < WEAK * usual[strongest]:
        found.append(f"{names[weakest]} hardly gets a gradient: it vanishes on the way")
    when, place = divmod(int(np.nanargmax(steps)), len(names))
    found.append(
        f"a step moved {names[place]} farthest, by {steps[when, place]:.2g} of its length, in step "
        f"{observations[when].step}; in the median a step moves a layer by {np.nanmedian(steps):.2g}"
    )
    return found


def draw_gradients(observations: Sequence[Observation]) -> Figure:
    """Draws, for each layer, the length of gradients and of steps over training, and gradients by depth.

    Args:
        observations: of a run.
    """
    names, gradients, steps = gradient_lengths(observations)
    figure = make_figure(15, 4.4)
    over, moves, depth = figure.subplots(1, 3, width_ratios=(4, 4, 4))
    when = [seen.step for seen in observations]
    draw_layers(over, when, names, gradients)
    tidy(over, "Gradient, in lengths of the weights", "step")
    draw_layers(moves, when, names, steps)
    moves.axhspan(*USUAL, color=GREY, alpha=0.15, linewidth=0)
    tidy(moves, "Step, in lengths of the weights (grey: usual)", "step")
    _draw_by_depth(depth, observations, names, gradients)
    return figure


def draw_layers(axes: Axes, when: Sequence[float], names: list[str], values: Values) -> None:
    """A line for each layer, from dark (the first) to light (the last); six at most are named.

    Args:
        axes: to draw on.
        when: of each observation.
        names: of the layers.
        values: float64 `[M, L]`; what is not above 0 is left out.
    """
    import matplotlib

    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(2, len(names))))
    named = set(np.linspace(0, len(names) - 1, min(len(names), 6)).round().astype(int).tolist())
    marker = "o" if len(when) < 20 else ""
    for place, name in enumerate(names):
        shown = np.where(values[:, place] > 0, values[:, place], np.nan)
        label = name if place in named else None
        axes.plot(when, shown, color=colours[place], linewidth=1.2, marker=marker, markersize=3, label=label)
    axes.set_yscale("log")
    if names:
        axes.legend(frameon=False, fontsize=7, title="first to last layer", title_fontsize=7)


def _draw_by_depth(axes: Axes, observations: Sequence[Observation], names: list[str], values: Values) -> None:
    last = len(observations) - 1
    for place, colour in ((0, GREY), (last // 2, ORANGE), (last, BLUE)):
        shown = np.where(values[place] > 0, values[place], np.nan)
        axes.plot(
            range(len(names)), shown, color=colour, marker="o", markersize=3, label=f"step {observations[place].step}"
        )
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes, "Gradient by depth")
    name_layers(axes, names)


def _gradient(layer: LayerState) -> float:
    if layer.gradient_norm is None:
        return np.nan
    return layer.gradient_norm / layer.weight_norm if layer.weight_norm else np.inf


def _table(observations: Sequence[Observation], names: list[str], value: Callable[[LayerState], float]) -> Values:
    rows = ({layer.name: value(layer) for layer in seen.layers} for seen in observations)
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=np.float64)
