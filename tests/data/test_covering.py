import numpy as np
import pytest
import torch

from eyebright.data.covering import cutout, erase
from eyebright.data.geometry import draw_pieces
from eyebright.random import generator


def values(count, *shape):
    """What a function draws first from the generator of these tests."""
    return torch.rand(count, *shape, generator=generator(0, "test")).numpy()


def random(seed=0):
    return generator(seed, "test")


# cutout


@pytest.mark.parametrize("side", [1, 2, 5, 8, 30])
@pytest.mark.parametrize("size", [(8, 8), (6, 11)])
def test_cutout_covers_a_square_at_the_drawn_place(batch, side, size):
    pixels = batch(12, *size, 3)
    covered = cutout(pixels, random(), side, (0.2, 0.4, 0.6)).numpy()
    for picture, place, result in zip(pixels.numpy(), values(12, 2), covered, strict=True):
        expected = picture.copy()
        for row in range(size[0]):
            for column in range(size[1]):
                top, left = int(place[0] * size[0]) - side // 2, int(place[1] * size[1]) - side // 2
                if top <= row < top + side and left <= column < left + side:
                    expected[row, column] = (51, 102, 153)
        assert np.array_equal(result, expected)


def test_the_centre_of_a_cutout_reaches_every_pixel():
    covered = cutout(torch.zeros(2000, 4, 5, 1, dtype=torch.uint8), random(), 1, (1.0,))
    counts = (covered > 0).sum(dim=(0, 3))
    assert (counts.sum() == 2000) and counts.min() > 0.6 * 100 and counts.max() < 1.4 * 100


@pytest.mark.parametrize(("color", "value"), [((0.0,), 0), ((1.0,), 255), ((-0.5,), 0), ((1.5,), 255)])
def test_the_cutouts_colour_stays_within_the_bytes(always, color, value):
    always(0.5)
    assert cutout(torch.full((1, 1, 1, 1), 9, dtype=torch.uint8), random(), 1, color).item() == value


# erase


@pytest.mark.parametrize("color", [None, (0.2, 0.4, 0.6)], ids=["noise", "a colour"])
@pytest.mark.parametrize("size", [(24, 24), (16, 40)], ids=str)
def test_erased_is_the_drawn_piece_of_the_drawn_pictures_and_nothing_else(batch, size, color):
    pixels = batch(30, *size, 3)
    erased = erase(pixels, random(), 0.6, color=color).numpy()
    same = random()
    chosen = torch.rand(30, generator=same) < 0.6
    pieces = draw_pieces(torch.tensor([size] * 30), same, (0.02, 0.33), (0.3, 3.3)).tolist()
    for picture, yes, (top, left, height, width), result in zip(pixels.numpy(), chosen, pieces, erased, strict=True):
        expected = picture.copy()
        if yes:
            inside = (slice(top, top + height), slice(left, left + width))
            expected[inside] = (51, 102, 153) if color else result[inside]
            assert (result[inside] != picture[inside]).mean() > 0.9
        assert np.array_equal(result, expected)


def test_noise_is_even_and_different_everywhere():
    erased = erase(torch.zeros(200, 32, 32, 1, dtype=torch.uint8), random(), 1.0, (0.3, 0.3), (1, 1))
    noise = erased[erased > 0].numpy()
    counts = np.bincount(noise, minlength=256)[1:]
    assert 0.28 < noise.size / erased.numel() < 0.32
    assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.4 * counts.mean()
