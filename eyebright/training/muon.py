"""Muon: momentum whose every step, for a convolution, turns all directions of its matrix alike.

Source:
    Jordan et al.: Muon, an Optimizer for Hidden Layers in Neural Networks, 2024; Jordan, arXiv 2404.00498, for the use
    on small convolutional networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of X, X Xᵀ X and X Xᵀ X Xᵀ X
STEPS = 3


class Muon(Optimizer):
    """Muon for filters, and SGD with Nesterov momentum for everything else.

    A filter bank `[out, in, h, w]` counts as a matrix `[out, in·h·w]`. Before each update it is brought to the norm
    √out, which stands in the place of weight decay.

    Args:
        groups: parameter groups with `lr`, `momentum`, `weight_decay` and `orthogonal`: whether Muon is meant.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]):
        super().__init__(groups, {"lr": 0.0, "momentum": 0.0, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            update = self._turn if group["orthogonal"] else self._descend
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, group)

    def _descend(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
        parameter.add_(self._with_momentum(parameter, gradient, group["momentum"]), alpha=-group["lr"])

    def _turn(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        direction = self._with_momentum(parameter, parameter.grad, group["momentum"])
        parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
        parameter.add_(orthogonalise(direction.flatten(1)).view(direction.shape), alpha=-group["lr"])

    def _with_momentum(self, parameter: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        state["momentum_buffer"].mul_(momentum).add_(gradient)
        return gradient.add(state["momentum_buffer"], alpha=momentum)


def orthogonalise(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """A matrix of nearly the same directions with all singular values near 1, `[m, n]`, float32.

    Newton's and Schulz's iteration with coefficients chosen for speed: after three steps a singular value that was at
    least a hundredth of the matrix's norm lies between 0.3 and 1.25.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    result: Tensor = wide if len(matrix) <= matrix.shape[1] else wide.T
    return result
