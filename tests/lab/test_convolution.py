import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eyebright.errors import DataError
from eyebright.inspection.trace import trace, without_weights
from eyebright.lab.convolution import (
    Stack,
    convolve,
    convolve_as_matrices,
    curve_example,
    dense,
    output_size,
    parameter_count,
    pool,
    softmax,
    stacks,
)
from eyebright.models.create import create_model

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("channels", "outputs", "kernel"), [(1, 1, 1), (3, 2, 3), (2, 4, 5)])
def test_the_slow_convolution_agrees_with_the_fast_one(channels, outputs, kernel, stride, padding):
    maps = RANDOM.normal(size=(channels, 9, 8))
    kernels, bias = RANDOM.normal(size=(outputs, channels, kernel, kernel)), RANDOM.normal(size=outputs)
    slow = convolve(maps, kernels, bias, stride, padding)
    tensors = (torch.from_numpy(value).float() for value in (maps[None], kernels, bias))
    fast = F.conv2d(*tensors, stride=stride, padding=padding)[0].numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)
    assert slow.shape == (outputs, *(output_size(side, kernel, padding, stride) for side in (9, 8)))


def test_a_convolution_is_a_sum_of_matrix_products():
    maps, kernels = RANDOM.normal(size=(3, 7, 6)), RANDOM.normal(size=(4, 3, 3, 3))
    for padding in (0, 1):
        np.testing.assert_allclose(
            convolve_as_matrices(maps, kernels, padding), convolve(maps, kernels, padding=padding), atol=1e-12
        )


def test_a_dense_layer_is_a_1x1_convolution():
    values, weights, bias = RANDOM.normal(size=5), RANDOM.normal(size=(3, 5)), RANDOM.normal(size=3)
    as_convolution = convolve(values[:, None, None], weights[:, :, None, None], bias)[:, 0, 0]
    np.testing.assert_allclose(dense(values, weights, bias), as_convolution)
    layer = F.linear(*(torch.from_numpy(value) for value in (values, weights, bias)))
    np.testing.assert_allclose(dense(values, weights, bias), layer.numpy())


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("stride", [None, 1, 2])
def test_pools(size, stride):
    maps = RANDOM.normal(size=(2, 7, 8))
    x = torch.from_numpy(maps[None])
    np.testing.assert_allclose(pool(maps, size, stride), F.max_pool2d(x, size, stride)[0].numpy())
    np.testing.assert_allclose(pool(maps, size, stride, "average"), F.avg_pool2d(x, size, stride)[0].numpy())


def test_lecture_3s_figures():
    assert [parameter_count(*sizes) for sizes in ((3, 3, 1), (3, 3, 32), (2, 3, 32), (2, 32, 32))] == [
        28, 896, 416, 4128,
    ]  # fmt: skip
    kernel, patch, other = curve_example()
    assert convolve(patch[None], kernel[None, None]).item() == 6600
    assert convolve(other[None], kernel[None, None]).item() == 0
    assert pool([[[1, 8, 6, 2], [3, 4, 5, 0], [9, 2, 1, 9], [7, 6, 3, 4]]], 2).ravel().tolist() == [8, 6, 9, 9]


def test_softmax():
    logits = RANDOM.normal(size=(3, 10)) * 5
    np.testing.assert_allclose(softmax(logits), torch.from_numpy(logits).softmax(1).numpy(), atol=1e-12)
    np.testing.assert_allclose(softmax([1000.0, 0.0]), [1, 0])
    assert softmax([0.0, 0.0]).tolist() == [0.5, 0.5]


def test_parameter_counts_are_those_of_the_networks():
    with torch.device("meta"):
        model = create_model("vgg16")
    for layer in model.features:
        if isinstance(layer, torch.nn.Conv2d):
            expected = parameter_count(layer.kernel_size[0], layer.in_channels, layer.out_channels)
            assert sum(p.numel() for p in layer.parameters()) == expected
    for step in trace(without_weights(model), 224):
        if step.operation == "Conv2d":
            assert step.output_shape[1] == output_size(step.input_shape[1], 3, padding=1)


def test_stacks_see_as_far_with_fewer_parameters():
    """The paper's example: three 3×3 layers have 27 C² weights, one 7×7 layer 49 C², 81 % more."""
    (two, five), (three, seven), (_, eleven) = stacks(channels=64)
    assert (two.receptive_field, three.receptive_field) == (5, 7)
    assert (five.kernel, seven.kernel, eleven.kernel) == (5, 7, 11)
    assert (three.parameters, seven.parameters) == (27 * 64**2, 49 * 64**2)
    assert seven.parameters / three.parameters == pytest.approx(1.81, abs=0.005)
    assert (three.nonlinearities, seven.nonlinearities) == (3, 1)
    assert Stack(3, 2, 64).receptive_field == five.receptive_field


def test_what_does_not_fit_is_refused(refuses):
    with refuses(DataError, r"maps of shape \[2, 5, 5\] and kernels of shape \[1, 3, 3, 3\]"):
        convolve(np.zeros((2, 5, 5)), np.zeros((1, 3, 3, 3)))
    with refuses(DataError, "a kernel of 7 on a side of 5 with padding 0"):
        convolve(np.zeros((1, 5, 5)), np.zeros((1, 1, 7, 7)))
    with refuses(DataError, r"kernels of shape \[1, 1, 1, 3\]"):
        convolve_as_matrices(np.zeros((1, 5, 5)), np.zeros((1, 1, 1, 3)))
    with refuses(DataError, "stride 0"):
        convolve(np.zeros((1, 5, 5)), np.zeros((1, 1, 3, 3)), stride=0)
    with refuses(DataError, "a pool of kind 'max'"):
        pool(np.zeros((1, 4, 4)), 2, kind="max")
