"""Training a head alone, on what the frozen network before it makes of each picture: that is computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eyebright.classifier import Classifier, two_logits
from eyebright.data.images import Images, Pictures
from eyebright.data.prepare import Prepare
from eyebright.device import Plan, choose_plan
from eyebright.errors import RecipeError
from eyebright.evaluation.embeddings import Embedder
from eyebright.evaluation.evaluate import Evaluation
from eyebright.evaluation.multi_label import AnyEvaluation, MultiLabelEvaluation
from eyebright.layers.network import Network


@dataclass(frozen=True, eq=False)
class Embedded:
    """What a head is given of each picture.

    Attributes:
        train: float32 `[N, D]`, on the device.
        val: of the validation part; None without.
        stand_in: pictures of one pixel with the training part's labels and names, which a loader brings into order.
        prepare: theirs.
    """

    train: Tensor
    val: Tensor | None
    stand_in: Images
    prepare: Prepare

    def validate(self, model: Network, val: Pictures, facts: dict[str, Any], plan: Plan) -> AnyEvaluation:
        """What the model's head answers to the validation part."""
        assert self.val is not None
        with torch.inference_mode(), plan.arithmetic():
            logits = two_logits(model.eval().standing_head(self.val).float()).cpu().numpy()
        kind = MultiLabelEvaluation if facts.get("multi_label") else Evaluation
        return kind(logits, val.labels, val.classes)


def embed_parts(
    classifier: Classifier, train: Pictures, val: Pictures | None, on_picture: Callable[[], object] | None = None
) -> Embedded:
    """Embeds training and validation part; what is in the cache is taken from there.

    Args:
        classifier: the network to be trained, with its Prepare and plan.
        train: pictures.
        val: pictures.
        on_picture: called for each, for a progress bar.

    Raises:
        RecipeError: not all of the network before its head is frozen.
        PictureError: a picture cannot be decoded.
    """
    model, plan = classifier.model, classifier.plan
    heads = {id(parameter) for parameter in model.standing_head.parameters()}
    if others := [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in heads]:
        raise RecipeError(
            f"embeddings of {model.model_name}, of which {', '.join(others[:3])} would change in training",
            expected="a network that is frozen but for its head, so that each picture need be seen but once",
            remedy='set training.freeze = ["*", "!head"]',
        )
    seeing = choose_plan(plan.device, plan.number_format, training=False)
    embedder = Embedder(Classifier(model, classifier.classes, classifier.prepare, dict(classifier.facts), seeing))

    def embed(pictures: Pictures) -> Tensor:
        return torch.from_numpy(embedder(pictures, on_picture=on_picture)).to(plan.device)

    channels = classifier.prepare.channels
    names = tuple(train.name(index) for index in range(len(train)))
    stand_in = Images(np.zeros((len(train), 1, 1, channels), dtype=np.uint8), train.labels, train.classes, names)
    embedded_val = embed(val) if val is not None else None
    return Embedded(embed(train), embedded_val, stand_in, Prepare(channels=channels))
