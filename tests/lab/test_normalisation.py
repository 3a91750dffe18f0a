import numpy as np
import pytest
import torch
from torch import nn

from eyebright.lab.normalisation import (
    AXES,
    BatchNorm,
    dropout,
    group_norm,
    local_response_norm,
    normalise,
    scaled,
)
from eyebright.layers.blocks import Style
from eyebright.layers.norm import LocalResponseNorm


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(2, 3, size=(4, 6, 5, 3))


def fast(norm, x):
    return norm(torch.from_numpy(x).float()).detach().numpy()


@pytest.mark.parametrize("name", AXES)
def test_a_normalisation_over_axes_agrees_with_the_fast_one(name, x):
    np.testing.assert_allclose(fast(Style(normalisation=name).norm(6).train(), x), normalise(x, AXES[name]), atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_lies_between_layer_and_instance_norm(groups, x):
    np.testing.assert_allclose(fast(nn.GroupNorm(groups, 6), x), group_norm(x, groups), atol=1e-5)
    if groups in (1, 6):
        np.testing.assert_allclose(group_norm(x, groups), normalise(x, AXES["layer" if groups == 1 else "instance"]))


def test_scale_and_shift(x):
    scale, shift = np.arange(6.0), np.arange(6.0)[::-1].copy()
    norm = nn.GroupNorm(1, 6)
    with torch.no_grad():
        norm.weight.copy_(torch.from_numpy(scale))
        norm.bias.copy_(torch.from_numpy(shift))
    np.testing.assert_allclose(fast(norm, x), scaled(normalise(x, AXES["layer"]), scale, shift), atol=1e-5)


def test_batch_norm_keeps_running_averages(x):
    slow, quick = BatchNorm(6), nn.BatchNorm2d(6)
    for batch in (x, x * 2 + 1, x[:2]):
        np.testing.assert_allclose(fast(quick, batch), slow.train(batch), atol=1e-5)
        np.testing.assert_allclose(quick.running_mean.numpy(), slow.running_mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(quick.running_var.numpy(), slow.running_variance, rtol=1e-5)
    np.testing.assert_allclose(fast(quick.eval(), x), slow.evaluate(x), atol=1e-5)
    alone = slow.evaluate(x[:1])
    np.testing.assert_array_equal(alone, slow.evaluate(x)[:1])


def test_batch_norm_of_dense_values():
    x = np.random.default_rng(1).normal(size=(8, 5))
    slow, quick = BatchNorm(5), nn.BatchNorm1d(5)
    np.testing.assert_allclose(fast(quick, x), slow.train(x), atol=1e-5)
    np.testing.assert_allclose(fast(quick.eval(), x), slow.evaluate(x), atol=1e-5)
    np.testing.assert_allclose(quick.running_var.numpy(), slow.running_variance, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_norm(groups, size, x):
    x = x * 40
    found = fast(LocalResponseNorm(size=size, groups=groups), x)
    np.testing.assert_allclose(found, local_response_norm(x, size=size, groups=groups), rtol=1e-5, atol=1e-5)


def test_dropout_keeps_the_expected_sum():
    x = np.ones((50, 40, 6, 6))
    for whole in (False, True):
        dropped = dropout(x, 0.25, np.random.default_rng(0), whole)
        assert set(np.unique(dropped)) == {0.0, 1 / 0.75}
        assert dropped.mean() == pytest.approx(1, abs=0.03)
        alike = (dropped == dropped[:, :, :1, :1]).all((2, 3))
        assert alike.all() == whole
