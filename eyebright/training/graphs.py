"""CUDA graphs of training steps: all that a forward and a backward pass have a GPU do, asked for at once.

A GPU computes the kernels of a small network faster than Python can ask for them. Recorded, they are asked for by one
call, and compute the same bits.

Source:
    "CUDA semantics: CUDA graphs" in PyTorch's documentation: whole-network capture.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eyebright.errors import SpeedWarning

Work = Callable[..., tuple[Tensor, ...]]
MOST_KEPT = 4  # graphs at a time


class Graph(Protocol):
    """Work that was recorded, without being done, on tensors that stay where they are.

    Attributes:
        outputs: tensors that each replay writes anew, as it does the gradients that recording left.
    """

    outputs: tuple[Tensor, ...]

    def replay(self) -> None:
        """Does the work on what its inputs hold now."""


class CudaGraph:
    """A CUDA graph of some work."""

    def __init__(self, work: Work, *inputs: Tensor):
        self._graph = torch.cuda.CUDAGraph()
        side = _side(inputs[0].device)
        # the stream's own context ends well where recording fails, too; other threads go on preparing batches
        # meanwhile: what they ask for is none of this graph's
        with (
            torch.cuda.stream(side.stream),
            torch.cuda.graph(self._graph, side.pool, side.stream, capture_error_mode="thread_local"),
        ):
            self.outputs = work(*inputs)

    def replay(self) -> None:
        """Does the work on what its inputs hold now."""
        self._graph.replay()


@dataclass
class _Recorded:
    inputs: tuple[Tensor, ...]
    graph: Graph
    gradients: list[Tensor | None]


class Graphs:
    """Does the same work step after step: as it stands the first time, from a graph once shapes come again.

    Graphs share the memory for feature maps: what one of them leaves is valid until the next is replayed.

    Args:
        parameters: whose gradients the work leaves; before it they must have none.
        record: makes a graph of some work and its inputs.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], record: Callable[..., Graph] = CudaGraph):
        self._parameters, self._record = [*parameters], record
        self._recorded: dict[Hashable, _Recorded | None] = {}  # None: done once, so all that it needs is set up
        self._can_record = True

    def do(self, work: Work, *inputs: Tensor, state: Hashable = None) -> tuple[Tensor, ...]:
        """What `work` makes of the inputs; this, and the gradients that it leaves, are valid until the next call.

        Args:
            work: leaves gradients, reads nothing back from the GPU, and draws from torch's global generators alone.
            inputs: all that changes from call to call, but for what stays where it is in memory, as weights do.
            state: of whatever else decides what the work does.
        """
        if not self._can_record:
            return work(*inputs)
        key = (state, *((x.shape, x.stride(), x.dtype) for x in inputs))
        if key not in self._recorded:
            self._recorded[key] = None
            while len(self._recorded) > MOST_KEPT:
                del self._recorded[next(iter(self._recorded))]
            return _aside(work, *inputs)
        recorded = self._recorded.pop(key) or self._make(work, inputs)
        if recorded is None:
            return work(*inputs)
        self._recorded[key] = recorded  # the last one used is the last one dropped
        for kept, new in zip(recorded.inputs, inputs, strict=True):
            kept.copy_(new)
        recorded.graph.replay()
        for parameter, gradient in zip(self._parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        return recorded.graph.outputs

    def clear(self) -> None:
        """Forgets all graphs, which frees the memory that they hold."""
        self._recorded.clear()

    def _make(self, work: Work, inputs: tuple[Tensor, ...]) -> _Recorded | None:
        assert all(parameter.grad is None for parameter in self._parameters)  # else it would be added to on each replay
        kept = tuple(x.clone() for x in inputs)
        try:
            graph = self._record(work, *kept)
        except RuntimeError as error:
            self._can_record = False
            self._recorded.clear()
            for parameter in self._parameters:
                parameter.grad = None
            reason = str(error.__context__ or error).partition("\n")[0]  # ending a recording that failed fails, too
            warnings.warn(
                f"steps cannot be recorded as CUDA graphs ({reason}): they are done operation by operation",
                SpeedWarning,
                stacklevel=2,
            )
            return None
        return _Recorded(kept, graph, [parameter.grad for parameter in self._parameters])


@dataclass(frozen=True)
class _Side:
    """Where a GPU's graphs are recorded: a stream, and the memory that they share."""

    stream: torch.cuda.Stream
    pool: Any


@cache
def _side(device: torch.device) -> _Side:
    return _Side(torch.cuda.Stream(device), torch.cuda.graph_pool_handle())  # type: ignore[no-untyped-call]


def _aside(work: Work, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Does work where it will be recorded, so that nothing of it belongs to another stream."""
    if not inputs[0].is_cuda:
        return work(*inputs)
    device = inputs[0].device
    here, there = torch.cuda.current_stream(device), _side(device).stream
    there.wait_stream(here)
    with torch.cuda.stream(there):
        outputs = work(*inputs)
    here.wait_stream(there)
    return outputs
