import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.models.create import create_model

NAMES = ["googlenet", "googlenet_2014"]


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return create_model(request.param, num_classes=5, auxiliary_heads=True, seed=0, initialisation="he").eval()


def pictures(count=2, side=64):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "parameters"), list(zip(NAMES, (13_004_888, 13_378_280), strict=True)))
def test_parameters_with_auxiliary_heads(name, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name, auxiliary_heads=True).parameters()) == parameters


def test_map_sizes_of_the_papers_table_1():
    with torch.device("meta"):
        outputs = create_model("googlenet_2014").forward_stages(torch.empty(1, 3, 224, 224))
    shapes = {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    assert shapes["stem"] == (192, 28, 28)
    assert shapes["inception3b"] == (480, 28, 28)
    assert [shapes[f"inception4{x}"] for x in "abcde"] == [
        (512, 14, 14), (512, 14, 14), (512, 14, 14), (528, 14, 14), (832, 14, 14),
    ]  # fmt: skip
    assert [shapes[f"inception5{x}"] for x in "ab"] == [(832, 7, 7), (1024, 7, 7)]


def test_an_inception_module_is_four_branches(model):
    module = copy.deepcopy(model.inception3a).double()
    x = torch.randn(2, 192, 9, 7, dtype=torch.float64)

    def layer(convolution, x):
        conv, norm = convolution.conv, convolution.bn
        y = F.conv2d(x, conv.weight, conv.bias, padding=conv.weight.shape[2] // 2)
        if isinstance(norm, nn.BatchNorm2d):
            y = (y - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var[:, None, None] + 1e-3)
        return F.relu(y)

    branches = [
        layer(module.branch1, x),
        layer(module.branch2[1], layer(module.branch2[0], x)),
        layer(module.branch3[1], layer(module.branch3[0], x)),
        layer(module.branch4[1], F.max_pool2d(x, 3, 1, 1)),
    ]
    torch.testing.assert_close(module(x), torch.cat(branches, dim=1))
    kernels = {"googlenet": 3, "googlenet_2014": 5}
    assert module.branch3[1].conv.kernel_size == (kernels[model.model_name],) * 2


def test_auxiliary_heads_change_the_gradient_of_lower_layers_alone(model):
    network = copy.deepcopy(model)  # in evaluation mode: without dropout
    labels = torch.tensor([1, 3])

    def gradients(weight):
        network.zero_grad()
        logits, auxiliary = network.forward_training(pictures())
        loss = F.cross_entropy(logits, labels)
        (loss + weight * sum(F.cross_entropy(answers, labels) for answers in auxiliary)).backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    without, with_heads = gradients(0.0), gradients(0.3)
    for name, same in (("conv1", False), ("inception4a", False), ("inception4d", False), ("inception4e", True),
                       ("inception5b", True), ("fc", True)):  # fmt: skip
        names = [key for key in without if key.startswith(f"{name}.")]
        assert names
        assert all(torch.equal(without[key], with_heads[key]) == same for key in names if key.endswith("conv.weight"))


def test_removing_auxiliary_heads_leaves_the_answers_bit_equal(model):
    x = pictures()
    with torch.no_grad():
        before = model(x)
        logits, auxiliary = model.forward_training(x)
        assert torch.equal(logits, before)
        assert [answers.shape for answers in auxiliary] == [(2, 5), (2, 5)]
        changed = copy.deepcopy(model)
        changed.remove_auxiliary_heads()
        assert torch.equal(changed(x), before)
    assert changed.auxiliary_heads() == {}
    assert not [key for key in changed.state_dict() if key.startswith("aux")]
    assert changed.model_options["auxiliary_heads"] is False
    again = create_model(changed.model_name, **changed.model_options)
    assert again.state_dict().keys() == changed.state_dict().keys()


def test_the_auxiliary_heads_of_the_library_have_its_keys():
    truth = json.loads(Path(__file__).with_name("truth.json").read_text())["googlenet"]["shapes"]
    with torch.device("meta"):
        keys = create_model("googlenet", auxiliary_heads=True).state_dict().keys()
    assert keys - truth.keys() == {
        f"{head}.{name}"
        for head in ("aux1", "aux2")
        for name in (
            "conv.conv.weight", "conv.bn.weight", "conv.bn.bias", "conv.bn.running_mean", "conv.bn.running_var",
            "conv.bn.num_batches_tracked", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias",
        )
    }  # fmt: skip


def test_first_weights_are_cut_off():
    weight = create_model("googlenet", seed=0).inception4e.branch2[1].conv.weight
    assert weight.abs().max() <= 0.02
    assert weight.std().item() == pytest.approx(0.0088, rel=0.02)  # of a normal distribution cut off at two deviations


def test_a_new_head_is_new_in_the_auxiliary_heads_too(model):
    changed = copy.deepcopy(model)
    changed.replace_head(3)
    logits, auxiliary = changed.forward_training(pictures())
    assert [answers.shape for answers in (logits, *auxiliary)] == [(2, 3)] * 3
    again = create_model(changed.model_name, **changed.model_options)
    again.load_state_dict(changed.state_dict())


def test_first_weights_of_the_papers_form():
    """Without batch norm, the library's small weights would let the signal fade."""
    model = create_model("googlenet_2014", num_classes=5, seed=0).eval()
    conv = model.conv3.conv
    assert torch.equal(conv.bias, torch.full_like(conv.bias, 0.2))
    assert conv.weight.abs().max() <= (6 / (64 * 9 + 192 * 9)) ** 0.5
    with torch.no_grad():
        outputs = model.forward_stages(pictures(side=96))
    assert outputs["inception5b"].std() > 0.05


def test_the_auxiliary_pool_of_each_form():
    """14×14 maps: 5×5 means with stride 3 in the paper (§5), evenly laid windows in the library."""
    x = torch.randn(1, 512, 14, 14)
    for name, expected in (("googlenet_2014", F.avg_pool2d(x, 5, 3)), ("googlenet", F.adaptive_avg_pool2d(x, 4))):
        with torch.device("meta"):
            model = create_model(name, auxiliary_heads=True)
        assert torch.equal(model.aux1.pool(x), expected)
