import math

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from eyebright.data.augment import Augment, color_jitter, cutout, horizontal_flip, random_crop, rotate
from eyebright.data.prepare import Prepare
from eyebright.random import generator

FUNCTIONS = {
    "crop": lambda pixels, random: random_crop(pixels, random, (20, 24), 3),
    "flip": lambda pixels, random: horizontal_flip(pixels, random),
    "rotate": lambda pixels, random: rotate(pixels, random, 30),
    "jitter": lambda pixels, random: color_jitter(pixels, random, 0.4, 0.4, 0.4, 0.1),
    "cutout": lambda pixels, random: cutout(pixels, random, 9, (0.4,)),
}
SIZES = {name: (20, 24) if name == "crop" else (33, 31) for name in FUNCTIONS}
LAYOUTS = {
    "channels first in memory": lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "columns first in memory": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "a part of a larger batch": lambda x: torch.cat([x, x], dim=2)[:, :, : x.shape[2]],
    "every second column": lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2],
}


@pytest.fixture
def batch(noise):
    """`batch(16, 33, 31, 3)`: pictures of noise."""
    return lambda *shape: torch.from_numpy(noise(*shape))


@pytest.fixture(params=FUNCTIONS.items(), ids=FUNCTIONS)
def function(request):
    return request.param


@pytest.fixture
def always(monkeypatch):
    """`always(1.0)`: every random number that torch draws is this one."""
    return lambda value: monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, value))


def values(count, *shape):
    """What a function draws first from the generator of these tests."""
    return torch.rand(count, *shape, generator=generator(0, "test")).numpy()


def random(seed=0):
    return generator(seed, "test")


# what all have in common


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_bytes_go_in_and_bytes_of_the_same_kind_come_out(function, batch, count, channels):
    name, augment = function
    changed = augment(batch(count, 33, 31, channels), random())
    assert changed.dtype == torch.uint8 and changed.shape == (count, *SIZES[name], channels)


def test_the_same_generator_gives_the_same_batch_and_another_another(function, batch):
    _, augment = function
    pixels = batch(8, 33, 31, 3)
    assert torch.equal(augment(pixels, random(0)), augment(pixels, random(0)))
    assert not torch.equal(augment(pixels, random(0)), augment(pixels, random(1)))


def test_the_global_generator_has_no_say(function, batch):
    _, augment = function
    pixels = batch(8, 33, 31, 3)
    torch.manual_seed(1)
    first = augment(pixels, random())
    torch.manual_seed(2)
    assert torch.equal(augment(pixels, random()), first)


def test_each_picture_is_changed_in_its_own_way(function, batch):
    _, augment = function
    changed = augment(batch(1, 33, 31, 3).expand(16, -1, -1, -1), random())
    assert len({picture.numpy().tobytes() for picture in changed}) >= 2


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_order_in_memory_changes_nothing(function, batch, layout):
    _, augment = function
    pixels = batch(8, 33, 31, 3)
    assert torch.equal(augment(layout(pixels), random()), augment(pixels, random()))


def test_the_given_batch_is_left_alone(function, batch):
    _, augment = function
    pixels = batch(8, 33, 31, 3)
    augment(pixels, random())
    assert torch.equal(pixels, batch(8, 33, 31, 3))


# crop


def crop_twin(picture, place, size, padding):
    """The piece of one picture at a place from 0 to 1."""
    picture = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)))
    missing = [max(0, wanted - side) for wanted, side in zip(size, picture.shape[:2], strict=True)]
    picture = np.pad(picture, (*((lack // 2, lack - lack // 2) for lack in missing), (0, 0)))
    top = int(place[0] * (picture.shape[0] - size[0] + 1))
    left = int(place[1] * (picture.shape[1] - size[1] + 1))
    return picture[top : top + size[0], left : left + size[1]]


@pytest.mark.parametrize(
    ("source", "size", "padding"),
    [((10, 12), (8, 8), 0), ((8, 8), (8, 8), 4), ((8, 8), (8, 8), 0), ((5, 20), (8, 8), 0), ((5, 6), (8, 9), 1)],
)
def test_a_crop_is_the_piece_at_the_drawn_place(batch, source, size, padding):
    pixels = batch(9, *source, 3)
    cut = random_crop(pixels, random(), size, padding).numpy()
    for picture, place, result in zip(pixels.numpy(), values(9, 2), cut, strict=True):
        assert np.array_equal(result, crop_twin(picture, place, size, padding))


def places_of_crops(rooms, count=2000):
    """How often each place was cut out of a picture whose pixels are their own numbers."""
    height, width = rooms[0] + 3, rooms[1] + 3
    numbers = torch.arange(height * width, dtype=torch.uint8).view(1, height, width, 1).expand(count, -1, -1, -1)
    return np.bincount(random_crop(numbers, random(), (4, 4))[:, 0, 0, 0].numpy(), minlength=height * width), width


def test_every_place_is_reached_about_equally_often():
    counts, width = places_of_crops((3, 5))
    starts = [row * width + column for row in range(3) for column in range(5)]
    assert counts.sum() == counts[starts].sum()
    assert counts[starts].min() > 0.6 * 2000 / 15 and counts[starts].max() < 1.4 * 2000 / 15


@pytest.mark.parametrize("room", [1, 2, 3, 5, 8, 100, 255])
@pytest.mark.parametrize("value", [0.0, 1 - 2**-24])
def test_the_smallest_and_the_largest_number_give_the_first_and_the_last_place(always, room, value):
    always(value)
    picture = torch.arange(room, dtype=torch.uint8).view(1, 1, room, 1)
    assert random_crop(picture, random(), (1, 1)).item() == (room - 1 if value else 0)


# flip


def test_flipped_are_those_whose_number_is_below_the_probability(batch):
    pixels = batch(20, 4, 5, 3)
    flipped = horizontal_flip(pixels, random(), 0.3).numpy()
    for picture, number, result in zip(pixels.numpy(), values(20), flipped, strict=True):
        assert np.array_equal(result, picture[:, ::-1] if number < 0.3 else picture)


@pytest.mark.parametrize(("probability", "turns"), [(0.0, False), (1.0, True)])
def test_none_or_all_are_flipped(batch, probability, turns):
    pixels = batch(20, 4, 5, 3)
    assert torch.equal(horizontal_flip(pixels, random(), probability), pixels.flip(2) if turns else pixels)


# rotation


def test_a_turn_by_nothing_changes_nothing(batch):
    pixels = batch(4, 33, 31, 3)
    assert torch.equal(rotate(pixels, random(), 0.0), pixels)


@pytest.mark.parametrize(("number", "quarters"), [(1.0, 1), (0.0, -1)])
def test_a_quarter_turn_is_exact(batch, always, number, quarters):
    pixels = batch(4, 12, 12, 3)
    always(number)
    assert torch.equal(rotate(pixels, random(), 90), torch.rot90(pixels, quarters, (1, 2)))


@pytest.mark.parametrize("number", [0.0, 1.0])
@pytest.mark.parametrize("size", [(12, 12), (33, 31), (8, 20)])
def test_half_a_turn_is_exact_whatever_the_shape(batch, always, number, size):
    pixels = batch(4, *size, 3)
    always(number)
    assert torch.equal(rotate(pixels, random(), 180), pixels.flip(1, 2))


@pytest.mark.parametrize("degrees", [10.0, 45.0, 130.0])
@pytest.mark.parametrize("size", [(40, 40), (30, 50)])
def test_a_turn_is_the_one_that_pillow_makes(landscape, always, degrees, size):
    picture = landscape(*size)
    always(1.0)
    turned = rotate(torch.from_numpy(picture)[None], random(), degrees)[0].numpy()
    pillow = np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BILINEAR))
    # at the rim Pillow takes the nearest pixel where we blend with black
    both = np.asarray(Image.new("L", size[::-1], 255).rotate(degrees, Image.Resampling.BILINEAR)) > 0
    inside = both & np.roll(both, 2, 0) & np.roll(both, -2, 0) & np.roll(both, 2, 1) & np.roll(both, -2, 1)
    inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False
    assert inside.mean() > 0.3
    assert np.abs(turned.astype(int) - pillow)[inside].max() <= 2
    assert (turned[~both] <= picture.max()).all() and (turned[0, 0] == 0).all()


def test_angles_lie_to_both_sides_and_within_the_limit():
    # a white bar on its way round: its angle can be read off the second moments
    bars = torch.zeros(200, 41, 41, 1, dtype=torch.uint8)
    bars[:, 20, 5:36] = 255
    turned = rotate(bars, random(), 20).double()[..., 0]
    y, x = torch.meshgrid(torch.arange(-20.0, 21.0), torch.arange(-20.0, 21.0), indexing="ij")
    xy, xx, yy = ((turned * weight).sum(dim=(1, 2)) for weight in (x * y, x * x, y * y))
    angles = 0.5 * torch.atan2(-2 * xy, xx - yy) * 180 / math.pi
    assert angles.abs().max() < 20.5 and angles.min() < -17 and angles.max() > 17
    expected = (values(200) * 2 - 1) * 20
    assert np.abs(angles.numpy() - expected).max() < 0.5


# colour


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


# the recipe's section


def test_nothing_is_changed_unless_asked_for(batch):
    pixels = batch(4, 12, 12, 3)
    prepare = Prepare(crop=8)
    assert torch.equal(Augment().crop_batch(pixels, random(), prepare), prepare.crop_batch(pixels))
    assert Augment().change_batch(pixels, random(), prepare) is pixels


CHANGES = {
    "horizontal_flip": (0.5, lambda p, g: horizontal_flip(p, g, 0.5)),
    "rotation": (20, lambda p, g: rotate(p, g, 20)),
    "brightness": (0.3, lambda p, g: color_jitter(p, g, brightness=0.3)),
    "contrast": (0.3, lambda p, g: color_jitter(p, g, contrast=0.3)),
    "saturation": (0.3, lambda p, g: color_jitter(p, g, saturation=0.3)),
    "hue": (0.1, lambda p, g: color_jitter(p, g, hue=0.1)),
    "cutout": (4, lambda p, g: cutout(p, g, 4, (0.4, 0.5, 0.6))),
}


@pytest.mark.parametrize("option", CHANGES)
def test_each_option_makes_its_change(batch, option):
    value, change = CHANGES[option]
    pixels = batch(8, 12, 12, 3)
    changed = Augment(**{option: value}).change_batch(pixels, random(), Prepare(mean=(0.4, 0.5, 0.6)))
    assert torch.equal(changed, change(pixels, random()))
    assert not torch.equal(changed, pixels)


def test_changes_are_made_in_the_order_of_the_options(batch):
    pixels, generator_of_all = batch(8, 12, 12, 3), random()
    expected = pixels
    for option in ("horizontal_flip", "rotation", "brightness", "cutout"):
        expected = CHANGES[option][1](expected, generator_of_all)
    options = {option: CHANGES[option][0] for option in ("cutout", "brightness", "rotation", "horizontal_flip")}
    prepare = Prepare(mean=(0.4, 0.5, 0.6))
    assert torch.equal(Augment(**options).change_batch(pixels, random(), prepare), expected)


def test_the_random_crop_stands_in_the_place_of_the_centre_crop(batch):
    pixels = batch(8, 12, 12, 3)
    cropped = Augment(random_crop=True, padding=2).crop_batch(pixels, random(), Prepare(crop=(8, 9)))
    assert torch.equal(cropped, random_crop(pixels, random(), (8, 9), 2))


def test_without_a_crop_the_padded_picture_is_cut_to_its_resized_size(batch):
    pixels = batch(8, 12, 10, 3)
    cropped = Augment(random_crop=True, padding=2).crop_batch(pixels, random(), Prepare(resize=(12, 10)))
    assert torch.equal(cropped, random_crop(pixels, random(), (12, 10), 2))


@pytest.mark.parametrize("padding", [0, 3])
def test_pictures_of_one_size_are_cropped_alike_in_a_list_and_in_a_batch(batch, padding):
    pixels, augment, prepare = batch(8, 12, 10, 3), Augment(random_crop=True, padding=padding), Prepare(crop=(8, 6))
    assert torch.equal(
        augment.crop_batch(list(pixels), random(), prepare), augment.crop_batch(pixels, random(), prepare)
    )


def test_each_picture_of_its_own_size_is_cropped_within_itself(noise):
    sizes = [(8, 8), (12, 9), (8, 30), (5, 7)]
    pictures = [torch.from_numpy(noise(*size, 3, seed=i)) for i, size in enumerate(sizes)]
    cropped = Augment(random_crop=True).crop_batch(pictures, random(), Prepare(crop=8))
    assert cropped.shape == (4, 8, 8, 3)
    for picture, place, result in zip(pictures, values(4, 2), cropped.numpy(), strict=True):
        assert np.array_equal(result, crop_twin(picture.numpy(), place, (8, 8), 0))


@pytest.mark.parametrize(
    "options",
    [
        {"horizontal_flip": 1.1},
        {"horizontal_flip": -0.1},
        {"horizontal_flip": float("nan")},
        {"rotation": 181},
        {"rotation": -1},
        {"brightness": 2},
        {"hue": 0.6},
        {"padding": -1},
        {"padding": 1.5},
        {"cutout": -1},
        {"random_crop": "centre"},
        {"vertical_flip": 0.5},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        Augment(**options)
