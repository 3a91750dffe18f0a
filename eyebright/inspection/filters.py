"""A layer's kernels before training, after it, and what has changed (lecture: L2.9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from torch import nn

from eyebright.errors import ModelError, did_you_mean
from eyebright.inspection.finding import listed, many
from eyebright.inspection.style import GREY, ORANGE, make_figure, tidy
from eyebright.layers.network import Network

MOST = 64  # kernels, or slices of one, in a panel: eight rows of eight
STILL = 0.01  # of its own length: a kernel that moved less has hardly moved
ONE_WAY = 0.9  # share of a kernel's weights that went up, or down
COLOURS = 3  # input channels that are shown as one picture in colour

Weights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Filters:
    """The kernels of one convolution.

    Attributes:
        layer: its state-dict prefix.
        before, after: float32 `[K, C, h, w]`: K kernels of C slices.
    """

    layer: str
    before: Weights
    after: Weights

    @property
    def change(self) -> Weights:
        """After minus before, float32 `[K, C, h, w]`."""
        return self.after - self.before

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """How far each kernel moved, in Euclidean lengths of what it was before, float64 `[K]`."""
        lengths, moved = (_lengths(weights) for weights in (self.before, self.change))
        distances: NDArray[np.float64] = np.where(moved > 0, np.inf, 0.0)
        np.divide(moved, lengths, out=distances, where=lengths > 0)
        return distances

    @cached_property
    def increased(self) -> NDArray[np.float64]:
        """Share of each kernel's changed weights that went up, float64 `[K]`; NaN where none changed."""
        up, changed = (test.sum(axis=(1, 2, 3)) for test in (self.change > 0, self.change != 0))
        shares = np.full(len(up), np.nan)
        np.divide(up, changed, out=shares, where=changed > 0)
        return shares

    @property
    def order(self) -> NDArray[np.int64]:
        """All kernels, the one that moved farthest first."""
        return np.argsort(-self.distances, kind="stable")

    def as_dict(self) -> dict[str, Any]:
        """For JSON: each kernel's figures, the one that moved farthest first."""
        return {
            "layer": self.layer,
            "shape": list(self.after.shape),
            "moved": float(np.abs(self.change).max()),
            "kernels": [
                {
                    "kernel": kernel,
                    "distance": _finite(self.distances[kernel]),
                    "increased": _finite(self.increased[kernel]),
                }
                for kernel in self.order.tolist()
            ],
            "findings": self.findings(),
        }

    def findings(self) -> list[str]:
        """What there is to see, in sentences."""
        if not self.change.any():
            return ["no weight has changed: the layer is frozen, or the learning rate was 0"]
        order, distances = self.order.tolist(), self.distances
        far = [f"{kernel} ({distances[kernel]:.2g} of its length)" for kernel in order[:3]]
        found = [f"kernels that moved farthest: {listed(far)}; in the median {np.median(distances):.2g}"]
        still = [str(kernel) for kernel in reversed(order) if distances[kernel] < STILL]
        if still:
            verb = "has" if len(still) == 1 else "have"
            found.append(f"{many(len(still), 'kernel')} {verb} hardly moved (below {STILL:.0%}): {listed(still, 8)}")
        for share, where in ((self.increased, "up"), (1 - self.increased, "down")):
            one_way = [str(kernel) for kernel in order if share[kernel] >= ONE_WAY]
            if one_way:
                found.append(
                    f"{many(len(one_way), 'kernel')} moved all one way: at least {ONE_WAY:.0%} of the weights went "
                    f"{where}: {listed(one_way, 8)}"
                )
        return found


def compare_filters(before: Network, after: Network, layer: str | None = None) -> Filters:
    """One convolution's kernels in two states of a network.

    Args:
        before: the network as it was.
        after: the same as it became.
        layer: its state-dict prefix; default: the first convolution.

    Raises:
        ModelError: there is no such convolution.
    """
    convolutions = {name: module for name, module in after.named_modules() if isinstance(module, nn.Conv2d)}
    if layer is None:
        layer = next(iter(convolutions))
    if layer not in convolutions:
        raise ModelError(
            f"{after.model_name} has no convolution '{layer}'",
            expected=f"one of {', '.join(convolutions)}",
            remedy=did_you_mean(layer, convolutions) or f"see `eyebright models {after.model_name}`",
        )
    kernels = [dict(model.named_parameters())[f"{layer}.weight"] for model in (before, after)]
    return Filters(layer, *(weight.detach().float().cpu().numpy() for weight in kernels))


def draw_filters(filters: Filters, kernel: int | None = None) -> Figure:
    """Draws kernels before and after training on one scale, their difference on its own, and how far each moved.

    Kernels of one slice are shown in grey, of three in colour, mid-grey being 0; of others, the slices of one kernel.
    Up to 64 are shown: of more kernels those that moved farthest, of more slices the first.

    Args:
        filters: the kernels.
        kernel: whose slices are shown; default: of the one that moved farthest, where kernels have many.

    Raises:
        ModelError: there is no such kernel.
    """
    count, slices = filters.after.shape[:2]
    if kernel is not None and not 0 <= kernel < count:
        raise ModelError(
            f"{filters.layer} has no kernel {kernel}", expected=f"0 to {count - 1}", remedy="choose one of them"
        )
    if slices in (1, COLOURS) and kernel is None:
        shown = np.sort(filters.order[:MOST])
        tiles = [weights[shown].transpose(0, 2, 3, 1) for weights in (filters.before, filters.after, filters.change)]
        tiles = [rows.squeeze(3) if slices == 1 else rows for rows in tiles]
        labels, what = shown.tolist(), f"{len(shown)} of {count} kernels" if count > MOST else f"{count} kernels"
    else:
        chosen = int(filters.order[0]) if kernel is None else kernel
        tiles = [weights[chosen, :MOST] for weights in (filters.before, filters.after, filters.change)]
        labels = list(range(len(tiles[0])))
        what = f"kernel {chosen}, {f'{MOST} of {slices:,}' if slices > MOST else slices} slices"
    figure = make_figure(15, 4.9)
    axes = figure.subplots(1, 4, width_ratios=(4, 4, 4, 3), gridspec_kw={"wspace": 0.05})
    scale = float(max(np.abs(tiles[0]).max(), np.abs(tiles[1]).max())) or 1.0
    moved = float(np.abs(tiles[2]).max())
    height, width = filters.after.shape[2:]
    figure.suptitle(f"{filters.layer}: {what} of {height}×{width}", x=0.01, ha="left", fontsize=12)
    panels = (("before training", scale), ("after", scale), ("difference", moved))
    for panel, rows, (title, limit) in zip(axes, tiles, panels, strict=False):
        _draw_tiles(panel, rows, limit or 1.0, labels, diverging=title == "difference")
        panel.set_title(f"{title}, ±{limit:.2g}" if limit else f"{title}: none", loc="left", fontsize=11)
    _draw_distances(axes[3], filters)
    return figure


def _draw_tiles(axes: Axes, tiles: Weights, limit: float, labels: list[int], diverging: bool) -> None:
    """Tiles `[n, h, w]` or `[n, h, w, 3]` in rows, values of ±limit, with a line between them."""
    columns = max(1, math.ceil(math.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    height, width = tiles.shape[1:3]
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *tiles.shape[3:]), np.nan, dtype=np.float64)
    for place, tile in enumerate(tiles):
        top, left = (height + 1) * (place // columns), (width + 1) * (place % columns)
        sheet[top : top + height, left : left + width] = tile
    if tiles.ndim == 4:
        axes.imshow(np.nan_to_num(0.5 + 0.5 * sheet / limit, nan=1.0).clip(0, 1), interpolation="nearest")
    else:
        axes.imshow(sheet, cmap="RdBu_r" if diverging else "gray", vmin=-limit, vmax=limit, interpolation="nearest")
    if len(tiles) <= MOST:
        size = 5.5 if columns > 6 else 7
        for place, label in enumerate(labels):
            axes.annotate(
                str(label), ((width + 1) * (place % columns) - 0.5, (height + 1) * (place // columns) - 0.5),
                xytext=(1, -1), textcoords="offset points", va="top", fontsize=size, color=ORANGE,
                path_effects=[withStroke(linewidth=1.2, foreground="black")],
            )  # fmt: skip
    axes.set_axis_off()
    axes.set_anchor("N")


def _draw_distances(axes: Axes, filters: Filters) -> None:
    """A bar for each kernel, the one that moved farthest on top, its colour the share of its weights that went up."""
    import matplotlib

    order = filters.order[: MOST // 2]
    distances = np.where(np.isfinite(filters.distances[order]), filters.distances[order], 0.0)
    shares = np.nan_to_num(filters.increased[order], nan=0.5)
    colours = matplotlib.colormaps["PuOr_r"](0.1 + 0.8 * shares)
    axes.barh(np.arange(len(order)), distances, color=colours, edgecolor=GREY, linewidth=0.4)
    for row, (distance, share) in enumerate(zip(distances, filters.increased[order], strict=True)):
        if not np.isnan(share):
            axes.annotate(
                f"{share:.0%}", (distance, row), xytext=(2, 0), textcoords="offset points", va="center", fontsize=5.5
            )
    axes.set_yticks(np.arange(len(order)), order.tolist(), fontsize=6)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.margins(x=0.15)
    of = f" (of {len(filters.distances)})" if len(order) < len(filters.distances) else ""
    tidy(axes, "How far each moved", "of its own length; %: weights that went up", f"kernel{of}")
    axes.xaxis.label.set_fontsize(8)


def _lengths(weights: Weights) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    return lengths


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
