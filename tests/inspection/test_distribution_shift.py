import numpy as np
import pytest
import torch

from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.sources import load_data
from eyebright.device import choose_plan
from eyebright.errors import DataError
from eyebright.inspection.distribution_shift import (
    Moments,
    compare_sources,
    draw_sources,
    measure_moments,
    pushed,
    say_sources,
)
from eyebright.models.create import create_model
from eyebright.training.observe import weighted_layers

PLAN = choose_plan("cpu", "float32", training=False)


def moments_of(values):
    return Moments(len(values), values.mean(axis=0), values.var(axis=0))


def test_moments_of_parts_add_up_to_those_of_the_whole():
    values = np.random.default_rng(0).normal([3, -1, 1000], [1, 2, 0.1], (500, 3))
    together = moments_of(values[:120]) + moments_of(values[120:])
    whole = moments_of(values)
    assert together.count == 500
    np.testing.assert_allclose(together.means, whole.means)
    np.testing.assert_allclose(together.variances, whole.variances, rtol=1e-9)


def test_what_moves_by_so_many_deviations_is_said_to():
    one = Moments(100, np.array([0.0, 5.0, 1.0]), np.array([1.0, 4.0, 0.0]))
    assert one.moved(one) == 0
    assert one.moved(Moments(100, np.array([0.3, 5.6, 1.0]), one.variances)) == pytest.approx(0.3)
    assert one.spread == pytest.approx(5**0.5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_moments_are_those_of_what_each_layer_is_given(memory_format):
    model = create_model("cnn_mnist", seed=0)
    x = torch.randn(12, 1, 28, 28).to(memory_format=memory_format)
    found = measure_moments(model, [x[:5], x[5:]], PLAN)
    assert list(found) == [name for name, _ in weighted_layers(model)]
    np.testing.assert_allclose(found["conv1.0"].means, [x.mean()], atol=1e-6)
    with torch.no_grad():
        stages = model.eval().forward_stages(x)
    for name, given in (("conv2.0", stages["conv1"]), ("output", stages["pool"])):
        np.testing.assert_allclose(found[name].means, given.transpose(0, 1).flatten(1).mean(dim=1), atol=1e-5)
        variances = given.transpose(0, 1).flatten(1).var(dim=1, correction=0)
        np.testing.assert_allclose(found[name].variances, variances, rtol=1e-3, atol=1e-6)


def test_batch_norm_can_be_looked_at_as_in_training_and_stays_as_it_is():
    model = create_model("cnn_mnist", seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(32, 1, 28, 28) * 3 + 2
    by_batch = measure_moments(model, [x], PLAN, by_batch=True)
    by_running = measure_moments(model, [x], PLAN)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        given = model.train().forward_stages(x)["conv1"]
    np.testing.assert_allclose(by_batch["conv2.0"].means, given.transpose(0, 1).flatten(1).mean(dim=1), rtol=1e-3)
    assert by_batch["conv2.0"].moved(by_running["conv2.0"]) > 0.1


@pytest.mark.parametrize("normalisation", ["none", "batch", "layer", "instance", "group"])
@pytest.mark.parametrize("amount", [2.0, 5.0])
def test_an_injected_shift_is_found_again_within_five_per_cent(normalisation, amount):
    pictures = load_data("digits").train
    model = create_model("cnn_mnist", seed=0, normalisation=normalisation)
    prepare = Prepare(channels=1, resize=(28, 28))
    x = torch.cat([prepare(pictures.read(index, None)) for index in range(len(pictures))])
    known, others = x[::2], x[1::2]  # so that what chance does is in it
    for name, one in measure_moments(model, [known], PLAN).items():
        with pushed(model, name, amount * np.sqrt(one.variances)):
            found = one.moved(measure_moments(model, others.split(200), PLAN)[name])
        assert found == pytest.approx(amount, rel=0.05), name
        assert one.moved(measure_moments(model, [others], PLAN)[name]) < 0.15  # and it is taken away again


def small(normalisation="batch"):
    model = create_model("cnn_mnist", num_classes=2, seed=0, normalisation=normalisation)
    return Classifier(model, ("a", "b"), Prepare(channels=1, mean=(0.0,), std=(1.0,)), plan=PLAN)


def noise(count=200, mean=100, seed=0, brightness=0):
    random = np.random.default_rng(seed)
    means = random.normal(mean, brightness, (count, 1, 1, 1))
    pixels = random.normal(means, 20, (count, 28, 28, 1)).clip(0, 255).astype(np.uint8)
    return Images(pixels, np.arange(count) % 2, ("a", "b"))


def test_brighter_pictures_are_seen_by_how_much_they_are():
    shifts = compare_sources(small(), noise(), noise(mean=130, seed=1))
    assert [shift.layer for shift in shifts] == ["conv1.0", "conv2.0", "conv3.0", "conv4.0", "output"]
    assert shifts[0].moved == pytest.approx(30 / 20, rel=0.05)
    assert shifts[0].wider == pytest.approx(1, abs=0.05)
    assert shifts[0].chance < 0.05
    assert shifts[-1].moved > 1
    said = say_sources(shifts)
    assert "channel means are 1.5" in said[0]
    assert said[1].startswith("5 of 5 layers")


@pytest.mark.parametrize("count", [600, 30])
def test_pictures_of_the_same_kind_are_seldom_said_to_differ(count):
    said = []
    for seed in range(8):  # pictures differ in brightness, so that chance moves all channels together
        sources = noise(600, brightness=15, seed=2 * seed), noise(count, brightness=15, seed=2 * seed + 1)
        said.append(say_sources(compare_sources(small(), *sources))[1])
    assert sum(not line.startswith("0 of 5 layers") for line in said) <= 1


def test_what_chance_does_is_foretold():
    found = [
        compare_sources(small(), noise(300, brightness=15, seed=seed), noise(60, brightness=15, seed=seed + 50))[0]
        for seed in range(12)
    ]
    actual = np.sqrt(np.mean([shift.moved**2 for shift in found]))
    assert np.mean([shift.chance for shift in found]) == pytest.approx(actual, rel=0.5)


def test_instance_norm_takes_a_shift_of_the_pictures_away_and_batch_norm_does_not():
    last = {
        name: compare_sources(small(name), noise(), noise(mean=130, seed=1))[-1].moved for name in ("batch", "instance")
    }
    assert last["instance"] < 0.25 * last["batch"]


def test_every_picture_is_counted_and_the_figure_names_both_sources():
    done = []
    shifts = compare_sources(small(), noise(), noise(150, seed=1), done.append)
    assert done == sorted(done)
    assert done[-1] == 350
    moved, wider = draw_sources(shifts, "first", "second").axes
    assert [text.get_text() for text in moved.get_legend().get_texts()] == ["first → second", "chance alone"]
    assert "second" in wider.get_title(loc="left")


def test_too_few_pictures_are_refused():
    with pytest.raises(DataError, match="19 pictures, in which to see a shift"):
        compare_sources(small(), noise(), noise(19))
