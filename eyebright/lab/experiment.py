"""What an experiment of the lab is: a question, how it is asked, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from eyebright.data.split import Splits
from eyebright.lab.variants import Begin
from eyebright.training.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """How an experiment is done.

    Attributes:
        splits: train, validation, test; test is not looked at.
        kept: folder of finished trainings.
        changes: of the recipe.
        full: longer, with more seeds and all pictures.
        seeds: how many; None: what the experiment takes.
        begin: for a progress bar.
    """

    splits: Splits
    kept: Path
    changes: tuple[str, ...] = ()
    full: bool = False
    seeds: int | None = None
    begin: Begin = lambda what, total: lambda: None


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        figures: by the end of their files' names.
        sentences: the answer first.
        values: for JSON.
    """

    figures: dict[str, Figure]
    sentences: list[str]
    values: dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One of the lab's.

    Attributes:
        about: the question.
        recipe: by name; its data are the experiment's, unless others are given.
        changes: of it, always.
        short: more of them, in the short form; the full one keeps the recipe's epochs.
        pictures: training pictures of the short form.
        seeds: of the short form and of the full one.
        run: does it, with so many seeds.
    """

    about: str
    recipe: str
    changes: tuple[str, ...]
    short: tuple[str, ...]
    pictures: int
    seeds: tuple[int, int]
    run: Callable[[Recipe, Settings, int], Result]
