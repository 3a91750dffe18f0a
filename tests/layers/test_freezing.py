"""Which layers patterns freeze, and what that does to a network."""

import pytest
import torch

from eyebright.errors import ModelError
from eyebright.layers.freezing import find_frozen, freeze, list_layers
from eyebright.models.create import create_model


def frozen_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["c1"], ["c1.0"]),
        (["c1", "c3"], ["c1.0", "c3.0"]),
        (["c*"], ["c1.0", "c3.0", "c5.0"]),
        (["c?.0", "!c3"], ["c1.0", "c5.0"]),
        (["*", "!head"], ["c1.0", "c3.0", "c5.0", "f6.0"]),
        (["*", "!head", "!f6.0", "f6"], ["c1.0", "c3.0", "c5.0", "f6.0"]),
        (["[:2]"], ["c1.0", "c3.0"]),
        (["[-1:]"], ["f6.0"]),
        (["[1:-1]"], ["c3.0", "c5.0"]),
        (["*", "!head", "![-2:]"], ["c1.0", "c3.0"]),
        (["output"], ["output"]),
        ([], []),
    ],
)
def test_patterns_name_stages_prefixes_globs_and_positions(patterns, frozen):
    assert list(find_frozen(create_model("lenet5"), patterns)) == frozen


def test_a_layer_is_a_convolution_with_its_normalisation_and_the_head_is_apart():
    with torch.device("meta"):
        model = create_model("resnet50", num_classes=2)
    layers = list_layers(model)
    assert layers[0] == ("conv1", "bn1")
    assert layers[-1] == ("layer4.2.conv3", "layer4.2.bn3")
    assert len(layers) == 53
    assert "fc" not in {name for layer in layers for name in layer}


def test_the_lectures_last_ten_layers_are_the_last_block():
    """4,465,664 parameters (L3.9), of which 3,072 are biases that the lecture's library gives its convolutions."""
    with torch.device("meta"):
        model = create_model("resnet50", num_classes=2)
        freeze(model, ["*", "!head", "!layer4.2"])
        same = create_model("resnet50", num_classes=2)
        freeze(same, ["*", "!head", "![-3:]"])
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = 2 * 2048 + 2
    assert trained == 4_465_664 - 3_072 + head
    assert frozen_parameters(model) == frozen_parameters(same)


def test_auxiliary_heads_are_not_counted_by_position():
    with torch.device("meta"):
        model = create_model("googlenet", num_classes=2, auxiliary_heads=True)
    assert all(not name.startswith("aux") for layer in list_layers(model) for name in layer)
    assert any(name.startswith("aux") for name in find_frozen(model, ["*"]))


def test_frozen_batch_norm_uses_and_keeps_its_running_statistics():
    model = create_model("resnet20_cifar", seed=0)
    freeze(model, ["*", "!head", "!layer3"])
    model.train()
    norms = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert {name for name, norm in norms.items() if norm.training} == {n for n in norms if n.startswith("layer3")}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(8, 3, 32, 32))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("layer3") for name in moved)
    assert not model.eval().training
    assert model.train().training


def test_statistics_can_be_let_go():
    model = create_model("resnet20_cifar", seed=0)
    freeze(model, ["*", "!head"], moving=["bn1"])
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(8, 3, 32, 32))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"}


def test_gradients_stop_where_nothing_below_is_trained():
    model = create_model("cnn_cifar", seed=0, dropout=0.0).train()
    freeze(model, ["stem", "stage1"])
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {
        "stage2", "stage3", "output",
    }  # fmt: skip


def test_gradients_are_those_of_the_whole_network():
    whole, some = (create_model("cnn_cifar", seed=0, dropout=0.0, normalisation="group") for _ in range(2))
    freeze(some, ["stage1", "stage3"])
    x = torch.randn(4, 3, 32, 32)
    for model in (whole, some):
        model.train()(x).square().sum().backward()
    for name, parameter in some.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, whole.get_parameter(name).grad)
        else:
            assert parameter.grad is None


@pytest.mark.parametrize("pattern", ["layr4", "[50:]", "layer9.*", ""])
def test_a_pattern_that_names_nothing_is_refused(pattern):
    with torch.device("meta"):
        model = create_model("resnet18")
    with pytest.raises(ModelError, match="names nothing with weights in resnet18"):
        find_frozen(model, [pattern])


def test_the_nearest_name_is_proposed():
    with torch.device("meta"), pytest.raises(ModelError, match=r"did you mean 'layer4'\?"):
        find_frozen(create_model("resnet18"), ["layr4"])


def test_something_must_be_left_to_train():
    with pytest.raises(ModelError, match=r"with \* all of lenet5 is frozen") as caught:
        freeze(create_model("lenet5"), ["*"])
    assert '"!head"' in str(caught.value)


@pytest.mark.parametrize("normalisation", ["batch", "layer", "instance", "group"])
def test_norms_are_every_normalisation(normalisation):
    model = create_model("cnn_cifar", normalisation=normalisation)
    frozen = find_frozen(model, ["norms"])
    kinds = {type(model.get_submodule(name)) for name in frozen}
    assert len(kinds) == 1
    kind = kinds.pop()
    assert "Norm" in kind.__name__
    assert len(frozen) == sum(isinstance(module, kind) for module in model.modules())
