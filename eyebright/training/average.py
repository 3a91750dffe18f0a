"""An exponential average of a model's weights."""

from __future__ import annotations

import copy

import torch

from eyebright.layers.network import Network


class WeightAverage:
    """An exponential moving average of weights *and* batch-norm statistics: a model of its own, ready to be evaluated.

    At the start the average forgets faster (``decay = min(decay, (1 + n) / (10 + n))`` after n updates), so it is not
    held back by the random weights it began with.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; in the exponential form of
    Szegedy et al., Rethinking the Inception Architecture, 2016, §8.

    Attributes:
        model: the averaged model.
        updates: how many times it was updated.
    """

    def __init__(self, model: Network, decay: float):
        self.model = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: Network) -> None:
        """Takes the weights after a training step into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        theirs = model.state_dict()
        for name, mine in self.model.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - decay)
            else:
                mine.copy_(theirs[name])
