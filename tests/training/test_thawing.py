"""Head first, stage after stage, discriminative rates, the pull towards the start, and heads on embeddings."""

import copy

import numpy as np
import pytest
import torch

import eyebright as eb
from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.prepare import Prepare
from eyebright.data.split import Splits
from eyebright.device import choose_plan
from eyebright.errors import RecipeError
from eyebright.layers.freezing import freeze
from eyebright.training.optim import make_optimizer, set_learning_rate
from eyebright.training.recipe import make_recipe
from eyebright.training.thawing import Thawing

STAGES = ("stem", "stage1", "stage2", "stage3")


@pytest.fixture
def weights(tmp_path):
    """A file of weights with normalisation statistics that are not those of the start."""
    model = eb.create_model("resnet20_cifar", num_classes=10, seed=5)
    with torch.no_grad():
        model.train()(torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    plan = choose_plan("cpu", "float32", training=False)
    path = tmp_path / "trained.safetensors"
    names = tuple(f"class {number}" for number in range(10))
    Classifier(model, names, Prepare(mean=(0.4,), std=(0.2,)), {}, plan).save(path)
    return path


def make_splits(count=40):
    random = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % 3
        pixels = random.integers(0, 100, (count, 16, 16, 3)) + 50 * np.eye(3, dtype=int)[labels][:, None, None]
        return Images(pixels.astype(np.uint8), labels, ("a", "b", "c"))

    return Splits(part(count), part(12), part(6))


def recipe_of(weights, **training):
    training = {
        "epochs": 5, "batch_size": 20, "learning_rate": 0.05, "weight_decay": 1e-3, "observe_steps": 0,
        "number_format": "float32",
    } | training  # fmt: skip
    model = {"name": "resnet20_cifar"} | ({"weights": str(weights)} if weights else {})
    return make_recipe({"name": "tuning", "model": model, "training": training})


def stage_of(name):
    return {"conv1": "stem", "bn1": "stem", "layer1": "stage1", "layer2": "stage2", "layer3": "stage3"}.get(
        name.split(".")[0], "head"
    )


def moved_stages(before, after):
    return {stage_of(name) for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("head", "stage", "expected"),
    [
        (2, 0, [(), (), STAGES, STAGES, STAGES]),
        (1, 1, [(), STAGES[3:], STAGES[2:], STAGES[1:], STAGES]),
        (1, 2, [(), STAGES[3:], STAGES[3:], STAGES[2:], STAGES[2:]]),
        (0, 0, [STAGES] * 5),
    ],
)
def test_stages_are_thawed_in_turn(head, stage, expected, weights):
    """What moves in an epoch, weights and statistics, is what that epoch trains, and nothing else."""
    fit = eb.Fit(recipe_of(weights, head_epochs=head, stage_epochs=stage), make_splits())
    before = copy.deepcopy(fit.model.state_dict())
    for _, stages in zip(fit, expected, strict=True):
        after = copy.deepcopy(fit.model.state_dict())
        assert moved_stages(before, after) == {*stages, "head"}
        before = after


def test_what_is_frozen_stays_so(weights):
    model = eb.create_model("resnet20_cifar", seed=0)
    freeze(model, ["stem", "stage2"])
    thawing = Thawing(model, recipe_of(weights, head_epochs=1, stage_epochs=1).training)
    for epoch in range(8):
        thawing.begin(epoch)
        trained = {stage_of(name) for name, weight in model.named_parameters() if weight.requires_grad}
        assert not trained & {"stem", "stage2"}
        assert {"bn1", "layer2.0.bn1"} <= set(model.still)
    assert trained == {"stage1", "stage3", "head"}
    assert {stage_of(name) for name in model.still} == {"stem", "stage2"}


def test_resumed_in_the_middle_it_ends_as_uninterrupted(weights):
    recipe, splits = recipe_of(weights, head_epochs=1, stage_epochs=1, stage_factor=0.5, start_decay=0.1), make_splits()
    whole = eb.Fit(recipe, splits)
    list(whole)
    for stop in (1, 3, 5, 8):
        first, second = eb.Fit(recipe, splits), eb.Fit(recipe, splits)
        for report in first.steps():
            if report.step == stop:
                break
        second.load_state(first.state())
        list(second)
        expected = whole.model.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in second.model.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_stages_learn_at_rates_of_their_own(optimizer, weights):
    model = eb.create_model("resnet20_cifar", seed=0)
    training = recipe_of(weights, stage_factor=0.5, optimizer=optimizer).training
    search = make_optimizer(model, training)
    set_learning_rate(search, 0.8)
    rates = {id(p): group["lr"] for group in search.param_groups for p in group["params"]}
    expected = {"head": 0.8, "stage3": 0.4, "stage2": 0.2, "stage1": 0.1, "stem": 0.05}
    for name, weight in model.named_parameters():
        assert rates[id(weight)] == pytest.approx(expected[stage_of(name)])
    decays = {id(p): group["weight_decay"] for group in search.param_groups for p in group["params"]}
    for weight in model.parameters():
        assert decays[id(weight)] == (1e-3 if weight.ndim > 1 else 0)


def test_without_a_factor_the_groups_are_as_ever(weights):
    """A state that was kept before stages could have rates of their own is still understood."""
    model = eb.create_model("resnet20_cifar", seed=0)
    for decay in (1e-3, 0.0):
        groups = make_optimizer(model, recipe_of(weights, weight_decay=decay).training).param_groups
        ranks = [{weight.ndim > 1 for weight in group["params"]} for group in groups]
        assert ranks == [{True}, {False}]


def test_the_pull_is_towards_the_start(weights):
    """With a strong pull nothing but the head goes far; the gradient is that of half the squared distance."""
    splits = make_splits()

    def distance(pull):
        fit = eb.Fit(recipe_of(weights, start_decay=pull, learning_rate=0.02), splits)
        start = {name: value.detach().clone() for name, value in fit.model.named_parameters()}
        list(fit)
        return {
            name: float((value.detach() - start[name]).norm() / (start[name].norm() + 1e-9))
            for name, value in fit.model.named_parameters()
        }

    free, pulled = distance(1e-9), distance(3.0)
    body = [name for name in free if stage_of(name) != "head" and "weight" in name]
    assert np.mean([pulled[name] for name in body]) < 0.5 * np.mean([free[name] for name in body])
    assert pulled["linear.weight"] > 0.3 * free["linear.weight"]


def test_the_pull_is_exact_for_one_step(weights):
    splits, results = make_splits(), []
    for pull in (1e-9, 2.0):
        fit = eb.Fit(recipe_of(weights, start_decay=pull, momentum=0.0, learning_rate=0.01), splits)
        start = fit.model.conv1.weight.detach().clone()
        with torch.no_grad():
            fit.model.conv1.weight.add_(0.5)
        next(iter(fit.steps()))
        results.append(fit.model.conv1.weight.detach() - start)
    torch.testing.assert_close(results[0] - results[1], torch.full_like(start, 0.01 * 2.0 * 0.5), atol=1e-5, rtol=1e-3)


def test_with_a_pull_the_head_alone_decays(weights):
    model = eb.create_model("resnet20_cifar", seed=0)
    search = make_optimizer(model, recipe_of(weights, start_decay=0.1).training)
    decaying = {id(p) for group in search.param_groups if group["weight_decay"] for p in group["params"]}
    assert decaying == {id(model.linear.weight)}


# heads on embeddings

FROZEN = {"freeze": ["*", "!head"], "weight_decay": 0.0}


def test_a_head_on_embeddings_is_trained_as_behind_a_frozen_network(weights):
    splits = make_splits()
    slow = eb.Fit(recipe_of(weights, **FROZEN), splits)
    fast = eb.Fit(recipe_of(weights, **FROZEN, embeddings=True), splits)
    reports = [list(fit) for fit in (slow, fast)]
    for one, other in zip(*reports, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-4)
        assert other.val_accuracy == one.val_accuracy
    expected = slow.model.state_dict()
    for name, value in fast.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)
    assert not fast.receipt().broken
    assert fast.classifier().model.linear.weight.shape == (3, 64)


def test_each_picture_is_seen_once(weights, monkeypatch):
    seen, original = [], Classifier.embeddings

    def look(self, inputs):
        seen.append(len(inputs))
        return original(self, inputs)

    monkeypatch.setattr(Classifier, "embeddings", look)
    recipe, splits = recipe_of(weights, **FROZEN, embeddings=True), make_splits()
    list(eb.Fit(recipe, splits))
    assert sum(seen) == len(splits.train) + len(splits.val)
    eb.Fit(recipe, splits, seed=1)
    assert sum(seen) == len(splits.train) + len(splits.val)


def test_resumed_embeddings_end_as_uninterrupted(weights):
    recipe, splits = recipe_of(weights, **FROZEN, embeddings=True), make_splits()
    whole, first, second = (eb.Fit(recipe, splits) for _ in range(3))
    list(whole)
    for report in first.steps():
        if report.step == 3:
            break
    second.load_state(first.state())
    list(second)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.model.state_dict().items())


def test_the_lectures_head_is_trained_on_maps(weights):
    head = {"kind": "dense", "hidden": 8, "dropout": 0.5, "maps": True}
    values = recipe_of(weights, **FROZEN, embeddings=True).model_dump(mode="json", exclude_none=True)
    values["model"]["head"] = head
    values["prepare"]["crop"] = 16
    fit = eb.Fit(make_recipe(values), make_splits())
    assert fit.embedded.train.shape == (40, 64 * 4 * 4)
    list(fit)
    classifier = fit.classifier()
    assert eb.evaluate(classifier, make_splits().val).count == 12
    assert classifier.model.model_options["head"]["input_size"] == 16


def test_maps_need_one_size(weights, refuses):
    values = recipe_of(weights, **FROZEN, embeddings=True).model_dump(mode="json", exclude_none=True)
    values["model"]["head"] = {"kind": "dense", "maps": True}
    with refuses(RecipeError, "model.head.maps without one square size"):
        eb.Fit(make_recipe(values), make_splits())


def test_embeddings_of_what_is_trained_are_refused(weights, refuses):
    with refuses(RecipeError, "embeddings of resnet20_cifar, of which .*layer3"):
        eb.Fit(recipe_of(weights, freeze=["[:-2]"], embeddings=True), make_splits())


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"head_epochs": 5}, "head_epochs = 5 must be fewer"),
        ({"stage_epochs": 1}, "stage_epochs means nothing without head_epochs"),
        ({"embeddings": True}, "embeddings needs freeze"),
        ({**FROZEN, "embeddings": True, "head_epochs": 1}, "embeddings excludes"),
        ({"stage_factor": 0.0}, "greater than 0"),
        ({"stage_factor": 0.5, "optimizer": "muon"}, "stage_factor means nothing with"),
    ],
)
def test_what_means_nothing_is_refused(training, said, weights):
    with pytest.raises(RecipeError) as raised:
        recipe_of(weights, **training)
    assert said in str(raised.value)


def test_a_pull_needs_a_start(refuses):
    with pytest.raises(RecipeError, match="start_decay pulls towards weights"):
        recipe_of(None, start_decay=0.1)


def test_embeddings_are_not_augmented(weights):
    values = recipe_of(weights, **FROZEN, embeddings=True).model_dump(mode="json", exclude_none=True)
    with pytest.raises(RecipeError, match="embeddings are of the pictures as they are"):
        make_recipe(values | {"augment": {"horizontal_flip": 0.5}})


def test_a_head_that_is_frozen_cannot_be_first(weights, refuses):
    with refuses(RecipeError, "head_epochs = 1, but the head of resnet20_cifar is not trained"):
        eb.Fit(recipe_of(weights, freeze=["head"], head_epochs=1), make_splits())
