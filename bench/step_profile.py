"""Where a training step goes: the share of each kind of operation, by our plan, without the data.

python bench/step_profile.py --record records
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any

from common import by_plan, write_record
from kernels import NETWORKS, step
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from eyebright.device import choose_plan, keep_freed_memory

KINDS = {  # the first whose pattern is found in an operation's name
    "convolutions forwards": r"mkldnn_convolution|aten::_?convolution$|^Convolve$",
    "convolutions backwards": r"convolution_backward|ConvolveBackward",
    "matrix products": r"aten::(add)?mm$",
    "normalisation, residual, activation": r"batch_norm|Normalise|threshold|clamp|relu|gelu|leaky",
    "pools": r"pool|Pool",
    "dropout": r"bernoulli|dropout|^Drop",
    "optimiser": r"_fused_sgd|Optimizer",
    "sums of gradients and residuals": r"aten::add_?$",
    "copies and fresh memory": r"copy_|fill_|empty|zero|clone|contiguous|aten::to|cat",
}


def shares(name: str, steps: int) -> dict[str, float]:
    """Milliseconds of each kind in a step."""
    do, _ = step(name)
    plan = choose_plan("cpu")
    for _ in range(2):
        do(plan)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            do(plan)
    spent: Counter[str] = Counter()
    for operation in seen.key_averages():
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, operation.key)), "the rest")
        spent[kind] += operation.self_cpu_time_total / steps / 1e3
    return {kind: spent[kind] for kind in (*KINDS, "the rest")}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--record", type=Path, metavar="FOLDER", help="write the figures there")
    given = options.parse_args()
    keep_freed_memory()
    results: dict[str, Any] = {name: shares(name, given.steps) for name in given.only}
    table = Table("share of a step", *results)
    for kind in (*KINDS, "the rest"):
        table.add_row(kind, *(f"{spent[kind] / sum(spent.values()):.1%}" for spent in results.values()))
    table.add_row("milliseconds", *(f"{sum(spent.values()):.0f}" for spent in results.values()))
    Console().print(table)
    if given.record:
        figures = {"plan": choose_plan("cpu").as_dict(), "milliseconds": results}
        write_record(given.record, by_plan("step-profile"), figures)


if __name__ == "__main__":
    main()
