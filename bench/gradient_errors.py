"""How far gradients of whole networks are from float32: by torch's operators and by ours, in our number format.

One batch of smooth random pictures, untrained networks; the error is the norm of the difference, as a share of the norm
of the gradient that torch's operators give in float32.

    python bench/gradient_errors.py --record records
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import by_plan, write_record
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from eyebright.device import Plan, choose_plan
from eyebright.models.create import create_model

NETWORKS = {  # batch, side
    "resnet20_cifar": (128, 32), "airbench": (200, 32), "alexnet": (64, 64), "vgg11_bn": (32, 64),
    "resnet18": (32, 128), "googlenet": (32, 128),
}  # fmt: skip


def gradient(name: str, plan: Plan, seed: int) -> Tensor:
    """Of all weights of a network, in one line; without chance of its own."""
    batch, side = NETWORKS[name]
    model = create_model(name, num_classes=10, seed=seed).to(memory_format=torch.channels_last).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    generator = torch.Generator().manual_seed(seed)
    inputs = 2 * F.avg_pool2d(torch.randn(batch, 3, side, side, generator=generator), 3, 1, 1)
    labels = torch.randint(10, (batch,), generator=generator)
    with plan.arithmetic():
        logits = model(inputs.to(memory_format=torch.channels_last))
    F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


def errors(name: str, plans: dict[str, Plan], exact: Plan, seeds: int) -> dict[str, float]:
    """The median over seeds, for each plan."""
    found: dict[str, list[float]] = {way: [] for way in plans}
    for seed in range(seeds):
        wanted = gradient(name, exact, seed)
        for way, plan in plans.items():
            found[way].append(float((gradient(name, plan, seed) - wanted).norm() / wanted.norm()))
    return {way: statistics.median(values) for way, values in found.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    own, exact = choose_plan("cpu"), replace(choose_plan("cpu", "float32"), kernels="torch")
    plans = {"torch": replace(own, kernels="torch"), "eyebright": own}
    results = {name: errors(name, plans, exact, given.seeds) for name in given.only}
    table = Table("gradient of", *(f"error by {way}" for way in plans))
    for name, row in results.items():
        table.add_row(name, *(f"{value:.1%}" if value > 1e-3 else f"{value:.1e}" for value in row.values()))
    Console().print(table)
    if given.record:
        write_record(given.record, by_plan("gradient-errors"), {"plan": own.as_dict(), "errors": results})


if __name__ == "__main__":
    main()
