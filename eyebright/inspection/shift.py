"""Internal shift: how the distribution of each layer's inputs moves while the layers below learn (lecture: L4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyebright.inspection.style import BLUE, make_figure, tidy
from eyebright.training.observe import QUANTILES, Observation

MOST = 6  # layers that are drawn: the first, the last, and between them at equal distances


@dataclass(frozen=True, eq=False)
class LayerShift:
    """One layer's inputs over training.

    Attributes:
        layer: its state-dict prefix.
        steps: int64 `[T]`: when they were looked at, in updates.
        means, stds: float64 `[T]`.
        quantiles: float64 `[T, 5]`, at 5, 25, 50, 75 and 95 %.
    """

    layer: str
    steps: NDArray[np.int64]
    means: NDArray[np.float64]
    stds: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    @property
    def drift(self) -> float:
        """How far the mean moves from one look to the next, in standard deviations, on average."""
        if len(self.means) < 2:
            return 0.0
        moved = np.abs(np.diff(self.means)) / np.maximum(self.stds[:-1], 1e-12)
        return float(moved.mean())

    @property
    def widening(self) -> float:
        """The standard deviation in the end, as a multiple of what it was in the beginning."""
        return float(self.stds[-1] / max(self.stds[0], 1e-12))


def measure_shift(observations: Sequence[Observation]) -> list[LayerShift]:
    """Each layer's inputs over training, in the order in which a picture passes through the layers.

    Args:
        observations: of a run.
    """
    steps = np.array([seen.step for seen in observations], dtype=np.int64)
    found = []
    for place, layer in enumerate(observations[0].layers):
        inputs = [seen.layers[place].inputs for seen in observations]
        means, stds = (np.array([getattr(x, name) for x in inputs], dtype=np.float64) for name in ("mean", "std"))
        quantiles = np.array([x.quantiles for x in inputs], dtype=np.float64).reshape(-1, len(QUANTILES))
        found.append(LayerShift(layer.name, steps, means, stds, quantiles))
    return found


def say_shift(shifts: Sequence[LayerShift]) -> list[str]:
    """What there is to see, in sentences; the first layer is given pictures, which do not move."""
    inner = shifts[1:]
    if not inner or len(inner[0].steps) < 2:
        return ["looked at too seldom to see a shift"]
    most = max(inner, key=lambda shift: shift.drift)
    mean = float(np.mean([shift.drift for shift in inner]))
    wide = max(inner, key=lambda shift: abs(np.log(max(shift.widening, 1e-12))))
    return [
        f"between two looks the mean of a layer's inputs moves by {mean:.2f} standard deviations on average; "
        f"farthest in {most.layer}, by {most.drift:.2f}",
        f"the spread changes most in {wide.layer}: in the end it is {wide.widening:.2g} times what it was",
    ]


def draw_shift(runs: Mapping[str, Sequence[LayerShift]]) -> Figure:
    """Draws quantiles of the inputs of a few layers over training, a row for each run.

    Args:
        runs: name of the run → its layers, as `measure_shift` gives them.
    """
    columns = max(min(MOST, len(shifts)) for shifts in runs.values())
    figure = make_figure(2.6 * columns + 0.6, 2.7 * len(runs) + 0.2)
    grid = figure.subplots(len(runs), columns, squeeze=False)
    for row, (name, shifts) in zip(grid, runs.items(), strict=True):
        places = np.linspace(0, len(shifts) - 1, min(columns, len(shifts))).round().astype(int).tolist()
        for axes in row[len(places) :]:
            axes.set_axis_off()
        for axes, place in zip(row, places, strict=False):
            _draw_layer(axes, shifts[place])
        row[0].set_ylabel(name)
    return figure


def _draw_layer(axes: Axes, shift: LayerShift) -> None:
    lowest, low, middle, high, highest = shift.quantiles.T
    axes.fill_between(shift.steps, lowest, highest, color=BLUE, alpha=0.15, linewidth=0)
    axes.fill_between(shift.steps, low, high, color=BLUE, alpha=0.3, linewidth=0)
    axes.plot(shift.steps, middle, color=BLUE, linewidth=1.4)
    tidy(axes, "", "step")
    axes.set_title(f"{shift.layer}\nmoves {shift.drift:.2f} σ a look", loc="left", fontsize=8)
    axes.tick_params(labelsize=7)
