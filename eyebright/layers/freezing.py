"""Freezing: which layers of a network are trained, and which stay as they are (lecture: L3.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from eyebright.errors import ModelError, did_you_mean
from eyebright.layers.network import Network
from eyebright.layers.norm import InstanceNorm

NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, InstanceNorm)
SLICE = re.compile(r"\[(-?\d*):(-?\d*)\]")


def find_frozen(model: Network, patterns: Sequence[str]) -> tuple[str, ...]:
    """The modules that patterns freeze, of those that hold weights or statistics of their own.

    Each pattern freezes more, or with ``!`` before it frees again, in turn. It is one of:

    - the name of a stage, or the state-dict prefix of a module: everything in it; ``"head"`` is what stands in the
      place of the last dense layer,
    - a glob over state-dict prefixes, such as ``"*"`` or ``"layer[12].*.bn?"``,
    - ``"norms"``: every normalisation that has weights or statistics,
    - positions among the layers, ``"[:10]"`` the first ten, ``"[-3:]"`` the last three: see `list_layers`.

    Args:
        model: whose modules.
        patterns: ``["*", "!head"]`` freezes all but the head.

    Returns:
        State-dict prefixes, in the order of the network.

    Raises:
        ModelError: a pattern names nothing in this network.
    """
    frozen: set[str] = set()
    for pattern in patterns:
        freed = pattern.startswith("!")
        named = _match(model, pattern.removeprefix("!"))
        frozen = frozen - named if freed else frozen | named
    return tuple(name for name in _holders(model) if name in frozen)


def list_norms(model: Network) -> list[str]:
    """State-dict prefixes of the normalisations that have weights or statistics."""
    return [name for name, module in _holders(model).items() if isinstance(module, NORMS)]


def list_layers(model: Network) -> list[tuple[str, ...]]:
    """The layers by position: each convolution or dense layer with what has weights or statistics after it.

    The head is not among them, nor are auxiliary heads: ``"[-3:]"`` are the three before it.
    """
    heads = (model.standing_head, *model.auxiliary_heads().values())
    apart = {id(module) for head in heads for module in head.modules()}
    layers: list[list[str]] = []
    for name, module in model.named_modules():
        if id(module) in apart or not _holds(module):
            continue
        if isinstance(module, nn.Conv2d | nn.Linear) or not layers:
            layers.append([])
        layers[-1].append(name)
    return [tuple(layer) for layer in layers]


def freeze(model: Network, patterns: Sequence[str], moving: Sequence[str] = ()) -> tuple[str, ...]:
    """Freezes modules: their weights get no gradient, and their running statistics are used and kept, in training too.

    Args:
        model: is changed; what was frozen before and is not named stays frozen.
        patterns: see `find_frozen`.
        moving: patterns of modules whose running statistics go on moving although their weights are frozen.

    Returns:
        State-dict prefixes of what is frozen now by these patterns.

    Raises:
        ModelError: a pattern names nothing in this network; or nothing is left to be trained.
    """
    frozen = find_frozen(model, patterns)
    for name in frozen:
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            f"with {', '.join(patterns)} all of {model.model_name} is frozen",
            expected="something that is trained",
            remedy='free the last layer: "!head"',
        )
    free = set(find_frozen(model, moving))
    model.still = tuple(
        name
        for name in frozen
        if name not in free and any(True for _ in model.get_submodule(name).buffers(recurse=False))
    )
    model.train(model.training)
    return frozen


def _match(model: Network, pattern: str) -> set[str]:
    holders, stages = _holders(model), model.stages()
    if pattern == "norms":
        named = set(list_norms(model))
    elif positions := SLICE.fullmatch(pattern):
        begin, end = (int(number) if number else None for number in positions.groups())
        named = {name for layer in list_layers(model)[begin:end] for name in layer}
    elif pattern in stages or pattern == "head":
        modules = stages.get(pattern, (model.standing_head,))
        inside = {id(inner) for module in modules for inner in module.modules()}
        named = {name for name, module in holders.items() if id(module) in inside}
    else:
        named = {
            name for name in holders if name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)
        }
    if not named:
        known = [*stages, *(name for name, _ in model.named_modules() if name)]
        raise ModelError(
            f"'{pattern}' names nothing with weights in {model.model_name}",
            expected=f"a stage ({', '.join(stages)}), a state-dict prefix, a glob, norms, or positions such as [-3:]",
            remedy=did_you_mean(pattern, known) or f"see `eyebright models {model.model_name} --layers`",
        )
    return named


def _holders(model: Network) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if _holds(module)}


def _holds(module: nn.Module) -> bool:
    """Whether it has weights or statistics of its own."""
    return any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
