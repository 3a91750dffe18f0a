"""Cross-validation: one run for each fold, and what they say together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console

from eyebright import road
from eyebright.data.split import VAL_FRACTION
from eyebright.device import nearest_plan
from eyebright.errors import EyebrightError, RunError
from eyebright.training.recipe import Recipe, load_recipe
from eyebright.training.run import Run


@dataclass(frozen=True)
class CrossValidation:
    """Finished runs, one for each fold; fractions are 0…1.

    Attributes:
        path: the folder that they are in.
        runs: one for each fold, in order.
        accuracies: validation accuracy of each run's kept weights. Where the best epoch is told on validation, they are
            a little too good.
    """

    path: Path
    runs: tuple[Run, ...]
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the accuracies."""
        return fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Standard deviation of the accuracies, of a sample (n − 1)."""
        return stdev(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean by Student's t, cut at 0 and 1.

        It takes folds for independent; their training pictures overlap, so it is somewhat too narrow.

        Source: Bengio and Grandvalet, No Unbiased Estimator of the Variance of K-Fold Cross-Validation, 2004.
        """
        from scipy.stats import t

        count = len(self.accuracies)
        half = float(t.ppf(0.975, count - 1)) * self.std / math.sqrt(count)
        return max(self.mean - half, 0.0), min(self.mean + half, 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        rows = zip(self.runs, self.accuracies, strict=True)
        folds = [{"fold": run.recipe.data.fold, "run": str(run.path), "val_accuracy": share} for run, share in rows]
        return {
            "path": str(self.path),
            "folds": folds,
            "val_accuracy": {"mean": self.mean, "std": self.std, "interval": list(self.interval)},
        }

    def __str__(self) -> str:
        low, high = self.interval
        rows = zip(self.runs, self.accuracies, strict=True)
        lines = [f"{run.path.name}: validation accuracy {share:.2%}" for run, share in rows]
        return "\n".join(
            [*lines, f"mean {self.mean:.2%}, standard deviation {self.std:.2%}, 95 % interval {low:.2%} to {high:.2%}"]
        )


def cross_validate(
    recipe: str | Path | Recipe,
    folds: int = 5,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    changes: Iterable[str] = (),
    root: str | Path | None = None,
    skip_unreadable: bool = False,
    curation: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    tensorboard: bool = False,
    console: Console | None = None,
) -> CrossValidation:
    """Trains once for each fold, each time validated on another one.

    Each fold is an ordinary run in a folder ``fold-1``, ``fold-2``, … Where there are some of the same recipe and seed,
    it goes on with them.

    Args:
        recipe: a name, a TOML file, or a Recipe; its `val_fraction` gives way to the folds.
        folds: how many, at least 2.
        data: SOURCE of the pictures; default: the recipe's own.
        out: the folder of all runs; default: ``runs/<recipe>``, with a number where that is taken.
        seed: of initialisation, order, augmentation and dropout, in each run; `split_seed` makes the folds.
        changes: ``"training.epochs=3"`` and the like.
        root: where published sets are.
        skip_unreadable: see `road.train`.
        curation: see `road.train`.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: threads that prepare batches.
        tensorboard: whether to write TensorBoard's event files into the runs.
        console: where progress is shown; default: standard error.

    Raises:
        EyebrightError: what was given will not do.
        Interrupted: it was asked to stop; `resume_folds` goes on.
    """
    own = [f"data.folds={folds}", "data.fold=1", f"data.val_fraction={VAL_FRACTION}"]
    chosen = road.choose_recipe(recipe, data, [*changes, *own], skip_unreadable, curation)
    path = Path(out) if out is not None else road.free_folder(chosen.name)
    shared: dict[str, Any] = {"root": root, "workers": workers, "tensorboard": tensorboard, "console": console}
    begin = partial(road.train, seed=seed, device=device, **shared)
    try:
        return _train_folds(path, chosen, seed, begin, partial(road.resume, **shared))
    except EyebrightError:
        with suppress(OSError):  # not empty: a fold has been begun
            path.rmdir()
        raise


def resume_folds(
    path: str | Path,
    *,
    root: str | Path | None = None,
    workers: int | None = None,
    accept_differences: bool = False,
    tensorboard: bool = False,
    console: Console | None = None,
) -> CrossValidation:
    """Goes on with an interrupted cross-validation: finished folds are kept, the others trained to the end.

    Args:
        path: the folder of all runs; see `holds_folds`.
        root: where published sets are.
        workers: threads that prepare batches.
        accept_differences: go on although this machine computes differently, see `road.resume`.
        tensorboard: whether to write TensorBoard's event files into the runs.
        console: where progress is shown; default: standard error.

    Raises:
        RunError: as in `road.resume`.
        DeviceError: folds are still to be begun on a device that is not here, and differences are not accepted.
    """
    first = Run.open(_place(Path(path), 1))
    shared: dict[str, Any] = {"root": root, "workers": workers, "tensorboard": tensorboard, "console": console}
    plan = nearest_plan(first.plan) if accept_differences else first.plan
    begin = partial(road.train, seed=first.seed, device=plan.device, **shared)
    go_on = partial(road.resume, accept_differences=accept_differences, **shared)
    return _train_folds(Path(path), first.recipe, first.seed, begin, go_on)


def holds_folds(path: str | Path) -> bool:
    """Whether a folder is that of a cross-validation."""
    first = Run(_place(Path(path), 1))
    return first.exists and first.recipe.data.folds is not None


def _train_folds(
    path: Path, recipe: Recipe, seed: int, begin: Callable[..., Run], go_on: Callable[..., Run]
) -> CrossValidation:
    runs: list[Run] = []
    try:
        for fold in range(1, (recipe.data.folds or 0) + 1):
            place, own = _place(path, fold), load_recipe(recipe, [f"data.fold={fold}"])
            if Run(place).exists:
                _check_same(Run(place), own, seed)
                runs.append(go_on(place))
            else:
                runs.append(begin(own, out=place))
    except KeyboardInterrupt:
        if holds_folds(path):
            raise road.Interrupted(path) from None
        raise
    return CrossValidation(path, tuple(runs), tuple(run.kept_epoch()["val_accuracy"] for run in runs))


def _check_same(run: Run, recipe: Recipe, seed: int) -> None:
    if (run.recipe, run.seed) != (recipe, seed):
        raise RunError(
            f"{run.path} is a run of another recipe, seed or number of folds",
            expected="runs of this cross-validation, or a folder without any",
            remedy="choose another folder with --out, or go on with the other one with --resume",
        )


def _place(path: Path, fold: int) -> Path:
    return path / f"fold-{fold}"
