"""What training left as it was, to the bit, and how far it moved the rest: the freeze receipt as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from eyebright.inspection.style import BLUE, GREY, RED, make_figure, name_layers, tidy

TRAINED, FROZEN, BROKEN = "trained", "frozen: the same to the bit", "frozen, and yet changed"


def draw_moved(entries: Sequence[dict[str, Any]]) -> Figure:
    """Draws how far each layer moved, in lengths of what it was; frozen ones apart.

    Args:
        entries: of a receipt, see `training.receipt.Entry`: name, frozen, before, after, moved.
    """
    layers: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        layers.setdefault(entry["name"].rpartition(".")[0], []).append(entry)
    figure = make_figure(11, 3.4)
    axes = figure.subplots()
    changed: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in (TRAINED, FROZEN, BROKEN)}
    for place, several in enumerate(layers.values()):
        frozen = [entry for entry in several if entry["frozen"]]
        broken = any(entry["before"] != entry["after"] for entry in frozen)
        places, moved = changed[BROKEN if broken else FROZEN if len(frozen) == len(several) else TRAINED]
        places.append(place)
        moved.append(max(entry["moved"] or 0.0 for entry in several))
    if changed[TRAINED][0]:
        axes.bar(*changed[TRAINED], color=BLUE, label=TRAINED)
    for name, colour, marker in ((FROZEN, GREY, "s"), (BROKEN, RED, "X")):
        if changed[name][0]:
            axes.plot(*changed[name], marker, color=colour, markersize=5, label=name, clip_on=False)
    name_layers(axes, list(layers))
    tidy(axes, "How far each layer moved", axes.get_xlabel(), "of its length")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
