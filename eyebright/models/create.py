"""A network from its name: options checked, built, with first weights or with those of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from eyebright.errors import ModelError, did_you_mean
from eyebright.layers.heads import HEAD_OPTIONS, put_head
from eyebright.layers.network import Network
from eyebright.models.catalog import CATALOG, find_entry
from eyebright.models.published import WEIGHTS, find_weights
from eyebright.models.weights import fetch_weights, fit_weights, read_weights
from eyebright.random import seeded


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a network, those given checked against its signature, the others at their defaults.

    They are checked as the JSON that they become in a classifier's header: a list stands for a tuple, but no text for a
    number and no ``True`` for 1.

    Args:
        name: a name of the catalog.
        options: the options to be set, for example ``{"num_classes": 10, "dropout": 0.2}``.

    Raises:
        ModelError: the network or an option is unknown, or a value has the wrong type or is out of its range.
    """
    entry = find_entry(name)
    checked = entry.options
    types = entry.types
    for option, value in options.items():
        if option == "head":
            checked[option] = _check_head(name, value)
            continue
        if option not in checked:
            raise ModelError(
                f"{name} has no option '{option}'",
                expected=f"one of {', '.join(checked)}",
                remedy=did_you_mean(option, checked) or f"leave '{option}' out",
            )
        try:
            checker: TypeAdapter[Any] = TypeAdapter(types[option], config=ConfigDict(strict=True))
            checked[option] = checker.validate_json(json.dumps(value))
        except (TypeError, ValidationError) as error:
            needed = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "Input should be plain data"
            raise ModelError(
                f"{name} was given {option} = {value!r}",
                expected=needed.replace("Input should be", f"{option} to be"),
                remedy=f"set it to such a value, or leave it out for {entry.options[option]!r}",
            ) from None
    if checked.get("normalisation") == "none" and "normalise" not in options:
        checked["normalise"] = "before"  # where there is nothing to place, a network's own place for it says nothing
    entry.style(checked)
    return checked


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    seed: int | None = None,
    **options: Any,
) -> Network:
    """A network, freshly initialised or with weights from elsewhere.

    It remembers how it was built: ``create_model(model.model_name, **model.model_options)`` builds the same again,
    freshly initialised.

    Args:
        name: a name of the catalog, see `list_models`.
        num_classes: how many logits come out; by default as many as the network was published with, or as the weights
            were trained for. With weights of another number of classes, the head alone is fresh.
        weights: the name of published weights (``"imagenet"``; fetched once), or a file: safetensors, or a state dict
            that torch saved.
        seed: the same seed gives the same weights, bit for bit, and leaves torch's global generators untouched; without
            one, the weights come from the global generator.
        options: `in_channels` and the network's own options; and `head`, what stands in the place of the last dense
            layer: ``{"kind": "dense", "hidden": 256, "dropout": 0.5}``, see `layers.heads`.

    Raises:
        ModelError: the network, an option or the weights are unknown, a value has the wrong type or is out of its
            range, or the weights are another network's.
        DownloadError: published weights could not be fetched.
        StoredFileError: a file of weights cannot be read.
    """
    if weights is not None:
        return _with_weights(name, num_classes, weights, seed, options)
    if num_classes is not None:
        options["num_classes"] = num_classes
    checked = check_options(name, options)
    with nullcontext() if seed is None else seeded(seed, "initialisation"):
        model = CATALOG[name].create({option: value for option, value in checked.items() if option != "head"})
        model.model_name, model.model_options = name, checked
        if "head" in checked:
            _put_head(model, checked["head"], model.num_classes)
    return model


def _check_head(name: str, value: Any) -> dict[str, Any]:
    try:
        return HEAD_OPTIONS.validate_json(json.dumps(value)).model_dump(exclude_none=True)
    except (TypeError, ValidationError) as error:
        reason = "plain data"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'][1:])) or 'a kind'}: {first['msg']}"
        raise ModelError(
            f"{name} was given a head: {_listed(value)}",
            expected=reason,
            remedy='for example, in a recipe, [model.head] with kind = "dense", hidden = 256 and dropout = 0.5',
        ) from None


def _listed(value: Any) -> str:
    return ", ".join(f"{key} = {given!r}" for key, given in value.items()) if isinstance(value, dict) else repr(value)


def _with_weights(
    name: str, num_classes: int | None, weights: str | Path, seed: int | None, options: dict[str, Any]
) -> Network:
    check_options(name, options | ({} if num_classes is None else {"num_classes": num_classes}))
    is_published = isinstance(weights, str) and weights in WEIGHTS.get(name, {})
    path = fetch_weights(find_weights(name, str(weights))) if is_published or not is_file(weights) else Path(weights)
    given = read_weights(path)
    head = options.get("head")
    others = {option: value for option, value in options.items() if option != "head"}
    with torch.device("meta"):
        model = create_model(name, **others)
        if head is not None:
            whole = create_model(name, **options)
            if _head_shapes(whole.state_dict(), whole) == _head_shapes(
                given, whole
            ):  # the file has such a head already
                others, head, model = options, None, whole
        last = given.get(f"{model.last_name}.weight")
        if last is not None and last.dim() > 0 and len(last) not in (0, model.num_classes):
            model = create_model(name, num_classes=len(last), **others)
    fitted = fit_weights(given, model, path)
    model.to_empty(device="cpu").load_state_dict(fitted)
    with nullcontext() if seed is None else seeded(seed, "initialisation"):
        if head is not None:
            _put_head(model, head, num_classes or model.num_classes)
        elif num_classes not in (None, model.num_classes):
            model.replace_head(num_classes or 0)
    return model


def _head_shapes(weights: Mapping[str, Tensor], model: Network) -> dict[str, tuple[int, ...]]:
    """The shapes of a head's weights by name, whatever the number of classes."""
    found = {key: value for key, value in weights.items() if key.startswith(f"{model.head_name}.")}
    last = (f"{model.last_name}.weight", f"{model.last_name}.bias")
    return {key: tuple(value.shape[1:] if key in last else value.shape) for key, value in found.items()}


def _put_head(model: Network, options: Mapping[str, Any], num_classes: int) -> None:
    head = HEAD_OPTIONS.validate_python(options)
    put_head(model, head, num_classes)
    described = head.model_dump(exclude_none=True)
    model.model_options = {**model.model_options, "num_classes": num_classes, "head": described}


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; a name that cannot be one is none."""
    try:
        return Path(path).is_file()
    except OSError:
        return False
