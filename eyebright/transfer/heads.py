"""Heads that are trained on embeddings, in seconds: linear, dense, nearest neighbours, prototypes (lecture: L3.8).

Source:
    prototypes: Snell, Swersky, Zemel: Prototypical Networks for Few-shot Learning, arXiv 1703.05175, §2.4; neighbours:
    see `layers.heads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from eyebright.data.cuts import cut_off, make_folds
from eyebright.data.images import blank_pictures
from eyebright.data.labels import Labels, class_counts, is_multi_label
from eyebright.errors import DataError
from eyebright.layers.heads import Neighbours
from eyebright.random import generator, seeded
from eyebright.training.loss import picture_losses

Kind = Literal["prototypes", "neighbours", "linear", "dense"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SETTINGS: dict[Kind, tuple[float, ...]] = {  # what is chosen by validation
    "prototypes": (10.0, 3.0, 1.0, 0.3, 0.1),  # by which distances are multiplied
    "neighbours": (1, 3, 5, 9, 15, 25),  # how many vote
    "linear": (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001),  # pull of the weights towards 0
    "dense": (0.5,),  # dropout, the lecture's
}
FOLDS = 5  # within the training pictures, by which a setting is chosen
MANY = 4000  # examples, from which on a fifth of them is enough for that
HIDDEN = 256  # width of the dense head, the lecture's
DENSE_STEPS, DENSE_BATCH, DENSE_RATE = 600, 32, 1e-3  # Adam
NEVER = -1e4  # logit of a class without examples
AT_ONCE = 1024  # rows that a head answers: nearest neighbours compare each with all that they were given
FAINT = 1e-3  # of the mean deviation: no feature is scaled up by more than this says

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Embeddings and what they are of.

    Attributes:
        values: float32 `[N, D]`.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several.
        classes: class names in order.
        groups: what each is of: several views of one picture, or pictures of one thing; they stay on one side of a cut.
        single_output: whether two classes have one output, the logit of the second.
    """

    values: Values
    labels: Labels
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    single_output: bool = False

    def select(self, indices: NDArray[np.int64]) -> Examples:
        """Those at these indices."""
        groups = None if self.groups is None else tuple(self.groups[i] for i in indices.tolist())
        return Examples(self.values[indices], self.labels[indices], self.classes, groups, self.single_output)

    @property
    def outputs(self) -> int:
        """Logits of a head for them."""
        return 1 if self.single_output else len(self.classes)


def choose_head(kind: Kind, examples: Examples, seed: int = 0) -> tuple[nn.Module, float]:
    """Trains a head, with its setting chosen by the loss on folds of these very examples.

    Args:
        kind: of the head.
        examples: to learn from.
        seed: of the cuts, of first weights, order and dropout.

    Returns:
        The head, embeddings float32 `[N, D]` → logits `[N, outputs]`; and its setting.
    """
    settings = SETTINGS[kind]
    if len(settings) > 1 and (cuts := _cuts(examples, seed)):
        losses = np.zeros(len(settings))
        for kept, held_out in cuts:
            judged = examples.select(held_out)
            for place, head in enumerate(fit_heads(kind, examples.select(kept), settings, seed)):
                losses[place] += mean_loss(head, judged) * len(judged.labels)
        settings = (settings[int(losses.argmin())],)
    else:
        settings = (settings[len(settings) // 2],)
    (head,) = fit_heads(kind, examples, settings, seed)
    return head, settings[0]


def fit_heads(kind: Kind, examples: Examples, settings: Sequence[float], seed: int = 0) -> Iterator[nn.Module]:
    """Trains a head with each of several settings.

    Args:
        kind: of the head.
        examples: to learn from.
        settings: see `SETTINGS`.
        seed: of first weights, order and dropout.
    """
    x, labels = torch.from_numpy(examples.values), torch.from_numpy(np.array(examples.labels))
    if kind == "dense":
        yield from (_fit_dense(x, labels, examples.outputs, dropout, seed) for dropout in settings)
        return
    mean, scale = _scaling(x)
    match kind:
        case "linear":
            yield from _fit_linear(x, labels, examples.outputs, settings, mean, scale)
        case "prototypes":
            yield from (_as_prototypes(x, labels, examples.outputs, s, mean, scale) for s in settings)
        case "neighbours":
            for nearest in settings:
                head = Neighbours(x.shape[1], examples.outputs, len(x), int(nearest))
                head.load_state_dict({"embeddings": (x - mean) * scale, "labels": labels, "mean": mean, "scale": scale})
                yield head


@torch.inference_mode()
def answer(head: nn.Module, values: Values) -> Values:
    """A head's logits, float32 `[N, outputs]`, of embeddings."""
    head.eval()
    logits: Values = torch.cat([head(rows).float() for rows in torch.split(torch.from_numpy(values), AT_ONCE)]).numpy()
    return logits


def mean_loss(head: nn.Module, examples: Examples) -> float:
    """Mean cross-entropy of a head on examples, in nats; of several labels the mean over them."""
    logits = torch.from_numpy(answer(head, examples.values)).double()
    return float(picture_losses(logits, torch.from_numpy(np.array(examples.labels))).mean())


def _cuts(examples: Examples, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(what is learned from, what is judged): the cuts by which a setting is chosen; none where there are too few."""
    count = len(examples.labels)
    pictures = blank_pictures(examples.labels, examples.classes, examples.groups)
    folds = min(FOLDS, count_fewest(examples.labels, len(examples.classes), examples.groups))
    with suppress(DataError):  # rare labels, or groups that hold too much
        if folds > 1 and count >= MANY:
            return [cut_off(pictures, 1 / FOLDS, seed, "validation")]
        return make_folds(pictures, folds, seed) if folds > 1 else []
    return []


def count_fewest(labels: Labels, classes: int, groups: tuple[str, ...] | None) -> int:
    """Pictures, or groups of pictures, of the class that has fewest."""
    if groups is None or is_multi_label(labels):
        return int(class_counts(labels, classes).min())
    pairs = set(zip(groups, labels.tolist(), strict=True))
    return int(np.bincount([label for _, label in pairs], minlength=classes).min())


def fitting_kinds(labels: Labels, single_output: bool) -> tuple[Kind, ...]:
    """Heads that can be trained on such labels."""
    return ("linear", "dense") if is_multi_label(labels) or single_output else KINDS


def _scaling(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and one by deviation of each feature, float32 `[D]`."""
    deviation = x.double().std(dim=0, correction=0)
    least = FAINT * float(deviation.mean()) or 1.0
    return x.double().mean(dim=0).float(), (1 / deviation.clamp_min(least)).float()


def _fit_linear(
    x: Tensor, labels: Tensor, outputs: int, decays: Sequence[float], mean: Tensor, scale: Tensor
) -> Iterator[nn.Linear]:
    """Logistic regression: mean loss + decay/2 · |weights|², of scaled features, by L-BFGS in float64.

    The strongest pull comes first, and each solution is where the next search begins.
    """
    scaled = (x.double() - mean) * scale
    weight = torch.zeros(outputs, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    found = {}
    for decay in sorted(decays, reverse=True):
        search = torch.optim.LBFGS(
            [weight, bias], max_iter=200, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
        )

        def evaluate(decay: float = decay, search: torch.optim.LBFGS = search) -> Tensor:
            search.zero_grad()
            loss = (
                picture_losses(functional.linear(scaled, weight, bias), labels).mean()
                + decay / 2 * weight.square().sum()
            )
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        search.step(evaluate)  # type: ignore[no-untyped-call]
        found[decay] = _unscaled(weight.detach(), bias.detach(), mean, scale)
    yield from (found[decay] for decay in decays)


def _as_prototypes(x: Tensor, labels: Tensor, outputs: int, sharpness: float, mean: Tensor, scale: Tensor) -> nn.Linear:
    """The nearest class mean by squared Euclidean distance per feature; such logits are linear in the embedding."""
    scaled = (x.double() - mean) * scale
    means = torch.stack([scaled[labels == label].mean(dim=0) for label in range(outputs)])
    factor = sharpness / x.shape[1] ** 0.5
    biases = (-factor * means.square().sum(dim=1) / 2).nan_to_num(nan=NEVER)
    return _unscaled(factor * means.nan_to_num(), biases, mean, scale)


def _unscaled(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> nn.Linear:
    """A layer on scaled features as one on the features themselves."""
    head = nn.Linear(weight.shape[1], weight.shape[0])
    own = weight * scale
    with torch.no_grad():
        head.weight.copy_(own)
        head.bias.copy_(bias - own @ mean.double())
    return head


def _fit_dense(x: Tensor, labels: Tensor, outputs: int, dropout: float, seed: int) -> nn.Sequential:
    """Dense, ReLU, dropout, dense; by Adam."""
    x = x.flatten(1)
    with seeded(seed, "initialisation"):
        layers = nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, outputs)
    head = nn.Sequential(nn.Flatten(), *layers)
    search = torch.optim.Adam(head.parameters(), lr=DENSE_RATE, fused=True)
    order = generator(seed, "order")
    for step in range(DENSE_STEPS):
        chosen = torch.randint(len(x), (min(DENSE_BATCH, len(x)),), generator=order)
        with seeded(seed, "dropout", step):
            loss = picture_losses(head(x[chosen]), labels[chosen]).mean()
        search.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        search.step()
    return head.eval()
