"""Convolution, pooling, dense layers and softmax by hand, in plain loops and float64 (lectures: L3.1, L4.8, L5.3).

Everything here is slow on purpose. Maps are NumPy arrays `[C, H, W]`, kernels `[C_out, C_in, k, k]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eyebright.errors import DataError

Maps = NDArray[np.float64]


def convolve(
    maps: ArrayLike, kernels: ArrayLike, bias: ArrayLike | None = None, stride: int = 1, padding: int = 0
) -> Maps:
    """Slides each kernel over all input channels at once, multiplies, and adds everything up.

    ``out[o, y, x] = bias[o] + Σ kernels[o, c, i, j] · padded[c, y · stride + i, x · stride + j]``. As everywhere in
    deep learning, the kernel is not mirrored: mathematicians call this cross-correlation.

    Args:
        maps: `[C_in, H, W]`.
        kernels: `[C_out, C_in, k, k]`.
        bias: `[C_out]`; None: no bias.
        stride: by how many pixels the kernel moves on.
        padding: how many zeros are added on each side.

    Returns:
        `[C_out, H', W']`, where ``H' = ⌊(H + 2 · padding − k) / stride⌋ + 1``.

    Raises:
        DataError: the kernels are not square, do not have as many slices as there are channels, or are larger than the
            maps; or the stride is below 1.
    """
    inputs, weights = np.asarray(maps, np.float64), np.asarray(kernels, np.float64)
    _check(inputs, weights)
    padded = np.pad(inputs, ((0, 0), (padding, padding), (padding, padding)))
    outputs, channels, size, _ = weights.shape
    height, width = (output_size(side, size, padding, stride) for side in inputs.shape[1:])
    shifts = np.zeros(outputs) if bias is None else np.asarray(bias, np.float64)
    result = np.empty((outputs, height, width))
    for o in range(outputs):
        for y in range(height):
            for x in range(width):
                total = shifts[o]
                for c in range(channels):
                    for i in range(size):
                        for j in range(size):
                            total += weights[o, c, i, j] * padded[c, y * stride + i, x * stride + j]
                result[o, y, x] = total
    return result


def convolve_as_matrices(maps: ArrayLike, kernels: ArrayLike, padding: int = 0) -> Maps:
    """The same with stride 1 as the sum of k² matrix products: a k×k convolution is k² 1×1 convolutions, shifted.

    Args:
        maps: `[C_in, H, W]`.
        kernels: `[C_out, C_in, k, k]`.
        padding: how many zeros are added on each side.

    Returns:
        `[C_out, H', W']`.

    Raises:
        DataError: as `convolve`.
    """
    inputs, weights = np.asarray(maps, np.float64), np.asarray(kernels, np.float64)
    _check(inputs, weights)
    padded = np.pad(inputs, ((0, 0), (padding, padding), (padding, padding)))
    size = weights.shape[2]
    height, width = padded.shape[1] - size + 1, padded.shape[2] - size + 1
    result = np.zeros((len(weights), height, width))
    for i in range(size):
        for j in range(size):
            pixels = padded[:, i : i + height, j : j + width].reshape(len(inputs), -1)  # [C_in, pixels]
            result += (weights[:, :, i, j] @ pixels).reshape(-1, height, width)  # one matrix at every pixel
    return result


def _check(maps: Maps, kernels: Maps) -> None:
    square = kernels.ndim == 4 and kernels.shape[2] == kernels.shape[3]
    if not square or maps.ndim != 3 or kernels.shape[1] != maps.shape[0]:
        raise DataError(
            f"maps of shape {list(maps.shape)} and kernels of shape {list(kernels.shape)}",
            expected="maps [C, H, W] and square kernels [C_out, C, k, k] with one slice for each channel",
            remedy="give every kernel as many slices as the maps have channels",
        )


def output_size(side: int, kernel: int, padding: int = 0, stride: int = 1) -> int:
    """How many values come out along one side: ⌊(side + 2 · padding − kernel) / stride⌋ + 1.

    Raises:
        DataError: the kernel is larger than the padded side, or the stride is below 1.

    >>> output_size(32, kernel=5)
    28
    >>> output_size(224, kernel=7, padding=3, stride=2)
    112
    """
    if kernel > side + 2 * padding or stride < 1:
        raise DataError(
            f"a kernel of {kernel} on a side of {side} with padding {padding} and stride {stride}",
            expected=f"a kernel of at most {side + 2 * padding}, and a stride of at least 1",
            remedy="take a smaller kernel, or more padding",
        )
    return (side + 2 * padding - kernel) // stride + 1


def parameter_count(kernel: int, in_channels: int, out_channels: int, bias: bool = True) -> int:
    """How many numbers a convolution learns: (k · k · C_in + 1) · C_out, whatever the size of the picture.

    >>> parameter_count(3, 3, 32)
    896
    """
    return (kernel * kernel * in_channels + bias) * out_channels


def pool(maps: ArrayLike, size: int, stride: int | None = None, kind: str = "maximum") -> Maps:
    """The largest value, or the mean, of each window; nothing is learned.

    Args:
        maps: `[C, H, W]`.
        size: height and width of the window.
        stride: by how many pixels it moves on; None: by its size.
        kind: ``"maximum"`` or ``"average"``.

    Raises:
        DataError: another kind, or a window larger than the maps.
    """
    if kind not in ("maximum", "average"):
        raise DataError(f"a pool of kind '{kind}'", expected="maximum or average", remedy="choose one of these")
    inputs = np.asarray(maps, np.float64)
    step = size if stride is None else stride
    height, width = (output_size(side, size, 0, step) for side in inputs.shape[1:])
    result = np.empty((len(inputs), height, width))
    for y in range(height):
        for x in range(width):
            window = inputs[:, y * step : y * step + size, x * step : x * step + size]
            result[:, y, x] = window.max((1, 2)) if kind == "maximum" else window.mean((1, 2))
    return result


def dense(values: ArrayLike, weights: ArrayLike, bias: ArrayLike) -> NDArray[np.float64]:
    """Every output is a weighted sum of all inputs: `[in]`, `[out, in]`, `[out]` → `[out]`."""
    return np.asarray(weights, np.float64) @ np.asarray(values, np.float64) + np.asarray(bias, np.float64)


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Probabilities that add up to one: ``exp(z) / Σ exp(z)``, over the last axis.

    The largest logit is taken away first, which changes nothing but that `exp` cannot overflow.
    """
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def curve_example() -> tuple[Maps, Maps, Maps]:
    """A kernel shaped like a curve, a patch with that curve on it, and another patch, each `[7, 7]`.

    The kernel answers 6,600 to the first and 0 to the second.
    """
    curve = ((1, 5), (2, 4), (3, 3), (4, 3), (5, 3))  # where the kernel is 30
    kernel, patch, other = np.zeros((7, 7)), np.zeros((7, 7)), np.zeros((7, 7))
    for row, column in curve:
        kernel[row, column] = 30
        patch[row, column] = 50
    patch[5, 3] = 20
    for row, column in ((0, 1), (1, 0), (1, 1), (2, 1), (3, 5), (4, 5), (5, 5), (6, 6)):
        other[row, column] = 50
    return kernel, patch, other


@dataclass(frozen=True)
class Stack:
    """Convolutions one after the other, all of one size, with as many channels in as out.

    Attributes:
        kernel: height and width of each.
        layers: how many.
        channels: that come in and go out.
    """

    kernel: int
    layers: int
    channels: int

    @property
    def receptive_field(self) -> int:
        """Height and width of what one output is computed from."""
        return 1 + self.layers * (self.kernel - 1)

    @property
    def parameters(self) -> int:
        """Without biases, as in the paper: layers · k² · C²."""
        return self.layers * self.kernel**2 * self.channels**2

    @property
    def nonlinearities(self) -> int:
        """One after each convolution."""
        return self.layers


def stacks(channels: int = 256) -> list[tuple[Stack, Stack]]:
    """Two, three and five 3×3 convolutions, each beside the one that sees as far (VGG, §2.3)."""
    small = [Stack(3, layers, channels) for layers in (2, 3, 5)]
    return [(stack, Stack(stack.receptive_field, 1, channels)) for stack in small]
