"""Trains, explains and ships image classifiers built on the classic convolutional networks.

The whole main road is one call::

    import eyebright as eb

    run = eb.train("lenet5-digits", out="runs/first")

and each level below it is public too: `load_data`, `load_recipe`, `Fit`, `Classifier`, `evaluate`, `create_model`.
Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eyebright.classifier import Classifier, Prediction
    from eyebright.crossvalidation import cross_validate
    from eyebright.curation.curate import Curation, curate
    from eyebright.curation.drift import Drift, find_drift
    from eyebright.curation.duplicates import find_duplicates
    from eyebright.data.augment import Augment
    from eyebright.data.images import ImageFiles, Images
    from eyebright.data.prepare import Prepare
    from eyebright.data.sources import load_data, load_pictures
    from eyebright.data.split import Splits
    from eyebright.device import Plan, choose_plan
    from eyebright.engines.choose import use_engine
    from eyebright.errors import EyebrightError
    from eyebright.evaluation.evaluate import Evaluation, evaluate
    from eyebright.inspection.summary import summarise
    from eyebright.models.catalog import list_models
    from eyebright.models.create import create_model
    from eyebright.road import resume, train
    from eyebright.training.fit import Fit, Report
    from eyebright.training.recipe import Recipe, list_recipes, load_recipe
    from eyebright.training.run import Run

__version__ = "0.1.0"

_HOMES = {
    "Augment": "data.augment",
    "Classifier": "classifier",
    "Curation": "curation.curate",
    "Drift": "curation.drift",
    "Evaluation": "evaluation.evaluate",
    "EyebrightError": "errors",
    "Fit": "training.fit",
    "ImageFiles": "data.images",
    "Images": "data.images",
    "Plan": "device",
    "Prediction": "classifier",
    "Prepare": "data.prepare",
    "Recipe": "training.recipe",
    "Report": "training.fit",
    "Run": "training.run",
    "Splits": "data.split",
    "choose_plan": "device",
    "create_model": "models.create",
    "cross_validate": "crossvalidation",
    "curate": "curation.curate",
    "evaluate": "evaluation.evaluate",
    "find_drift": "curation.drift",
    "find_duplicates": "curation.duplicates",
    "list_models": "models.catalog",
    "list_recipes": "training.recipe",
    "load_data": "data.sources",
    "load_pictures": "data.sources",
    "load_recipe": "training.recipe",
    "resume": "road",
    "summarise": "inspection.summary",
    "train": "road",
    "use_engine": "engines.choose",
}

__all__ = [
    "Augment",
    "Classifier",
    "Curation",
    "Drift",
    "Evaluation",
    "EyebrightError",
    "Fit",
    "ImageFiles",
    "Images",
    "Plan",
    "Prediction",
    "Prepare",
    "Recipe",
    "Report",
    "Run",
    "Splits",
    "choose_plan",
    "create_model",
    "cross_validate",
    "curate",
    "evaluate",
    "find_drift",
    "find_duplicates",
    "list_models",
    "list_recipes",
    "load_data",
    "load_pictures",
    "load_recipe",
    "resume",
    "summarise",
    "train",
    "use_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'eyebright' has no attribute '{name}'")
    value = getattr(import_module(f"eyebright.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
