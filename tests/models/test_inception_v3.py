import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from eyebright.layers.blocks import Style
from eyebright.models.create import create_model
from eyebright.models.inception_v3 import Mixed


@pytest.fixture(scope="module")
def model():
    return create_model("inception_v3", num_classes=4, auxiliary_heads=True, seed=0).eval()


def test_parameters_and_keys_with_the_auxiliary_head():
    truth = json.loads(Path(__file__).with_name("truth.json").read_text())["inception_v3"]["shapes"]
    with torch.device("meta"):
        model = create_model("inception_v3", auxiliary_heads=True)
    assert sum(p.numel() for p in model.parameters()) == 27_161_264
    more = model.state_dict().keys() - truth.keys()
    assert len(more) == 14
    assert {key.split(".")[0] for key in more} == {"AuxLogits"}
    assert model.state_dict()["AuxLogits.conv1.conv.weight"].shape == (768, 128, 5, 5)


def test_map_sizes_of_the_papers_table_1():
    with torch.device("meta"):
        outputs = create_model("inception_v3").forward_stages(torch.empty(1, 3, 299, 299))
    shapes = {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    assert (shapes["stem"], shapes["mixed5d"]) == ((192, 35, 35), (288, 35, 35))
    assert (shapes["mixed6e"], shapes["mixed7c"], shapes["pool"]) == ((768, 17, 17), (2048, 8, 8), (2048,))


def layer(convolution, x, stride=1, padding=(0, 0)):
    y = F.conv2d(x, convolution.conv.weight, stride=stride, padding=padding)
    norm = convolution.bn
    return F.relu((y - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var[:, None, None] + norm.eps))


def test_a_module_of_the_last_grid_forks(model):
    module = copy.deepcopy(model.Mixed_7b).double()
    x = torch.randn(2, 1280, 5, 4, dtype=torch.float64)
    three = layer(module.branch3x3_1, x)
    double = layer(module.branch3x3dbl_2, layer(module.branch3x3dbl_1, x), padding=(1, 1))
    branches = [
        layer(module.branch1x1, x),
        layer(module.branch3x3_2a, three, padding=(0, 1)),
        layer(module.branch3x3_2b, three, padding=(1, 0)),
        layer(module.branch3x3dbl_3a, double, padding=(0, 1)),
        layer(module.branch3x3dbl_3b, double, padding=(1, 0)),
        layer(module.branch_pool, F.avg_pool2d(x, 3, 1, 1)),
    ]
    torch.testing.assert_close(module(x), torch.cat(branches, dim=1))


def test_a_module_of_the_middle_grid_has_one_sided_convolutions(model):
    module = copy.deepcopy(model.Mixed_6b).double()
    x = torch.randn(2, 768, 7, 8, dtype=torch.float64)
    y = layer(module.branch7x7_1, x)
    y = layer(module.branch7x7_3, layer(module.branch7x7_2, y, padding=(0, 3)), padding=(3, 0))
    z = layer(module.branch7x7dbl_1, x)
    for number, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
        z = layer(getattr(module, f"branch7x7dbl_{number}"), z, padding=padding)
    branches = [layer(module.branch1x1, x), y, z, layer(module.branch_pool, F.avg_pool2d(x, 3, 1, 1))]
    torch.testing.assert_close(module(x), torch.cat(branches, dim=1))


def test_a_shrinking_module_has_a_maximum_pool():
    module = Mixed(8, {"branch3x3": ((4, 1), (6, 3))}, Style(), None).double().eval()
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    y = layer(module.branch3x3_2, layer(module.branch3x3_1, x), stride=2)
    torch.testing.assert_close(module(x), torch.cat([y, F.max_pool2d(x, 3, 2)], dim=1))


def test_removing_the_auxiliary_head_leaves_the_answers_bit_equal(model):
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        logits, auxiliary = model.forward_training(x)
        changed = copy.deepcopy(model)
        changed.remove_auxiliary_heads()
        assert torch.equal(logits, before)
        assert torch.equal(changed(x), before)
    assert [answers.shape for answers in auxiliary] == [(2, 4)]
    assert not [key for key in changed.state_dict() if key.startswith("Aux")]


def test_first_weights_are_cut_off(model):
    assert model.Mixed_6e.branch1x1.conv.weight.abs().max() <= 0.2
    assert model.AuxLogits.conv1.conv.weight.abs().max() <= 0.02
    assert model.AuxLogits.fc.weight.abs().max() <= 0.002


@pytest.mark.parametrize(("size", "height"), [(17, 17), (8, 9)])
def test_the_auxiliary_head_against_its_definition(model, size, height):
    """At the paper's size a 5×5 mean with stride 3, as its published weights expect; else evenly laid windows."""
    head = copy.deepcopy(model.AuxLogits).double()
    x = torch.randn(2, 768, height, size, dtype=torch.float64)
    pooled = F.avg_pool2d(x, 5, 3) if size == 17 else F.adaptive_avg_pool2d(x, 5)
    y = layer(head.conv1, layer(head.conv0, pooled)).flatten(1)
    torch.testing.assert_close(head(x), y @ head.fc.weight.T + head.fc.bias)


def test_the_auxiliary_head_has_no_instance_norm_of_a_single_pixel():
    with torch.device("meta"):
        model = create_model("inception_v3", auxiliary_heads=True, normalisation="instance")
        logits, (auxiliary,) = model.forward_training(torch.empty(2, 3, 299, 299))
    assert logits.shape == auxiliary.shape
    assert model.AuxLogits.conv1.conv.bias is not None
