"""Rules about what goes on inside a network: dead and saturated units, gradients that vanish, layers that stand."""

from __future__ import annotations

import numpy as np

from eyebright.doctor.diagnosis import Diagnosis
from eyebright.doctor.history import History, Values, moving
from eyebright.inspection.finding import listed
from eyebright.training.observe import PICTURES

DEAD_MAPS, DEAD_UNITS = 0.25, 0.5  # share of a layer's input channels, of convolutions and of dense layers
DEAD_FROM_FEW = 0.75  # where only the few pictures of `training.observe` were looked at
SATURATED = 0.8  # share of a bounded nonlinearity's answers
VANISHED = 1e-4  # of the gradients of the last third of the layers
EXPLODED = 1e4  # times those
FEW_FOR_BATCH_NORM, ALMOST_FEW = 4, 8  # pictures that are normalised together
DIFFERENT = 0.05  # accuracy in training minus in evaluation, of the same pictures


def dead_units(history: History) -> Diagnosis | None:
    """A quarter of a convolution's input channels, or half of a dense layer's, never change over 512 training pictures.

    The units before never answer. While it trains, where 64 pictures are looked at: three quarters.
    """
    if history.answers is not None:
        shares, count = history.answers.silent, history.answers.silent_count
        limits = {name: DEAD_MAPS if name in history.convolutions else DEAD_UNITS for name in shares}
    elif history.observations:
        shares = {x.name: x.inputs.silent for x in history.observations[-1].layers}
        count, limits = min(PICTURES, sum(history.counts["train"])), dict.fromkeys(shares, DEAD_FROM_FEW)
    else:
        return None
    if count < PICTURES:  # units that answer seldom would look dead
        return None
    first = next(iter(shares), None)  # its inputs are the pictures: see unused_input_channel
    dead = {name: share for name, share in shares.items() if name != first and share >= limits[name]}
    if not dead:
        return None
    worst = sorted(dead, key=lambda name: -dead[name])
    start = {x.name: x.inputs.silent for x in history.observations[0].layers} if history.observations else {}
    evidence = [
        f"{share:.0%} of what {name} is given is the same for all of {count} pictures"
        + (f"; after the first step {start[name]:.0%}" if name in start else "")
        for name, share in ((name, dead[name]) for name in worst[:3])
    ]
    if len(worst) > 3:
        evidence.append(f"so it is in {len(worst)} layers: {listed(worst, 5)}")
    return Diagnosis(
        "dead_units", "warning", "many units never answer", tuple(evidence),
        "a unit whose input to the ReLU is below 0 for every picture gets no gradient and stays dead: a step too long "
        "pushed it there, or its first bias",
        'lower the learning rate or warm it up; first biases of 0; model.nonlinearity="leaky_relu"; batch norm',
        _all_epochs(history),
    )  # fmt: skip


def unused_input_channel(history: History) -> Diagnosis | None:
    """A channel of the pictures is 0 at every place: the network has weights for what never comes (lecture: L3.1)."""
    if not history.observations or not (layers := history.observations[-1].layers):
        return None
    if layers[0].inputs.silent == 0:
        return None
    return Diagnosis(
        "unused_input_channel", "warning", "a channel of the pictures is never used",
        (f"{layers[0].inputs.silent:.0%} of the channels that {layers[0].name} is given are the same everywhere "
        "in all pictures looked at",),
        "grey pictures stored as one colour, or a channel that was masked away",
        "look at them: eyebright data; prepare.channels=1 where they are grey",
    )  # fmt: skip


def saturated_layers(history: History) -> Diagnosis | None:
    """A bounded nonlinearity is saturated, where gradients are near 0.

    Eight tenths of its answers lie beyond 95 % of its bound.
    """
    if not history.observations:
        return None
    last = history.observations[-1]
    found = {x.name: x.inputs.saturated for x in last.layers if (x.inputs.saturated or 0) > SATURATED}
    if not found:
        return None
    return Diagnosis(
        "saturated_layers", "warning", "a nonlinearity is saturated: hardly a gradient passes through",
        tuple(f"{share:.0%} of the answers before {name} lie beyond 95 % of it" for name, share in found.items()),
        "weights grew, or began too large, so sums lie where the curve is flat",
        'smaller first weights (model.initialisation="xavier"), batch norm, a lower rate, or model.nonlinearity="relu"',
        (last.epoch, last.epoch),
    )  # fmt: skip


def vanishing_gradients(history: History) -> Diagnosis | None:
    """Gradients become small on their way to the first layers.

    In most observations the weakest gradient among the first third of the layers, in lengths of their weights, is
    below a ten-thousandth of the strongest among the last third.
    """
    ratios = _gradient_ratios(history)
    if ratios is None or np.median(ratios) >= VANISHED:
        return None
    return Diagnosis(
        "vanishing_gradients", "warning", "gradients vanish on their way to the first layers",
        (f"in lengths of the weights, the first layers' are {np.median(ratios):.2g} of the last layers'",),
        "each layer on the way makes the gradient smaller: saturated nonlinearities, small first weights, depth",
        'batch norm (model.normalisation="batch"), model.initialisation="he", shortcuts (a ResNet), or fewer layers',
        _all_epochs(history),
    )  # fmt: skip


def exploding_gradients(history: History) -> Diagnosis | None:
    """Gradients become large on their way to the first layers.

    In most observations the strongest gradient among the first third of the layers, in lengths of their weights, is
    more than ten thousand times the weakest among the last third.
    """
    ratios = _gradient_ratios(history, strongest=True)
    if ratios is None or np.median(ratios) <= EXPLODED:
        return None
    return Diagnosis(
        "exploding_gradients", "warning", "gradients explode on their way to the first layers",
        (f"in lengths of the weights, the first layers' are {np.median(ratios):.2g} times the last layers'",),
        "each layer on the way makes the gradient larger: first weights that are too large, depth without "
        "normalisation",
        'batch norm (model.normalisation="batch"), model.initialisation="he", training.clip_norm=1.0',
        _all_epochs(history),
    )  # fmt: skip


def layers_stand_still(history: History) -> Diagnosis | None:
    """Layers with fresh weights get no gradient, or no step that was seen moved them, while others moved.

    Layers that the network itself holds still, as `airbench` its whitening, do not count.
    """
    if len(history.observations) < 2 or history.recipe.model.weights is not None:
        return None
    seen = [observation.layers for observation in history.observations]
    moved = {layer.name for layers in seen for layer in layers if layer.update_norm > 0}
    held = {name for name, layer in history.layers.items() if not all(x.requires_grad for x in layer.parameters())}
    still = [layer.name for layer in seen[-1] if layer.name not in moved | held]
    if not still or not moved:
        return None
    frozen = {layer.name for layer in seen[-1]} - {layer.name for layer in moving(seen[-1])}
    why = "they are frozen" if set(still) <= frozen else "no gradient reaches them, or all of it is 0"
    return Diagnosis(
        "layers_stand_still", "warning", f"{len(still)} of {len(seen[-1])} layers never moved",
        (f"{listed(still, 5)}: in {len(seen)} steps that were seen, weights with random first values did not change",
         why),
        "what stands on random features learns less than what learns its own; freezing is for weights that have learnt",
        "let them be trained, or begin with published weights: --weights imagenet",
        _all_epochs(history),
    )  # fmt: skip


def few_for_batch_norm(history: History) -> Diagnosis | None:
    """Batch norm over at most four pictures at once.

    Or over at most eight, where the network answers the same augmented pictures 5 points worse in evaluation, by its
    running averages, than in training.
    """
    together = history.pictures_at_once
    if together > ALMOST_FEW or not history.has_batch_norm:
        return None
    evidence = [f"{together} pictures are normalised together"]
    if history.recipe.training.accumulate > 1:
        evidence[0] += (
            f": a batch of {history.recipe.training.batch_size} in {history.recipe.training.accumulate} pieces"
        )
    answers = history.answers
    differs = False
    if answers is not None and answers.train_accuracy is not None and history.epochs:
        evaluated = answers.train_accuracy if answers.augmented_accuracy is None else answers.augmented_accuracy
        met = float(history.train_accuracy.max())
        differs = met - evaluated > DIFFERENT
        evidence.append(f"training pictures: {met:.1%} right while training, {evaluated:.1%} by running averages")
    if together > FEW_FOR_BATCH_NORM and not differs:
        return None
    return Diagnosis(
        "few_for_batch_norm", "warning", "the batch is too small for batch norm", tuple(evidence),
        "mean and variance of so few pictures are mostly chance, and not what the running averages hold in evaluation",
        'training.batch_size=32 or more, or a normalisation without the batch: model.normalisation="group"',
        _all_epochs(history),
    )  # fmt: skip


def _gradient_ratios(history: History, strongest: bool = False) -> Values | None:
    """Of each observation the gradients of the first layers by those of the last, both in lengths of their weights."""
    found = []
    for seen in history.observations:
        layers = moving(seen.layers)
        rows = [(x.gradient_norm or 0.0) / x.weight_norm for x in layers if x.weight_norm]
        if len(rows) < 6:
            return None
        third = len(rows) // 3
        first, last = rows[:third], rows[-third:]
        one, other = (max(first), min(last)) if strongest else (min(first), max(last))
        if other > 0:
            found.append(one / other)
    return np.array(found) if found else None


def _all_epochs(history: History) -> tuple[int, int] | None:
    return (1, len(history.epochs)) if history.epochs else None
