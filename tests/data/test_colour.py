import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from eyebright.data.colour import blur, color_jitter
from eyebright.random import generator


def values(count, *shape):
    """What a function draws first from the generator of these tests."""
    return torch.rand(count, *shape, generator=generator(0, "test")).numpy()


def random(seed=0):
    return generator(seed, "test")


# jitter


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_of_no_strength_changes_nothing(batch, channels):
    pixels = batch(4, 33, 31, channels)
    assert torch.equal(color_jitter(pixels, random()), pixels)


LUMA = np.array([0.299, 0.587, 0.114])


def jitter_twin(pixels, strengths):
    """One picture after the other, in float64: brightness, contrast, saturation; no hue."""
    draws = values(4, len(pixels)).astype(np.float64) * 2 - 1
    for number, picture in enumerate(pixels.astype(np.float64)):
        brighter, stronger, fuller = (1 + draws[row, number] * strength for row, strength in enumerate(strengths))
        picture = picture * brighter
        mean = (picture @ LUMA).mean() if picture.shape[2] == 3 else picture.mean()
        picture = mean + (picture - mean) * stronger
        if picture.shape[2] == 3:
            grey = (picture @ LUMA)[..., None]
            picture = grey + (picture - grey) * fuller
        yield np.clip(picture, 0, 255)


@pytest.mark.parametrize("strengths", [(0.4, 0, 0), (0, 0.4, 0), (0, 0, 0.4), (0.4, 0.4, 0.4), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_contrast_and_saturation_are_what_they_are_called(batch, strengths, channels):
    pixels = batch(6, 20, 10, channels)
    changed = color_jitter(pixels, random(), *strengths).numpy()
    for result, twin in zip(changed, jitter_twin(pixels.numpy(), strengths), strict=True):
        assert np.abs(result - twin).max() <= 0.51


def muted(batch, *shape):
    """Colours far enough from the rim that no turn leaves 0…255."""
    return (batch(*shape) // 4 + 96).to(torch.uint8)


def test_a_turn_of_the_hue_keeps_the_luma(batch):
    pixels = muted(batch, 16, 9, 9, 3)
    turned = color_jitter(pixels, random(), hue=0.5)
    assert np.abs((turned.numpy() @ LUMA) - (pixels.numpy() @ LUMA)).max() <= 0.6
    assert (turned != pixels).float().mean() > 0.9


def test_four_quarter_turns_of_the_hue_come_back(batch, always):
    pixels = muted(batch, 4, 9, 9, 3)
    always(1.0)
    turned = [pixels]
    for _ in range(4):
        turned.append(color_jitter(turned[-1], random(), hue=0.25))
    apart = [(picture.int() - pixels.int()).abs().float() for picture in turned]
    assert apart[4].max() <= 3
    assert min(apart[quarters].mean() for quarters in (1, 2, 3)) > 5


def test_grey_pictures_have_no_hue_and_no_saturation(batch):
    grey = batch(8, 9, 9, 1)
    assert torch.equal(color_jitter(grey, random(), saturation=1.0, hue=0.5), grey)
    colour = grey.expand(-1, -1, -1, 3)
    assert (color_jitter(colour, random(), saturation=1.0, hue=0.5).int() - colour.int()).abs().max() <= 1


def test_a_half_turn_of_red_is_cyan(always):
    always(1.0)
    red = torch.tensor([160, 96, 96], dtype=torch.uint8).view(1, 1, 1, 3)
    r, g, b = color_jitter(red, random(), hue=0.5).ravel().tolist()
    assert r < g and r < b and abs(g - b) < 20


# blur


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [(0.1, 2.0), (1.0, 1.0), (3.0, 8.0)], ids=str)
def test_a_blur_is_the_one_that_scipy_makes(batch, channels, sigma):
    pixels = batch(12, 20, 17, channels)
    blurred = blur(pixels, random(), sigma, 0.7).numpy()
    chosen, places = values(2, 12)
    reach = int(np.ceil(3 * sigma[1]))
    for picture, number, place, result in zip(pixels.numpy(), chosen, places, blurred, strict=True):
        width = sigma[0] + place * (sigma[1] - sigma[0])
        twin = gaussian_filter(picture.astype(float), width, radius=reach, axes=(0, 1), mode="nearest")
        assert np.abs(result - (twin if number < 0.7 else picture)).max() <= 0.51


def test_a_blur_far_wider_than_the_picture_leaves_one_colour(batch):
    assert blur(batch(2, 5, 5, 3), random(), (100.0, 100.0)).float().std(dim=(1, 2)).max() < 10
