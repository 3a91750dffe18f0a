import copy
import json

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from eyebright.errors import InputSizeError, ModelError
from eyebright.inspection.summary import render, summarise
from eyebright.layers.network import Network
from eyebright.models.create import create_model


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "size"),
    [("lenet5", 32), ("alexnet", 224), ("alexnet_2012", 99), ("cnn_cifar", 32), ("resnet20_cifar", 33)],
)
def test_multiply_adds_equal_torchs_count(name, size):
    model = on_meta(name).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, model.in_channels, size, size, device="meta"))
    summary = summarise(model, size)
    assert summary.multiply_adds == sum(layer.multiply_adds for layer in summary.layers)
    assert 2 * summary.multiply_adds == counter.get_total_flops()


def test_layers_of_lenet():
    layers = summarise(create_model("lenet5")).layers
    found = [(x.path, x.stage, x.kind, x.settings, x.output_shape, x.parameters, x.multiply_adds) for x in layers]
    assert found == [
        ("c1.0", "c1", "Conv2d", "1→6, 5×5", (6, 28, 28), 156, 117_600),
        ("c1.1", "c1", "Tanh", "", (6, 28, 28), 0, 0),
        ("s2", "s2", "AvgPool2d", "2×2, stride 2", (6, 14, 14), 0, 0),
        ("c3.0", "c3", "Conv2d", "6→16, 5×5", (16, 10, 10), 2_416, 240_000),
        ("c3.1", "c3", "Tanh", "", (16, 10, 10), 0, 0),
        ("s4", "s4", "AvgPool2d", "2×2, stride 2", (16, 5, 5), 0, 0),
        ("c5.0", "c5", "Conv2d", "16→120, 5×5", (120, 1, 1), 48_120, 48_000),
        ("c5.1", "c5", "Tanh", "", (120, 1, 1), 0, 0),
        ("c5.2", "c5", "Flatten", "", (120,), 0, 0),
        ("f6.0", "f6", "Linear", "120→84", (84,), 10_164, 10_080),
        ("f6.1", "f6", "Tanh", "", (84,), 0, 0),
        ("output", "head", "Linear", "84→10", (10,), 850, 840),
    ]


def test_settings():
    settings = {layer.path: f"{layer.kind} {layer.settings}" for layer in summarise(on_meta("alexnet")).layers}
    assert settings["features.0"] == "Conv2d 3→64, 11×11, stride 4, padding 2"
    assert settings["features.2"] == "MaxPool2d 3×3, stride 2"
    assert settings["avgpool"] == "AdaptiveAvgPool2d to 6×6"
    assert settings["classifier.0"] == "Dropout 0.5"
    settings = {layer.path: f"{layer.kind} {layer.settings}" for layer in summarise(on_meta("alexnet_2012")).layers}
    assert settings["conv1.2"] == "LocalResponseNorm 5 channels, groups 2"
    assert settings["conv4.0"] == "Conv2d 384→384, 3×3, padding 1, groups 2"
    settings = {layer.path: f"{layer.kind} {layer.settings}" for layer in summarise(on_meta("cnn_cifar")).layers}
    assert settings["stem.0"] == "Conv2d 3→32, 3×3, padding 1, no bias"
    assert settings["stem.1"] == "BatchNorm2d 32"
    assert settings["stem.2"] == "LeakyReLU 0.01"


def test_totals_and_largest():
    summary = summarise(on_meta("alexnet", num_classes=10))
    assert (summary.parameters, summary.trainable, summary.frozen) == (57_044_810, 57_044_810, 0)
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert sum(layer.share for layer in summary.layers) == pytest.approx(1)
    assert [layer.path for layer in summary.largest()] == ["classifier.1", "classifier.4", "features.8"]
    assert summary.largest(1)[0].share == pytest.approx(37_752_832 / 57_044_810)
    assert summary.notes == ()


def test_frozen_layers():
    model = create_model("resnet20_cifar")
    model.layer1.requires_grad_(False)
    model.linear.bias.requires_grad_(False)
    summary = summarise(model)
    frozen = sum(p.numel() for p in model.layer1.parameters()) + 10
    assert (summary.frozen, summary.trainable) == (frozen, summary.parameters - frozen)
    assert sum(layer.trainable for layer in summary.layers) == summary.trainable
    assert {layer.trainable for layer in summary.layers if layer.stage == "stage1"} == {0}
    head = summary.layers[-1]
    assert (head.parameters, head.trainable) == (650, 640)
    assert "trainable" in drawn(summary)


def test_notes_a_pool_that_repeats():
    model = on_meta("alexnet")
    (note,) = summarise(model, 64).notes
    assert note == (
        "at 64×64 pixels the map before avgpool is 1×1, and the pool repeats it 36 times; "
        "real 6×6 maps come from 223×223 pixels up"
    )
    (note,) = summarise(model, 222).notes
    assert "is 5×5, and the pool repeats its values to fill 6×6; real" in note
    assert summarise(model, 223).notes == ()


def test_model_is_untouched():
    model = create_model("cnn_cifar", seed=0).train()
    calls = []
    model.stem[0].register_forward_hook(lambda *_: calls.append(1))
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    summarise(model)
    assert not calls
    assert all(module.training for module in model.modules())
    assert torch.equal(rng, torch.get_rng_state())
    assert len(model.stem[0]._forward_hooks) == 1
    assert not any(module._forward_hooks for module in model.modules() if module is not model.stem[0])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class Odd(Network):
    """Uses one layer twice and another not at all."""

    default_input = smallest_input = 4
    head_name = "output"

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(2, 2, 3, padding=(1, 1), stride=(1, 1))
        self.pool = nn.Sequential(nn.AvgPool2d((4, 2), (4, 2), padding=(0, 1)), nn.Flatten())
        self.output = nn.Linear(6, 5, bias=False)
        self.auxiliary = nn.Linear(3, 3)

    def stages(self):
        return {"body": (self.twice, self.twice), "pool": (self.pool,), "head": (self.output,)}


def test_layer_used_twice_counts_once_and_unused_stands_at_the_end():
    summary = summarise(Odd())
    found = [(layer.path, layer.stage, layer.parameters, layer.multiply_adds) for layer in summary.layers]
    assert found == [
        ("twice", "body", 38, 16 * 36),
        ("twice", "body", 0, 16 * 36),
        ("pool.0", "pool", 0, 0),
        ("pool.1", "pool", 0, 0),
        ("output", "head", 30, 30),
        ("auxiliary", "training only", 12, 0),
    ]
    assert summary.model == "Odd"
    assert summary.parameters == 80
    assert summary.layers[2].settings == "4×2, stride 4×2, padding 0×1"
    assert summary.layers[4].settings == "6→5, no bias"
    assert "training only" in drawn(summary)


def test_data_for_json():
    data = json.loads(json.dumps(summarise(on_meta("lenet5")).as_dict()))
    assert data["model"] == "lenet5"
    assert data["input_shape"] == [1, 32, 32]
    assert data["parameters"] == 61_706
    assert data["layers"][0]["settings"] == "1→6, 5×5"
    assert data["largest"] == ["c5.0", "f6.0", "c3.0"]


def drawn(summary, width=120):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(render(summary))
    return capture.get()


def test_render():
    text = drawn(summarise(on_meta("alexnet", num_classes=10), 64))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "alexnet for 3×64×64" in lines
    assert "conv1 features.0 Conv2d 3→64, 11×11, stride 4, padding 2 64×15×15 11 23,296 0.0% 5.2" in lines
    assert "head classifier.6 Linear 4096→10 10 all 40,970 0.1% 0.0" in lines
    assert "total 57,044,810 100.0% 94.1" in lines
    assert "trainable" not in text
    assert "repeats it 36 times" in text


def test_errors():
    with pytest.raises(InputSizeError, match=r"alexnet was given pictures of 62×62 pixels\n.*at least 63×63"):
        summarise(on_meta("alexnet"), 62)
    with pytest.raises(ModelError, match=r"alexnet.*1 channels\n.*3, as it was built\n.*`in_channels=1`"):
        summarise(on_meta("alexnet"), in_channels=1)
    assert summarise(on_meta("alexnet", in_channels=1), in_channels=1).input_shape == (1, 224, 224)


def test_a_head_of_neighbours():
    model = create_model("resnet20_cifar", num_classes=3, head={"kind": "neighbours", "pictures": 40, "nearest": 5})
    assert summarise(model, 32).parameters == sum(parameter.numel() for parameter in model.parameters())
