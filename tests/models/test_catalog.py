import json
from pathlib import Path

import pytest
import torch

from eyebright.errors import ModelError
from eyebright.layers.network import Network
from eyebright.models.catalog import CATALOG, find_entry, list_models
from eyebright.models.create import check_options, create_model


def test_names():
    assert list_models() == list(CATALOG)
    assert all(entry.name == name for name, entry in CATALOG.items())
    assert set(CATALOG) == set(json.loads(Path(__file__).with_name("truth.json").read_text()))


@pytest.mark.parametrize("entry", CATALOG.values(), ids=lambda entry: entry.name)
def test_entry(entry):
    with torch.device("meta"):
        model = entry.create(entry.options)
    assert issubclass(entry.network, Network)
    assert type(model) is entry.network
    assert (model.default_input, model.in_channels) == (entry.default_input, entry.in_channels)
    assert list(entry.options)[:2] == ["num_classes", "in_channels"]
    assert entry.build.__doc__
    assert entry.summary.endswith(".")
    assert (entry.year is None) == (entry.paper is None)
    assert check_options(entry.name, entry.options) == entry.options


def test_unknown_name():
    with pytest.raises(ModelError) as error:
        find_entry("alexnt")
    assert "there is no network 'alexnt'" in error.value.problem
    assert error.value.remedy == "did you mean 'alexnet'?"
    with pytest.raises(ModelError, match="choose one of these names"):
        create_model("???")


def test_unknown_option():
    with pytest.raises(ModelError) as error:
        check_options("resnet20_cifar", {"nonlinearty": "tanh"})
    assert error.value.problem == "resnet20_cifar has no option 'nonlinearty'"
    assert "dropout, span, preactivation, normalisation, normalise, nonlinearity" in error.value.expected
    assert error.value.remedy == "did you mean 'nonlinearity'?"
    with pytest.raises(ModelError, match="leave 'zzz' out"):
        check_options("lenet5", {"zzz": 1})


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("lenet5", {"nonlinearity": "sine"}, "nonlinearity to be 'relu', 'leaky_relu', 'gelu', 'silu' or 'tanh'"),
        ("alexnet", {"dropout": 1.0}, "dropout to be less than 1"),
        ("alexnet", {"dropout": -0.1}, "dropout to be greater than or equal to 0"),
        ("alexnet", {"dropout": float("nan")}, "dropout to be"),
        ("alexnet", {"dropout": "0.5"}, "dropout to be a valid number"),
        ("alexnet", {"num_classes": True}, "num_classes to be a valid integer"),
        ("alexnet", {"num_classes": 2.5}, "num_classes to be a valid integer"),
        ("alexnet", {"num_classes": 0}, "num_classes to be greater than 0"),
        ("alexnet", {"in_channels": torch.tensor(3)}, "in_channels to be plain data"),
        ("cnn_recitation", {"input_size": 6}, "input_size to be greater than or equal to 7"),
        ("resnet20_cifar", {"initialisation": "Xavier"}, "initialisation to be 'paper', 'he', 'xavier' or 'identity'"),
    ],
)
def test_wrong_value(name, options, expected):
    ((option, value),) = options.items()
    with pytest.raises(ModelError) as error:
        check_options(name, options)
    assert error.value.problem == f"{name} was given {option} = {value!r}"
    assert expected in error.value.expected
    assert error.value.remedy.endswith(f"or leave it out for {CATALOG[name].options[option]!r}")


def test_options_are_completed():
    checked = check_options("alexnet", {"dropout": 0})
    assert list(checked) == [
        "num_classes", "in_channels", "dropout",
        "normalisation", "normalise", "nonlinearity", "channel_dropout", "initialisation",
    ]  # fmt: skip
    assert (checked["num_classes"], checked["in_channels"], checked["dropout"]) == (1000, 3, 0.0)
    assert isinstance(checked["dropout"], float)


def test_model_remembers_how_it_was_built():
    model = create_model("lenet5", num_classes=3, nonlinearity="relu")
    assert model.model_name == "lenet5"
    changed = {"num_classes": 3, "nonlinearity": "relu"}
    assert model.model_options == find_entry("lenet5").options | changed
    model.replace_head(7)
    assert model.model_options["num_classes"] == 7


def test_global_generator_is_untouched_with_a_seed_and_used_without():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    create_model("lenet5", seed=0)
    assert torch.equal(before, torch.get_rng_state())
    create_model("lenet5")
    assert not torch.equal(before, torch.get_rng_state())


def test_smallest_recitation():
    model = create_model("cnn_recitation", input_size=7)
    assert model(torch.zeros(1, 3, 7, 7)).shape == (1, 2)


def test_options_that_mean_nothing_together_are_refused():
    with pytest.raises(ModelError, match=r'^normalise = "after" without a normalisation'):
        check_options("vgg16", {"normalise": "after"})
    assert check_options("vgg16", {"normalise": "after", "normalisation": "group"})["normalise"] == "after"


def test_a_network_without_its_normalisation_has_no_place_for_it():
    assert find_entry("zfnet").options["normalise"] == "after"
    assert check_options("zfnet", {"normalisation": "none"})["normalise"] == "before"


def test_a_style_is_an_option_of_its_own():
    options = find_entry("resnet18").options
    assert options["normalisation"] == "batch"
    assert find_entry("vgg16").options["normalisation"] == "none"
    assert find_entry("vgg16_bn").options["normalisation"] == "batch"
    assert "style" not in options
    with pytest.raises(ModelError, match="resnet18 was given normalisation = 'batsch'"):
        check_options("resnet18", {"normalisation": "batsch"})
