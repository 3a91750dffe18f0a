import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from eyebright.curation.alignment import align_and_compare, compare
from eyebright.curation.likeness import (
    CANDIDATE,
    SIDE,
    Candidates,
    Descriptors,
    Small,
    describe,
    find_candidates,
    find_neighbours,
    shrink,
)


@pytest.fixture
def smalls(landscape):
    """`smalls(5)`: small forms of so many different pictures."""

    def make(count, size=(48, 40), seed=0):
        rows = [shrink(landscape(*size, seed=seed + i)) for i in range(count)]
        return Small(torch.stack([grey for grey, _ in rows]), torch.stack([chroma for _, chroma in rows]))

    return make


def descriptors_of(vectors):
    """Descriptors made of unit vectors `[N, 6]`: 4 even, 2 odd."""
    unit = torch.tensor(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=torch.float32)
    return Descriptors(unit[:, :4], unit[:, 4:])


def likeness(a, b):
    even, odd = a[:4] @ b[:4], a[4:] @ b[4:]
    return (even + odd, False) if odd >= 0 else (even - odd, True)


def brute_force(descriptors, neighbours):
    """Every pair looked at, one after the other."""
    rows = torch.cat([descriptors.even, descriptors.odd], dim=1).numpy().astype(np.float64)
    found = {}
    for i, one in enumerate(rows):
        alike = [(*likeness(one, other), j) for j, other in enumerate(rows) if j != i]
        alike = [(value, mirrored, j) for value, mirrored, j in alike if value >= CANDIDATE]
        for _, mirrored, j in sorted(alike, key=lambda row: -row[0])[:neighbours]:
            found[min(i, j), max(i, j)] = mirrored
    return found


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_candidates_in_blocks_are_those_of_brute_force(block):
    descriptors = descriptors_of(np.random.default_rng(0).normal(size=(120, 6)))
    found = find_candidates(descriptors, block=block)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    expected = brute_force(descriptors, neighbours=8)
    assert 100 < len(expected) < len(brute_force(descriptors, neighbours=120))  # some have more neighbours than 8
    assert pairs == sorted(expected)
    assert dict(zip(pairs, found.mirrored.tolist(), strict=True)) == expected


@pytest.mark.parametrize("count", [0, 1, 2])
def test_candidates_of_hardly_any_pictures(count, smalls):
    small = smalls(1)
    descriptors = describe(small.grey.expand(count, SIDE, SIDE))
    found = find_candidates(descriptors)
    assert found.first.tolist() == [0] * (count == 2) and found.second.tolist() == [1] * (count == 2)
    assert len(find_neighbours(descriptors, describe(small.grey[:0])).first) == 0


def test_a_descriptor_is_the_weighted_cosine_transform(smalls):
    small = smalls(3)
    found = describe(small.grey)
    for row, grey in enumerate(small.grey.numpy().astype(np.float64)):
        coefficients = dctn(grey, norm="ortho")
        expected = [
            [
                coefficients[v, u] * math.sqrt(math.hypot(u, v))
                for v in range(8)
                for u in range(start, 8, 2)
                if 0 < math.hypot(u, v) < 8
            ]
            for start in (0, 1)
        ]
        length = np.linalg.norm(expected[0] + expected[1])
        np.testing.assert_allclose(found.even[row], np.array(expected[0]) / length, atol=1e-5)
        np.testing.assert_allclose(found.odd[row], np.array(expected[1]) / length, atol=1e-5)


def test_mirroring_changes_the_sign_of_odd_frequencies_only(smalls):
    small = smalls(3)
    plain, mirrored = describe(small.grey), describe(small.grey.flip(2))
    torch.testing.assert_close(mirrored.even, plain.even, atol=1e-5, rtol=0)
    torch.testing.assert_close(mirrored.odd, -plain.odd, atol=1e-5, rtol=0)


def test_what_has_hardly_any_contrast_is_like_nothing():
    flat = torch.full((2, SIDE, SIDE), 90, dtype=torch.uint8)
    flat[1, :4] += 3
    descriptors = describe(flat)
    assert not descriptors.even.any() and not descriptors.odd.any()
    assert len(find_candidates(descriptors).first) == 0


def test_a_small_form_holds_grey_values_and_colours():
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    pixels[:, 48:] = 200, 100, 50  # luma 0.299 · 200 + 0.587 · 100 + 0.114 · 50 = 124.2
    grey, chroma = shrink(pixels)
    assert grey.dtype == torch.uint8
    assert grey[5, :15].tolist() == [0] * 15 and grey[5, 17:].tolist() == [124] * 15
    assert chroma[3, 7].tolist() == pytest.approx([50 - 124.2, 200 - 124.2], abs=0.1)
    assert not chroma[:, :3].any()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (28, 28), (700, 900)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_forms_of_all_sizes(size, channels, noise):
    grey, chroma = shrink(noise(*size, channels))
    assert grey.shape == (SIDE, SIDE) and chroma.shape == (8, 8, 2)
    assert channels == 3 or chroma.abs().max() < 0.01


@pytest.mark.parametrize("scale, shift", [(0.92, 0.0), (1.08, 0.0), (1.0, 0.06), (0.95, -0.05)])
def test_alignment_finds_scale_shift_and_gain(scale, shift):
    def scene(x, y):
        waves = torch.sin(5 * x + 3 * y) + torch.sin(-4 * x + 7 * y + 1) + torch.sin(9 * x - 2 * y + 2)
        return 30 * waves + torch.sin(11 * x + 8 * y) * 20

    x = ((torch.arange(SIDE) * 2 + 1) / SIDE - 1).expand(SIDE, SIDE)
    fixed = scene(x, x.T)
    moved = 1.3 * scene(scale * x + shift, scale * x.T + shift) + 12
    assert align_and_compare(fixed[None], moved[None]) > 0.99
    unrelated = scene(x.T + 3, x * 1.5)
    assert align_and_compare(fixed[None], unrelated[None]) < 0.6


def one_pair(ones, others, mirrored=False):
    zero = np.zeros(1, dtype=np.int64)
    return float(compare(ones, others, Candidates(zero, zero, np.array([mirrored])))[0])


def test_comparing_is_symmetric_and_knows_mirror_images(smalls):
    small, other = smalls(1), smalls(1, seed=5)
    mirror = Small(small.grey.flip(2), small.chroma.flip(2))
    assert one_pair(small, mirror, mirrored=True) > 0.999
    assert one_pair(small, mirror) < 0.8
    for mirrored in (False, True):
        assert one_pair(small, other, mirrored) == pytest.approx(one_pair(other, small, mirrored), abs=0.02)


def test_pictures_of_other_colours_differ_and_grey_ones_fit_any(landscape):
    picture = landscape(40, 40) // 2
    red, green, grey = (np.zeros_like(picture) for _ in range(3))
    red[..., 0], green[..., 1], grey[...] = picture[..., 0], picture[..., 0] // 2, picture[..., :1]
    forms = [Small(*(part[None] for part in shrink(pixels))) for pixels in (red, green, grey)]
    assert one_pair(forms[0], forms[1]) == 0
    assert one_pair(forms[0], forms[2]) > 0.95


def test_no_pairs_are_compared_to_nothing(smalls):
    none = np.empty(0, dtype=np.int64)
    assert compare(smalls(1), smalls(1), Candidates(none, none, np.empty(0, dtype=np.bool_))).shape == (0,)
