import numpy as np
import pytest
import torch
from torch.nn import functional

from eyebright.errors import RecipeError
from eyebright.training.loss import class_weights, make_loss, mixture_loss
from eyebright.training.recipe import TrainingSection

LABELS = np.array([0, 0, 0, 1, 2, 2])
CLASSES = ("a", "b", "c")


def training(**values):
    return TrainingSection(epochs=2, learning_rate=0.1, **values)


@pytest.fixture
def logits():
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_cross_entropy_sums_to_torchs_mean(logits):
    loss = make_loss(training(label_smoothing=0.1), torch.ones(3, dtype=torch.float64))
    labels = torch.from_numpy(LABELS)
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert loss(logits, labels) / 6 == pytest.approx(float(expected))


def test_nll_on_log_softmax_is_cross_entropy(logits):
    weights, labels = torch.ones(3, dtype=torch.float64), torch.from_numpy(LABELS)
    one = make_loss(training(loss="nll"), weights)(logits, labels)
    other = make_loss(training(), weights)(logits, labels)
    assert float(one) == pytest.approx(float(other))


def test_one_sigmoid_output_is_two_softmax_outputs(logits):
    weights, labels = torch.tensor([0.5, 2.0], dtype=torch.float64), torch.from_numpy(LABELS).clamp(max=1)
    single = logits[:, :1]
    both = torch.cat([torch.zeros_like(single), single], dim=1)
    one = make_loss(training(loss="binary_cross_entropy"), weights)(single, labels)
    other = make_loss(training(), weights)(both, labels)
    assert float(one) == pytest.approx(float(other))


def test_balanced_weights_give_every_class_the_same_say():
    weights = class_weights(training(class_weights="balanced"), LABELS, CLASSES)
    assert (weights.numpy() * np.bincount(LABELS)).tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_given_weights_keep_their_proportions_and_a_mean_of_one():
    weights = class_weights(training(class_weights=(1, 2, 3)), LABELS, CLASSES).numpy()
    assert weights[LABELS].mean() == pytest.approx(1)
    assert (weights / weights[0]).tolist() == pytest.approx([1, 2, 3])


def test_a_wrong_number_of_weights_is_refused():
    with pytest.raises(RecipeError, match="class_weights has 2 numbers"):
        class_weights(training(class_weights=(1, 2)), LABELS, CLASSES)


PARTNERS = np.array([2, 0, 1, 2, 0, 0])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_cross_entropy_of_a_mixture_is_that_against_mixed_labels(logits, share, smoothing, weighted):
    weights = torch.tensor([0.5, 2.0, 1.0] if weighted else [1.0, 1.0, 1.0], dtype=torch.float64)
    labels, partners = torch.from_numpy(LABELS), torch.from_numpy(PARTNERS)
    loss = mixture_loss(make_loss(training(label_smoothing=smoothing), weights), logits, labels, partners, share)
    mixed = share * functional.one_hot(labels, 3) + (1 - share) * functional.one_hot(partners, 3)
    expected = functional.cross_entropy(logits, mixed, weights, reduction="sum", label_smoothing=smoothing)
    assert float(loss) == pytest.approx(float(expected))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_one_sigmoid_output_of_a_mixture_is_that_against_a_mixed_target(logits, share):
    labels, partners = torch.from_numpy(LABELS).clamp(max=1), torch.from_numpy(PARTNERS).clamp(max=1)
    loss = make_loss(training(loss="binary_cross_entropy"), torch.ones(2, dtype=torch.float64))
    mixed = share * labels + (1 - share) * partners
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], mixed.double(), reduction="sum")
    assert float(mixture_loss(loss, logits[:, :1], labels, partners, share)) == pytest.approx(float(expected))
