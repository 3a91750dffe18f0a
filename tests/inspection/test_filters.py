import json

import numpy as np
import pytest
import torch

from eyebright.data.sources import load_data
from eyebright.errors import ModelError
from eyebright.inspection.filters import Filters, compare_filters, draw_filters
from eyebright.models.create import create_model
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def networks(name="alexnet", **changes):
    """A network twice, the second with changed kernels: layer → what is added."""
    before, after = (create_model(name, num_classes=10, seed=0) for _ in range(2))
    with torch.no_grad():
        for layer, change in changes.items():
            after.get_submodule(layer.replace("__", ".")).weight.add_(change)
    return before, after


def test_the_difference_is_zero_at_learning_rate_zero(digits, monkeypatch):
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=1"]), digits)
    monkeypatch.setattr(Fit, "_learning_rate", lambda self: 0.0)
    before = {name: value.clone() for name, value in fit.model.state_dict().items()}
    start = create_model(fit.model.model_name, **fit.model.model_options)
    start.load_state_dict(before)
    list(fit)
    filters = compare_filters(start, fit.model, "c3.0")
    assert not filters.change.any()
    assert not filters.distances.any()
    assert np.isnan(filters.increased).all()
    assert filters.findings() == ["no weight has changed: the layer is frozen, or the learning rate was 0"]
    panel = draw_filters(filters).axes[2]
    assert panel.get_title(loc="left") == "difference: none"
    drawn = panel.images[0].get_array()
    assert np.abs(drawn.compressed() if np.ma.isMaskedArray(drawn) else drawn[np.isfinite(drawn)]).max() == 0


def test_distances_and_shares_are_those_computed_by_hand():
    before = np.zeros((3, 1, 2, 2), dtype=np.float32)
    before[:, 0] = [[3, 0], [0, 4]]
    after = before.copy()
    after[1, 0] += [[1, 1], [1, -1]]
    after[2, 0] += [[-3, 0], [0, -4]]
    filters = Filters("conv", before, after)
    assert filters.distances == pytest.approx([0, 2 / 5, 1])
    assert np.isnan(filters.increased[0])
    assert filters.increased[1:] == pytest.approx([0.75, 0])
    assert filters.order.tolist() == [2, 1, 0]
    found = filters.findings()
    assert "2 (1 of its length), 1 (0.4 of its length)" in found[0]
    assert found[1] == "1 kernel has hardly moved (below 1%): 0"
    assert found[2] == "1 kernel moved all one way: at least 90% of the weights went down: 2"


def test_a_kernel_that_was_zero_has_moved_infinitely_far():
    before = np.zeros((2, 1, 2, 2), dtype=np.float32)
    after = before.copy()
    after[1] = 1
    filters = Filters("conv", before, after)
    assert filters.distances.tolist() == [0, np.inf]
    values = json.loads(json.dumps(filters.as_dict(), allow_nan=False))
    assert values["kernels"][0] == {"kernel": 1, "distance": None, "increased": 1.0}
    draw_filters(filters)


def test_the_first_convolution_is_the_default_and_an_unknown_one_is_named():
    before, after = networks()
    assert compare_filters(before, after).layer == "features.0"
    with pytest.raises(ModelError, match=r"has no convolution 'features\.33'") as caught:
        compare_filters(before, after, "features.33")
    assert "did you mean 'features.3'?" in str(caught.value)
    with pytest.raises(ModelError, match=r"has no convolution 'classifier\.1'"):
        compare_filters(before, after, "classifier.1")
    with pytest.raises(ModelError, match=r"has no kernel 64"):
        draw_filters(compare_filters(before, after), 64)


def test_before_and_after_have_one_scale_and_the_difference_its_own():
    before, after = networks(features__3=0.5)
    figure = draw_filters(compare_filters(before, after, "features.3"), kernel=7)
    left, right, difference = (axes.images[0] for axes in figure.axes[:3])
    assert left.get_clim() == right.get_clim()
    low, high = difference.get_clim()
    assert (low, high) == pytest.approx((-0.5, 0.5), abs=1e-6)
    assert figure.get_suptitle() == "features.3: kernel 7, 64 slices of 5×5"
    tiles = difference.get_array()
    assert tiles.shape == (8 * 6 - 1, 8 * 6 - 1)
    assert np.isfinite(np.asarray(tiles.filled(np.nan))).sum() == 64 * 25  # lines between the tiles are empty


def test_colour_kernels_are_tiles_in_colour_with_grey_for_zero():
    before, after = networks()
    figure = draw_filters(compare_filters(before, after))
    sheet = figure.axes[0].images[0].get_array()
    assert sheet.shape == (8 * 12 - 1, 8 * 12 - 1, 3)
    weights = before.get_submodule("features.0").weight.detach().numpy()
    limit = np.abs(weights).max()
    np.testing.assert_allclose(sheet[12:23, 24:35], 0.5 + 0.5 * weights[10].transpose(1, 2, 0) / limit, atol=1e-6)
    assert np.all(figure.axes[2].images[0].get_array()[:11, :11] == 0.5)


def test_grey_kernels_are_shown_all_at_once():
    before, after = networks("lenet5")
    figure = draw_filters(compare_filters(before, after))
    assert figure.get_suptitle() == "c1.0: 6 kernels of 5×5"
    assert figure.axes[0].images[0].get_array().shape == (2 * 6 - 1, 3 * 6 - 1)


def test_of_many_kernels_those_that_moved_farthest_are_shown():
    change = torch.zeros(96, 3, 7, 7)
    change[50:] = 0.1
    weights = torch.randn(96, 3, 7, 7, generator=torch.Generator().manual_seed(0)).numpy()
    filters = Filters("conv1", weights, weights + change.numpy())
    figure = draw_filters(filters)
    assert figure.get_suptitle() == "conv1: 64 of 96 kernels of 7×7"
    labels = {int(text.get_text()) for text in figure.axes[0].texts}
    assert set(range(50, 96)) <= labels
    assert len(labels) == 64
