"""Histories made by hand, for the rules' tests: a healthy one, and what to change in it."""

import numpy as np

from eyebright.doctor.answers import Answers
from eyebright.doctor.history import History
from eyebright.training.observe import InputState, LayerState, Observation
from eyebright.training.recipe import make_recipe

CLASSES = tuple("abcdefghij")
LAYERS = ("conv1", "conv2", "conv3", "fc1", "fc2", "fc3")
INPUTS = InputState(0.0, 1.0, (-1.6, -0.7, 0.0, 0.7, 1.6), 0.0, None)


def recipe_of(model=None, augment=None, **training):
    return make_recipe(
        {
            "model": {"name": "lenet5"} | (model or {}),
            "augment": augment or {},
            "training": {"epochs": 12, "learning_rate": 0.01, "batch_size": 100} | training,
        }
    )


def epochs_of(train_loss, train_accuracy, val_loss=None, val_accuracy=None, learning_rate=0.01):
    count = len(train_loss)
    rates = [learning_rate] * count if np.isscalar(learning_rate) else learning_rate
    nothing = [None] * count
    rows = zip(train_loss, train_accuracy, val_loss or nothing, val_accuracy or nothing, rates, strict=True)
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")
    lines = [dict(zip(names, row, strict=True)) for row in rows]
    plain = [{name: value if value is None else float(value) for name, value in line.items()} for line in lines]
    return [{"epoch": epoch, "step": 40 * epoch} | line for epoch, line in enumerate(plain, 1)]


def steps_of(epochs, noise=0.05, profile=None, seed=0):
    """40 steps an epoch about its training loss."""
    random = np.random.default_rng(seed)
    steps = []
    for line in epochs:
        about = line["train_loss"] * (1 + noise * random.standard_normal(40))
        about = about if profile is None else about + profile
        steps += [{"epoch": line["epoch"], "loss": float(loss)} for loss in about]
    return [{"step": number} | line for number, line in enumerate(steps, 1)]


def observation_of(step, ratio=0.005, norm=1.0, gradient=0.1, **layers):
    """All layers alike, but for what is said of some: ``conv1={"update_norm": 0.0}``."""
    states = []
    for name in LAYERS:
        values = {"weight_norm": norm, "gradient_norm": gradient, "update_norm": ratio * norm, "inputs": INPUTS}
        states.append(LayerState(name, **values | layers.get(name, {})))
    return Observation(step, (step - 1) // 40 + 1, tuple(states))


def answers_of(accuracy=0.9, count=1000, seed=0, **changes):
    """Validation answered right so often, the surest answers first; wrong ones have the label as their second guess."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    sure = np.linspace(0.99, 0.4, count)
    right = np.arange(count) < accuracy * count
    second = (labels + 1 + random.integers(0, 9, count)) % 10
    shares = np.full((count, 10), 0.0)
    rest = (1 - sure) / 10
    shares += rest[:, None]
    best, next_best = np.where(right, labels, second), np.where(right, second, labels)
    shares[np.arange(count), best] = sure
    shares[np.arange(count), next_best] = 2 * rest
    shares /= shares.sum(axis=1, keepdims=True)
    order = random.permutation(count)
    values = {
        "val_probabilities": shares[order],
        "val_labels": labels[order],
        "train_accuracy": accuracy,
        "augmented_accuracy": None,
        "train_count": 2000,
        "silent": dict.fromkeys(LAYERS, 0.0),
        "silent_count": 512,
        "baseline_accuracy": 0.4,
        "baseline_count": 2000,
        "copies": (),
        "turned": (),
    }
    return Answers(**values | changes)


def history_of(epochs=None, **changes):
    """A healthy run of 4,000 training and 1,000 validation pictures."""
    fall = np.linspace(1, 0, 12) ** 2
    epochs = epochs or epochs_of(0.15 + 1.5 * fall, 0.95 - 0.5 * fall, list(0.3 + 1.4 * fall), list(0.9 - 0.5 * fall))
    values = {
        "recipe": recipe_of(),
        "classes": CLASSES,
        "counts": {"train": [400] * 10, "val": [100] * 10, "test": [100] * 10},
        "epochs": epochs,
        "steps": steps_of(epochs),
        "observations": [observation_of(1 + 80 * number) for number in range(6)],
        "finished": True,
        "openings": ({"time": "2026-11-21T10:00:00+00:00", "purpose": "report"},),
        "shared": {},
        "answers": answers_of(),
    }
    return History(**values | changes)
