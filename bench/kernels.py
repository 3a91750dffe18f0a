"""Our kernels beside torch's operators: a training step without its data, and each operation by itself.

Both take turns in one process, on the same weights and pictures, in the plan's number format.

    python bench/kernels.py --record records
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import by_plan, write_record
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import record_function

from eyebright.device import Plan, choose_plan, keep_freed_memory
from eyebright.kernels.copies import Copies
from eyebright.layers.fused import add_and_activate, in_turn
from eyebright.models.create import create_model
from eyebright.training.optim import make_copies, make_optimizer
from eyebright.training.recipe import make_recipe

NETWORKS = {  # batch, side, steps of a turn
    "resnet20_cifar": (128, 32, 10), "alexnet": (256, 64, 4), "airbench": (500, 32, 2), "vgg11_bn": (32, 64, 4),
    "resnet18": (32, 224, 2), "resnet50": (32, 224, 1), "inception_v3": (16, 128, 2), "googlenet": (16, 128, 2),
}  # fmt: skip
MAPS = {
    "16 channels, 32×32": (128, 16, 32),
    "64 channels, 112×112": (32, 64, 112),
    "256 channels, 56×56": (32, 256, 56),
}
CONVOLUTIONS = {  # pictures, channels, maps, side, taps
    "3×3, 64 channels, 56×56": (32, 64, 64, 56, 3),
    "3×3, 128 channels, 28×28": (32, 128, 128, 28, 3),
    "3×3, 256 channels, 14×14": (32, 256, 256, 14, 3),
    "3×3, 512 channels, 7×7": (32, 512, 512, 7, 3),
    "3×3, 32 channels, 16×16": (128, 32, 32, 16, 3),
    "5×5, 64 to 192 channels, 27×27": (64, 64, 192, 27, 5),
}


def step(name: str) -> tuple[Callable[[Plan], None], int]:
    """(a training step of a network, how often it is done in a turn)."""
    batch, side, times = NETWORKS[name]
    model = create_model(name, num_classes=10, seed=0).to(memory_format=torch.channels_last).train()
    inputs = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))
    settings = {"epochs": 1, "learning_rate": 1e-3, "optimizer": "sgd", "momentum": 0.9}
    training = make_recipe({"model": {"name": name}, "training": settings}).training
    optimizer = make_optimizer(model, training)
    copies: dict[Plan, Copies] = {}

    def do(plan: Plan) -> None:
        if plan not in copies:
            copies[plan] = make_copies(model, training, plan)
        own = copies[plan]
        with own.at_hand():
            with plan.arithmetic():
                logits = model(inputs)
            F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
            with record_function("Optimizer.step with copies"):  # so that a profile counts our part of it, too
                own.step(optimizer)
            optimizer.zero_grad(set_to_none=True)

    return do, times


def operation(layers: list[nn.Module], shape: tuple[int, ...], plan: Plan, residual: bool = False) -> Any:
    """(layers forwards and backwards, how often it is done in a turn)."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    x, added = (torch.randn(shape, dtype=getattr(torch, plan.number_format)).to(memory_format=layout) for _ in range(2))
    given: list[Tensor] = [x.requires_grad_(), *([added.requires_grad_()] if residual else [])]
    given += [parameter for layer in layers for parameter in layer.parameters()]
    gradients: list[Tensor] = []

    def do(plan: Plan) -> None:
        with plan.arithmetic():
            y = add_and_activate(layers[0], layers[1], x, added) if residual else in_turn(layers, x)
        if not gradients:
            gradients.append(torch.randn_like(y))
        torch.autograd.grad(y, given, gradients[0])

    return do, 5


def measure(do: Callable[[Plan], None], times: int, plans: dict[str, Plan], rounds: int) -> dict[str, Any]:
    """Seconds by each plan, in turns; their ratio round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    for plan in plans.values():
        do(plan)
    for _ in range(rounds):
        for name, plan in plans.items():
            do(plan)  # weights that the other plan has changed are copied anew
            started = time.perf_counter()
            for _ in range(times):
                do(plan)
            seconds[name].append((time.perf_counter() - started) / times)
    ratios = [theirs / own for theirs, own in zip(seconds["torch"], seconds["eyebright"], strict=True)]
    return {"seconds": seconds, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    keep_freed_memory()
    own = choose_plan("cpu")
    if own.kernels == "torch":
        raise SystemExit(
            "our kernels could not be compiled here (on Linux, with g++ or CXX), so there is nothing to compare"
        )
    plans = {"torch": replace(own, kernels="torch"), "eyebright": own}
    cases: dict[str, Callable[[], tuple[Callable[[Plan], None], int]]] = {}
    for name, (batch, channels, maps, side, taps) in CONVOLUTIONS.items():
        convolution = nn.Conv2d(channels, maps, taps, padding=taps // 2, bias=False)
        convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shape = (batch, channels, side, side)
        cases[f"convolution {name}"] = partial(operation, [convolution], shape, own)
    for name, (batch, channels, side) in MAPS.items():
        layers: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU()]
        shape = (batch, channels, side, side)
        cases[f"batch norm and ReLU, {name}"] = partial(operation, layers, shape, own)
        cases[f"the same with a residual, {name}"] = partial(operation, layers, shape, own, residual=True)
    cases["max-pool 2×2, 500 maps of 64 channels, 31×31"] = partial(
        operation, [nn.MaxPool2d(2)], (500, 64, 31, 31), own
    )
    cases["max-pool 3×3, 2 apart, 32 maps of 64 channels, 112×112"] = partial(
        operation, [nn.MaxPool2d(3, 2, padding=1)], (32, 64, 112, 112), own
    )
    cases["dropout, 256 × 9216"] = partial(operation, [nn.Dropout(0.5)], (256, 9216), own)
    for name in given.only:
        cases[f"a step of {name}, {NETWORKS[name][0]} pictures of {NETWORKS[name][1]}²"] = partial(step, name)
    table = Table("what", "torch, ms", "ours, ms", "× torch", "spread")
    results = {}
    for about, make in cases.items():
        row = results[about] = measure(*make(), plans, given.rounds)
        middle = {name: statistics.median(seconds) * 1e3 for name, seconds in row["seconds"].items()}
        table.add_row(
            about, f"{middle['torch']:.2f}", f"{middle['eyebright']:.2f}", f"{row['ratio']:.2f}",
            f"{row['least']:.2f}…{row['most']:.2f}",
        )  # fmt: skip
    Console().print(table)
    if given.record:
        write_record(given.record, by_plan("kernels"), {"plan": own.as_dict(), "cases": results})


if __name__ == "__main__":
    main()
