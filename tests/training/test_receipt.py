"""What is frozen is the same to the bit after training: ten patterns over six networks."""

import json

import numpy as np
import pytest
import torch

from eyebright import road
from eyebright.classifier import Classifier
from eyebright.data.images import Images
from eyebright.data.split import Splits
from eyebright.errors import RecipeError
from eyebright.tensors import tensor_digest as digest
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe, make_recipe
from eyebright.training.run import Run

CASES = [
    ("lenet5", ["c1"], {}),
    ("lenet5", ["*", "!head"], {}),
    ("cnn_cifar", ["stem", "stage1"], {}),
    ("cnn_cifar", ["*", "!head", "![-2:]"], {"ema_decay": 0.9}),
    ("resnet20_cifar", ["*", "!head", "!layer3"], {"weight_decay": 0.1, "optimizer": "sgd", "momentum": 0.9}),
    ("resnet20_cifar", ["layer[12].*.bn?"], {"clip_norm": 0.1}),
    ("resnet18", ["[:10]"], {"accumulate": 2}),
    ("resnet18", ["stem", "stage4"], {"optimizer": "adamw", "weight_decay": 0.1, "decay_all": True}),
    ("googlenet", ["*", "!head", "!inception5b", "!aux1"], {"auxiliary_weight": 0.3}),
    ("airbench", ["*", "!head"], {"optimizer": "muon"}),
]


def splits(channels=3):
    random = np.random.default_rng(0)
    made = [
        Images(random.integers(0, 256, (24, 32, 32, channels), dtype=np.uint8), np.arange(24) % 3, ("a", "b", "c"))
        for _ in range(3)
    ]
    return Splits(*made)


def recipe_of(name, freeze, **training):
    settings = {"epochs": 2, "learning_rate": 0.01, "batch_size": 8, "optimizer": "adam", "freeze": freeze}
    channels = 1 if name == "lenet5" else 3
    return make_recipe({"prepare": {"channels": channels}, "model": {"name": name}, "training": settings | training})


@pytest.mark.parametrize(("name", "freeze", "training"), CASES)
def test_everything_frozen_is_the_same_to_the_bit_and_the_rest_moves(name, freeze, training):
    fit = Fit(recipe_of(name, freeze, **training), splits(1 if name == "lenet5" else 3))
    before = {key: value.clone() for key, value in fit.model.state_dict().items()}
    wanted = {key for key, parameter in fit.model.named_parameters() if not parameter.requires_grad}
    for _ in fit:
        pass
    after = fit.classifier().model.state_dict()
    receipt = fit.receipt()
    assert receipt.broken == ()
    entries = {entry.name: entry for entry in receipt.entries}
    assert entries.keys() == after.keys()
    assert {
        key for key, entry in entries.items() if entry.frozen and entry.kind == "parameter"
    } == wanted & after.keys()
    for key, entry in entries.items():
        assert entry.same == torch.equal(before[key], after[key])
        assert entry.same or not entry.frozen
    free = [entry for entry in entries.values() if not entry.frozen and entry.kind == "parameter"]
    assert free
    assert not any(entry.same for entry in free if before[entry.name].ndim > 1)
    frozen_norms = {key.rpartition(".")[0] for key in wanted if f"{key.rpartition('.')[0]}.running_mean" in after}
    assert all(entries[f"{norm}.running_mean"].frozen for norm in frozen_norms)
    assert "all of them are the same to the bit" in receipt.sentences()[0]


def test_a_thawed_batch_norm_is_reported():
    fit = Fit(recipe_of("resnet20_cifar", ["*", "!head"], moving_statistics=["layer2.0.bn1"]), splits())
    for _ in fit:
        pass
    receipt = fit.receipt()
    assert receipt.broken == ()
    moved = {entry.name for entry in receipt.entries if not entry.same}
    statistics = {f"layer2.0.bn1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert moved == {"linear.weight", "linear.bias", *statistics}
    assert "let go by layer2.0.bn1 moved: layer2.0.bn1.running_mean" in receipt.sentences()[-1]


def test_what_moved_behind_the_receipts_back_is_found():
    fit = Fit(recipe_of("resnet20_cifar", ["*", "!head"], keep="last"), splits())
    for _ in fit:
        with torch.no_grad():
            fit.model.get_parameter("layer1.0.conv1.weight")[0, 0, 0, 0] += 1e-6
            fit.model.get_buffer("bn1.running_var")[3] += 1e-6
    receipt = fit.receipt()
    assert [entry.name for entry in receipt.broken] == ["bn1.running_var", "layer1.0.conv1.weight"]
    assert "2 of them changed: bn1.running_var, layer1.0.conv1.weight" in receipt.sentences()[0]
    assert receipt.as_dict()["broken"] == ["bn1.running_var", "layer1.0.conv1.weight"]


def test_how_far_something_moved_is_in_lengths_of_it():
    fit = Fit(recipe_of("lenet5", ["c1"]), splits(1))
    with torch.no_grad():
        fit.model.get_parameter("f6.0.weight").mul_(1.25)
    moved = {entry.name: entry.moved for entry in fit.receipt().entries}
    assert moved["f6.0.weight"] == pytest.approx(0.25, rel=1e-5)
    assert moved["c1.0.weight"] == moved["c3.0.weight"] == 0


def test_equal_bytes_of_another_shape_or_format_are_another_digest():
    values = torch.arange(6, dtype=torch.int32)
    assert digest(values) == digest(values.clone())
    others = (values.view(2, 3), values.view(torch.float32), values + 1)
    assert len({digest(values), *(digest(other) for other in others)}) == 4
    assert digest(values.view(2, 3).t()) == digest(values.view(2, 3).t().contiguous())


def test_a_resumed_training_gives_the_same_receipt():
    recipe = recipe_of("cnn_cifar", ["stem"])
    whole, halved = Fit(recipe, splits()), Fit(recipe, splits())
    next(iter(halved))
    state = halved.state()
    resumed = Fit(recipe, splits())
    resumed.load_state(state)
    for fit in (whole, resumed):
        for _ in fit:
            pass
    assert resumed.receipt() == whole.receipt()


def test_a_run_keeps_its_receipt_and_shows_it(tmp_path, eyebright):
    run = road.train(
        "lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1", 'training.freeze=["c1","c3"]']
    )
    receipt = json.loads((tmp_path / "run" / "receipt.json").read_text())
    assert receipt["freeze"] == ["c1", "c3"]
    assert receipt["broken"] == []
    after = Classifier.load(run.classifier_path).model.state_dict()
    assert {entry["name"]: entry["after"] for entry in receipt["entries"]} == {n: digest(v) for n, v in after.items()}
    assert "Frozen: 4 of 10 parameters and buffers" in (tmp_path / "run" / "report.html").read_text()
    assert Run.open(run.path).check()["receipt.json"] is None
    (tmp_path / "run" / "receipt.json").write_text("{}")
    assert Run.open(run.path).check()["receipt.json"] is not None


def test_without_freezing_there_is_none(tmp_path):
    fit = Fit(load_recipe("lenet5-digits"), splits(1))
    assert fit.receipt() is None
    with pytest.raises(RecipeError, match="moving_statistics means nothing without freeze"):
        load_recipe("lenet5-digits", ['training.moving_statistics=["c1"]'])
