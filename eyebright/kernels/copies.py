"""Large dense weights in bfloat16: copies that the optimiser's step keeps true while it goes over the weights anyway.

The dense layers of AlexNet and VGG have up to 120 million weights, and with small pictures a step is in large part
traffic between them and memory: rounding them for the products, widening their gradients, the optimiser's sums. With
copies each weight, what the optimiser remembers of it and its gradient are read and written once, and the products are
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from eyebright.kernels.functions import descend, descend_adam

LEAST_WEIGHTS = 2**20  # of a layer; the copies of fewer stay in the processor's cache anyway


class Copies:
    """Copies of weights in bfloat16, made when they are first asked for.

    Args:
        weights: float32 `[out, in]` on the CPU; those with fewer values than `LEAST_WEIGHTS`, or that do not lie in one
            piece of memory, are left out.
    """

    def __init__(self, weights: Iterable[Tensor] = ()):
        self.weights = [weight for weight in weights if weight.numel() >= LEAST_WEIGHTS and weight.is_contiguous()]
        self._places = {id(weight): place for place, weight in enumerate(self.weights)}
        self._copies: list[Tensor | None] = [None] * len(self.weights)
        self._states = [(0, 0)] * len(self.weights)  # of the weights when they were last copied

    def of(self, weight: Tensor) -> Tensor | None:
        """The copy of a weight, bfloat16 `[out, in]`, as the weight is now; None if there is to be none.

        What was done to a weight through its `data` is not noticed before the next step.
        """
        place = self._places.get(id(weight))
        if place is None:
            return None
        copy = self._copies[place]
        if copy is None:
            copy = self._copies[place] = torch.empty_like(weight, dtype=torch.bfloat16, requires_grad=False)
        if self._states[place] != _state(weight):
            with torch.no_grad():
                copy.copy_(weight)
            self._states[place] = _state(weight)
        return copy

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Within the block layers multiply by the copies, and gradients of these weights are bfloat16, as products are.

        Before and afterwards the weights have no gradients.
        """
        before = _at_hand.set(self if self.weights else None)
        try:
            self._take_gradients(torch.bfloat16)
            yield
        finally:
            _at_hand.reset(before)
            self._take_gradients(torch.float32)

    def _take_gradients(self, number_format: torch.dtype) -> None:
        for weight in self.weights:
            weight.grad = None
            weight.grad_dtype = number_format

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's step, within the block of `at_hand`: for these weights it is made here, for the others there.

        Args:
            optimizer: where there are such weights, torch's SGD with momentum, Adam or AdamW; its state is what it
                would have made, up to rounding.
        """
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad is None or (copy := self.of(weight)) is None:
                    continue
                remembered = optimizer.state[weight]
                if isinstance(optimizer, torch.optim.SGD):
                    names: tuple[str, ...] = ("momentum_buffer",)
                    update = descend
                else:
                    names = ("exp_avg", "exp_avg_sq")
                    update = descend_adam
                    remembered.setdefault("step", torch.zeros((), dtype=torch.float32)).add_(1)
                for name in names:
                    if remembered.get(name) is None:
                        remembered[name] = torch.zeros_like(weight)
                update(weight.grad.contiguous(), weight, copy, group, remembered)
                torch.autograd.graph.increment_version((weight, copy))
                self._states[self._places[id(weight)]] = _state(weight)
                weight.grad = None
        optimizer.step()


def copy_at_hand(weight: Tensor) -> Tensor | None:
    """The copy that stands for a weight here and now, if there is one."""
    copies = _at_hand.get()
    return None if copies is None else copies.of(weight)


def _state(weight: Tensor) -> tuple[int, int]:
    """Changes whenever the weight does, but for what is done through its `data`."""
    return weight._version, weight.data_ptr()


_at_hand: ContextVar[Copies | None] = ContextVar("_at_hand", default=None)
