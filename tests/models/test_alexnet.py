import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eyebright.errors import ModelError
from eyebright.models.alexnet import AlexNet, AlexNet2012
from eyebright.models.alexnet_split import SplitAlexNet2012
from eyebright.models.create import create_model


@pytest.fixture(scope="module")
def original():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AlexNet2012(num_classes=10).eval()


@pytest.mark.parametrize("stage", ["conv2", "conv4", "conv5"])
def test_halves_do_not_see_each_other(original, stage):
    before, changed = other_half_changed(original, stage)
    channels = before.shape[1] // 2
    assert torch.equal(before[:, :channels], changed[:, :channels])
    assert not torch.equal(before[:, channels:], changed[:, channels:])


def test_conv3_sees_both_halves(original):
    before, changed = other_half_changed(original, "conv3")
    channels = before.shape[1] // 2
    assert not torch.equal(before[:, :channels], changed[:, :channels])
    assert not torch.equal(before[:, channels:], changed[:, channels:])


def test_response_norm_of_conv1_stays_within_each_half(original):
    norm, x = original.conv1[2], torch.rand(1, 96, 5, 5)
    x[:, 44:52] = 1000.0  # loud neighbours on both sides of the border
    alone = norm(torch.cat([x[:, :48], torch.zeros(1, 48, 5, 5)], dim=1))
    assert torch.equal(norm(x)[:, :48], alone[:, :48])


def other_half_changed(model, stage):
    """The stage's output for an input, and for the same with the second half of its channels changed."""
    (module,) = model.stages()[stage]
    in_channels = module[0].in_channels
    x = torch.rand(1, in_channels, 27, 27) * 50
    y = x.clone()
    y[:, in_channels // 2 :] += 20
    with torch.no_grad():
        return module(x), module(y)


def test_halves_are_two_small_towers(original):
    """The slow twin: conv1 and conv2 of each half as a network of its own."""
    x = torch.randn(2, 3, 99, 99) * 50
    with torch.no_grad():
        together = original.forward_stages(x)["conv2"]
        for half in (0, 1):
            conv1, conv2 = original.conv1[0], original.conv2[0]
            kernels1, kernels2 = slice(48 * half, 48 * half + 48), slice(128 * half, 128 * half + 128)
            y = nn.functional.conv2d(x, conv1.weight[kernels1], conv1.bias[kernels1], stride=4).relu()
            y = nn.functional.max_pool2d(nn.functional.local_response_norm(y, 5, 5e-4, 0.75, 2.0), 3, 2)
            y = nn.functional.conv2d(y, conv2.weight[kernels2], conv2.bias[kernels2], padding=2).relu()
            y = nn.functional.max_pool2d(nn.functional.local_response_norm(y, 5, 5e-4, 0.75, 2.0), 3, 2)
            torch.testing.assert_close(together[:, kernels2], y, rtol=1e-4, atol=1e-5)


def test_order_is_convolution_relu_norm_pool(original):
    for stage in (original.conv1, original.conv2):
        assert [type(layer).__name__ for layer in stage] == ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
        assert (stage[2].size, stage[2].k, stage[2].alpha, stage[2].beta) == (5, 2.0, 1e-4, 0.75)


def test_first_weights_of_the_paper(original):
    ones = {"conv2.0", "conv4.0", "conv5.0", "fc6.1", "fc7.0"}
    for name, layer in original.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03), name
            assert (layer.bias == (1 if name in ones else 0)).all(), name


def test_new_head_starts_as_the_paper_says(original):
    changed = copy.deepcopy(original)
    changed.replace_head(100)
    assert changed.head.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert (changed.head.bias == 0).all()


@pytest.mark.parametrize(("builder", "size"), [(AlexNet, 224), (AlexNet2012, 227)])
def test_adaptive_pool_changes_nothing_at_the_size_of_the_paper(builder, size):
    with torch.device("meta"):
        outputs = builder().forward_stages(torch.empty(1, 3, size, size))
    assert outputs["conv5"].shape == outputs["pool"].shape == (1, 256, 6, 6)
    x = torch.randn(1, 256, 6, 6)
    assert torch.equal(nn.AdaptiveAvgPool2d(6)(x), x)


def test_shapes_of_the_paper():
    with torch.device("meta"):
        model = AlexNet2012()
        assert model.conv1[0](torch.empty(1, 3, 227, 227)).shape == (1, 96, 55, 55)
        outputs = model.forward_stages(torch.empty(1, 3, 227, 227))
    shapes = {name: tuple(output.shape[1:]) for name, output in outputs.items()}
    assert shapes == {
        "conv1": (96, 27, 27),
        "conv2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 6, 6),
        "pool": (256, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
        "head": (1000,),
    }


@pytest.mark.parametrize(("builder", "parameters"), [(AlexNet, 57_044_810), (AlexNet2012, 56_909_194)])
def test_ten_classes(builder, parameters):
    with torch.device("meta"):
        model = builder(num_classes=10)
        changed = builder()
        changed.replace_head(10)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in changed.parameters()) == parameters


@pytest.mark.parametrize("builder", [AlexNet, AlexNet2012])
def test_dropout_is_an_option(builder):
    with torch.device("meta"):
        model = builder(dropout=0.25)
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


# the original on two devices


def halves_and_whole(devices=("cpu", "cpu"), dtype=torch.float64, **options):
    whole = create_model("alexnet_2012", num_classes=7, seed=0, **options).to(dtype)
    with torch.no_grad():  # so that local response normalisation and ReLU have something to do
        for parameter in whole.parameters():
            parameter.mul_(3)
    return SplitAlexNet2012(whole, devices), whole


def check_equal(split, whole, x, training, device="cpu", **tolerance):
    outputs, gradients = [], []
    for model in (split.train(training), whole.train(training)):
        torch.manual_seed(3)
        logits = model(x)
        F.cross_entropy(logits, torch.tensor([1, 5], device=device)).backward()
        outputs.append(logits.detach())
    torch.testing.assert_close(*outputs, **tolerance)
    gradients = {name: parameter.grad for name, parameter in whole.named_parameters()}
    for half, number in zip(split.halves, (0, 1), strict=True):
        for name, parameter in half.named_parameters():
            expected = gradients[name.replace("fc6.0", "fc6.1")].chunk(2)[number]
            assert expected.any()
            torch.testing.assert_close(parameter.grad.to(device), expected, **tolerance)
    torch.testing.assert_close(split.fc8.weight.grad, gradients["fc8.weight"], **tolerance)


@pytest.mark.parametrize("training", [False, True])
def test_the_halves_give_the_same_logits_and_gradients_as_the_whole(training):
    """In training with the same dropout masks."""
    split, whole = halves_and_whole()
    check_equal(split, whole, torch.randn(2, 3, 99, 99, dtype=torch.float64) * 50, training)


@pytest.mark.cuda
@pytest.mark.parametrize("training", [False, True])
def test_the_halves_on_a_gpu_and_the_cpu(training):
    split, whole = halves_and_whole(("cuda:0", "cpu"))
    x = torch.randn(2, 3, 99, 99, dtype=torch.float64, device="cuda") * 50
    check_equal(split, whole.to("cuda"), x, training, "cuda", rtol=1e-6, atol=1e-9)


def test_the_halves_exchange_data_before_conv3_and_the_dense_layers_only():
    split, _ = halves_and_whole()
    seen = []
    exchange = split.exchange
    split.exchange = lambda own: seen.append(tuple(own[0].shape[1:])) or exchange(own)
    split.eval()(torch.randn(1, 3, 227, 227, dtype=torch.float64))
    assert seen == [(128, 13, 13), (128 * 36,), (2048,), (2048,)]
    first, second = split.halves
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_a_network_that_only_answers_is_split_into_halves_that_only_answer():
    whole = create_model("alexnet_2012", num_classes=3, seed=0).eval()
    x = torch.randn(1, 3, 99, 99) * 50
    with torch.no_grad():
        torch.testing.assert_close(SplitAlexNet2012(whole, ("cpu", "cpu"))(x), whole(x), rtol=1e-5, atol=1e-6)


def test_biases_of_one_are_the_papers_alone():
    assert create_model("alexnet_2012", num_classes=3, initialisation="he").conv4[0].bias.abs().max() == 0


def test_halves_are_joined_again():
    split, whole = halves_and_whole()
    joined = split.whole_state_dict()
    assert list(joined) == list(whole.state_dict())
    assert all(torch.equal(value, joined[name]) for name, value in whole.state_dict().items())


def test_another_style_is_not_split(refuses):
    with refuses(ModelError, "an alexnet_2012 with .*batch.* was to be split"):
        SplitAlexNet2012(create_model("alexnet_2012", normalisation="batch"), ("cpu", "cpu"))
    with refuses(ModelError, "was to be split"):
        SplitAlexNet2012(create_model("alexnet_2012", nonlinearity="gelu"), ("cpu", "cpu"))


def test_the_original_against_its_definition_in_float64():
    """Grouped convolutions as two halves written out, and local response normalisation as sums over channels."""
    model = create_model("alexnet_2012", num_classes=5, seed=1).double().eval()
    x = torch.randn(1, 3, 120, 100, dtype=torch.float64) * 50

    def half(name, number):
        conv = getattr(model, name)[0]
        return conv.weight.chunk(2)[number], conv.bias.chunk(2)[number]

    def response_norm(a):
        b = torch.empty_like(a)
        for i in range(a.shape[1]):
            near = range(max(0, i - 2), min(a.shape[1], i + 3))
            b[:, i] = a[:, i] / (2 + 1e-4 * sum(a[:, j] ** 2 for j in near)) ** 0.75
        return b

    with torch.no_grad():
        maps = [x, x]
        maps = [response_norm(F.relu(F.conv2d(maps[n], *half("conv1", n), stride=4))) for n in (0, 1)]
        maps = [F.max_pool2d(own, 3, 2) for own in maps]
        maps = [response_norm(F.relu(F.conv2d(maps[n], *half("conv2", n), padding=2))) for n in (0, 1)]
        maps = [F.max_pool2d(own, 3, 2) for own in maps]
        both = torch.cat(maps, dim=1)
        maps = [F.relu(F.conv2d(both, *half("conv3", n), padding=1)) for n in (0, 1)]
        maps = [F.relu(F.conv2d(maps[n], *half("conv4", n), padding=1)) for n in (0, 1)]
        maps = [F.max_pool2d(F.relu(F.conv2d(maps[n], *half("conv5", n), padding=1)), 3, 2) for n in (0, 1)]
        flat = F.adaptive_avg_pool2d(torch.cat(maps, dim=1), 6).flatten(1)
        hidden = F.relu(flat @ model.fc6[1].weight.T + model.fc6[1].bias)
        hidden = F.relu(hidden @ model.fc7[0].weight.T + model.fc7[0].bias)
        torch.testing.assert_close(model(x), hidden @ model.fc8.weight.T + model.fc8.bias, rtol=1e-10, atol=1e-12)
