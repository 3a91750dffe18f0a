"""What augmentation does to the place of pixels: crops, flips, turns, perspective; of whole batches, on any device.

Every function takes uint8 `[N, H, W, C]` and gives uint8 `[N, h, w, C]`. Random numbers are drawn on the CPU from the
generator given. What comes from outside a picture is black.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from eyebright.data.prepare import pad_to, to_bytes
from eyebright.random import derive

PaddingMode = Literal["black", "reflect"]

TRIES = 10  # at a piece that lies within its picture


def random_crop(
    pixels: Tensor | list[Tensor],
    generator: Generator,
    size: tuple[int, int],
    padding: int = 0,
    padding_mode: PaddingMode = "black",
) -> Tensor:
    """Cuts a piece of `size` (height, width) out of a random place of each picture.

    Args:
        pixels: uint8 `[N, H, W, C]`, or a list of N pictures `[H, W, C]` of different sizes.
        generator: a CPU generator.
        size: height and width of the piece, in pixels; where a picture is smaller, black is added all round first.
        padding: pixels added on every side before.
        padding_mode: black, or the picture as in a mirror.
    """
    places = torch.rand(len(pixels), 2, generator=generator)
    if isinstance(pixels, Tensor):
        return _crop_at(pixels, places, size, padding, padding_mode)
    some = enumerate(pixels)
    return torch.cat([_crop_at(one[None], places[i : i + 1], size, padding, padding_mode) for i, one in some])


def random_resized_crop(
    pixels: Tensor | list[Tensor],
    generator: Generator,
    size: tuple[int, int],
    area: tuple[float, float] = (0.08, 1.0),
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Tensor:
    """Cuts a piece of random area and shape out of a random place of each picture, and brings it to `size`.

    Its width is 3/4 to 4/3 of its height. It is resized on the CPU, picture by picture, as `Prepare` resizes: so the
    bytes are the same on every device.

    Args:
        pixels: uint8 `[N, H, W, C]`, or a list of N pictures `[H, W, C]` of different sizes.
        generator: a CPU generator.
        size: height and width, in pixels, of what comes back.
        area: least and largest share of the picture's area.
        interpolation: of resizing, antialiased.

    Source: Szegedy et al., Going Deeper with Convolutions, 2015, §6.
    """
    sizes = torch.tensor([picture.shape[:2] for picture in pixels])
    pieces = draw_pieces(sizes, generator, area, (3 / 4, 4 / 3)).tolist()
    resized = []
    for picture, (top, left, height, width) in zip(pixels, pieces, strict=True):
        piece = picture[top : top + height, left : left + width].cpu().contiguous()
        planes = piece.permute(2, 0, 1)[None]  # [1, C, height, width], channels last in memory
        resized.append(functional.interpolate(planes, size=size, mode=interpolation, antialias=True))
    return torch.cat(resized).permute(0, 2, 3, 1).contiguous().to(pixels[0].device)


def draw_pieces(sizes: Tensor, generator: Generator, area: tuple[float, float], aspect: tuple[float, float]) -> Tensor:
    """Draws where a piece of each picture lies: its area evenly, its aspect evenly in the logarithm.

    What does not fit into the picture is drawn again, up to ten times; after that the first is made smaller.

    Args:
        sizes: int64 `[N, 2]`: height and width of each picture.
        generator: a CPU generator.
        area: least and largest share of the picture's area.
        aspect: least and largest width for a height of 1.

    Returns:
        int64 `[N, 4]`: top, left, height and width of each piece, in pixels.
    """
    count = len(sizes)
    shares, shapes = torch.rand(2, TRIES, count, generator=generator)
    pixels = (area[0] + shares * (area[1] - area[0])) * sizes.prod(dim=1)
    aspects = (math.log(aspect[0]) + shapes * math.log(aspect[1] / aspect[0])).exp()
    drawn = torch.stack([(pixels / aspects).sqrt(), (pixels * aspects).sqrt()], dim=2).round().long()  # [10, N, 2]
    fits = ((drawn >= 1) & (drawn <= sizes)).all(dim=2)
    chosen = drawn[fits.int().argmax(dim=0), torch.arange(count)]  # the first that fits, else the first
    height, width = torch.minimum(chosen.clamp(min=1), sizes).unbind(1)
    narrower = torch.minimum(width, (height * aspect[1]).round().long().clamp(min=1))
    lower = torch.minimum(height, (narrower / aspect[0]).round().long().clamp(min=1))
    pieces = torch.where(fits.any(dim=0)[:, None], chosen, torch.stack([lower, narrower], dim=1))
    places = torch.rand(count, 2, generator=generator)
    return torch.cat([(places * (sizes - pieces + 1)).long(), pieces], dim=1)


def horizontal_flip(pixels: Tensor, generator: Generator, probability: float = 0.5) -> Tensor:
    """Mirrors each picture left to right with this probability."""
    return _mirror(pixels, torch.rand(len(pixels), generator=generator) < probability)


def alternating_flip(pixels: Tensor, seed: int, epoch: int, indices: NDArray[np.int64]) -> Tensor:
    """Mirrors each picture left to right in every second epoch; which half begins mirrored, a hash of its index says.

    So any two epochs in a row show every picture both ways.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        seed: of the hash.
        epoch: counted from 0.
        indices: int64 `[N]`: which pictures these are.

    Source: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, §3.6. The hash is the mixing step of
    SplitMix64 (Steele et al. 2014).
    """
    hashed = indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(derive(seed, "alternating_flip"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
    begins_mirrored = hashed >> np.uint64(63) == 1
    return _mirror(pixels, torch.from_numpy(begins_mirrored ^ (epoch % 2 == 1)))


def rotate(pixels: Tensor, generator: Generator, degrees: float) -> Tensor:
    """Turns each picture about its centre by an angle drawn from -degrees…degrees."""
    angles = (torch.rand(len(pixels), generator=generator) * 2 - 1) * math.radians(degrees)
    return move(pixels, turn_by(angles))


def perspective(pixels: Tensor, generator: Generator, distortion: float, probability: float = 1.0) -> Tensor:
    """Draws each corner of a picture inwards by its own random amount, as if the picture were seen from the side.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        generator: a CPU generator.
        distortion: farthest that a corner moves along each side, as a share of half that side; at most 0.6, so that
            the corners stay corners.
        probability: that a picture is changed at all.
    """
    count, height, width, _ = pixels.shape
    changed = torch.rand(count, generator=generator) < probability
    inwards = 1 - distortion * torch.rand(count, 4, 2, generator=generator, dtype=torch.float64)
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)  # (x, y)
    which = changed.nonzero()[:, 0]
    if len(which) == 0:
        return pixels
    a, b, c, d, e, f, g, h = (
        _solve_homography(corners * inwards[which], corners).float().to(pixels.device).T[..., None, None]
    )
    x, y = _centres(width, pixels.device), _centres(height, pixels.device)[:, None]
    depth = g * x + h * y + 1
    grid = torch.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth], dim=3)
    changed_pixels, which = pixels.clone(), which.to(pixels.device)
    changed_pixels[which] = _sample(pixels[which], grid)
    return changed_pixels


def move(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Moves the pixels of each picture: what stands at (x, y) afterwards comes from `matrix` · (x, y, 1).

    Args:
        pixels: uint8 `[N, H, W, C]`.
        matrix: float32 `[N, 2, 3]` on the CPU, for x and y in pixels from the picture's centre, to the right and down.
    """
    count, height, width, channels = pixels.shape
    # affine_grid counts both axes from -1 to 1
    given = torch.tensor([[1, height, 2], [width, 1, 2]])
    wanted = torch.tensor([[1, width, width], [height, 1, height]])
    matrix = (matrix * given / wanted).to(pixels.device)
    return _sample(pixels, functional.affine_grid(matrix, [count, channels, height, width], align_corners=False))


def turn_by(angles: Tensor) -> Tensor:
    """The matrices for `move`, float32 `[N, 2, 3]`, that turn pictures by these angles, in radians."""
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros(len(angles))
    return torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)


def _sample(pixels: Tensor, grid: Tensor) -> Tensor:
    planes = pixels.permute(0, 3, 1, 2).float()  # [N, C, H, W]
    sampled = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return to_bytes(sampled.permute(0, 2, 3, 1))


def _centres(count: int, device: torch.device) -> Tensor:
    """Where the centres of so many pixels lie on an axis from -1 to 1."""
    return (2 * torch.arange(count, device=device) + 1) / count - 1


def _solve_homography(seen: Tensor, source: Tensor) -> Tensor:
    """The eight numbers, float64 `[N, 8]`, that map four points `[N, 4, 2]` onto four others `[4, 2]`."""
    x, y = seen.unbind(2)  # [N, 4]
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [
        torch.stack([x, y, one, zero, zero, zero, -source[:, 0] * x, -source[:, 0] * y], dim=2),
        torch.stack([zero, zero, zero, x, y, one, -source[:, 1] * x, -source[:, 1] * y], dim=2),
    ]
    solution: Tensor = torch.linalg.solve(torch.cat(rows, dim=1), source.T.reshape(8).expand(len(seen), 8))
    return solution


def _mirror(pixels: Tensor, mirrored: Tensor) -> Tensor:
    return torch.where(mirrored.to(pixels.device)[:, None, None, None], pixels.flip(2), pixels)


def _mirrored(side: int, padding: int) -> Tensor:
    """Indices of a row of pixels with some more at both ends, as in a mirror, the last one not twice: `[side + 2p]`.

    A row that is too short goes back and forth.
    """
    period = max(2 * (side - 1), 1)
    along = torch.arange(-padding, side + padding) % period
    return torch.minimum(along, period - along) if side > 1 else torch.zeros_like(along)


def _crop_at(pixels: Tensor, places: Tensor, size: tuple[int, int], padding: int, mode: PaddingMode) -> Tensor:
    height, width = size
    if padding and mode == "reflect":
        rows, columns = (_mirrored(side, padding).to(pixels.device) for side in pixels.shape[1:3])
        pixels = pixels[:, rows][:, :, columns]
    elif padding:
        pixels = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    pixels = pad_to(pixels, height, width)
    room = torch.tensor([pixels.shape[1] - height + 1, pixels.shape[2] - width + 1])
    top, left = (places * room).long().to(pixels.device).unbind(1)
    windows = pixels.unfold(1, height, 1).unfold(2, width, 1)  # a view: [N, places, places, C, h, w]
    chosen = windows[torch.arange(len(pixels), device=pixels.device), top, left]  # [N, C, h, w]
    return chosen.permute(0, 2, 3, 1)
