"""Trying pictures at larger sizes than a trained network was shown before."""

import numpy as np
import pytest

import eyebright as eb
from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.transfer.choose import Search
from eyebright.transfer.sizes import SizeTrial, choose_size, list_prepares

SIDE = 24


def make_backbone(prepare, name="resnet20_cifar"):
    plan = choose_plan("cpu", "float32", training=False)
    model = eb.create_model(name, num_classes=10, seed=0)
    return Classifier(model, tuple("abcdefghij"), prepare, {}, plan)


def striped(count, seed):
    """Stripes one pixel wide, standing or lying: at half the size they are grey."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    coarse = random.integers(0, 150, (count, SIDE // 2, SIDE // 2, 3)).repeat(2, axis=1).repeat(2, axis=2)
    phases = (np.arange(SIDE) + random.integers(0, 2, (count, 1))) % 2
    lying = np.broadcast_to(100 * phases[:, :, None, None], coarse.shape)
    pixels = coarse + np.where((labels == 0)[:, None, None, None], lying, lying.swapaxes(1, 2))
    return Images(pixels.astype(np.uint8), labels, ("lying", "standing"))


@pytest.fixture
def search(tmp_path, float32):
    def make(prepare, **changes):
        options = {"sizes": True, "views": 0, "kinds": ("prototypes",), "tune": ()} | changes
        splits = Splits(striped(60, 0), options.pop("val", None), striped(20, 1))
        said = []
        return Search(splits, make_backbone(prepare), tmp_path, say=said.append, **options), said

    return make


SMALL = Prepare(resize=SIDE // 2, crop=SIDE // 2, mean=(0.3,), std=(0.2,))


def test_what_is_seen_only_when_larger_is_shown_larger(search):
    found, said = search(SMALL)
    made = found.run()
    assert [one.name for one in made.sizes] == ["12×12", "18×18", "24×24"]
    assert made.sizes[0].accuracy < 0.8 < made.sizes[-1].accuracy
    assert made.classifier.prepare.output_size != (12, 12)
    assert made.best.evaluation.accuracy > 0.9
    assert any(line.startswith("pictures of 24×24: validation") for line in said)


def test_every_picture_is_asked_once_and_validation_alone_is_asked(search):
    found, _ = search(SMALL)
    assert [one.count for one in found.run().sizes] == [60, 60, 60]
    apart, _ = search(SMALL, val=striped(500, 2))
    assert [one.count for one in apart.run().sizes] == [500, 500, 500]


def test_without_time_the_own_size_is_kept(search):
    found, _ = search(SMALL, seconds=0.0)
    made = found.run()
    assert [one.name for one in made.sizes] == ["12×12"]
    assert made.classifier.prepare == SMALL
    assert [line.split(":")[0] for line in made.left_out[:2]] == ["pictures of 18×18", "pictures of 24×24"]
    assert "embedding all would take about" in made.left_out[0]


def test_a_search_that_is_resumed_keeps_its_size(search):
    """Though there is time now for larger ones: what was trained at that size is of use."""
    first = search(SMALL, seconds=0.0)[0].run()
    again, said = search(SMALL)
    made = again.run()
    assert made.sizes == first.sizes
    assert made.left_out == first.left_out[:2]
    assert not any("by a linear head" in line for line in said)


def test_nothing_is_tried_unless_asked(search):
    found, _ = search(SMALL, sizes=False)
    assert found.run().sizes == ()


@pytest.mark.parametrize(
    ("accuracies", "count", "side"),
    [
        ((0.800, 0.805, 0.812), 1000, 10),  # one standard error is 0.0124
        ((0.799, 0.805, 0.812), 1000, 15),
        ((0.750, 0.790, 0.812), 1000, 20),
        ((0.750, 0.790, 0.812), 30, 10),
        ((0.9, 0.8, 0.7), 1000, 10),
        ((1.0, 1.0, 1.0), 1000, 10),
    ],
)
def test_the_smallest_within_one_standard_error_of_the_best(accuracies, count, side):
    trials = [SizeTrial(Prepare(crop=size), one, count) for size, one in zip((10, 15, 20), accuracies, strict=True)]
    assert choose_size(trials).prepare.crop == side


def test_both_resize_and_crop_grow():
    own, *larger = list_prepares(make_backbone(Prepare(resize=(40, 30), crop=28)))
    assert (own.resize, own.crop) == ((40, 30), 28)
    assert [(one.resize, one.crop) for one in larger] == [((60, 45), 42), ((80, 60), 56)]


def test_what_only_cuts_pictures_is_also_tried_resizing_them():
    """A network for pictures of 32×32 would see the middle of a photograph."""
    found = list_prepares(make_backbone(Prepare(crop=32)))
    assert [(one.resize, one.crop) for one in found] == [(None, 32), (32, 32), (48, 48), (64, 64)]


@pytest.mark.parametrize(
    ("prepare", "name"),
    [(Prepare(channels=1, resize=32, crop=32), "lenet5_1998"), (Prepare(resize=64), "resnet20_cifar")],
)
def test_networks_of_one_size_and_of_any_are_left_alone(prepare, name):
    assert list_prepares(make_backbone(prepare, name)) == [prepare]
