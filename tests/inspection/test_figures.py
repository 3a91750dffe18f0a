import io

import numpy as np
import pytest
from PIL import Image

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.evaluation.evaluate import Evaluation, evaluate
from eyebright.inspection.confusion import NAMED_CLASSES, NUMBERED_CLASSES, draw_confusion
from eyebright.inspection.curves import draw_curves
from eyebright.inspection.pictures import draw_answers, sample, show_answers
from eyebright.inspection.style import encode
from eyebright.models.create import create_model


def metrics(epochs, validation=True):
    return [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "train_accuracy": 1 - 1 / (epoch + 1),
            "val_loss": 2.2 / epoch if validation else None,
            "val_accuracy": 0.9 - 0.8 / epoch if validation else None,
            "learning_rate": 0.1 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def evaluation(classes, count=300):
    random = np.random.default_rng(0)
    names = tuple(f"a class with a rather long name {k}" for k in range(classes))
    logits = random.normal(size=(count, classes)).astype(np.float32)
    return Evaluation(logits, random.integers(0, classes, count), names)


def overlaps(figure):
    """Pairs of titles, labels and tick names in a figure that lie on top of each other."""
    figure.canvas.draw()
    texts = [
        text
        for axes in figure.axes
        for text in [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        if text.get_text()
    ]
    boxes = [text.get_window_extent() for text in texts]
    return [
        (texts[i].get_text(), texts[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]


@pytest.mark.parametrize("epochs", [1, 2, 200])
@pytest.mark.parametrize("validation", [True, False])
def test_curves_show_every_epoch_and_no_words_overlap(epochs, validation):
    figure = draw_curves(metrics(epochs, validation))
    loss, accuracy, _ = figure.axes
    assert len(loss.lines[0].get_xdata()) == epochs
    assert [line.get_label() for line in loss.lines] == ["train", "validation"][: 1 + validation]
    assert [text.get_text() for text in accuracy.texts] == ([f"best {0.9 - 0.8 / epochs:.1%}"] if validation else [])
    assert overlaps(figure) == []


@pytest.mark.parametrize("classes", [2, NUMBERED_CLASSES, NAMED_CLASSES, 100, 1000])
def test_confusion_is_legible_at_any_number_of_classes(classes):
    given = evaluation(classes)
    figure = draw_confusion(given)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    if classes <= NAMED_CLASSES:
        assert len(set(axes.get_yticks())) == classes
        assert all(len(name) <= 18 for name in names)
    written = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}
    if classes <= NUMBERED_CLASSES:
        rows, columns = np.nonzero(given.confusion)
        assert written == {(r, c): str(given.confusion[r, c]) for r, c in zip(rows, columns, strict=True)}
    else:
        assert written == {}
    assert Image.open(io.BytesIO(encode(figure, "png"))).size[0] < 1200


def test_shown_pictures_are_un_normalised_exactly():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    images = Images(pixels, random.integers(0, 3, 20), ("a", "b", "c"))
    prepare = Prepare(crop=32, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    classifier = Classifier(create_model("cnn_cifar", num_classes=3, seed=0), images.classes, prepare)
    answers = show_answers(classifier, images, evaluate(classifier, images), np.array([3, 11]))
    for answer, index in zip(answers, (3, 11), strict=True):
        assert np.array_equal(answer.pixels, pixels[index, 4:36, 4:36])
        assert answer.true == images.classes[images.labels[index]]
        assert answer.right == (answer.answer == answer.true)
    titles = [text.get_text() for text in draw_answers(answers).axes[0].texts]
    for answer, title in zip(answers, titles, strict=True):
        assert title.endswith("✓" if answer.right else f"is {answer.true}")


def test_a_sample_is_without_repetition_and_the_same_each_time():
    one, other = sample(40, 1000, seed=3), sample(40, 1000, seed=3)
    assert one.tolist() == other.tolist() == sorted(set(one.tolist()))
    assert sample(40, 7).tolist() == list(range(7))


def test_svg_bytes_are_the_same_each_time():
    def draw():
        return encode(draw_curves(metrics(3)))

    assert draw() == draw()
