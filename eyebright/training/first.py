"""The network that a training begins with: options that follow from the recipe, and first weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from eyebright.data.batches import Loader
from eyebright.data.images import Pictures
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.errors import ModelError, RecipeError
from eyebright.layers.network import Network
from eyebright.models.catalog import find_entry
from eyebright.models.create import check_options, create_model
from eyebright.training.recipe import Recipe


def create_first(recipe: Recipe, prepare: Prepare, outputs: int, seed: int) -> Network:
    """A recipe's network with its first weights, on the CPU; the same for the same seed, bit for bit.

    Where some first weights depend on the pictures, `introduce` is still to be called.

    Args:
        recipe: whose `[model]` says what it is.
        prepare: of the pictures.
        outputs: logits for a picture.
        seed: of the first weights.

    Raises:
        RecipeError: the auxiliary loss does not fit the network.
        ModelError: `[model]` does not fit the network's builder, or there are no such weights.
    """
    section = recipe.model
    options = _size_option(recipe, prepare) | {"in_channels": prepare.channels}
    options |= section.options | _auxiliary_option(recipe) | _head_option(section.options, prepare)
    return create_model(section.name, num_classes=outputs, weights=section.weights, seed=seed, **options)


def needs_pictures(model: Network, recipe: Recipe) -> bool:
    """Whether some first weights depend on the pictures, and do not come from a file."""
    return bool(model.pictures_wanted) and recipe.model.weights is None


def introduce(model: Network, recipe: Recipe, prepare: Prepare, train: Pictures) -> None:
    """Computes the first weights that depend on the training pictures, where there are such."""
    if needs_pictures(model, recipe):
        first = train.select(np.arange(min(model.pictures_wanted, len(train))))
        loader = Loader(first, prepare, choose_plan("cpu", "float32", training=False), batch_size=256)
        model.meet(torch.cat([batch.inputs for batch in loader.batches()]))


def _size_option(recipe: Recipe, prepare: Prepare) -> dict[str, int]:
    """The size of the pictures, for a network that is built for one; what it can't take is said later."""
    name, size = recipe.model.name, prepare.output_size
    if size is None or "input_size" not in find_entry(name).options:
        return {}
    option = {"input_size": size[0]}
    with suppress(ModelError):
        check_options(name, option)
        return option
    return {}


def _head_option(options: Mapping[str, Any], prepare: Prepare) -> dict[str, Any]:
    """A head on flattened maps is built for one size of pictures: Prepare's."""
    head = options.get("head")
    if not isinstance(head, dict) or not head.get("maps"):
        return {}
    size = prepare.output_size
    if size is None or size[0] != size[1]:
        raise RecipeError(
            "model.head.maps without one square size of pictures",
            expected="crop in [prepare]: how many values the maps have follows from it",
            remedy="set prepare.crop, or leave maps out: the maps are then averaged",
        )
    return {"head": {"input_size": size[0]} | head}


def _auxiliary_option(recipe: Recipe) -> dict[str, bool]:
    name, weight = recipe.model.name, recipe.training.auxiliary_weight
    has_option = "auxiliary_heads" in find_entry(name).options
    if weight and not has_option:
        raise RecipeError(
            f"auxiliary_weight = {weight} for {name}, which has no auxiliary heads",
            expected="a network that has some, such as googlenet",
            remedy="leave training.auxiliary_weight out",
        )
    if recipe.model.options.get("auxiliary_heads", bool(weight)) != bool(weight):
        raise RecipeError(
            f"model.auxiliary_heads = {recipe.model.options['auxiliary_heads']} "
            f"with training.auxiliary_weight = {weight}",
            expected="auxiliary heads where their loss has a weight, and none where it has not",
            remedy="set training.auxiliary_weight alone: 0.3, or 0 for none",
        )
    return {"auxiliary_heads": bool(weight)} if has_option else {}
