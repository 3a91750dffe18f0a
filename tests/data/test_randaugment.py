import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from eyebright.data.randaugment import OPERATIONS, rand_augment
from eyebright.random import generator

PICTURES = {
    "noise": lambda noise, landscape: noise(24, 31, 3),
    "a landscape": lambda noise, landscape: landscape(40, 37),
    "little contrast": lambda noise, landscape: noise(24, 31, 3) // 8 + 90,
    "one value": lambda noise, landscape: np.full((24, 31, 3), 77, dtype=np.uint8),
    "two values": lambda noise, landscape: (noise(24, 31, 3) > 60).astype(np.uint8) * 40 + 100,
    "few pixels": lambda noise, landscape: noise(3, 4, 3),
    "a pixel": lambda noise, landscape: noise(1, 1, 3),
}


@pytest.fixture(params=PICTURES.values(), ids=PICTURES)
def picture(request, noise, landscape):
    return request.param(noise, landscape)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def image(request, picture):
    """A picture as Pillow has it."""
    return Image.fromarray(picture[..., : request.param].squeeze(2) if request.param == 1 else picture)


def changed(image, operation, level):
    """What one operation makes of a picture, beside another one."""
    pixels = np.asarray(image)[..., None] if image.mode == "L" else np.asarray(image)
    pair = torch.from_numpy(np.stack([255 - pixels, pixels]))
    return OPERATIONS[operation](pair, torch.tensor([-level, level]))[1].squeeze(2).numpy().astype(int)


def apart(one, other):
    return np.abs(one - np.asarray(other)).max()


def random(seed=0):
    return generator(seed, "test")


def test_there_are_the_papers_fourteen():
    assert len(OPERATIONS) == 14


# each as Pillow does it


def test_identity_changes_nothing(image):
    assert apart(changed(image, "identity", 1.0), image) == 0


def test_autocontrast(image):
    assert apart(changed(image, "autocontrast", 0.3), ImageOps.autocontrast(image)) <= 1


def test_equalize(image):
    assert apart(changed(image, "equalize", 0.3), ImageOps.equalize(image)) == 0


@pytest.mark.parametrize("level", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0, -0.5])
def test_solarize(image, level):
    assert apart(changed(image, "solarize", level), ImageOps.solarize(image, 255 * (1 - abs(level)))) == 0


@pytest.mark.parametrize(("magnitude", "bits"), [(0, 8), (3, 8), (9, 7), (15, 6), (20, 5), (30, 4), (-30, 4)])
def test_posterize(image, magnitude, bits):
    assert apart(changed(image, "posterize", magnitude / 30), ImageOps.posterize(image, bits)) == 0


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "color": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}


@pytest.mark.parametrize("level", [-1.0, -0.3, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("operation", ENHANCERS)
def test_enhancements(image, operation, level):
    twin = ENHANCERS[operation](image).enhance(1 + 0.9 * level)
    assert apart(changed(image, operation, level), twin) <= 1 + (level > 0)  # Pillow drops what is behind the point


MOVES = {  # where (x, y) from the centre comes from, at a level of 1, for a width and a height
    "shear_x": lambda x, y, w, h: (x + 0.3 * y, y),
    "shear_y": lambda x, y, w, h: (x, y + 0.3 * x),
    "translate_x": lambda x, y, w, h: (x + w * 150 / 331, y),
    "translate_y": lambda x, y, w, h: (x, y + h * 150 / 331),
    "rotate": lambda x, y, w, h: (np.sqrt(0.75) * x - 0.5 * y, 0.5 * x + np.sqrt(0.75) * y),
}


@pytest.mark.parametrize("operation", MOVES)
@pytest.mark.parametrize("channels", [1, 3])
def test_moves(landscape, operation, channels):
    height, width = 40, 57
    pixels = landscape(height, width)[..., :channels]
    moved = OPERATIONS[operation](torch.from_numpy(pixels)[None], torch.ones(1))[0].numpy()
    padded, blended = np.pad(pixels.astype(float), ((1, 1), (1, 1), (0, 0))), 0
    for row in range(height):
        for column in range(width):
            x, y = MOVES[operation](column + 0.5 - width / 2, row + 0.5 - height / 2, width, height)
            x, y = x + width / 2 - 0.5, y + height / 2 - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            if not (-1 <= left < width and -1 <= top < height):
                assert (moved[row, column] == 0).all()
                continue
            right, down = x - left, y - top
            upper = padded[top + 1, left + 1] * (1 - right) + padded[top + 1, left + 2] * right
            lower = padded[top + 2, left + 1] * (1 - right) + padded[top + 2, left + 2] * right
            assert np.abs(moved[row, column] - (upper * (1 - down) + lower * down)).max() < 0.6
            blended += 1
    assert blended > 0.4 * height * width


@pytest.mark.parametrize("operation", [*MOVES, *ENHANCERS, "solarize", "posterize"])
def test_at_a_level_of_nothing_nothing_is_changed(batch, operation):
    pixels = batch(4, 20, 15, 3).clamp(max=254)  # 255 is turned over even then
    assert torch.equal(OPERATIONS[operation](pixels, torch.zeros(4)), pixels)


@pytest.mark.parametrize("operation", [*MOVES, *ENHANCERS])
def test_the_two_sides_differ(batch, operation):
    pixels = batch(1, 20, 15, 3)
    one, other = (OPERATIONS[operation](pixels, torch.tensor([level])) for level in (-0.5, 0.5))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_picture_is_changed_alike_alone_and_in_a_batch(batch, operation):
    pixels, levels = batch(6, 20, 15, 3), torch.tensor([-1, 1, -0.5, 0.5, 0.2, 0])
    together = OPERATIONS[operation](pixels, levels)
    assert together.dtype == torch.uint8 and together.shape == pixels.shape
    for i in range(6):
        assert torch.equal(OPERATIONS[operation](pixels[i : i + 1], levels[i : i + 1])[0], together[i])


# which of them


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("operations", "magnitude"), [(1, 9), (2, 15), (3, 30), (2, 0)])
def test_each_picture_gets_the_operations_that_were_drawn_for_it(batch, operations, magnitude, channels):
    pixels = batch(60, 12, 11, channels)
    augmented = rand_augment(pixels, random(), operations, magnitude)
    same, functions = random(), list(OPERATIONS.values())
    expected = pixels
    for _ in range(operations):
        drawn = torch.randint(14, (60,), generator=same).tolist()
        sides = (2 * torch.randint(2, (60,), generator=same) - 1).float()
        levels = sides * (magnitude / 30)
        one_by_one = zip(expected, drawn, levels, strict=True)
        expected = torch.cat([functions[number](picture[None], level[None]) for picture, number, level in one_by_one])
    assert torch.equal(augmented, expected)


def test_all_operations_and_both_sides_are_drawn_about_equally_often(monkeypatch):
    met = dict.fromkeys(OPERATIONS, 0)
    upwards = []

    def record(name):
        def note(pixels, level):
            met[name] += len(pixels)
            upwards.extend((level > 0).tolist())
            return pixels

        return note

    monkeypatch.setattr("eyebright.data.randaugment.OPERATIONS", {name: record(name) for name in OPERATIONS})
    rand_augment(torch.zeros(7000, 1, 1, 1, dtype=torch.uint8), random(), 2, 9)
    assert sum(met.values()) == 14000
    assert min(met.values()) > 850 and max(met.values()) < 1150
    assert 0.47 < np.mean(upwards) < 0.53
