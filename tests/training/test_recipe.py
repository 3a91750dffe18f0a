import pytest

from eyebright.errors import ModelError, RecipeError
from eyebright.training.recipe import list_recipes, load_recipe, make_recipe

MINIMAL = {
    "data": {"source": "digits"},
    "model": {"name": "lenet5"},
    "training": {"epochs": 2, "learning_rate": 0.1},
}


def with_values(**sections):
    return {name: MINIMAL.get(name, {}) | sections.get(name, {}) for name in {*MINIMAL, *sections}}


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_is_right_and_survives_toml(name, tmp_path):
    recipe = load_recipe(name)
    (tmp_path / "copy.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "copy.toml") == recipe
    assert recipe.name == name
    assert recipe.about


def test_plain_twins_differ_from_their_residual_net_in_the_network_only():
    for depth in (20, 32, 44, 56):
        plain = load_recipe(f"plain{depth}-cifar10").model_dump()
        residual = load_recipe(f"resnet{depth}-cifar10").model_dump()
        different = {key for key in plain if plain[key] != residual[key]}
        assert different == {"name", "about", "model"}


def test_changes_take_toml_values_and_bare_text():
    changes = ["training.epochs=3", "training.schedule=cosine", "augment.rotation=7.5", "data.source=some/folder"]
    recipe = load_recipe("lenet5-digits", [change for change in changes if "schedule" not in change])
    assert (recipe.training.epochs, recipe.augment.rotation, recipe.data.source) == (3, 7.5, "some/folder")
    assert load_recipe("lenet5-digits", changes).training.schedule == "cosine"


def test_every_augmentation_survives_toml(tmp_path):
    augment = {
        "random_resized_crop": [0.2, 0.9], "alternating_flip": True, "perspective": 0.3, "perspective_probability": 0.2,
        "blur": [0.1, 2], "blur_probability": 0.3, "rand_augment": [2, 9], "erasing": 0.2, "erasing_area": [0.1, 0.2],
        "erasing_aspect": [0.5, 2], "erasing_fill": "mean", "mixup": 0.2, "cutmix": 1,
    }  # fmt: skip
    recipe = make_recipe(with_values(augment=augment, prepare={"crop": 28}))
    assert recipe.augment.model_dump(mode="json", exclude_defaults=True) == augment
    (tmp_path / "copy.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "copy.toml") == recipe.model_copy(update={"name": "unnamed"})


def test_extends_a_file_beside_and_keeps_what_it_does_not_name(tmp_path):
    (tmp_path / "base.toml").write_text(load_recipe("lenet5-digits").to_toml())
    (tmp_path / "more.toml").write_text('extends = "base.toml"\n[training]\nepochs = 7\n')
    more = load_recipe(tmp_path / "more.toml")
    assert more.training.epochs == 7
    assert more.training.batch_size == load_recipe("lenet5-digits").training.batch_size
    assert more.name == "more"


def test_recipes_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (with_values(training={"epoch": 3}), "unknown key 'epoch' in \\[training\\].*did you mean 'epochs'"),
        (with_values(optimizer={}), "unknown key 'optimizer'"),
        (with_values(training={"epochs": 0}), "training.epochs = 0.*greater than or equal to 1"),
        (with_values(training={"epochs": "three"}), "training.epochs = 'three'.*integer"),
        (with_values(training={"optimizer": "sdg"}), "training.optimizer = 'sdg'.*'sgd'"),
        (with_values(training={"learning_rate": -1}), "learning_rate = -1"),
        (with_values(training={"milestones": [3]}), "milestones means nothing with schedule"),
        (with_values(training={"optimizer": "adam", "momentum": 0.5}), "momentum means nothing with optimizer"),
        (with_values(training={"schedule": "multi_step"}), "needs milestones"),
        (with_values(training={"schedule": "multi_step", "milestones": [5, 3]}), "milestones must ascend"),
        (with_values(training={"skip_easy": [0.5, 0.5]}, augment={"mixup": 1.0}), "which mixed ones have not"),
        (with_values(training={"sides": [[0.5, 24], [0.0, 16]]}), "sides must be in the order of their shares"),
        (with_values(training={"warmup_epochs": 2}), "warmup_epochs = 2 must be fewer than epochs = 2"),
        (with_values(training={"accumulate": 200}), "accumulate = 200"),
        (with_values(augment={"random_crop": True}), "random_crop takes its size from crop"),
        (with_values(augment={"padding": 4}), "padding means nothing"),
        (with_values(augment={"random_resized_crop": [0.08, 1]}), "takes its size from crop, or resize = \\[height"),
        (with_values(augment={"random_resized_crop": [0.08, 1]}, prepare={"resize": 64}), "takes its size from crop"),
        (
            with_values(augment={"random_resized_crop": [0.08, 1], "random_crop": True}, prepare={"crop": 28}),
            "augment will not do.*random_crop and random_resized_crop exclude each other",
        ),
        (with_values(augment={"random_resized_crop": True}), "augment.random_resized_crop = True.*tuple"),
        (with_values(augment={"random_resized_crop": [1, 0.08]}), "augment.random_resized_crop.*the least first"),
        (with_values(augment={"horizontal_flip": 0.5, "alternating_flip": True}), "exclude each other"),
        (with_values(augment={"rand_augment": [2, 40]}), "augment.rand_augment.1 = 40.*less than or equal to 30"),
        (with_values(augment={"rand_augment": 2}), "augment.rand_augment = 2.*tuple"),
        (with_values(augment={"blur": [0, 2]}), "augment.blur.0 = 0.*greater than 0"),
        (with_values(augment={"perspective": 0.9}), "augment.perspective = 0.9.*less than or equal to 0.6"),
        (with_values(augment={"erasing": 2}), "augment.erasing = 2.*less than or equal to 1"),
        (with_values(augment={"erasing_fill": "black"}), "augment.erasing_fill = 'black'.*'noise' or 'mean'"),
        (with_values(augment={"mixup": -1}), "augment.mixup = -1.*greater than or equal to 0"),
        (with_values(augment={"mix_up": 1}), "unknown key 'mix_up' in \\[augment\\].*did you mean 'mixup'"),
        (with_values(prepare={"mean": [0.1, 0.2]}), "mean needs 1 number or 3, not 2"),
        (with_values(prepare={"std": [0]}), "prepare.std"),
        (with_values(prepare={"statistics": "train", "mean": [0.5]}), "leave them out"),
        (with_values(prepare={"crop": 0}), "prepare.crop"),
        (with_values(data={"folds": 5}), "folds and fold belong together"),
        (with_values(data={"fold": 1}), "folds and fold belong together"),
        (with_values(data={"folds": 1, "fold": 1}), "data.folds = 1.*greater than or equal to 2"),
        (with_values(data={"folds": 5, "fold": 6}), "fold = 6 must be one of 1 to folds = 5"),
        (with_values(data={"folds": 5, "fold": 1, "val_fraction": 0.2}), "val_fraction and folds exclude each other"),
        ({"data": {"source": "digits"}, "model": {"name": "lenet5"}}, "'training' is missing"),
    ],
)
def test_what_is_wrong_is_said(values, says):
    with pytest.raises(RecipeError, match=f"(?s){says}"):
        make_recipe(values)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"name": "lenet6"}, "did you mean 'lenet5'"),
        ({"name": "alexnet", "dropuot": 0.1}, "did you mean 'dropout'"),
        ({"name": "alexnet", "dropout": 2.0}, "dropout"),
    ],
)
def test_the_network_is_checked_against_its_builder(model, says):
    with pytest.raises(ModelError, match=says):
        make_recipe(MINIMAL | {"model": model})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("lenet5-digit", "did you mean 'lenet5-digits'"),
        ("nowhere.toml", "no recipe file"),
    ],
)
def test_an_unknown_recipe_names_the_nearest(source, says):
    with pytest.raises(RecipeError, match=says):
        load_recipe(source)


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path / "bad.toml")


@pytest.mark.parametrize("change", ["epochs=3", "training.epochs", "about.x=3", "=3"])
def test_a_change_that_is_none_is_refused(change):
    with pytest.raises(RecipeError, match="change"):
        load_recipe("lenet5-digits", [change])
