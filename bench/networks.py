"""What the networks look like and where they stand: `make record NAME=networks` keeps pictures and figures.

It draws the summary of GoogLeNet, the graphs of AlexNet of 2012, GoogLeNet and ResNet-152, the axes of normalisations,
and accuracy against operations, parameters and the speed of this machine.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import torch
from common import dated, write_record
from rich.console import Console

from eyebright.device import choose_plan
from eyebright.inspection.diagram import make_diagram
from eyebright.inspection.graph import draw_graph
from eyebright.inspection.standing import draw_standings, find_standing, measure_speed, save_standings, with_weights
from eyebright.inspection.style import save_figure
from eyebright.inspection.summary import summarise
from eyebright.inspection.tree import render_tree
from eyebright.lab.pictures import draw_axes
from eyebright.models.create import create_model

GRAPHS = ("alexnet_2012", "googlenet", "resnet152")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write pictures and figures there")
    given = options.parse_args()
    folder = given.record or Path()

    with torch.device("meta"):
        models = {name: create_model(name) for name in GRAPHS}
    for name, model in models.items():
        save_figure(dated(folder, f"networks-{name}.svg"), draw_graph(make_diagram(model)))
        print(f"drawn: {name}", flush=True)
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(render_tree(make_diagram(models["googlenet"]), summarise(models["googlenet"])))
    console.save_svg(str(dated(folder, "networks-googlenet-summary.svg")), title="eyebright models googlenet")
    save_figure(dated(folder, "networks-axes.png"), draw_axes())

    plan = choose_plan()
    rows = []
    for name in with_weights("imagenet"):
        rows.append(measure_speed(find_standing(name, "imagenet"), plan))
        print(f"{name}: {rows[-1].pictures_per_second} pictures a second", flush=True)
    standing = draw_standings(rows, "imagenet, as published", plan)
    save_standings(dated(folder, "networks-standing.png"), standing, rows)
    write_record(folder, "networks-machine", {"plan": plan.as_dict()})


if __name__ == "__main__":
    main()
