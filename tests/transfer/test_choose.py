"""Trying heads and tuning on a few pictures: the choice is by validation alone, nothing is done twice."""

import dataclasses

import numpy as np
import pytest
import torch

import eyebright as eb
from eyebright.classifier import Classifier
from eyebright.data.augment import Augment
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.errors import DataError, ModelError
from eyebright.training.fit import Fit
from eyebright.transfer import choose
from eyebright.transfer.choose import Search

SIDE = 20


def make_pictures(count=60, classes=3, seed=0):
    """Bright squares at places that tell the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = random.integers(0, 90, (count, SIDE, SIDE, 3))
    for picture, label in zip(pixels, labels, strict=True):
        top = 2 + 6 * label + int(random.integers(0, 3))
        picture[top : top + 5, 5:15] += random.integers(20, 120)
    return Images(pixels.astype(np.uint8), labels, tuple("abcde"[:classes]))


def make_splits(count=60, classes=3, seed=0, val=None):
    train = make_pictures(count, classes, seed)
    return Splits(train, val and make_pictures(val, classes, seed + 1), make_pictures(30, classes, seed + 2))


@pytest.fixture(scope="module")
def backbone():
    model = eb.create_model("resnet20_cifar", num_classes=10, seed=0)
    plan = choose_plan("cpu", "float32", training=False)
    classes = tuple(f"class {number}" for number in range(10))
    return Classifier(model, classes, Prepare(crop=SIDE, mean=(0.3,), std=(0.2,)), {}, plan)


@pytest.fixture
def begun():
    return []


@pytest.fixture
def search(backbone, tmp_path, begun, monkeypatch, float32):
    monkeypatch.setattr("eyebright.transfer.tuning.PASSES", 120)

    def make(splits=None, **changes):
        def begin(what, total):
            begun.append(what)
            return lambda: None

        options = {"views": 1, "augment": Augment(horizontal_flip=0.5), "tune": (), "begin": begin} | changes
        return Search(splits or make_splits(), backbone, tmp_path, **options)

    return make


def test_heads_are_tried_in_folds_and_the_best_is_kept(search, begun):
    found = search().run()
    assert [one.name for one in found.candidates] == [
        f"{kind} on embeddings" for kind in ("prototypes", "neighbours", "linear", "dense")
    ]
    assert found.folds == 5
    assert found.pictures == 60
    assert begun[1:] == [one.name for one in found.candidates]
    best = max(found.candidates, key=lambda one: (one.evaluation.accuracy, -one.evaluation.loss))
    assert found.best is best
    assert best.evaluation.count == 60
    assert best.evaluation.accuracy > 0.6
    assert found.candidates[0].difference is None
    assert found.candidates[2].difference.value == pytest.approx(
        found.candidates[2].evaluation.accuracy - found.candidates[0].evaluation.accuracy
    )
    assert found.classifier.classes == ("a", "b", "c")


def test_every_picture_is_judged_by_what_has_not_seen_it(search):
    """Labels by chance: whoever had seen a picture would know it."""
    splits = make_splits(90)
    labels = np.random.default_rng(1).permutation(splits.train.labels)
    splits = dataclasses.replace(splits, train=dataclasses.replace(splits.train, labels=labels))
    for one in search(splits, kinds=("neighbours", "linear")).run().candidates:
        assert one.evaluation.accuracy < 0.55
        np.testing.assert_array_equal(one.evaluation.labels, labels)


def test_much_validation_stands_apart(search, monkeypatch):
    monkeypatch.setattr(choose, "ENOUGH", 30)
    splits = make_splits(val=36)
    found = search(splits, kinds=("linear",)).run()
    assert found.folds == 1
    assert found.pictures == 60
    np.testing.assert_array_equal(found.candidates[0].evaluation.labels, splits.val.labels)
    again = eb.evaluate(found.classifier, splits.val)
    cooled = found.candidates[0].evaluation.logits / found.calibration.temperature
    np.testing.assert_allclose(again.logits, cooled, atol=1e-4, rtol=1e-4)


def test_the_test_part_chooses_nothing(search):
    """Its labels, even its pictures, may be others: what is kept is the same, to the bit."""
    splits = make_splits()
    random = np.random.default_rng(0)
    shuffled = dataclasses.replace(splits.test, labels=random.permutation(splits.test.labels))
    noise = Images(random.integers(0, 256, (30, SIDE, SIDE, 3), dtype=np.uint8), shuffled.labels, splits.classes)
    kept = [search(dataclasses.replace(splits, test=test)).run() for test in (splits.test, shuffled, noise)]
    assert len({one.kept for one in kept}) == 1
    weights = [one.classifier.model.state_dict() for one in kept]
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())


def test_layers_are_tuned_from_a_head_that_fits(search, begun):
    found = search(kinds=("linear",), tune=(2, None)).run()
    assert [one.name for one in found.candidates] == [
        "linear on embeddings",
        "last 2 layers tuned",
        "all layers tuned",
    ]
    assert "last 2 layers tuned, fold 5 of 5" in begun
    two, whole = found.candidates[1:]
    model = found.classifier.model
    norms = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters())
    assert two.trained < whole.trained == sum(p.numel() for p in model.parameters()) - norms
    assert two.setting == "3 epochs"


@pytest.mark.parametrize("tuned", ["last 2 layers tuned", "all layers tuned", "linear on embeddings"])
def test_the_receipt_is_of_the_kept_one(search, backbone, tuned, monkeypatch):
    def prefer(candidates, key):
        return next(one for one in candidates if one.name == tuned)

    monkeypatch.setattr(choose, "max", prefer, raising=False)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    found = search(kinds=("linear",), tune=(2, None)).run()
    assert found.kept == tuned
    frozen = {entry.name for entry in found.receipt.entries if entry.frozen}
    assert not found.receipt.broken
    after = found.classifier.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    moved = {name for name, value in after.items() if name in before and not name.startswith("linear")
             and not torch.equal(value, before[name])}  # fmt: skip
    if tuned == "all layers tuned":
        assert len(moved) == 19  # convolutions; the normalisations stay as they are
        assert len(frozen) == len(before) - 21
    elif tuned == "last 2 layers tuned":
        assert moved == {"layer3.2.conv1.weight", "layer3.2.conv2.weight"}
    else:
        assert not moved
        assert frozen == {name for name in before if not name.startswith("linear")}


def test_what_is_done_is_not_done_again(search, monkeypatch):
    first = search(kinds=("linear",), tune=(2,)).run()
    trained = []
    original = Fit.steps
    monkeypatch.setattr(Fit, "steps", lambda self: trained.append(1) or original(self))
    again = search(kinds=("linear",), tune=(2,)).run()
    assert len(trained) == (again.kept == "last 2 layers tuned")  # the kept one is made anew, from all pictures
    for one, other in zip(first.candidates, again.candidates, strict=True):
        np.testing.assert_array_equal(one.evaluation.logits, other.evaluation.logits)
    trained.clear()
    search(kinds=("linear",), tune=(2,), seed=1).run()
    assert len(trained) >= 5


def test_what_would_take_too_long_is_left_out(search, monkeypatch):
    monkeypatch.setattr("eyebright.transfer.tuning.PASSES", 10**8)
    monkeypatch.setattr("eyebright.transfer.tuning.MOST_EPOCHS", 10**5)
    found = search(kinds=("linear",), tune=(2, None), seconds=600).run()
    assert [one.name for one in found.candidates] == ["linear on embeddings"]
    assert [text.partition(":")[0] for text in found.left_out] == ["last 2 layers tuned", "all layers tuned"]
    assert "would take about" in found.left_out[0]


def test_a_training_that_diverges_is_left_out(search, monkeypatch):
    monkeypatch.setattr("eyebright.transfer.tuning.RATE", 1e30)
    found = search(kinds=("linear",), tune=(None,)).run()
    assert [one.name for one in found.candidates] == ["linear on embeddings"]
    assert "all layers tuned: " in found.left_out[0]


def test_two_classes_can_have_one_output(search):
    found = search(make_splits(40, 2), single_output=True, tune=(2,)).run()
    assert [one.name for one in found.candidates] == [
        "linear on embeddings",
        "dense on embeddings",
        "last 2 layers tuned",
    ]
    assert found.classifier.model.num_classes == 1
    assert all(one.evaluation.logits.shape == (40, 2) for one in found.candidates)
    assert found.best.evaluation.accuracy > 0.7


def test_a_picture_can_have_several_labels(search):
    splits = make_splits(48)

    def several(part):
        table = np.eye(3, dtype=np.int64)[part.labels]
        table[:, 2] = part.labels != 1
        return dataclasses.replace(part, labels=table)

    splits = Splits(several(splits.train), None, several(splits.test))
    found = search(splits, tune=(2,)).run()
    assert found.classifier.multi_label
    assert found.candidates[0].name == "linear on embeddings"
    assert found.best.evaluation.accuracy > 0.5


def test_groups_stay_together(search):
    splits = make_splits(60)
    groups = tuple(f"thing {number // 6}" for number in range(60))
    splits = dataclasses.replace(splits, train=dataclasses.replace(splits.train, groups=groups))
    made = search(splits, kinds=("linear",))
    for kept, held_out in made.cuts:
        assert not {groups[i] for i in kept.tolist()} & {groups[i] for i in held_out.tolist()}
    assert made.run().best.evaluation.count == 60


def test_a_single_picture_of_a_class_is_refused(search, refuses):
    train = make_pictures(13)
    splits = Splits(train.select([*np.flatnonzero(train.labels != 2).tolist(), 2]), None, make_pictures(30))
    with refuses(DataError, "there is a class with 1 pictures; fewest pictures has 'c'"):
        search(splits)


def test_a_single_output_for_three_classes_is_refused(search, refuses):
    with refuses(DataError, "a single output for 3 classes"):
        search(single_output=True)


def test_too_few_groups_are_refused(search, refuses):
    splits = make_splits(60)
    groups = tuple(f"patient {label}" for label in splits.train.labels)
    splits = dataclasses.replace(splits, train=dataclasses.replace(splits.train, groups=groups))
    with refuses(DataError, "there is a class with 1 groups of pictures"):
        search(splits)


def test_the_same_picture_twice_is_on_one_side(search):
    splits = make_splits(60)
    pixels = np.concatenate([splits.train.pixels, splits.train.pixels[:20]])
    labels = np.concatenate([splits.train.labels, splits.train.labels[:20]])
    train = Images(pixels, labels, splits.classes)
    for kept, _ in search(Splits(train, None, splits.test)).cuts:
        for number in range(20):
            assert (number in kept) == (60 + number in kept)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"kinds": ("prototypes",), "single_output": True}, DataError, "the head 'prototypes' for a single output"),
        ({"tune": (50,)}, ModelError, "the last 50 layers of resnet20_cifar were to be tuned"),
        ({"tune": (0,)}, ModelError, "the last 0 layers of resnet20_cifar were to be tuned"),
    ],
)
def test_what_cannot_be_tried_is_said_at_once(search, refuses, changes, error, said):
    with refuses(error, said):
        search(make_splits(40, 2), **changes)


def test_pictures_of_different_shapes_are_refused(search, backbone, refuses, monkeypatch):
    monkeypatch.setattr(backbone, "prepare", Prepare(resize=SIDE))
    with refuses(ModelError, "is shown pictures of different shapes: resize = 20"):
        search()


def test_without_time_the_first_head_is_tried(search):
    found = search(seconds=0.0, tune=(2,)).run()
    assert [one.name for one in found.candidates] == ["prototypes on embeddings"]
    assert len(found.left_out) == 4
    assert all("no time was left" in said for said in found.left_out)


def test_many_pictures_have_no_views(search, monkeypatch):
    monkeypatch.setattr(choose, "MANY", 60)
    said = []
    assert search(views=2, say=said.append).views == 0
    assert "are enough" in said[0]


@pytest.mark.parametrize("name", ["lenet5_1998", "airbench", "alexnet"])
def test_other_networks_can_be_tuned(name, search, backbone, monkeypatch):
    """Heads that are no dense layer with a bias; dense layers on the maps of one size."""
    size = {"lenet5_1998": 32, "airbench": SIDE, "alexnet": 64}[name]
    model = eb.create_model(name, num_classes=10, seed=0)
    prepare = Prepare(resize=size, crop=size, channels=model.in_channels, mean=(0.3,), std=(0.2,))
    other = Classifier(model, backbone.classes, prepare, {}, backbone.plan)
    made = search(kinds=("linear",), tune=(1,))
    found = dataclasses.replace(made, backbone=other).run()
    assert [one.name for one in found.candidates] == ["linear on embeddings", "last 1 layers tuned"]
