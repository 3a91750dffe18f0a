"""A network's body and a head that was trained on its embeddings, as one classifier."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from eyebright.classifier import Classifier
from eyebright.layers.heads import Neighbours
from eyebright.layers.network import put_module


def join_head(backbone: Classifier, head: nn.Module, classes: tuple[str, ...], facts: dict[str, Any]) -> Classifier:
    """The classifier that answers as the head does on the backbone's embeddings.

    Args:
        backbone: is not changed; its Prepare goes with it.
        head: float `[N, D]` → logits `[N, outputs]`, as `transfer.heads` makes it.
        classes: of its outputs; two for a single output.
        facts: what travels with it.
    """
    model = copy.deepcopy(backbone.model)
    last = head[-1] if isinstance(head, nn.Sequential) else head
    options = {key: value for key, value in model.model_options.items() if key != "head"}
    options["num_classes"] = last.out_features
    if isinstance(head, Neighbours):
        options["head"] = {"kind": "neighbours", "pictures": len(head.embeddings), "nearest": head.nearest}
    elif isinstance(head, nn.Sequential):
        (dropout,) = (layer.p for layer in head if isinstance(layer, nn.Dropout))
        hidden = next(layer.out_features for layer in head if isinstance(layer, nn.Linear))
        options["head"] = {"kind": "dense", "hidden": hidden, "dropout": dropout, "maps": False, "input_size": None}
    put_module(model, model.head_name, copy.deepcopy(head))
    model.model_options = options
    model.remove_auxiliary_heads()
    return Classifier(model, classes, backbone.prepare, facts, backbone.plan)
