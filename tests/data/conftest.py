"""What the tests of augmentation share."""

import pytest
import torch


@pytest.fixture
def batch(noise):
    """`batch(16, 33, 31, 3)`: pictures of noise."""
    return lambda *shape: torch.from_numpy(noise(*shape))


@pytest.fixture
def always(monkeypatch):
    """`always(1.0)`: every random number that torch draws is this one."""

    def draw(value):
        monkeypatch.setattr(torch, "rand", lambda *shape, generator, dtype=None: torch.full(shape, value, dtype=dtype))

    return draw
