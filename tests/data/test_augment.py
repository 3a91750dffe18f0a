from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from eyebright.data.augment import Augment
from eyebright.data.colour import blur, color_jitter
from eyebright.data.covering import cutout, erase
from eyebright.data.geometry import (
    alternating_flip,
    horizontal_flip,
    perspective,
    random_crop,
    random_resized_crop,
    rotate,
)
from eyebright.data.mixing import cutmix, mixup
from eyebright.data.prepare import Prepare
from eyebright.data.randaugment import rand_augment
from eyebright.random import generator

FUNCTIONS = {
    "crop": partial(random_crop, size=(20, 24), padding=3),
    "resized crop": partial(random_resized_crop, size=(20, 24)),
    "flip": horizontal_flip,
    "rotate": partial(rotate, degrees=30),
    "perspective": partial(perspective, distortion=0.5, probability=0.7),
    "jitter": partial(color_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "blur": partial(blur, sigma=(0.1, 2.0), probability=0.7),
    "rand_augment": partial(rand_augment, operations=2, magnitude=15),
    "cutout": partial(cutout, side=9, color=(0.4,)),
    "erase with noise": partial(erase, probability=0.7),
    "erase with a colour": partial(erase, probability=0.7, color=(0.4,)),
}
MIXING = {
    "mixup": lambda pixels, random: mixup(pixels, random, 1.0).pixels,
    "cutmix": lambda pixels, random: cutmix(pixels, random, 1.0).pixels,
}
SIZES = dict.fromkeys([*FUNCTIONS, *MIXING], (33, 31)) | {"crop": (20, 24), "resized crop": (20, 24)}
LAYOUTS = {
    "channels first in memory": lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "columns first in memory": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "a part of a larger batch": lambda x: torch.cat([x, x], dim=2)[:, :, : x.shape[2]],
    "every second column": lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2],
}


@pytest.fixture(params=(FUNCTIONS | MIXING).items(), ids=[*FUNCTIONS, *MIXING])
def function(request):
    return request.param


@pytest.fixture
def threads():
    """`threads(2)`: an operation may use so many."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def values(count, *shape):
    """What a function draws first from the generator of these tests."""
    return torch.rand(count, *shape, generator=generator(0, "test")).numpy()


def random(seed=0):
    return generator(seed, "test")


def change(pixels, random=None, prepare=None, seed=0, epoch=0, **options):
    """`change(pixels, rotation=5)`: what a recipe with these options does to a batch."""
    given = {"seed": seed, "epoch": epoch, "indices": np.arange(len(pixels))}
    prepare = prepare or Prepare(mean=(0.4, 0.5, 0.6))
    return Augment(**options).change_batch(pixels, random or generator(0, "test"), prepare, **given)


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


@pytest.mark.parametrize("augment", FUNCTIONS.values(), ids=FUNCTIONS)
def test_each_picture_is_changed_in_its_own_way(augment, batch):
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


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_threads_changes_nothing(function, batch, threads, count):
    _, augment = function
    pixels = batch(count, 233, 231, 3)
    changed = []
    for number in (1, 2, 4):
        threads(number)
        changed.append(augment(pixels, random()))
    assert torch.equal(changed[0], changed[1]) and torch.equal(changed[0], changed[2])


@pytest.mark.parametrize("name", ["flip", "perspective", "blur", "erase with noise", "erase with a colour"])
def test_with_a_probability_of_nothing_nothing_is_changed(batch, name):
    pixels = batch(8, 33, 31, 3)
    assert torch.equal(FUNCTIONS[name](pixels, random(), probability=0.0), pixels)
    assert not torch.equal(FUNCTIONS[name](pixels, random(), probability=1.0), pixels)


@pytest.mark.cuda
def test_on_a_gpu_the_same_numbers_are_drawn(function, batch):
    _, augment = function
    pixels = batch(64, 33, 31, 3)
    here, there = augment(pixels, random()), augment(pixels.cuda(), random()).cpu()
    assert ((here.int() - there.int()).abs() <= 1).float().mean() > 0.999


# the recipe's section


def test_nothing_is_changed_unless_asked_for(batch):
    pixels = batch(4, 12, 12, 3)
    prepare = Prepare(crop=8)
    assert torch.equal(Augment().crop_batch(pixels, random(), prepare), prepare.crop_batch(pixels))
    assert change(pixels) is pixels
    assert Augment().mix_batch(pixels, random()) is None


CHANGES = {
    "horizontal_flip": (0.5, lambda p, g: horizontal_flip(p, g, 0.5)),
    "alternating_flip": (True, lambda p, g: alternating_flip(p, 0, 0, np.arange(len(p)))),
    "rotation": (20, lambda p, g: rotate(p, g, 20)),
    "perspective": (0.5, lambda p, g: perspective(p, g, 0.5, 0.5)),
    "brightness": (0.3, lambda p, g: color_jitter(p, g, brightness=0.3)),
    "contrast": (0.3, lambda p, g: color_jitter(p, g, contrast=0.3)),
    "saturation": (0.3, lambda p, g: color_jitter(p, g, saturation=0.3)),
    "hue": (0.1, lambda p, g: color_jitter(p, g, hue=0.1)),
    "blur": ((1, 2), lambda p, g: blur(p, g, (1, 2), 0.5)),
    "rand_augment": ((2, 9), lambda p, g: rand_augment(p, g, 2, 9)),
    "cutout": (4, lambda p, g: cutout(p, g, 4, (0.4, 0.5, 0.6))),
    "erasing": (0.5, lambda p, g: erase(p, g, 0.5, (0.02, 0.33), (0.3, 3.3))),
}


@pytest.mark.parametrize("option", CHANGES)
def test_each_option_makes_its_change(batch, option):
    value, expected = CHANGES[option]
    pixels = batch(8, 12, 12, 3)
    changed = change(pixels, **{option: value})
    assert torch.equal(changed, expected(pixels, random()))
    assert not torch.equal(changed, pixels)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"perspective": 0.5, "perspective_probability": 1}, lambda p, g: perspective(p, g, 0.5, 1)),
        ({"blur": (1, 2), "blur_probability": 1}, lambda p, g: blur(p, g, (1, 2), 1)),
        ({"erasing": 1, "erasing_area": (0.1, 0.2)}, lambda p, g: erase(p, g, 1, (0.1, 0.2))),
        ({"erasing": 1, "erasing_aspect": (1, 1)}, lambda p, g: erase(p, g, 1, aspect=(1, 1))),
        ({"erasing": 1, "erasing_fill": "mean"}, lambda p, g: erase(p, g, 1, color=(0.4, 0.5, 0.6))),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_options_of_options_are_handed_on(batch, options, expected):
    pixels = batch(8, 12, 12, 3)
    assert torch.equal(change(pixels, **options), expected(pixels, random()))


def test_changes_are_made_in_the_order_of_the_options(batch):
    pixels, generator_of_all = batch(8, 12, 12, 3), random()
    expected = pixels
    order = ("horizontal_flip", "rotation", "perspective", "brightness", "blur", "rand_augment", "cutout", "erasing")
    for option in order:
        expected = CHANGES[option][1](expected, generator_of_all)
    fields = list(Augment.model_fields)
    assert sorted(order, key=fields.index) == list(order)
    assert torch.equal(change(pixels, **{option: CHANGES[option][0] for option in reversed(order)}), expected)


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_mixing_is_the_last_step(batch, option):
    pixels = batch(8, 12, 12, 3)
    mixed = Augment(**{option: 0.7}).mix_batch(pixels, random())
    expected = {"mixup": mixup, "cutmix": cutmix}[option](pixels, random(), 0.7)
    assert torch.equal(mixed.pixels, expected.pixels) and mixed.share == expected.share


def test_with_both_kinds_of_mixing_half_of_the_batches_get_each(batch):
    pixels, random_of_all = batch(4, 6, 6, 3), random()
    blended = 0
    for _ in range(200):
        mixed = Augment(mixup=1.0, cutmix=1.0).mix_batch(pixels, random_of_all)
        own, theirs = mixed.pixels == pixels, mixed.pixels == pixels[mixed.partners]
        blended += not (own | theirs).all()
    assert 70 < blended < 130


@pytest.mark.parametrize("padding", [1, 3, 7])
def test_padding_can_be_a_mirror(padding):
    pixels = torch.randint(0, 256, (3, 8, 9, 3), dtype=torch.uint8, generator=random())
    planes = pixels.permute(0, 3, 1, 2).float()
    padded = F.pad(planes, (padding,) * 4, mode="reflect").permute(0, 2, 3, 1).byte()
    expected = random_crop(padded, random(), (8, 9))
    assert torch.equal(random_crop(pixels, random(), (8, 9), padding, "reflect"), expected)


def test_a_mirror_goes_back_and_forth_where_padding_is_longer_than_the_picture():
    row = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 1, 3, 1)
    whole = random_crop(row, random(), (11, 13), 5, "reflect")
    along = [20, 10, 20, 30, 20, 10, 20, 30, 20, 10, 20, 30, 20]
    assert whole[0, :, :, 0].tolist() == [along] * 11


def test_the_random_crop_stands_in_the_place_of_the_centre_crop(batch):
    pixels = batch(8, 12, 12, 3)
    cropped = Augment(random_crop=True, padding=2).crop_batch(pixels, random(), Prepare(crop=(8, 9)))
    assert torch.equal(cropped, random_crop(pixels, random(), (8, 9), 2))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [{"crop": (8, 9)}, {"resize": (8, 9)}, {"resize": 12, "crop": (8, 9)}], ids=str)
def test_so_does_the_random_resized_crop(batch, size, interpolation):
    pixels, prepare = batch(8, 12, 12, 3), Prepare(interpolation=interpolation, **size)
    cropped = Augment(random_resized_crop=(0.3, 0.9)).crop_batch(pixels, random(), prepare)
    assert torch.equal(cropped, random_resized_crop(pixels, random(), (8, 9), (0.3, 0.9), interpolation))


def test_without_a_crop_the_padded_picture_is_cut_to_its_resized_size(batch):
    pixels = batch(8, 12, 10, 3)
    cropped = Augment(random_crop=True, padding=2).crop_batch(pixels, random(), Prepare(resize=(12, 10)))
    assert torch.equal(cropped, random_crop(pixels, random(), (12, 10), 2))


@pytest.mark.parametrize(
    "options", [{"random_crop": True}, {"random_crop": True, "padding": 3}, {"random_resized_crop": (0.08, 1)}], ids=str
)
def test_pictures_of_one_size_are_cropped_alike_in_a_list_and_in_a_batch(batch, options):
    pixels, augment, prepare = batch(8, 12, 10, 3), Augment(**options), Prepare(crop=(8, 6))
    assert torch.equal(
        augment.crop_batch(list(pixels), random(), prepare), augment.crop_batch(pixels, random(), prepare)
    )


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
        {"random_resized_crop": True},
        {"random_resized_crop": (0, 1)},
        {"random_resized_crop": (0.5, 1.1)},
        {"random_resized_crop": (0.5,)},
        {"perspective": 0.61},
        {"perspective_probability": 2},
        {"blur": (0, 1)},
        {"blur": (1, float("inf"))},
        {"blur": 1},
        {"rand_augment": (0, 9)},
        {"rand_augment": (2, 31)},
        {"rand_augment": (2, 4.5)},
        {"rand_augment": 2},
        {"erasing": 1.5},
        {"erasing_area": (0.1, 2)},
        {"erasing_aspect": (-1, 1)},
        {"erasing_fill": "black"},
        {"mixup": -1},
        {"mixup": float("inf")},
        {"cutmix": float("nan")},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        Augment(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"random_resized_crop": (1, 0.08)}, r"the least first: \[0.08, 1\]"),
        ({"blur": (2, 1)}, r"the least first: \[1, 2\]"),
        ({"erasing": 1, "erasing_aspect": (3, 1)}, "the least first"),
        ({"random_crop": True, "random_resized_crop": (0.08, 1)}, "random_crop and random_resized_crop exclude each"),
        ({"horizontal_flip": 0.5, "alternating_flip": True}, "horizontal_flip and alternating_flip exclude each other"),
        ({"padding": 4, "random_resized_crop": (0.08, 1)}, "padding means nothing without random_crop: leave it out"),
        ({"perspective_probability": 1}, "perspective_probability means nothing without perspective"),
        ({"blur_probability": 1}, "blur_probability means nothing without blur"),
        ({"erasing_area": (0.1, 0.2)}, "erasing_area means nothing without erasing"),
        ({"erasing_aspect": (1, 2)}, "erasing_aspect means nothing without erasing"),
        ({"erasing_fill": "mean"}, "erasing_fill means nothing without erasing"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(options, says):
    with pytest.raises(ValidationError, match=says):
        Augment(**options)
