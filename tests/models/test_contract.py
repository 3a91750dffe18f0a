"""What every network of the catalog keeps to."""

import copy
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.errors import InputSizeError, ModelError
from eyebright.inspection.summary import summarise
from eyebright.layers.norm import InstanceNorm, LocalResponseNorm
from eyebright.models.catalog import find_entry, list_models
from eyebright.models.create import create_model

TRUTH = json.loads(Path(__file__).with_name("truth.json").read_text())
LARGER_TWINS = {  # of networks that differ from a smaller one in the number of blocks alone
    *(f"vgg{depth}{norm}" for depth in (13, 16, 19) for norm in ("", "_bn")),
    *(f"resnet{depth}{form}" for depth in (34, 101, 152) for form in ("", "_2015")),
    "plain34",
    *(f"{kind}{depth}_cifar" for kind in ("resnet", "plain") for depth in (32, 44, 56, 110)),
}
ONE_OF_EACH_KIND = [name for name in list_models() if name not in LARGER_TWINS]
HEAVY = {name for name in LARGER_TWINS if "_cifar" not in name} | {"vgg11_bn", "resnet50_2015", "inception_v4"}  # slow
WITH_WEIGHTS = [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in list_models()]


@pytest.fixture(scope="module", params=WITH_WEIGHTS)
def model(request):
    """A network with weights, in evaluation mode; what changes it works on a copy."""
    return create_model(request.param, seed=0).eval()


@pytest.fixture(params=list_models())
def shadow(request):
    """A network without weights."""
    with torch.device("meta"):
        return create_model(request.param).eval()


def pictures(model, height=None, width=None, count=2):
    height = height or model.default_input
    shape = (count, model.in_channels, height, width or height)
    if next(model.parameters()).is_meta:
        return torch.empty(shape, device="meta")
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def trained_parameters(model):
    """By name. Every parameter of a new network learns, but for what airbench keeps fixed."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert model.model_name == "airbench" or trained.keys() == dict(model.named_parameters()).keys()
    return trained


def test_parameters(shadow):
    assert sum(parameter.numel() for parameter in shadow.parameters()) == TRUTH[shadow.model_name]["parameters"]


def test_state_dict_keys(shadow):
    truth = TRUTH[shadow.model_name]
    truth = TRUTH[truth["shapes_of"]] if "shapes_of" in truth else truth
    if "shapes" not in truth:
        pytest.skip("no published state dict")
    assert {key: list(value.shape) for key, value in shadow.state_dict().items()} == truth["shapes"]


def test_every_buffer_is_stored(shadow):
    """A classifier file is loaded into a network without values: what is not in the file would be left undefined."""
    assert {name for name, _ in shadow.named_buffers()} <= set(shadow.state_dict())


def test_multiply_adds(shadow):
    truth, found = TRUTH[shadow.model_name], summarise(shadow).multiply_adds
    if "mmac" in truth:  # published, in millions, to one decimal
        assert found / 1e6 == pytest.approx(truth["mmac"], rel=1e-3, abs=0.05)
    else:
        assert found == truth["multiply_adds"]


def test_stages_hold_every_parameter_once(shadow):
    stages = shadow.stages()
    held = [p for modules in stages.values() for module in modules for p in module.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == set(shadow.parameters())
    assert list(stages)[-1] == "head"
    assert stages["head"][-1] is shadow.head


def test_smallest_input(shadow):
    smallest = shadow.smallest_input
    assert shadow(pictures(shadow, smallest)).shape == (2, shadow.num_classes)
    wrong = [(smallest - 1, smallest), (smallest, smallest - 1)]
    if shadow.fixed_input:
        wrong += [(smallest + 1, smallest)]
    else:
        assert shadow(pictures(shadow, smallest + 9, smallest + 2)).shape == (2, shadow.num_classes)
    for height, width in wrong:
        for forward in (shadow, shadow.forward_stages):
            with pytest.raises(
                InputSizeError, match=f"{shadow.model_name}.*{height}×{width}.*\n.*{smallest}×{smallest}"
            ):
                forward(torch.empty(2, shadow.in_channels, height, width, device="meta"))


def test_below_smallest_input_a_map_would_be_empty(shadow, monkeypatch):
    if shadow.fixed_input:
        pytest.skip("takes one size only")
    monkeypatch.setattr(type(shadow), "check_input_size", lambda *_: None)
    with pytest.raises(RuntimeError):
        shadow(torch.empty(2, shadow.in_channels, *[shadow.smallest_input - 1] * 2, device="meta"))


def test_rebuild(shadow):
    with torch.device("meta"):
        again = create_model(shadow.model_name, **json.loads(json.dumps(shadow.model_options)))
        other = create_model(shadow.model_name, num_classes=7, in_channels=4)
    assert str(again) == str(shadow)
    assert (other.num_classes, other.in_channels) == (7, 4)
    assert other(pictures(other)).shape == (2, 7)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in HEAVY or name.startswith(("goog", "incep")) else name
        for name in ONE_OF_EACH_KIND
    ],
)
def test_compiles_as_one_graph(name):
    torch.compiler.reset()  # all networks share the code of `forward`, and there is a limit to how often it is traced
    with torch.device("meta"):
        model = create_model(name).eval()
        assert torch.compile(model, backend="eager", fullgraph=True)(pictures(model)).shape == (2, model.num_classes)
    torch.compiler.reset()


def test_forward_stages_end_in_forward(model):
    x = pictures(model)
    with torch.no_grad():
        outputs = model.forward_stages(x)
        assert list(outputs) == list(model.stages())
        assert torch.equal(outputs["head"], model(x))


def test_smallest_input_is_finite(model):
    with torch.no_grad():
        assert model(pictures(model, model.smallest_input)).isfinite().all()


def test_channels_last(model):
    x = pictures(model)
    with torch.no_grad():
        expected = model(x)
        model.to(memory_format=torch.channels_last)
        found = model(x.contiguous(memory_format=torch.channels_last))
        model.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_gradient_reaches_every_parameter(model):
    torch.manual_seed(0)
    x = pictures(model)
    model.train()
    buffers = copy.deepcopy(dict(model.named_buffers()))
    F.cross_entropy(model(x), torch.tensor([0, 1])).backward()
    parameters = trained_parameters(model)
    without = [name for name, p in parameters.items() if p.grad is None or not p.grad.count_nonzero()]
    model.zero_grad(set_to_none=True)
    model.eval()
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    assert not without


def test_state_dict_round_trip(model):
    stored = safetensors.torch.save(model.state_dict())
    with torch.device("meta"):
        again = create_model(model.model_name, **model.model_options)
    again.to_empty(device="cpu").load_state_dict(safetensors.torch.load(stored))
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_same_seed_same_weights(model):
    before = torch.get_rng_state()
    again = create_model(model.model_name, seed=0)
    other = create_model(model.model_name, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items())


def test_replace_head(model):
    changed = copy.deepcopy(model)
    changed.replace_head(3)
    assert (changed.num_classes, changed.model_options["num_classes"]) == (3, 3)
    assert changed(pictures(changed)).shape == (2, 3)
    assert list(changed.state_dict()) == list(model.state_dict())
    assert model.model_options["num_classes"] == model.num_classes != 3
    assert changed.stages()["head"][-1] is changed.head
    with pytest.raises(ModelError, match=r"a head of 0 classes\n.*at least 1"):
        changed.replace_head(0)


STYLES = {  # sets of options, and the layers that show them
    "layer": ({"normalisation": "layer", "nonlinearity": "leaky_relu", "initialisation": "he"},
              (nn.GroupNorm, nn.LeakyReLU)),
    "instance": ({"normalisation": "instance", "nonlinearity": "gelu", "initialisation": "xavier"},
                 (InstanceNorm, nn.GELU)),
    "group": ({"normalisation": "group", "nonlinearity": "silu", "initialisation": "identity"},
              (nn.GroupNorm, nn.SiLU)),
    "local_response": ({"normalisation": "local_response", "nonlinearity": "tanh", "channel_dropout": 0.2},
                       (LocalResponseNorm, nn.Tanh, nn.Dropout2d)),
    "none": ({"normalisation": "none", "dropout": 0.15}, (nn.Dropout,)),
    "after": ({"normalisation": "batch", "normalise": "after", "nonlinearity": "relu"}, (nn.BatchNorm2d, nn.ReLU)),
}  # fmt: skip
OWN_OPTIONS = {
    "resnet18": {"preactivation": True, "stem": "cifar"},
    "resnet50": {"preactivation": True},
    "resnet20_cifar": {"preactivation": True, "span": 1},
    "lenet5": {"input_size": 40},
    "cnn_recitation": {"input_size": 40, "width": 9},
    "googlenet": {"auxiliary_heads": True},
    "inception_v3": {"auxiliary_heads": True},
    "airbench": {"widths": (16, 32, 48)},
}
FAMILIES = (  # one network of each class that has a style
    *("lenet5", "alexnet", "alexnet_2012", "zfnet", "vgg11", "googlenet", "inception_v2", "inception_v3"),
    *("inception_v4", "resnet18", "plain18", "resnet20_cifar", "cnn_cifar", "cnn_mnist", "cnn_recitation", "airbench"),
)
STYLED = [(name, *case) for name in FAMILIES for case in STYLES.values()] + [
    (name, options, ()) for name, options in OWN_OPTIONS.items()
]
NORMS = (nn.BatchNorm2d, nn.GroupNorm, InstanceNorm)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh)


@pytest.mark.parametrize(
    ("name", "options", "layers"), STYLED, ids=[f"{name}-{'-'.join(map(str, o.values()))}" for name, o, _ in STYLED]
)
def test_every_option_is_built_and_trained(name, options, layers):
    """On pictures whose last maps have more than one pixel: instance norm needs two."""
    with torch.device("meta"):
        model = create_model(name, num_classes=3, **options)
    placed = {"normalise": "before"} if options.get("normalisation") == "none" else {}
    assert model.model_options == find_entry(name).options | placed | options | {"num_classes": 3}
    kinds = {type(layer) for layer in model.modules()}
    assert set(layers) <= kinds
    if "normalisation" in options:
        assert not {*NORMS} - {*layers} & kinds
    if "nonlinearity" in options:
        assert not {*ACTIVATIONS} - {*layers} & kinds
    if "dropout" in options:
        assert 0.15 in {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)}
    x = pictures(model, model.default_input if model.fixed_input else 131)
    assert list(model.forward_stages(x).values())[-1].shape == (2, 3)
    model.train()
    logits, auxiliary = model.forward_training(x)
    (logits.sum() + sum(answers.sum() for answers in auxiliary)).backward()
    assert all(parameter.grad is not None for parameter in trained_parameters(model).values())
    held = [p for modules in model.stages().values() for module in modules for p in module.parameters()]
    held += [p for head in model.auxiliary_heads().values() for p in head.parameters()]
    assert set(held) == set(model.parameters())
    with torch.device("meta"):
        assert str(create_model(name, **json.loads(json.dumps(model.model_options)))) == str(model)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("initialisation", ["he", "xavier", "identity"])
def test_first_weights_are_those_asked_for(name, initialisation):
    """The spread of a layer's weights: √(2 / fan in) after He, √(2 / (fan in + fan out)) after Glorot."""
    if name in HEAVY | {"vgg11", "alexnet", "alexnet_2012", "zfnet", "inception_v3"} and initialisation != "identity":
        pytest.skip("seconds each; their way is that of the others")
    model = create_model(name, num_classes=40, seed=0, initialisation=initialisation)
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.groups == 1]
    layer = max(convolutions, key=lambda layer: layer.weight.numel())
    out, fan_in, size = layer.out_channels, layer.weight[0].numel(), layer.kernel_size[0] * layer.kernel_size[1]
    if initialisation == "identity":
        x = torch.randn(1, layer.in_channels, 9, 9)
        shared = min(out, layer.in_channels)
        same = F.conv2d(x, layer.weight, padding=tuple(side // 2 for side in layer.kernel_size))
        assert torch.equal(same[:, :shared, :9, :9], x[:, :shared])
    else:
        spread = (2 / fan_in if initialisation == "he" else 2 / (fan_in + out * size)) ** 0.5
        assert layer.weight.std().item() == pytest.approx(spread, rel=0.05)
        assert not any(layer.bias.any() for layer in convolutions if layer.bias is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_learns_32_random_pictures_by_heart(name):
    """Without dropout, in training mode, on small pictures; every network in its full width.

    The first weights of the original AlexNet and of ZFNet are made for pixels on the scale 0…255, so they are given
    such. Networks with large dense layers learn at a tenth of the others' rate.
    """
    if name == "plain110_cifar":
        pytest.skip("it does not train: that is what the plain networks are there to show")
    options = {"dropout": 0.0} if "dropout" in find_entry(name).options else {}
    options |= {"input_size": 32} if name == "cnn_recitation" else {}
    model = create_model(name, num_classes=10, seed=0, **options)
    size = max(model.smallest_input, 32 if name.startswith(("googlenet", "inception_v2")) else 16)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, model.in_channels, size, size, generator=generator)
    x *= 64 if name in ("alexnet_2012", "zfnet") else 1
    labels = torch.randint(10, (32,), generator=generator)
    dense = name.startswith(("alexnet", "zfnet", "vgg"))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4 if dense else 1e-3, fused=True)
    for _ in range(300):
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
        if loss < 0.1 and torch.equal(logits.argmax(1), labels):
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pytest.fail(f"loss {loss:.3f} after 300 steps")
