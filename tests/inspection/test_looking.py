"""Features, mistakes, the embedding and robustness: figures with known answers, and what is drawn."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_data
from eyebright.device import choose_plan
from eyebright.errors import ModelError
from eyebright.evaluation.evaluate import Evaluation, evaluate
from eyebright.inspection import embedding, features, mistakes, robustness
from eyebright.models.create import create_model
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe

PLAN = choose_plan("cpu", "float32", training=False)


@pytest.fixture(scope="module")
def digits():
    """A classifier that was trained for a few seconds, and pictures that it has not seen."""
    parts = load_data("digits")
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=4", 'training.number_format="float32"']), parts)
    for _ in fit:
        pass
    return fit.classifier(), parts.test


def network(name="cnn_mnist", channels=1, **options):
    model = create_model(name, num_classes=3, seed=0, in_channels=channels, **options)
    return Classifier(model, ("a", "b", "c"), Prepare(channels=channels), plan=PLAN)


def noise(count=12, side=28, channels=1):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return Images(pixels, np.arange(count) % 3, ("a", "b", "c"))


# features


def test_maps_are_the_outputs_of_the_stages(digits):
    classifier, pictures = digits
    maps = features.map_picture(classifier, pictures, 3)
    inputs = classifier.prepare(pictures.read(3, None))
    with torch.no_grad():
        outputs = classifier.model.forward_stages(classifier.plan.place_inputs(inputs))
    assert list(maps.stages) == list(outputs)[:-1]
    for name, values in maps.stages.items():
        np.testing.assert_allclose(values, outputs[name][0].float().numpy(), atol=1e-6)
    assert maps.answer == classifier.classes[int(classifier.logits(inputs).argmax())]
    assert features.draw_maps(maps).axes[0].get_title().startswith(maps.answer)


def test_channels_are_ranked_by_their_largest_answers():
    classifier, pictures = network(), noise(20)
    found = features.measure_channels(classifier, pictures)
    inputs = torch.cat([classifier.prepare(pictures.read(index, None)) for index in range(20)])
    with torch.no_grad():
        outputs = classifier.model.forward_stages(inputs)
    name = next(name for name, output in outputs.items() if output.dim() == 4)
    flat = outputs[name].flatten(2)
    np.testing.assert_allclose(found[name].largest, flat.amax(2).numpy(), atol=1e-5)
    best = int(flat.amax(2)[:, 5].argmax())
    assert found[name].top(5)[0] == best
    assert flat[best, 5, found[name].places[best, 5]] == pytest.approx(float(flat[best, 5].max()), abs=1e-5)
    assert found[name].shape == tuple(outputs[name].shape[2:])


def test_dead_channels_and_unused_inputs_are_named():
    classifier = network(channels=3)
    norm = next(layer for layer in classifier.model.modules() if isinstance(layer, nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight[[2, 7]] = 0
        norm.bias[[2, 7]] = -1
    pictures = noise(channels=3)
    pixels = pictures.pixels.copy()
    pixels[..., 1] = 40
    pictures = Images(pixels, pictures.labels, pictures.classes)
    found = features.measure_channels(classifier, pictures)
    first = next(iter(found.values()))
    assert np.flatnonzero(first.dead).tolist() == [2, 7]
    assert features.unused_channels(classifier, pictures) == [1]
    said = features.say_channels(found, [1])
    assert said[0] == "input channels that are never used: 1"
    assert said[1].endswith(f"2 of {len(first.dead)} channels are dead: the same for all 12 pictures: 2, 7")
    assert (
        "no channel of any stage is dead"
        in features.say_channels({"x": replace(first, dead=np.zeros_like(first.dead))})[0]
    )


def test_a_stage_is_chosen_by_name_or_the_last_with_places():
    found = features.measure_channels(network(), noise())
    placed = [name for name, one in found.items() if one.shape != (1, 1)]
    assert features.choose_stage(found, None).stage == placed[-1]
    assert features.choose_stage(found, placed[0]).stage == placed[0]
    with pytest.raises(ModelError, match="this network has no stage 'nowhere'"):
        features.choose_stage(found, "nowhere")


def test_the_pictures_that_excite_a_channel_are_drawn_with_the_place(digits):
    classifier, pictures = digits
    found = features.measure_channels(classifier, pictures)
    chosen = features.choose_stage(found, None)
    figure = features.draw_channels(classifier, pictures, chosen)
    assert len(figure.axes) == 64
    assert all(len(axes.lines) == 1 for axes in figure.axes)
    flat = features.draw_channels(classifier, pictures, list(found.values())[-1])
    assert not any(axes.lines for axes in flat.axes)


# mistakes


@pytest.fixture(scope="module")
def evaluation():
    """Six answers: pictures 0 and 3 are wrong, 3 more surely, and there the true class is none of the first five."""
    labels = np.array([0, 1, 2, 3, 4, 5])
    shares = np.full((6, 7), 0.02)
    shares[range(6), labels] = 0.88
    shares[0] = [0.3, 0.4, 0.1, 0.08, 0.06, 0.04, 0.02]
    shares[3] = [0.02, 0.02, 0.75, 0.01, 0.1, 0.05, 0.05]
    return Evaluation(np.log(shares).astype(np.float32), labels, tuple("abcdefg"))


def test_mistakes_come_surest_first_with_five_bars_and_the_true_one(evaluation):
    pictures = Images(noise(6).pixels, evaluation.labels, tuple("abcdefg"))
    classifier = Classifier(
        create_model("cnn_mnist", num_classes=7, seed=0), tuple("abcdefg"), Prepare(channels=1), plan=PLAN
    )
    first, second = mistakes.surest_mistakes(classifier, pictures, evaluation)
    assert (first.true, second.true) == ("d", "a")
    assert [name for name, _ in first.shares] == ["c", "e", "f", "g", "a", "d"]
    assert [name for name, _ in second.shares] == ["b", "a", "c", "d", "e"]
    assert first.shares[0][1] == pytest.approx(0.75, abs=1e-6)
    np.testing.assert_array_equal(first.pixels, pictures.pixels[3])
    figure = mistakes.draw_mistakes([first, second])
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == ["c 75%", "e 10%", "f 5%", "g 5%", "a 2%", "d 1%"]
    pairs = mistakes.confused_pairs(classifier, pictures, evaluation)
    assert [(pair.true, pair.answer, pair.count, pair.of) for pair in pairs] == [("a", "b", 1, 1), ("d", "c", 1, 1)]
    assert len(mistakes.draw_pairs(pairs).axes) == 16


def test_what_is_said_of_mistakes(evaluation):
    said = mistakes.say_mistakes(evaluation)
    assert said[0].startswith("2 of 6 answers are wrong; of 0 of these")
    assert said[1] == "the true class was the second guess in 50% of them"
    assert "a was taken for b 1 time" in said
    right = Evaluation(np.eye(3, dtype=np.float32) * 9, np.arange(3), tuple("abc"))
    assert mistakes.say_mistakes(right) == ["all 3 answers are right"]


def test_where_a_threshold_decides_the_answer_comes_first():
    """Of two classes the second is answered from 30 % on: wrongly, though the first is more probable."""
    logits = np.log(np.array([[0.65, 0.35], [0.9, 0.1]], dtype=np.float32))
    found = Evaluation(logits, np.array([0, 0]), ("a", "b"), threshold=0.3)
    pictures = Images(noise(2).pixels, found.labels, ("a", "b"))
    model = create_model("cnn_mnist", num_classes=2, seed=0)
    classifier = Classifier(model, ("a", "b"), Prepare(channels=1), plan=PLAN, thresholds=(0.3,))
    (mistake,) = mistakes.surest_mistakes(classifier, pictures, found)
    assert [name for name, _ in mistake.shares] == ["b", "a"]
    assert mistakes.say_mistakes(found)[1] == "the true class was the second guess in 100% of them"


@pytest.mark.parametrize(("classes", "bars"), [(10, 10), (100, 40), (1000, 40)])
def test_classes_are_legible_however_many_there_are(classes, bars):
    random = np.random.default_rng(0)
    labels = np.arange(classes * 5) % classes
    logits = random.standard_normal((len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 2
    answered = Evaluation(logits, labels, tuple(f"class {number}" for number in range(classes)))
    figure = mistakes.draw_classes(answered)
    axes = figure.axes[0]
    assert len(axes.get_yticklabels()) == bars
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    tops = sorted((box.y0, box.y1) for box in boxes)
    assert all(one[1] <= other[0] + 1 for one, other in pairwise(tops))
    assert ("are left out" in axes.get_title(loc="left")) == (classes > 40)


# the embedding


def test_pictures_of_a_class_lie_together(digits):
    classifier, pictures = digits
    few = pictures.select(np.arange(200))
    found = embedding.embed(classifier, few)
    assert found.points.shape == (200, 2)
    assert found.agreement > 0.7
    np.testing.assert_array_equal(found.points, embedding.embed(classifier, few).points)
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    assert (few.labels[nearest] == few.labels).mean() > 0.7
    figure = embedding.draw_embedding(found, classifier, few)
    assert len(figure.axes[0].collections) == 10
    assert 50 < len(figure.axes[1].images) <= 200
    assert "of its own class" in embedding.say_embedding(found)[0]


# robustness


def test_changes_do_what_their_names_say():
    pixels = torch.from_numpy(noise(3, side=32, channels=3).pixels)
    moved = robustness.shift(pixels, 3)
    assert torch.equal(moved[:, :, 3:], pixels[:, :, :-3])
    assert all(torch.equal(moved[:, :, column], pixels[:, :, 0]) for column in range(3))
    middle = torch.full((3, 32, 32, 3), 128, dtype=torch.uint8)
    noisy = robustness.add_noise(middle, 16).float() - 128
    assert noisy.std() == pytest.approx(16, rel=0.05)
    assert torch.equal(robustness.add_noise(middle, 16), robustness.add_noise(middle, 16))
    assert torch.equal(robustness.brighten(middle, 0.5), torch.full_like(middle, 192))
    assert torch.equal(robustness.brighten(middle, -0.5), torch.full_like(middle, 64))
    assert robustness.soften(pixels, 2).float().std() < pixels.float().std() / 2
    buffer = io.BytesIO()
    Image.fromarray(pixels[1].numpy()).save(buffer, "JPEG", quality=30)
    np.testing.assert_array_equal(robustness.compress(pixels, 70)[1].numpy(), np.asarray(Image.open(buffer)))
    half = robustness.turn(pixels, 180)
    np.testing.assert_allclose(half.numpy(), pixels.flip(1, 2).numpy(), atol=1)
    for change in robustness.CHANGES:
        assert change.amounts[0] == 0
        assert torch.equal(change.apply(pixels, 0), pixels), change.name
        grey = torch.from_numpy(noise(2).pixels)
        assert change.apply(grey, change.amounts[-1]).shape == grey.shape


def test_curves_begin_with_the_evaluation(digits):
    classifier, pictures = digits
    few = pictures.select(np.arange(120))
    curves = robustness.measure_robustness(classifier, few, robustness.CHANGES[:2])
    assert [curve.kept[0] for curve in curves] == [1, 1]
    assert curves[0].accuracy[0] == evaluate(classifier, few).top1
    assert curves[0].accuracy[-1] < curves[0].accuracy[0]
    assert len(robustness.draw_robustness(curves).axes) == 2
    assert len(robustness.say_robustness(curves)) == 2


def test_where_half_of_the_answers_have_changed_lies_between_two_amounts():
    change = robustness.CHANGES[0]  # 0, 1, 2, 3, 4, 6, 8
    curve = robustness.Curve(change, np.zeros(7), np.array([1, 1, 0.9, 0.8, 0.7, 0.3, 0.1]))
    assert curve.half == pytest.approx(5)
    assert "at 5 (pixels to the right)" in robustness.say_robustness([curve])[0]
    never = robustness.Curve(change, np.zeros(7), np.linspace(1, 0.6, 7))
    assert never.half is None
    assert "60% of the answers are the same" in robustness.say_robustness([never])[0]
