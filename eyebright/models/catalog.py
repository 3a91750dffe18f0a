"""Every network by name: what it is, where it comes from, what can be set, and how it is built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from eyebright.errors import ModelError, did_you_mean
from eyebright.layers.network import Network
from eyebright.models import resnet_cifar
from eyebright.models.alexnet import alexnet, alexnet_2012
from eyebright.models.cnn import cnn_cifar, cnn_mnist, cnn_recitation
from eyebright.models.lenet import lenet5
from eyebright.random import seeded


@dataclass(frozen=True)
class Entry:
    """One network of the catalog.

    Attributes:
        builder: the function that builds it; its keyword arguments are the options.
        summary: what it is, in one sentence.
        year: when it was published; None for a network of our own.
        paper: authors, title, where published; None for a network of our own.
    """

    builder: Callable[..., Network]
    summary: str
    year: int | None = None
    paper: str | None = None

    @property
    def name(self) -> str:
        """The name by which the catalog finds it: the builder's."""
        return self.builder.__name__

    @property
    def network(self) -> type[Network]:
        """The class that the builder returns."""
        network: type[Network] = get_type_hints(self.builder)["return"]
        return network

    @property
    def options(self) -> dict[str, Any]:
        """Every option with its default."""
        return {name: option.default for name, option in inspect.signature(self.builder).parameters.items()}

    @property
    def default_input(self) -> int:
        """Height and width, in pixels, of the pictures it was designed for."""
        return self.network.default_input

    @property
    def in_channels(self) -> int:
        """Channels of the pictures it was designed for: 1 grey, 3 colour."""
        channels: int = self.options["in_channels"]
        return channels


_LENET = "LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"
_ONE_TOWER = "Krizhevsky: One Weird Trick for Parallelizing Convolutional Neural Networks, arXiv 1404.5997"
_ALEXNET = "Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012"
_RESNET = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385"

_RESNETS_CIFAR = (
    resnet_cifar.resnet20_cifar,
    resnet_cifar.resnet32_cifar,
    resnet_cifar.resnet44_cifar,
    resnet_cifar.resnet56_cifar,
    resnet_cifar.resnet110_cifar,
)
_PLAINS_CIFAR = (
    resnet_cifar.plain20_cifar,
    resnet_cifar.plain32_cifar,
    resnet_cifar.plain44_cifar,
    resnet_cifar.plain56_cifar,
    resnet_cifar.plain110_cifar,
)

_ENTRIES = (
    Entry(lenet5, "Two convolutions and three dense layers for digits, as it is built today.", 1998, _LENET),
    Entry(
        alexnet, "Five convolutions and three dense layers in one tower: what libraries call AlexNet.", 2014, _ONE_TOWER
    ),
    Entry(alexnet_2012, "The original AlexNet: two halves, local response normalisation.", 2012, _ALEXNET),
    Entry(cnn_cifar, "A small net with batch norm, leaky ReLU and dropout that trains in minutes on a CPU."),
    Entry(cnn_mnist, "A small net with batch norm and dropout for digits."),
    Entry(cnn_recitation, "A first net of one's own: two small convolutions and a dense layer, for two classes."),
    *(
        Entry(builder, "A residual network for 32×32 pictures, with zero-padding shortcuts.", 2015, _RESNET)
        for builder in _RESNETS_CIFAR
    ),
    *(
        Entry(builder, "The residual network for 32×32 pictures with its shortcuts taken out.", 2015, _RESNET)
        for builder in _PLAINS_CIFAR
    ),
)

CATALOG: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def list_models() -> list[str]:
    """The names of all networks, in the catalog's order."""
    return list(CATALOG)


def find_entry(name: str) -> Entry:
    """The catalog's entry of that name.

    Raises:
        ModelError: no network has this name; the error names the nearest one.
    """
    if name not in CATALOG:
        raise ModelError(
            f"there is no network '{name}'",
            expected=f"one of {', '.join(CATALOG)}",
            remedy=did_you_mean(name, CATALOG) or "choose one of these names",
        )
    return CATALOG[name]


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a network, those given checked against its builder's signature, the others at their defaults.

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
    types = get_type_hints(entry.builder, include_extras=True)
    for option, value in options.items():
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
            wrong = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "Input should be plain data"
            raise ModelError(
                f"{name} was given {option} = {value!r}",
                expected=wrong.replace("Input should be", f"{option} to be"),
                remedy=f"set it to such a value, or leave it out for {entry.options[option]!r}",
            ) from None
    return checked


def create_model(name: str, *, num_classes: int | None = None, seed: int | None = None, **options: Any) -> Network:
    """A freshly initialised network.

    It remembers how it was built: ``create_model(model.model_name, **model.model_options)`` builds the same again.

    Args:
        name: a name of the catalog, see `list_models`.
        num_classes: how many logits come out; by default as many as the network was published with.
        seed: the same seed gives the same weights, bit for bit, and leaves torch's global generators untouched; without
            one, the weights come from the global generator.
        options: `in_channels` and the network's own options.

    Raises:
        ModelError: the network or an option is unknown, or a value has the wrong type or is out of its range.
    """
    if num_classes is not None:
        options["num_classes"] = num_classes
    checked = check_options(name, options)
    with nullcontext() if seed is None else seeded(seed, "initialisation"):
        model = CATALOG[name].builder(**checked)
    model.model_name, model.model_options = name, checked
    return model
