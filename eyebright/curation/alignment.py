"""How well two pictures agree once one has been moved onto the other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eyebright.curation.likeness import Candidates, Small

LEAST_CHROMA = 4.0  # root mean square in grey levels: what has less is taken for grey, and fits any colour
SAME_COLOUR = 0.5  # least cosine between the colours of two pictures that are both coloured
STEPS = 6  # of the alignment
LARGEST_SCALE, LARGEST_SHIFT = 1.18, 0.2  # of the alignment; the shift in halves of a side
AT_ONCE = 128  # pairs that are compared at a time: they fit into a processor's cache


def compare(ones: Small, others: Small, candidates: Candidates) -> NDArray[np.float32]:
    """How well the edges of each pair agree once one picture lies on the other, float32 `[P]`, at most 1.

    Either picture is moved onto the other, and the better agreement counts: of a crop and its original only the
    original holds what the other shows. Where both are coloured and the colours do not fit, it is 0.
    """
    first, second = torch.from_numpy(candidates.first), torch.from_numpy(candidates.second)
    mirrored = torch.from_numpy(candidates.mirrored)
    found = [torch.empty(0)]
    for one, other, mirror in zip(*(torch.split(part, AT_ONCE) for part in (first, second, mirrored)), strict=True):
        fixed, moving = ones.grey[one].float(), _mirror(others.grey[other].float(), mirror)
        agreement = torch.maximum(align_and_compare(fixed, moving), align_and_compare(moving, fixed))
        fits = _colours_fit(ones.chroma[one].float(), _mirror(others.chroma[other].float(), mirror))
        found.append(torch.where(fits, agreement, 0.0))
    agreements: NDArray[np.float32] = torch.cat(found).numpy()
    return agreements


def align_and_compare(fixed: Tensor, moving: Tensor) -> Tensor:
    """Moves pictures onto others and compares their edges, float32 `[P, S, S]` twice → `[P]`, at most 1.

    Scale and shift along either axis, gain and offset of the grey values are fitted by least squares, a few times over.

    **Source:** Lucas and Kanade, An Iterative Image Registration Technique, 1981; the names of the steps as in Baker
    and Matthews, Lucas-Kanade 20 Years On, 2004, section 2.
    """
    side = fixed.shape[1]
    x = ((torch.arange(side) * 2 + 1) / side - 1).expand(1, side, side)  # -1 to 1 from edge to edge
    y = x.transpose(1, 2)
    scale, shift = torch.ones(len(fixed), 2), torch.zeros(len(fixed), 2)
    target = fixed.flatten(1)[:, :, None]
    for _ in range(STEPS):
        warped, inside = _warp(moving, scale, shift, x, y)
        down, across = torch.gradient(warped, spacing=2 / side, dim=(1, 2))
        columns = torch.stack([warped, torch.ones_like(warped), x * across, y * down, across, down], dim=1)
        columns = (columns * inside[:, None]).flatten(2)  # [P, 6, S·S]
        normal = columns @ columns.transpose(1, 2)
        damping = torch.diag_embed(normal.diagonal(dim1=1, dim2=2) * 1e-3 + 1e-3)
        solution = torch.linalg.solve(normal + damping, columns @ target)[:, :, 0]
        change = solution[:, 2:] / solution[:, :1].clamp(min=0.3)
        shift = (shift + scale * change[:, 2:]).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        scale = (scale * (1 + change[:, :2])).clamp(1 / LARGEST_SCALE, LARGEST_SCALE)
    warped, inside = _warp(moving, scale, shift, x, y)
    whole = -functional.max_pool2d(-inside[:, None], 3, stride=1, padding=1)[:, 0]  # its neighbours are inside too
    return _cosine(_edges(fixed, whole), _edges(warped, whole))


def _warp(moving: Tensor, scale: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures at scaled and shifted places, and 1 where these lie inside: `[P, S, S]` twice."""
    places = torch.stack([x, y], dim=-1) * scale[:, None, None] + shift[:, None, None]
    warped = functional.grid_sample(moving[:, None], places, padding_mode="border", align_corners=False)[:, 0]
    return warped, (places.abs() <= 1).all(dim=-1).float()


def _edges(planes: Tensor, where: Tensor) -> Tensor:
    """Gradients, of which strong ones are held back lest one long edge decide: `[P, S, S]` → `[P, 2·S·S]`."""
    gradients = torch.stack(torch.gradient(planes, dim=(1, 2)), dim=1) * where[:, None]
    square = gradients.square().sum(dim=1, keepdim=True)
    typical = square.sum(dim=(2, 3), keepdim=True) / where.sum(dim=(1, 2)).clamp(min=1)[:, None, None, None]
    return (gradients / (square + typical / 2 + 1e-3).sqrt()).flatten(1)


def _colours_fit(first: Tensor, second: Tensor) -> Tensor:
    """Whether the colours of pictures, `[P, 8, 8, 2]` twice, agree or one of the two has none: bool `[P]`."""
    one, other = first.flatten(1), second.flatten(1)
    grey = torch.minimum(one.square().mean(dim=1), other.square().mean(dim=1)) < LEAST_CHROMA**2
    return grey | (_cosine(one, other) >= SAME_COLOUR)


def _mirror(planes: Tensor, where: Tensor) -> Tensor:
    """Mirrors some pictures, `[P, H, W, …]`, left-right."""
    return torch.where(where.view(-1, *[1] * (planes.dim() - 1)), planes.flip(2), planes)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return functional.cosine_similarity(first, second, dim=1)
