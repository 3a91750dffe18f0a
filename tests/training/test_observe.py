import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eyebright.data.sources import load_data
from eyebright.device import choose_plan
from eyebright.models.create import create_model
from eyebright.training.fit import Fit, StepReport
from eyebright.training.observe import QUANTILES, InputState, LayerState, Observation, measure_inputs
from eyebright.training.recipe import load_recipe
from eyebright.training.run import Run


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def fit_of(digits, every, *changes, network="lenet5"):
    changes = (f'model.name="{network}"', "training.epochs=2", f"training.observe_steps={every}", *changes)
    return Fit(load_recipe("lenet5-digits", changes), digits, plan=choose_plan("cpu", "float32"))


def observations(fit):
    return [r.observation for r in fit.steps() if isinstance(r, StepReport) and r.observation is not None]


def test_training_computes_the_same_bits_whether_it_is_observed_or_not(digits):
    for network in ("lenet5", "cnn_mnist"):  # the second one has batch norm and dropout
        unseen, seen = fit_of(digits, 0, network=network), fit_of(digits, 1, network=network)
        assert observations(unseen) == []
        assert len(observations(seen)) == seen.step
        for name, value in unseen.model.state_dict().items():
            assert torch.equal(value, seen.model.state_dict()[name]), name


def test_the_first_step_every_so_many_and_the_last_are_observed(digits):
    fit = fit_of(digits, 30)
    last = 2 * fit.loader.steps
    assert [seen.step for seen in observations(fit)] == [1, 31, 61, last]
    assert last == 82


def test_lengths_are_those_of_weights_gradients_and_changes(digits):
    fit = fit_of(digits, 1, 'training.optimizer="sgd"', "training.momentum=0", "training.learning_rate=0.5",
                 'training.schedule="constant"', "training.warmup_epochs=0")  # fmt: skip
    before = {name: value.clone() for name, value in fit.model.state_dict().items()}
    seen = next(r.observation for r in fit.steps() if isinstance(r, StepReport))
    after = fit.model.state_dict()
    assert [layer.name for layer in seen.layers] == ["c1.0", "c3.0", "c5.0", "f6.0", "output"]
    for layer in seen.layers:
        change = (after[f"{layer.name}.weight"] - before[f"{layer.name}.weight"]).norm()
        assert layer.update_norm == pytest.approx(float(change), rel=1e-5)
        assert layer.gradient_norm == pytest.approx(float(change) / 0.5, rel=1e-4)  # plain SGD: rate times gradient
        assert layer.weight_norm == pytest.approx(float(after[f"{layer.name}.weight"].norm()), rel=1e-6)
        assert layer.update_ratio == pytest.approx(layer.update_norm / layer.weight_norm)


def test_inputs_are_described_as_numpy_describes_them():
    model = create_model("lenet5", num_classes=10, seed=0)
    pictures = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 + 1
    found = measure_inputs(model, pictures, choose_plan("cpu", "float32"))
    values = pictures.numpy().ravel()
    assert len(values) == 8192  # all of them are looked at
    first = found["c1.0"]
    assert first.mean == pytest.approx(values.mean(), abs=1e-5)
    assert first.std == pytest.approx(values.std(ddof=1), rel=1e-5)
    assert first.quantiles == pytest.approx(np.quantile(values, QUANTILES), abs=1e-4)
    with torch.no_grad():
        hidden = model.eval().forward_stages(pictures)["c5"]
    assert found["f6.0"].mean == pytest.approx(float(hidden.mean()), abs=1e-5)


def test_a_sample_of_many_values_is_near_all_of_them():
    model = create_model("lenet5", num_classes=10, seed=0)
    pictures = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 3
    first = measure_inputs(model, pictures, choose_plan("cpu", "float32"))["c1.0"]
    assert first.mean == pytest.approx(0, abs=4 * 3 / 8192**0.5)
    assert first.std == pytest.approx(3, rel=0.05)


def test_silent_channels_and_saturation_are_told():
    model = create_model("cnn_mnist", num_classes=10, seed=0)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        norms[0].weight[:8] = 0
        norms[0].bias[:8] = -1  # eight channels whose ReLU is never reached
    pictures = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = list(measure_inputs(model, pictures, choose_plan("cpu", "float32")).values())
    assert found[1].silent == pytest.approx(8 / norms[0].num_features)
    assert found[1].saturated is None
    bounded = create_model("lenet5", num_classes=10, seed=0)
    with torch.no_grad():
        bounded.get_submodule("c1.0").weight.mul_(1000)
    states = measure_inputs(bounded, torch.randn(4, 1, 32, 32), choose_plan("cpu", "float32"))
    assert states["c1.0"].saturated is None  # no nonlinearity before
    assert states["c3.0"].saturated > 0.9
    original = create_model("lenet5_1998", seed=0)
    with torch.no_grad():
        original.get_submodule("c1.0").weight.mul_(1000)
    states = measure_inputs(original, torch.randn(4, 1, 32, 32), choose_plan("cpu", "float32"))
    assert states["c5.0"].saturated > 0.9  # c1's; what stands between has no weights that are looked at


def test_a_network_is_left_as_it_was():
    model = create_model("cnn_mnist", num_classes=10, seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_inputs(model, torch.randn(4, 1, 28, 28), choose_plan("cpu", "float32"))
    assert model.training
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_observation_goes_through_json_and_back():
    inputs = InputState(0.123456789, 1.0, (0.0, 0.25, 0.5, 0.75, math.inf), 0.5, None)
    layers = (LayerState("a", 1.5, None, 0.0, inputs), LayerState("b", math.nan, math.inf, 0.5, inputs))
    text = json.dumps(Observation(3, 1, layers).as_dict(), allow_nan=False)
    back = Observation.from_dict(json.loads(text))
    assert (back.step, back.epoch) == (3, 1)
    assert back.layers[0] == LayerState("a", 1.5, None, 0.0, replace(inputs, mean=0.12346))
    assert math.isnan(back.layers[1].weight_norm)
    assert back.layers[1].gradient_norm == math.inf


def test_a_frozen_layer_has_no_gradient_and_does_not_move(digits):
    fit = fit_of(digits, 1)
    fit.model.get_submodule("c1.0").requires_grad_(False)
    seen = next(r.observation for r in fit.steps() if isinstance(r, StepReport))
    assert seen.layers[0].gradient_norm is None
    assert seen.layers[0].update_norm == 0
    assert all(layer.gradient_norm > 0 and layer.update_norm > 0 for layer in seen.layers[1:])


def test_a_resumed_run_has_the_observations_of_one_that_was_never_interrupted(tmp_path, digits):
    recipe = load_recipe("lenet5-digits", ["training.epochs=3", "training.observe_steps=15"])
    whole = Run.create(tmp_path / "whole", recipe, 0, choose_plan())
    fit = Fit(recipe, digits)
    for report in fit.steps():
        whole.record(report, fit)
    cut = Run.create(tmp_path / "cut", recipe, 0, choose_plan())
    fit = Fit(recipe, digits)
    for report in fit.steps():
        cut.record(report, fit)
        if report.epoch == 2 and report.step == 70:  # after the checkpoint of epoch 1
            break
    again = Fit(recipe, digits)
    assert cut.restore(again) == []
    for report in again.steps():
        cut.record(report, again)
    assert (cut.path / "layers.jsonl").read_bytes() == (whole.path / "layers.jsonl").read_bytes()
    assert [seen.step for seen in cut.observations()] == [1, 16, 31, 46, 61, 76, 91, 106, 121, 123]
