import numpy as np
import pytest
import torch
from torch.nn import functional

from eyebright.errors import RecipeError
from eyebright.training.loss import (
    class_weights,
    count_outputs,
    count_right,
    make_loss,
    mixture_loss,
    picture_losses,
    total_weight,
)
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


SEVERAL = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]])


def test_with_several_labels_the_loss_is_the_mean_of_a_question_each(logits):
    loss = make_loss(training(loss="binary_cross_entropy"), torch.ones(3, dtype=torch.float64))
    labels = torch.from_numpy(SEVERAL)
    share = logits.sigmoid()
    twin = (
        -sum(float((share[n, k] if SEVERAL[n, k] else 1 - share[n, k]).log()) for n in range(6) for k in range(3)) / 18
    )
    assert float(loss(logits, labels) / total_weight(torch.ones(3), labels)) == pytest.approx(twin)
    pieces = sum(loss(a, b) for a, b in zip(logits.chunk(3), labels.chunk(3), strict=True))
    assert float(pieces) == pytest.approx(float(loss(logits, labels)))


def test_a_batch_weighs_as_much_as_its_pictures():
    weights = torch.tensor([1.0, 2.0, 4.0])
    assert float(total_weight(weights, torch.from_numpy(LABELS))) == 13
    assert float(total_weight(weights, torch.from_numpy(SEVERAL))) == 6


def test_a_picture_is_right_when_all_its_labels_are(logits):
    right = sum(all((logits[n, k] >= 0) == bool(SEVERAL[n, k]) for k in range(3)) for n in range(6))
    assert int(count_right(logits, torch.from_numpy(SEVERAL))) == right
    sure = torch.from_numpy(SEVERAL * 2.0 - 1)
    assert int(count_right(sure, torch.from_numpy(SEVERAL))) == 6
    assert int(count_right(logits, logits.argmax(dim=1))) == 6
    assert int(count_right(logits[:, :1], (logits[:, 0] > 0).long())) == 6


def test_outputs_are_counted_from_loss_and_labels():
    binary = training(loss="binary_cross_entropy")
    assert count_outputs(training(), LABELS, CLASSES) == 3
    assert count_outputs(binary, LABELS.clip(max=1), ("a", "b")) == 1
    assert count_outputs(binary, SEVERAL, CLASSES) == 3
    assert count_outputs(binary, SEVERAL[:, :2], ("a", "b")) == 2
    assert class_weights(binary, SEVERAL, CLASSES).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "values",
    [{}, {"loss": "nll"}, {"label_smoothing": 0.1}, {"loss": "binary_cross_entropy", "class_weights": "balanced"}],
    ids=str,
)
def test_what_makes_no_sense_for_several_labels_is_refused(refuses, values):
    with refuses(RecipeError, "for pictures of several labels"):
        count_outputs(training(**values), SEVERAL, CLASSES)


def test_smoothed_labels_are_not_for_questions_of_their_own():
    with pytest.raises(ValueError, match="label_smoothing means nothing with loss"):
        training(loss="binary_cross_entropy", label_smoothing=0.1)


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


def test_of_several_labels_a_picture_has_the_mean_loss():
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([[1, 0, 1]] * 5)
    chances = logits.sigmoid()
    expected = -torch.where(labels == 1, chances, 1 - chances).log().mean(1)
    torch.testing.assert_close(picture_losses(logits, labels), expected)
