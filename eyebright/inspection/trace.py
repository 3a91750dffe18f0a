"""What happens to a picture in a network: every layer and every join, in order, with what goes into it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from eyebright.layers.network import Network

JOINS = {"cat": "concatenate", "add": "add", "__add__": "add", "add_": "add"}
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Step:
    """One layer, or one operation between layers, that a picture passes through.

    Attributes:
        module: the layer; None for an operation that is none, such as the sum after a shortcut.
        operation: the layer's type, or ``"add"``, ``"concatenate"``, or torch's name of another function.
        path: the layer's state-dict prefix; of an operation that of the module which computes it.
        inputs: numbers of the steps whose outputs go in, in order; −1 is the picture.
        input_shape: of the first input, without the batch dimension.
        output_shape: likewise.
        multiply_adds: of one picture; convolutions and matrix products only.
        receptive_field: height and width, in pixels, of what one value of the output is computed from, by convolutions
            and pools; None: the whole picture.
        stride: how many pixels lie between two neighbouring values; None with the receptive field.
    """

    module: nn.Module | None
    operation: str
    path: str
    inputs: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    multiply_adds: int
    receptive_field: Pair | None
    stride: Pair | None


def without_weights(model: Network) -> Network:
    """A copy in evaluation mode on the meta device, without hooks; no weight is copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            memo[id(hooks)] = OrderedDict()
    return copy.deepcopy(model, memo).eval()


def trace(shadow: Network, size: int) -> list[Step]:
    """Every layer and every operation between layers that a picture passes through, in order.

    What does nothing (identities, dropout of nothing) is left out. Nothing is computed.

    Args:
        shadow: a network `without_weights`.
        size: height and width of the picture, in pixels.

    Raises:
        InputSizeError: the picture is smaller than the network can take.
    """
    recorder = _Recorder(shadow)
    weight = next(shadow.parameters())
    picture = torch.empty(1, shadow.in_channels, size, size, dtype=weight.dtype, device="meta")
    return recorder.record(picture)


def count_multiply_adds(shadow: Network, size: int) -> int:
    """The multiply-adds of one picture of `size` pixels, by a network `without_weights`; faster than `trace`."""
    counter = _MultiplyAdds()
    with torch.no_grad(), counter:
        shadow(torch.empty(1, shadow.in_channels, size, size, device="meta"))
    return counter.total


class _Recorder:
    """Follows tensors through the layers by hooks, and between the layers by torch's function mode."""

    def __init__(self, shadow: Network):
        self.shadow = shadow
        self.paths = {module: path for path, module in shadow.named_modules()}
        self.counter = _MultiplyAdds()
        self.steps: list[Step] = []
        self.made_by: dict[int, int] = {}  # id of a tensor → number of the step that made it
        self.alive: list[Tensor] = []  # so that no id is given twice
        self.scopes: list[nn.Module] = []
        self.starts: list[int] = []  # multiply-adds at the beginning of the layers that are being computed

    def record(self, picture: Tensor) -> list[Step]:
        self._remember(picture, -1)
        handles = []
        for module in self.shadow.modules():
            if not list(module.children()):
                handles.append(module.register_forward_pre_hook(self._enter_layer))
                handles.append(module.register_forward_hook(self._leave_layer))
            else:
                handles.append(module.register_forward_pre_hook(self._enter_scope))
                handles.append(module.register_forward_hook(self._leave_scope))
        with torch.no_grad(), self.counter, _Functions(self):
            self.shadow(picture)
        for handle in handles:
            handle.remove()
        return self.steps

    def between_layers(self, function: Any, arguments: Iterable[Any], output: Any) -> None:
        """Notes an operation that is no part of a layer, where it makes a new tensor of known ones."""
        if self.starts or not isinstance(output, Tensor) or id(output) in self.made_by:
            return
        inputs = [value for value in _tensors(arguments) if id(value) in self.made_by]
        if inputs:
            name = getattr(function, "__name__", str(function))
            self._append(None, JOINS.get(name, name), self.paths[self.scopes[-1]], inputs, output, 0)

    def _enter_scope(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.scopes.append(module)

    def _leave_scope(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.scopes.pop()

    def _enter_layer(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.starts.append(self.counter.total)

    def _leave_layer(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counted = self.counter.total - self.starts.pop()
        if does_nothing(module):
            self._remember(output, self.made_by[id(inputs[0])])
        else:
            self._append(module, type(module).__name__, self.paths[module], inputs, output, counted)

    def _append(
        self,
        module: nn.Module | None,
        operation: str,
        path: str,
        inputs: Iterable[Tensor],
        output: Tensor,
        multiply_adds: int,
    ) -> None:
        given = tuple(inputs)
        sources = tuple(self.made_by[id(value)] for value in given)
        shapes = tuple(given[0].shape[1:]), tuple(output.shape[1:])
        field, stride = self._seen(module, sources, *shapes)
        self._remember(output, len(self.steps))
        self.steps.append(Step(module, operation, path, sources, *shapes, multiply_adds, field, stride))

    def _seen(
        self, module: nn.Module | None, sources: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
    ) -> tuple[Pair | None, Pair | None]:
        """The receptive field and the stride after a step."""
        fields = [(1, 1) if source < 0 else self.steps[source].receptive_field for source in sources]
        strides = [(1, 1) if source < 0 else self.steps[source].stride for source in sources]
        whole = isinstance(module, nn.Linear | nn.Flatten) or (
            isinstance(module, nn.AdaptiveAvgPool2d) and before != after
        )
        known = [field for field in fields if field is not None]
        stride = strides[0]
        if whole or len(after) < 3 or len(known) < len(fields) or stride is None:
            return None, None
        kernel, step, dilation = (pair_of(getattr(module, name, 1)) for name in ("kernel_size", "stride", "dilation"))
        height, width = (
            max(field[axis] for field in known) + (kernel[axis] - 1) * dilation[axis] * stride[axis] for axis in (0, 1)
        )
        return (height, width), (stride[0] * step[0], stride[1] * step[1])

    def _remember(self, tensor: Tensor, step: int) -> None:
        self.made_by[id(tensor)] = step
        self.alive.append(tensor)


class _Functions(TorchFunctionMode):
    """Shows every call of a torch function to the recorder."""

    def __init__(self, recorder: _Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.recorder.between_layers(func, (*args, *(kwargs or {}).values()), output)
        return output


class _MultiplyAdds(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts by torch's own table of operations, which counts a multiply-add as two; only in this thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
        return out


def does_nothing(layer: nn.Module) -> bool:
    """Whether a layer's output is always its input."""
    return isinstance(layer, nn.Identity | nn.Sequential) or (isinstance(layer, nn.Dropout) and layer.p == 0)


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def pair_of(value: Any) -> Pair:
    """A layer's setting for height and width, which torch also takes as one number."""
    return (value[0], value[1]) if isinstance(value, tuple) else (value, value)
