"""Fine-tuning the last layers of a network, from a head that fits its embeddings already (lecture: L3.9).

Normalisation stays as it was everywhere: a few pictures tell its statistics worse than those of the first training did.

Source:
    head first, then the rest: Kumar et al.: Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution, arXiv 2202.10054, §4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eyebright.classifier import Classifier
from eyebright.data.augment import Augment
from eyebright.layers.freezing import list_layers, list_norms
from eyebright.layers.network import Network
from eyebright.training.recipe import Recipe, make_recipe

LAST = (2, 5, 10)  # layers that are tuned, the rest frozen; and all
PASSES = 3000  # pictures that training sees in all, about, within these epochs
FEWEST_EPOCHS, MOST_EPOCHS = 3, 15
AUGMENT = Augment(random_resized_crop=(0.4, 1.0), horizontal_flip=0.5)
RATE = 0.003  # highest, of SGD with momentum, on one cycle
SMOOTHING = 0.1  # of labels: the head fits them already
BATCH = 32


def list_depths(model: Network) -> list[int | None]:
    """How many of the last layers can be tuned; None: all of them."""
    count = len(list_layers(model))
    return [*(last for last in LAST if last < count), None]


def tuning_recipe(
    name: str, start: Path, model: Classifier, last: int | None, pictures: int, *, single_output: bool = False,
    augment: Augment = AUGMENT,
) -> Recipe:  # fmt: skip
    """The recipe that goes on from a classifier's file.

    Args:
        name: of the recipe.
        start: the file: its body is the backbone's, its head fits the embeddings.
        model: what the file holds.
        last: how many of the last layers are tuned beside the head; None: all.
        pictures: that there are to train on.
        single_output: whether two classes have one output.
        augment: what training adds.
    """
    options = {
        key: value for key, value in model.model.model_options.items() if key not in ("num_classes", "in_channels")
    }
    options.pop("auxiliary_heads", None)
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(PASSES / pictures)))
    loss = "binary_cross_entropy" if single_output or model.multi_label else "cross_entropy"
    training: dict[str, Any] = {
        "epochs": epochs, "batch_size": BATCH, "learning_rate": RATE, "nesterov": True, "weight_decay": 1e-4,
        "schedule": "one_cycle", "loss": loss, "keep": "last", "observe_steps": 0, "clip_norm": 1.0,
        "label_smoothing": SMOOTHING if loss == "cross_entropy" else 0.0,
        "freeze": [*([] if last is None else [f"[:-{last}]"]), *(["norms"] if list_norms(model.model) else [])],
    }  # fmt: skip
    return make_recipe(
        {
            "name": name,
            "data": {"val_fraction": 0.0},
            "prepare": model.prepare.model_dump(mode="json", exclude_none=True),
            "augment": augment.model_dump(mode="json", exclude_none=True),
            "model": {"name": model.model.model_name, "weights": str(start), **options},
            "training": training,
        }
    )
