"""Heads on embeddings: beside scikit-learn's, joined with the network that made the embeddings, saved and loaded."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

import eyebright as eb
from eyebright.classifier import Classifier, two_logits
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.device import choose_plan
from eyebright.errors import InputSizeError, ModelError
from eyebright.evaluation.embeddings import Embedder
from eyebright.models.catalog import list_models
from eyebright.transfer import heads
from eyebright.transfer.heads import Examples, answer, choose_head, fit_heads, mean_loss
from eyebright.transfer.joined import join_head, put_fitted

CLASSES = ("a", "b", "c")


def make_examples(count=90, features=12, classes=3, apart=1.5, seed=0, **more):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = random.normal(size=(classes, features)) * apart
    values = (centres[labels] + random.normal(size=(count, features))) * np.linspace(0.1, 9, features) + 3
    return Examples(values.astype(np.float32), labels, tuple("abcdefgh"[:classes]), **more)


def fit(kind, examples, setting, seed=0):
    (head,) = fit_heads(kind, examples, (setting,), seed)
    return head


def scaled(examples):
    values = examples.values.astype(np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


@pytest.mark.parametrize("decay", [10.0, 0.3, 0.001])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_is_logistic_regression(decay, classes):
    examples = make_examples(classes=classes)
    theirs = LogisticRegression(C=1 / (decay * len(examples.labels)), tol=1e-10, max_iter=10_000)
    theirs.fit(scaled(examples), examples.labels)
    expected = theirs.predict_proba(scaled(examples))
    if classes == 2:  # theirs has one output there, ours two: twice the pull for the same difference
        theirs = LogisticRegression(C=2 / (decay * len(examples.labels)), tol=1e-10, max_iter=10_000)
        expected = theirs.fit(scaled(examples), examples.labels).predict_proba(scaled(examples))
    logits = torch.from_numpy(answer(fit("linear", examples, decay), examples.values)).double()
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, atol=2e-4)


def test_a_single_output_is_logistic_regression():
    examples = make_examples(classes=2, single_output=True)
    theirs = LogisticRegression(C=1 / (0.1 * len(examples.labels)), tol=1e-10, max_iter=10_000)
    expected = theirs.fit(scaled(examples), examples.labels).predict_proba(scaled(examples))
    logits = answer(fit("linear", examples, 0.1), examples.values)
    assert logits.shape == (90, 1)
    shares = two_logits(torch.from_numpy(logits).double()).softmax(dim=1)
    np.testing.assert_allclose(shares.numpy(), expected, atol=2e-4)


def test_several_labels_are_a_regression_each():
    one = make_examples(classes=2)
    table = np.stack([one.labels, 1 - one.labels, np.roll(one.labels, 1)], axis=1)
    logits = answer(fit("linear", Examples(one.values, table, CLASSES), 0.1), one.values)
    for column in range(3):  # the loss is the mean over three
        theirs = LogisticRegression(C=1 / (3 * 0.1 * 90), tol=1e-10, max_iter=10_000)
        expected = theirs.fit(scaled(one), table[:, column]).predict_proba(scaled(one))[:, 1]
        np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, column])), expected, atol=2e-4)


def test_the_nearest_of_all_is_the_nearest_neighbour():
    examples, others = make_examples(), make_examples(seed=1)
    values = (others.values - examples.values.mean(axis=0)) / examples.values.std(axis=0)
    theirs = KNeighborsClassifier(1).fit(scaled(examples), examples.labels).predict(values)
    assert (answer(fit("neighbours", examples, 1), others.values).argmax(axis=1) == theirs).all()


def test_votes_weigh_less_the_farther_they_are():
    values = np.array([[0.0], [1.0], [1.1], [-9.1], [7.0]], dtype=np.float32)
    head = heads.Neighbours(1, 2, 5, 3)
    head.load_state_dict(
        {
            "embeddings": torch.from_numpy(values),
            "labels": torch.tensor([0, 1, 1, 0, 0]),
            "mean": torch.zeros(1),
            "scale": torch.ones(1),
        }
    )
    near = head(torch.tensor([[0.2]])).exp() - 0.5
    ratio = (0.8 / 0.2) ** 2, (0.9 / 0.2) ** 2
    expected = [1.0, sum(np.exp(-(r - 1) / 2) for r in ratio)]
    np.testing.assert_allclose(near[0].numpy(), expected, rtol=1e-4)
    at_one = head(torch.tensor([[1.0]]))  # a distance of 0
    assert at_one.isfinite().all()
    assert at_one.argmax() == 1


@pytest.mark.parametrize("sharpness", [10.0, 0.1])
def test_prototypes_are_the_nearest_means(sharpness):
    examples, others = make_examples(), make_examples(seed=1)
    values = (others.values - examples.values.mean(axis=0)) / examples.values.std(axis=0)
    theirs = NearestCentroid().fit(scaled(examples), examples.labels).predict(values)
    found = answer(fit("prototypes", examples, sharpness), others.values).argmax(axis=1)
    assert (found == theirs).all()


@pytest.mark.parametrize("kind", heads.KINDS)
def test_every_kind_learns(kind):
    examples = make_examples(apart=2.0)
    head, _ = choose_head(kind, examples)
    other = make_examples(apart=2.0)
    assert (answer(head, other.values).argmax(axis=1) == other.labels).mean() > 0.95


@pytest.mark.parametrize("kind", heads.KINDS)
def test_the_same_seed_gives_the_same_head(kind):
    examples = make_examples()
    one, other = (choose_head(kind, examples, 3)[0] for _ in range(2))
    np.testing.assert_array_equal(answer(one, examples.values), answer(other, examples.values))


def test_a_class_without_examples_is_never_answered():
    examples = make_examples(classes=3)
    fewer = Examples(examples.values, examples.labels % 2, CLASSES)
    for kind in heads.KINDS:
        head, _ = choose_head(kind, fewer)
        noise = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32) * 5 + 3
        assert (answer(head, noise).argmax(axis=1) == 2).mean() < 0.02


def test_a_class_with_one_picture_among_many_is_no_hindrance():
    many = make_examples(count=4200)
    labels = np.where(np.arange(4200) == 7, 2, many.labels % 2)
    groups = tuple(str(number // 3) for number in range(4200))
    _, setting = choose_head("prototypes", Examples(many.values, labels, CLASSES, groups))
    assert setting == heads.SETTINGS["prototypes"][2]


def test_neighbours_answer_at_every_place_of_a_map():
    head = fit("neighbours", make_examples(), 3)
    places = torch.randn(2, 4, 5, 12)
    expected = head(places.flatten(0, 2)).reshape(2, 4, 5, 3)
    torch.testing.assert_close(head(places), expected)


@pytest.mark.parametrize("kind", ["linear", "neighbours", "prototypes"])
def test_the_setting_is_chosen_by_what_was_not_learned_from(kind):
    """With labels by chance, whatever says least is best; on the training examples it would be what says most."""
    random = np.random.default_rng(0)
    noise = Examples(random.normal(size=(120, 40)).astype(np.float32), random.integers(0, 2, 120), ("a", "b"))
    settings = heads.SETTINGS[kind]
    head, setting = choose_head(kind, noise)
    losses = [mean_loss(one, noise) for one in fit_heads(kind, noise, settings)]
    assert setting != settings[int(np.argmin(losses))]
    apart = make_examples(apart=4.0)
    surer, _ = choose_head(kind, apart)
    others = Examples(random.normal(size=(120, 40)).astype(np.float32), noise.labels, ("a", "b"))
    assert mean_loss(surer, apart) < 0.4
    assert abs(mean_loss(head, others) - np.log(2)) < 0.1


def test_views_of_one_picture_stay_on_one_side():
    """With copies on both sides, one neighbour would look best on labels by chance."""
    random = np.random.default_rng(0)
    values, labels = random.normal(size=(60, 20)).astype(np.float32), random.integers(0, 2, 60)
    twice = Examples(
        np.repeat(values, 2, axis=0), np.repeat(labels, 2), ("a", "b"), tuple(str(i // 2) for i in range(120))
    )
    assert choose_head("neighbours", twice)[1] > 1
    for kept, held_out in heads._cuts(twice, 0):
        assert not {i // 2 for i in kept.tolist()} & {i // 2 for i in held_out.tolist()}


def test_one_picture_of_a_class_is_enough_to_learn_from():
    examples = make_examples(count=3)
    for kind in heads.KINDS:
        head, setting = choose_head(kind, examples)
        assert setting == heads.SETTINGS[kind][len(heads.SETTINGS[kind]) // 2]
        assert (answer(head, examples.values).argmax(axis=1) == examples.labels).all()


def test_a_feature_that_is_always_the_same_does_no_harm():
    examples = make_examples()
    values = np.concatenate([examples.values, np.full((90, 2), 3.0, dtype=np.float32)], axis=1)
    head = fit("linear", Examples(values, examples.labels, CLASSES), 0.01)
    assert all(value.isfinite().all() for value in head.parameters())
    assert (answer(head, values).argmax(axis=1) == examples.labels).mean() > 0.9


# joined with the network


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 3
    pixels = random.integers(0, 120, (40, 32, 32, 3)) + 60 * np.eye(3, dtype=int)[labels][:, None, None]
    return Images(pixels.astype(np.uint8), labels, CLASSES)


def make_backbone(name="resnet20_cifar", number_format="float32"):
    plan = choose_plan("cpu", number_format, training=False)
    prepare = Prepare(resize=(32, 32), mean=(0.4,), std=(0.25,))
    classes = tuple(f"class {number}" for number in range(10))
    return Classifier(eb.create_model(name, num_classes=10, seed=0), classes, prepare, {}, plan)


def examples_of(backbone, pictures, **more):
    return Examples(Embedder(backbone)(pictures), pictures.labels, pictures.classes, **more)


@pytest.mark.parametrize("kind", heads.KINDS)
def test_joined_it_answers_as_on_embeddings(kind, pictures, tmp_path):
    backbone = make_backbone()
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    examples = examples_of(backbone, pictures)
    head, _ = choose_head(kind, examples)
    joined = join_head(backbone, head, CLASSES, {"origin": "a test"})
    inputs = torch.cat([backbone.prepare(pictures.read(i)) for i in range(40)])
    expected = answer(head, examples.values)
    np.testing.assert_allclose(joined.logits(inputs).numpy(), expected, atol=2e-5, rtol=1e-4)
    joined.save(tmp_path / "joined.safetensors")
    loaded = Classifier.load(tmp_path / "joined.safetensors", device="cpu")
    loaded.plan = backbone.plan
    np.testing.assert_array_equal(loaded.logits(inputs).numpy(), joined.logits(inputs).numpy())
    assert loaded.prepare == backbone.prepare
    assert loaded.facts["origin"] == "a test"
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_in_bfloat16_it_answers_as_on_embeddings_up_to_rounding(pictures):
    backbone = make_backbone(number_format="bfloat16")
    examples = examples_of(backbone, pictures)
    head, _ = choose_head("linear", examples)
    joined = join_head(backbone, head, CLASSES, {})
    inputs = torch.cat([backbone.prepare(pictures.read(i)) for i in range(40)])
    expected = answer(head, examples.values)
    assert np.abs(joined.logits(inputs).numpy() - expected).max() < 0.05 * np.abs(expected).max()


def test_a_joined_one_with_a_single_output(pictures):
    backbone, two = make_backbone(), pictures.select(np.flatnonzero(pictures.labels < 2))
    two = Images(two.pixels, two.labels, ("a", "b"))
    head, _ = choose_head("linear", examples_of(backbone, two, single_output=True))
    joined = join_head(backbone, head, ("a", "b"), {})
    assert joined.model.num_classes == 1
    assert eb.evaluate(joined, two).top1 > 0.9


@pytest.mark.parametrize("name", list_models())
def test_a_linear_head_can_stand_in_every_network(name):
    """What is built again from the options has the same weights by name and shape."""
    with torch.device("meta"):
        joined = eb.create_model(name)
        put_fitted(joined, torch.nn.Linear(joined.head.in_features, 2))
        again = eb.create_model(name, **joined.model_options)
        again.remove_auxiliary_heads()
    assert joined.num_classes == 2
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in joined.state_dict().items()
    }


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_head_behind_flattened_maps_is_saved_and_loaded(kind, pictures, tmp_path):
    plain = make_backbone()
    head = {"kind": "dense", "hidden": 4, "maps": True, "input_size": 32}
    model = eb.create_model("resnet20_cifar", num_classes=10, seed=0, head=head)
    backbone = Classifier(model, plain.classes, plain.prepare, {}, plain.plan)
    examples = examples_of(backbone, pictures)
    fitted = fit(kind, examples, heads.SETTINGS[kind][0])
    joined = join_head(backbone, fitted, CLASSES, {})
    joined.save(tmp_path / "joined.safetensors")
    loaded = Classifier.load(tmp_path / "joined.safetensors", device="cpu")
    loaded.plan = backbone.plan
    inputs = torch.cat([backbone.prepare(pictures.read(i)) for i in range(16)])
    np.testing.assert_array_equal(loaded.logits(inputs).numpy(), joined.logits(inputs).numpy())


@pytest.mark.parametrize("kind", ["dense", "neighbours"])
def test_a_joined_head_can_be_replaced(kind, pictures):
    backbone = make_backbone()
    head, _ = choose_head(kind, examples_of(backbone, pictures))
    model = join_head(backbone, head, CLASSES, {}).model
    model.replace_head(7)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    again = eb.create_model(model.model_name, **model.model_options)
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


# as options of a network


def test_the_lectures_head_has_the_lectures_parameters():
    """Lecture L3.9: 256-dropout-1 on 7×7×2048 maps, 25,690,625 parameters."""
    head = {"kind": "dense", "hidden": 256, "dropout": 0.5, "maps": True, "input_size": 224}
    with torch.device("meta"):
        model = eb.create_model("resnet50", num_classes=1, head=head)
    standing = model.get_submodule(model.head_name)
    assert sum(parameter.numel() for parameter in standing.parameters()) == 25_690_625
    assert model.num_classes == 1
    assert model.fixed_input


def test_a_head_on_maps_takes_pictures_of_its_size_only(refuses):
    head = {"kind": "dense", "hidden": 8, "dropout": 0.0, "maps": True, "input_size": 32}
    model = eb.create_model("resnet20_cifar", num_classes=2, head=head).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 2)
    with refuses(InputSizeError, "was given pictures of 40×40 pixels"):
        model(torch.zeros(2, 3, 40, 40))
    with refuses(ModelError, "does not pool over all places"):
        eb.create_model("alexnet", head=head | {"input_size": 64})


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"kind": "denes"}, "a kind"),
        ({"kind": "dense", "hidden": 0}, "hidden"),
        ({"kind": "dense", "width": 3}, "width"),
        ("dense", "a kind"),
        ({"kind": "dense", "hidden": 3j}, "plain data"),
    ],
)
def test_a_head_that_will_not_do(head, said, refuses):
    with refuses(ModelError, "was given a head: ") as raised:
        eb.create_model("resnet18", head=head)
    assert said in raised.value.expected


def test_weights_meet_a_fresh_head(tmp_path):
    plain = eb.create_model("resnet20_cifar", num_classes=10, seed=1)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    head = {"kind": "dense", "hidden": 16, "dropout": 0.5}
    model = eb.create_model("resnet20_cifar", num_classes=3, weights=tmp_path / "plain.pth", head=head, seed=2)
    assert model.num_classes == 3
    assert torch.equal(model.state_dict()["conv1.weight"], plain.state_dict()["conv1.weight"])
    again = eb.create_model("resnet20_cifar", num_classes=3, weights=tmp_path / "plain.pth", head=head, seed=2)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    torch.save(model.state_dict(), tmp_path / "own.pth")
    own = eb.create_model("resnet20_cifar", weights=tmp_path / "own.pth", head=head)
    assert own.num_classes == 3
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), own.parameters(), strict=True))
