"""Copies of large dense weights beside what torch does without them."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from eyebright.device import choose_plan
from eyebright.kernels import copies as module
from eyebright.kernels.copies import Copies, copy_at_hand
from eyebright.layers.fused import in_turn
from eyebright.models.create import create_model
from eyebright.training.optim import make_copies, make_optimizer, optimizer_tensors
from eyebright.training.recipe import TrainingSection

pytestmark = pytest.mark.usefixtures("kernels", "small_weights_count")

KINDS = {
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "nesterov": {"optimizer": "sgd", "nesterov": True, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
}


@pytest.fixture
def small_weights_count(monkeypatch):
    monkeypatch.setattr(module, "LEAST_WEIGHTS", 300)


def layer(inputs=37, outputs=29):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def half():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def section(**values):
    return TrainingSection(epochs=2, learning_rate=0.1, **values)


def plan():
    return choose_plan("cpu", number_format="bfloat16")


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_gives_what_torchs_gives(given, bias):
    own = layer()
    own.bias = own.bias if bias else None
    plain = copy.deepcopy(own)
    x = torch.randn(5, 37).to(given)
    xs = [x.clone().requires_grad_() for _ in range(2)]
    copies = Copies([own.weight])
    with copies.at_hand():
        with half():
            found = in_turn([own], xs[0])
        (found.float() ** 2).sum().backward()
        assert own.weight.grad.dtype == torch.bfloat16
        with half():
            wanted = plain(xs[1])
        (wanted.float() ** 2).sum().backward()
        assert torch.equal(found, wanted)
        assert torch.equal(own.weight.grad.float(), plain.weight.grad)
        assert xs[0].grad.dtype == given
        assert torch.equal(xs[0].grad, xs[1].grad)
        if bias:  # torch rounds the sum
            assert torch.allclose(own.bias.grad, plain.bias.grad, rtol=2**-8)
    assert own.weight.grad is None
    assert own.weight.grad_dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_torchs_step(kind):
    """In float32; where torch's fused steps round otherwise the difference is that of a last place."""
    own, plain = layer(), layer()
    optimizers = [make_optimizer(Net(each), section(**KINDS[kind])) for each in (own, plain)]
    copies = Copies([own.weight])
    for step in range(7):
        gradient = torch.randn(29, 37, generator=torch.Generator().manual_seed(step)).bfloat16()
        with copies.at_hand():
            own.weight.grad, plain.weight.grad = gradient.clone(), gradient.float()
            own.bias.grad, plain.bias.grad = gradient[:, 0].float(), gradient[:, 0].float()
            copies.step(optimizers[0])
            assert own.weight.grad is None
            optimizers[1].step()
        assert torch.equal(copies.of(own.weight), own.weight.bfloat16())
    assert (own.weight - plain.weight).abs().max() < 2e-6
    assert torch.equal(own.bias, plain.bias)
    ours, theirs = (optimizer_tensors(optimizer) for optimizer in optimizers)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6), name


class Net(nn.Sequential):
    """One layer as a network that has a head."""

    @property
    def standing_head(self):
        return self[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_nothing(kind):
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            own = layer(200, 301)
            optimizer = make_optimizer(Net(own), section(**KINDS[kind]))
            copies = Copies([own.weight])
            for step in range(3):
                with copies.at_hand():
                    own.weight.grad = torch.randn(301, 200, generator=torch.Generator().manual_seed(step)).bfloat16()
                    copies.step(optimizer)
            ends.append(own.weight.detach().clone())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(end, ends[0]) for end in ends)
    assert not torch.equal(ends[0], layer(200, 301).weight)


def test_a_copy_follows_its_weight():
    own = layer()
    copies = Copies([own.weight])
    first = copies.of(own.weight).clone()
    with torch.no_grad():
        own.weight.mul_(2)
    assert torch.equal(copies.of(own.weight), 2 * first)
    own.load_state_dict({"weight": torch.ones(29, 37), "bias": torch.zeros(29)})
    assert (copies.of(own.weight) == 1).all()
    own.weight.data = torch.full((29, 37), 3.0)
    assert (copies.of(own.weight) == 3).all()


def test_going_back_after_the_step_is_refused():
    """The copy that the products were made with is no more."""
    own = layer()
    optimizer = make_optimizer(Net(own), section(**KINDS["momentum"]))
    copies = Copies([own.weight])
    with copies.at_hand():
        with half():
            loss = in_turn([own], torch.randn(5, 37, requires_grad=True)).float().square().sum()
        loss.backward(retain_graph=True)
        copies.step(optimizer)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_copies_are_at_hand_within_the_block_only():
    own, other = layer(), layer(3, 4)
    copies = Copies([own.weight, other.weight])
    assert copies.of(other.weight) is None  # too small
    assert copy_at_hand(own.weight) is None
    with pytest.raises(ValueError, match="by chance"), copies.at_hand():
        assert copy_at_hand(own.weight) is copies.of(own.weight)
        raise ValueError("by chance")
    assert copy_at_hand(own.weight) is None
    assert own.weight.grad_dtype == torch.float32
    with copies.at_hand(), Copies().at_hand():
        assert copy_at_hand(own.weight) is None
    own.weight.grad = torch.ones_like(own.weight)  # left by somebody else
    with copies.at_hand():
        assert own.weight.grad is None


@pytest.mark.parametrize("what", ["evaluation", "hooks", "float32", "sequences"])
def test_where_a_layer_is_not_the_usual_one_torch_computes_it(what, monkeypatch):
    own = layer()
    monkeypatch.setattr(module.Copies, "of", lambda self, weight: pytest.fail("it was asked for"))
    x = torch.randn(2, 5, 37) if what == "sequences" else torch.randn(5, 37)
    if what == "evaluation":
        own.eval()
    if what == "hooks":
        own.register_forward_hook(lambda *given: None)
    with Copies([own.weight]).at_hand(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=what != "float32"):
        in_turn([own], x)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        *((settings, 2) for settings in KINDS.values()),
        ({"optimizer": "sgd", "momentum": 0.0}, 0),
        ({"optimizer": "muon"}, 0),
        ({"optimizer": "adam", "accumulate": 2}, 0),
        ({"optimizer": "adam", "clip_norm": 1.0}, 0),
        ({"optimizer": "adam", "start_decay": 0.1}, 0),
    ],
)
def test_which_trainings_have_copies(settings, count):
    model = create_model("lenet5", num_classes=10, seed=0)
    assert len(make_copies(model, section(**settings), plan()).weights) == count
    for other in ({"number_format": "float32"}, {"kernels": "torch"}, {"device": "cuda"}):
        assert not make_copies(model, section(**settings), replace(plan(), **other)).weights
