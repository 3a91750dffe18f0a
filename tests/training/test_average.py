import pytest
import torch

from eyebright.models.create import create_model
from eyebright.training.average import WeightAverage


def test_weights_and_batch_norm_statistics_are_averaged():
    model = create_model("resnet20_cifar", seed=0)
    average = WeightAverage(model, decay=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model(torch.randn(4, 3, 32, 32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    average.update(model)
    decay = 1 / 10  # (1 + 0) / (10 + 0), the first update's
    after, mine = model.state_dict(), average.model.state_dict()
    for name in ("conv1.weight", "bn1.running_mean", "bn1.running_var", "linear.bias"):
        expected = decay * before[name] + (1 - decay) * after[name]
        torch.testing.assert_close(mine[name], expected)
    assert mine["bn1.num_batches_tracked"] == after["bn1.num_batches_tracked"] == 1


def test_the_decay_grows_to_what_was_asked():
    model = create_model("lenet5", seed=0)
    average = WeightAverage(model, decay=0.9)
    average.updates = 10_000
    with torch.no_grad():
        model.head.bias.copy_(torch.ones(10))
        average.model.head.bias.zero_()
    average.update(model)
    assert average.model.head.bias.tolist() == pytest.approx([0.1] * 10)
