import copy

import pytest
import torch
import torch.nn.functional as F

from eyebright.layers.radial import DIGITS, RadialBasis, codes
from eyebright.models.create import create_model
from eyebright.models.lenet import SEEN


@pytest.fixture(scope="module")
def original():
    return create_model("lenet5_1998", seed=0).eval()


def squashed(x):
    return 1.7159 * torch.tanh(2 / 3 * x)


def subsampled(module, x):
    """Each value from its four inputs, its coefficient and its bias."""
    four = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
    return squashed(four * module.weight.view(1, -1, 1, 1) + module.bias.view(1, -1, 1, 1))


def test_the_original_against_its_definition(original):
    network = copy.deepcopy(original).double()
    x = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    outputs = network.forward_stages(x)
    c1 = squashed(F.conv2d(x, network.c1[0].weight, network.c1[0].bias))
    s2 = subsampled(network.s2[0], c1)
    kernels, c3 = iter(network.c3[0].weight), []
    for seen, bias in zip(SEEN, network.c3[0].bias, strict=True):
        c3.append(sum(F.conv2d(s2[:, i : i + 1], next(kernels)[None, None]) for i in seen) + bias)
    c3 = squashed(torch.cat(c3, dim=1))
    s4 = subsampled(network.s4[0], c3)
    c5 = squashed(s4.flatten(1) @ network.c5[0].weight.flatten(1).T + network.c5[0].bias)
    f6 = squashed(c5 @ network.f6[0].weight.T + network.f6[0].bias)
    distances = torch.stack([(f6 - code).square().sum(1) for code in network.output.weight], dim=1)
    for name, expected in {"c1": c1, "s2": s2, "c3": c3, "s4": s4, "c5": c5, "f6": f6, "output": -distances}.items():
        torch.testing.assert_close(outputs["head" if name == "output" else name], expected)


def test_parameters_of_each_layer(original):
    """The paper's own counts, §II.B."""
    counts = {name: sum(p.numel() for p in layer.parameters()) for name, layer in original.named_children()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}


def test_table_1():
    """Six maps of C3 see three neighbours, nine see four, one sees all; each map of S2 is seen ten times."""
    assert [len(maps) for maps in SEEN] == [3] * 6 + [4] * 9 + [6]
    assert [sum(i in maps for maps in SEEN) for i in range(6)] == [10] * 6
    assert len(set(SEEN)) == 16


def test_first_weights_lie_within_the_papers_bounds(original):
    assert original.c1[0].weight.abs().max() <= 2.4 / 25
    assert original.c5[0].weight.abs().max() <= 2.4 / 400
    assert original.s2[0].weight.abs().max() <= 0.6
    kernels = iter(original.c3[0].weight)
    for maps in SEEN:
        for _ in maps:
            assert next(kernels).abs().max() <= 2.4 / (25 * len(maps))


def test_squashing_keeps_one(original):
    torch.testing.assert_close(original.f6[1](torch.tensor([-1.0, 1.0])), torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)


def test_cross_entropy_of_distances_is_the_papers_criterion():
    """Equation 9 without its constant: the right code's distance, plus log of the sum over all of exp(−distance)."""
    head, x, label = RadialBasis(10).double(), torch.randn(1, 84, dtype=torch.float64), 3
    distances = (x - head.weight).square().sum(1)
    expected = distances[label] + torch.log(torch.exp(-distances).sum())
    torch.testing.assert_close(F.cross_entropy(head(x), torch.tensor([label])), expected)


def test_codes():
    drawn = codes(10)
    assert drawn.shape == (10, 84)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert all(len(digit.split()) == 12 and set(map(len, digit.split())) == {7} for digit in DIGITS)
    more = codes(50)
    assert torch.equal(more[:10], drawn)
    assert torch.equal(codes(30), more[:30])
    assert len(torch.unique(more, dim=0)) == 50
    apart = torch.cdist(drawn, drawn, p=0) + 84 * torch.eye(10)
    assert apart.min() >= 5  # pixels


def test_codes_are_saved_not_trained(original):
    assert "output.weight" in original.state_dict()
    assert "output.weight" not in dict(original.named_parameters())
    original = copy.deepcopy(original)
    original.replace_head(12)
    assert torch.equal(original.output.weight, codes(12))


@pytest.mark.parametrize("size", [32, 33, 36, 48, 224])
def test_input_size_is_an_option(size):
    with torch.device("meta"):
        assert create_model("lenet5", input_size=size)(torch.empty(2, 1, size, size)).shape == (2, 10)
