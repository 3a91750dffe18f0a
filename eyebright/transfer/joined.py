"""A network's body and a head that was trained on its embeddings, as one classifier."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from eyebright.classifier import Classifier
from eyebright.layers.heads import Neighbours
from eyebright.layers.network import Network, put_module


def join_head(backbone: Classifier, head: nn.Module, classes: tuple[str, ...], facts: dict[str, Any]) -> Classifier:
    """The classifier that answers as the head does on the backbone's embeddings.

    Args:
        backbone: is not changed; its Prepare goes with it.
        head: float `[N, D]` → logits `[N, outputs]`, as `transfer.heads` makes it.
        classes: of its outputs; two for a single output.
        facts: what travels with it.
    """
    model = copy.deepcopy(backbone.model)
    put_fitted(model, head)
    return Classifier(model, classes, backbone.prepare, facts, backbone.plan)


def put_fitted(model: Network, head: nn.Module) -> None:
    """Puts a fitted head into a network, whose options then build the same again.

    Args:
        model: is changed; its auxiliary heads go.
        head: see `join_head`; it is copied.
    """
    last = head[-1] if isinstance(head, nn.Sequential) else head
    options = {key: value for key, value in model.model_options.items() if key != "head"}
    options["num_classes"] = last.out_features
    if (described := _describe(head, model)) is not None:
        before = model.model_options.get("head") or {}
        options["head"] = described | {name: before[name] for name in ("maps", "input_size") if name in before}
    put_module(model, model.head_name, copy.deepcopy(head))
    model.model_options = options
    model.remove_auxiliary_heads()


def _describe(head: nn.Module, model: Network) -> dict[str, Any] | None:
    """The options that build such a head; None where it is what the network has of its own."""
    if isinstance(head, Neighbours):
        return {"kind": "neighbours", "pictures": len(head.embeddings), "nearest": head.nearest}
    if isinstance(head, nn.Sequential):
        (dropout,) = (layer.p for layer in head if isinstance(layer, nn.Dropout))
        hidden = next(layer.out_features for layer in head if isinstance(layer, nn.Linear))
        return {"kind": "dense", "hidden": hidden, "dropout": dropout}
    own = model.standing_head
    plain = type(own) is nn.Linear and "bias" in own.state_dict() and "head" not in model.model_options
    return None if plain else {"kind": "linear"}
