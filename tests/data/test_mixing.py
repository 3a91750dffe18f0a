import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from eyebright.data.mixing import cutmix, mixup
from eyebright.random import generator


def random(seed=0):
    return generator(seed, "test")


def drawn(mix, alpha, count=400, size=(100, 100)):
    """Mixtures of the same two pictures, black and white, from one generator."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, *size, 1)
    same = random()
    return [mix(pixels, same, alpha) for _ in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_is_the_weighted_mean_of_two_pictures(batch, alpha, channels):
    pixels = batch(9, 6, 7, channels)
    mixed = mixup(pixels, random(), alpha)
    for i, partner in enumerate(mixed.partners.tolist()):
        mean = mixed.share * pixels[i].double() + (1 - mixed.share) * pixels[partner].double()
        assert (mixed.pixels[i] - mean).abs().max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(6, 7), (20, 31)])
def test_cutmix_is_a_rectangle_of_the_partner_in_the_picture(batch, size, channels):
    pixels = batch(9, *size, channels)
    for seed in range(20):
        mixed = cutmix(pixels, random(seed), 1.0)
        theirs = (mixed.pixels != pixels).any(dim=3)
        rows, columns = theirs.any(dim=2).any(dim=0), theirs.any(dim=1).any(dim=0)
        rectangle = rows[:, None] & columns
        expected = torch.where(rectangle[None, :, :, None], pixels[mixed.partners], pixels)
        assert torch.equal(mixed.pixels, expected)
        for line in (rows, columns):  # no gaps
            assert int(line.diff().sum()) + int(line[0]) + int(line[-1]) <= 2
        assert mixed.share == pytest.approx(1 - rectangle.float().mean().item())


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_every_picture_is_a_partner_once(batch, mix):
    pixels = batch(9, 6, 7, 3)
    partners = [mix(pixels, random(seed), 1.0).partners for seed in range(5)]
    assert all(sorted(order.tolist()) == list(range(9)) for order in partners)
    assert len({tuple(order.tolist()) for order in partners}) == 5


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_of_mixup_come_from_the_beta_distribution(alpha):
    shares = [mixture.share for mixture in drawn(mixup, alpha)]
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_rectangles_of_cutmix_that_lie_inside_have_areas_from_the_beta_distribution(monkeypatch, alpha):
    monkeypatch.setattr(torch, "rand", middle_or(torch.rand))
    shares = [mixture.share for mixture in drawn(cutmix, alpha, size=(300, 300))]
    assert kstest(shares, beta(alpha, alpha).cdf).statistic < 0.07


def middle_or(draw):
    """Centres, of which two numbers are drawn, are in the middle; shares are left to chance."""
    return lambda *shape, **options: torch.full((2,), 0.5) if shape == (2,) else draw(*shape, **options)


def test_centres_of_cutmix_are_everywhere():
    marks = [(mixture.pixels[0] != 0)[..., 0] for mixture in drawn(cutmix, 1.0, 600)]
    covered = torch.stack([mark for mark in marks if mark.any()]).float().mean(dim=0)
    corners = covered[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.05 and covered[50, 50] > corners.max()
    assert (covered - covered.flip(0)).abs().max() < 0.15 and (covered - covered.T).abs().max() < 0.15


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("alpha", [1e-12, 1e-3, 1e6])
def test_extreme_alphas_are_numbers_still(batch, mix, alpha):
    pixels = batch(3, 6, 7, 3)
    for seed in range(10):
        mixed = mix(pixels, random(seed), alpha)
        assert 0 <= mixed.share <= 1
        if alpha < 1:
            assert min(mixed.share, 1 - mixed.share) < 0.1 or mix is cutmix
        elif mix is mixup:
            assert np.isclose(mixed.share, 0.5, atol=0.01)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_a_single_picture_stays_as_it_is(batch, mix):
    pixels = batch(1, 6, 7, 3)
    assert torch.equal(mix(pixels, random(), 1.0).pixels, pixels)
