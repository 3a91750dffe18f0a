import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from eyebright.data.decode import decode
from eyebright.data.images import ImageFiles, Images
from eyebright.data.prepare import Prepare, channel_statistics, pad_to
from eyebright.errors import DataError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PREPARATIONS = {
    "nothing": Prepare(),
    "shorter side": Prepare(resize=20),
    "exact": Prepare(resize=(50, 17)),
    "resize and crop": Prepare(resize=20, crop=16, **IMAGENET),
    "enlarged": Prepare(resize=70, crop=64, mean=(0.5,), std=(0.5,)),
    "padded": Prepare(crop=(40, 44)),
    "to grey": Prepare(channels=1, resize=20, crop=(18, 14), mean=(0.1307,), std=(0.3081,)),
}


@pytest.fixture(params=PREPARATIONS.values(), ids=PREPARATIONS)
def prepare(request):
    return request.param


def inputs(prepare, pixels):
    return prepare.normalise(prepare.crop_batch(prepare.resize_batch(torch.from_numpy(pixels))))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_equals_its_pictures_one_by_one_bit_for_bit(prepare, noise, channels):
    pixels = noise(9, 33, 31, channels)
    assert torch.equal(inputs(prepare, pixels), torch.cat([prepare(picture) for picture in pixels]))


LAYOUTS = {
    "channels first in memory": lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "columns first in memory": lambda x: np.asfortranarray(x),
    "every second column": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_in_memory_changes_nothing(prepare, noise, layout, channels):
    pixels = noise(5, 33, 31, channels)
    assert torch.equal(inputs(prepare, layout(pixels)), inputs(prepare, pixels))


def read_only(picture):
    picture = picture.copy()
    picture.flags.writeable = False
    return picture


def mirrored_view(picture):
    return picture[::-1, ::-1].copy()[::-1, ::-1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("view", [read_only, mirrored_view])
def test_arrays_of_any_kind_are_taken(prepare, noise, view):
    picture = noise(33, 31, 3)
    assert torch.equal(prepare(view(picture)), prepare(picture))


def test_the_given_picture_is_left_alone(prepare, noise):
    picture = noise(33, 31, 3)
    prepare(picture).zero_()
    prepare.resize_picture(picture)[:] = 0
    assert np.array_equal(picture, noise(33, 31, 3))


def test_pixels_are_inputs_before_normalisation(prepare, noise):
    picture = noise(33, 31, 3)
    assert torch.equal(prepare.normalise(prepare.pixels(picture)[None]), prepare(picture))


# resizing


@pytest.mark.parametrize(
    ("size", "side", "resized"),
    [
        ((30, 40), 15, (15, 20)),
        ((40, 30), 15, (20, 15)),
        ((30, 40), 60, (60, 80)),
        ((32, 32), 70, (70, 70)),
        ((333, 500), 224, (224, 336)),
        ((7, 500), 7, (7, 500)),
    ],
)
def test_one_number_is_the_shorter_side_and_the_aspect_is_kept(noise, size, side, resized):
    prepare = Prepare(resize=side)
    assert prepare.resized_size(*size) == resized
    assert prepare.resize_picture(noise(*size, 3)).shape == (*resized, 3)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600))
def test_the_shorter_side_is_exact_and_the_longer_less_than_a_pixel_below(height, width, side):
    resized = Prepare(resize=side).resized_size(height, width)
    assert min(resized) == side
    scale = side / min(height, width)
    assert -1e-6 <= max(height, width) * scale - max(resized) < 1
    assert (resized[0] <= resized[1]) if height <= width else (resized[0] >= resized[1])


@pytest.mark.parametrize("size", [(30, 40), (5, 5), (100, 3)])
def test_two_numbers_are_the_size(noise, size):
    assert Prepare(resize=(21, 12)).resize_picture(noise(*size, 3)).shape == (21, 12, 3)


def bilinear_twin(plane, size):
    """Bilinear and antialiased: every output pixel is a mean under a triangle as wide as the scale."""
    for axis, target in enumerate(size):
        source = plane.shape[axis]
        scale = source / target
        support = max(scale, 1.0)
        centres = (np.arange(target) + 0.5) * scale
        distance = np.abs(np.arange(source)[None] + 0.5 - centres[:, None]) / support
        weights = np.maximum(0, 1 - distance)
        weights /= weights.sum(axis=1, keepdims=True)
        plane = np.apply_along_axis(lambda line, w=weights: w @ line, axis, plane)
    return plane


@pytest.mark.parametrize("size", [(12, 15), (31, 29), (66, 62), (40, 10)])
def test_resizing_is_bilinear_and_antialiased(noise, size):
    picture = noise(33, 31, 3)
    resized = Prepare(resize=size).resize_picture(picture)
    twin = np.dstack([bilinear_twin(picture[..., channel].astype(np.float64), size) for channel in range(3)])
    assert np.abs(resized - twin).max() <= 1.01  # it rounds to bytes after each of the two axes


@pytest.mark.parametrize("size", [(12, 15), (66, 62)])
def test_resizing_agrees_with_pillow(landscape, size):
    picture = landscape(33, 31)
    pillow = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(Prepare(resize=size).resize_picture(picture) - pillow).max() <= 1


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("size", [5, 50])
def test_an_even_picture_stays_even(value, size):
    assert (Prepare(resize=size).resize_picture(np.full((20, 30, 3), value, np.uint8)) == value).all()


def test_a_picture_of_the_right_size_keeps_its_pixels(noise):
    picture = noise(20, 30, 3)
    for size in (20, (20, 30), None):
        assert np.array_equal(Prepare(resize=size).resize_picture(picture), picture)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(33, 31), (31, 33), (101, 7), (1, 1), (20, 64)])
def test_resizing_twice_is_resizing_once(prepare, noise, size, channels):
    once = prepare.resize_picture(noise(*size, channels))
    assert np.array_equal(prepare.resize_picture(once), once)


# channels


def test_grey_is_the_luma_that_pillow_computes():
    colors = np.empty((256, 256, 3), np.uint8)
    colors[..., 1], colors[..., 2] = np.mgrid[:256, :256]
    for red in range(256):  # every colour there is
        colors[..., 0] = red
        grey = Prepare(channels=1).resize_picture(colors)
        assert np.array_equal(grey[..., 0], np.asarray(Image.fromarray(colors).convert("L"))), red


def test_grey_becomes_colour_by_repetition_and_comes_back():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    colour = Prepare(channels=3).resize_picture(grey)
    assert np.array_equal(colour, np.repeat(grey, 3, axis=2))
    assert np.array_equal(Prepare(channels=1).resize_picture(colour), grey)


def test_the_resized_grey_is_the_same_in_one_channel_and_in_three(noise):
    grey = noise(33, 31, 1)
    one, three = (Prepare(channels=channels, resize=20).resize_picture(grey) for channels in (1, 3))
    assert np.array_equal(np.repeat(one, 3, axis=2), three)


# cropping


@pytest.mark.parametrize(
    ("size", "crop", "top", "left"),
    [((70, 70), 64, 3, 3), ((9, 12), 4, 2, 4), ((10, 7), (3, 6), 4, 0), ((5, 5), 5, 0, 0)],
)
def test_the_crop_is_cut_from_the_centre(noise, size, crop, top, left):
    pixels = noise(2, *size, 3)
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    cut = Prepare(crop=crop).crop_batch(torch.from_numpy(pixels))
    assert np.array_equal(cut.numpy(), pixels[:, top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("size", "crop", "added"),  # above, below, left, right
    [((3, 4), 6, (1, 2, 1, 1)), ((3, 3), 4, (0, 1, 0, 1)), ((4, 3), (4, 8), (0, 0, 2, 3)), ((1, 2), 2, (0, 1, 0, 0))],
)
def test_where_a_picture_is_smaller_black_is_added_all_round(noise, size, crop, added):
    pixels = noise(2, *size, 3)
    above, below, left, right = added
    cut = Prepare(crop=crop).crop_batch(torch.from_numpy(pixels))
    assert np.array_equal(cut.numpy(), np.pad(pixels, ((0, 0), (above, below), (left, right), (0, 0))))


def test_a_picture_too_low_and_too_wide_is_padded_and_cut(noise):
    pixels = noise(1, 3, 9, 3)
    cut = Prepare(crop=(5, 4)).crop_batch(torch.from_numpy(pixels))
    assert np.array_equal(cut.numpy(), np.pad(pixels[:, :, 2:6], ((0, 0), (1, 1), (0, 0), (0, 0))))


def test_padding_leaves_larger_pictures_as_they_are(noise):
    pixels = torch.from_numpy(noise(1, 8, 9, 3))
    assert pad_to(pixels, 8, 5) is pixels


@pytest.mark.parametrize(
    ("prepare", "size"),
    [
        (Prepare(), None),
        (Prepare(resize=8), None),
        (Prepare(resize=(8, 9)), (8, 9)),
        (Prepare(resize=8, crop=6), (6, 6)),
        (Prepare(resize=(8, 9), crop=(3, 4)), (3, 4)),
    ],
)
def test_the_output_size_is_what_comes_out(prepare, size, noise):
    assert prepare.output_size == size
    shapes = {tuple(prepare(noise(*picture, 3)).shape[2:]) for picture in ((10, 12), (7, 20))}
    assert shapes == {size} if size else len(shapes) == 2


# scaling and normalising

MOMENTS = {
    "none": ((0.0,), (1.0,)),
    "halves": ((0.5,), (0.5,)),
    "ImageNet": tuple(IMAGENET.values()),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "bytes": ((0.0,), (1 / 255,)),
    "flat": ((0.7, 0.2, 0.0), (0.01, 3.0, 100.0)),
}


@pytest.fixture(params=MOMENTS.values(), ids=MOMENTS)
def moments(request):
    return dict(zip(("mean", "std"), request.param, strict=True))


def every_value(channels):
    return torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(2, 16, 16, channels).contiguous()


def test_normalising_is_what_the_docstring_says(moments):
    pixels = every_value(3)
    twin = (pixels.numpy().astype(np.float64) / 255 - moments["mean"]) / moments["std"]
    inputs = Prepare(**moments).normalise(pixels)
    assert inputs.dtype == torch.float32 and inputs.shape == (2, 3, 16, 16)
    scale = np.abs(np.array(moments["mean"]) / moments["std"]).max() + 1 / min(moments["std"])
    assert np.abs(inputs.permute(0, 2, 3, 1).numpy() - twin).max() <= 1e-6 * scale


def test_unnormalising_gives_back_every_value_exactly(moments):
    prepare = Prepare(**moments)
    assert torch.equal(prepare.unnormalise(prepare.normalise(every_value(3))), every_value(3))


@pytest.mark.parametrize("moments", [((0.1307,), (0.3081,)), ((0.5,), (0.5,))])
def test_unnormalising_gives_back_every_grey_exactly(moments):
    prepare = Prepare(channels=1, mean=moments[0], std=moments[1])
    assert torch.equal(prepare.unnormalise(prepare.normalise(every_value(1))), every_value(1))


def test_what_lies_outside_the_pixels_range_is_clipped():
    prepare = Prepare(channels=1, mean=(0.5,), std=(0.5,))
    assert prepare.unnormalise(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2)).ravel().tolist() == [0, 255]


def test_inputs_lie_channels_last_in_memory(noise):
    assert Prepare()(noise(8, 9, 3)).is_contiguous(memory_format=torch.channels_last)


def test_one_number_stands_for_all_channels(noise):
    one = Prepare(mean=(0.4,), std=(0.3,))
    three = Prepare(mean=(0.4,) * 3, std=(0.3,) * 3)
    assert torch.equal(one(noise(8, 9, 3)), three(noise(8, 9, 3)))


# decoding at a scale


# Mean distance, in steps of 256, between a picture resized from its scaled decoding and from its whole. Measured on all
# 200 photographs: worst 8.8, 7.4, 5.3, 2.8 at 32, 64, 128, 224 pixels; on average 3.1, 2.1, 1.7, 1.3.


@pytest.mark.parametrize(("side", "bound"), [(32, 3.0), (64, 0.5), (150, 0.5)])
def test_a_made_jpeg_decoded_at_a_scale_stays_close_to_the_whole(landscape, encode, side, bound):
    prepare = Prepare(resize=(side, side))
    data = encode(landscape(300, 420), "JPEG", quality=90)
    whole, scaled = decode(data, "whole"), decode(data, "scaled", prepare.at_least)
    assert scaled.size < whole.size
    difference = prepare.resize_picture(whole).astype(int) - prepare.resize_picture(scaled)
    assert np.abs(difference).mean() <= bound


@pytest.mark.parametrize(("side", "bound"), [(32, 9.0), (64, 7.5), (128, 5.5), (224, 3.0)])
def test_photographs_decoded_at_a_scale_stay_close_to_the_whole(shared_file, side, bound):
    prepare, scaled_ones = Prepare(resize=(side, side)), 0
    with zipfile.ZipFile(shared_file("photos.zip")) as archive:
        for name in archive.namelist()[::4]:
            data = archive.read(name)
            whole, scaled = decode(data, name), decode(data, name, prepare.at_least)
            scaled_ones += scaled.shape != whole.shape
            difference = prepare.resize_picture(whole).astype(int) - prepare.resize_picture(scaled)
            assert np.abs(difference).mean() <= bound, name
    assert scaled_ones > 0


@pytest.mark.parametrize(
    ("prepare", "detail"),
    [
        (Prepare(), None),
        (Prepare(crop=4), None),
        (Prepare(resize=8), (8, 8)),
        (Prepare(resize=(8, 9), crop=4), (8, 9)),
    ],
)
def test_the_decoder_keeps_as_much_detail_as_resizing_needs(prepare, detail):
    assert prepare.at_least == detail


# statistics


@pytest.mark.parametrize(
    "prepare", [Prepare(), Prepare(channels=1), Prepare(resize=5, crop=2)], ids=["colour", "grey", "resized"]
)
def test_statistics_are_those_of_all_pixels_of_all_pictures(noise, prepare):
    pixels = np.minimum(noise(6, 8, 9, 3), np.array([255, 120, 60], np.uint8))
    mean, std = channel_statistics(Images(pixels, np.zeros(6, np.int64), ("a",)), prepare)
    values = np.stack([prepare.resize_picture(picture) for picture in pixels]) / 255
    assert np.allclose(mean, values.mean(axis=(0, 1, 2)), rtol=0, atol=1e-6)
    assert np.allclose(std, values.std(axis=(0, 1, 2)), rtol=0, atol=1e-6)


def test_statistics_weigh_pictures_of_different_sizes_by_their_pixels(tmp_path, noise, encode):
    paths, pictures = [], [noise(4, 5, 3), noise(10, 12, 3, seed=1) // 2]
    for i, picture in enumerate(pictures):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(encode(picture))
    mean, std = channel_statistics(ImageFiles(tuple(paths), np.zeros(2, np.int64), ("a",)), Prepare())
    values = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255
    assert np.allclose(mean, values.mean(axis=0), rtol=0, atol=1e-6)
    assert np.allclose(std, values.std(axis=0), rtol=0, atol=1e-6)


def test_normalised_with_its_own_statistics_a_set_has_mean_0_and_deviation_1(noise):
    images = Images(noise(20, 16, 16, 3), np.zeros(20, np.int64), ("a",))
    mean, std = channel_statistics(images, Prepare())
    inputs = Prepare(mean=mean, std=std).normalise(torch.from_numpy(images.pixels))
    assert inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (inputs.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3


@pytest.mark.filterwarnings("error")
def test_a_constant_channel_is_refused(noise, refuses):
    pixels = noise(3, 4, 4, 3)
    pixels[..., 1] = 7
    with refuses(DataError, "the same value everywhere"):
        channel_statistics(Images(pixels, np.zeros(3, np.int64), ("a",)), Prepare())


# options


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 2},
        {"resize": 0},
        {"resize": -4},
        {"resize": 8193},
        {"resize": (8,)},
        {"resize": (8, 8, 8)},
        {"resize": (8, 0)},
        {"resize": 8.5},
        {"crop": 0},
        {"crop": (3, 9999)},
        {"crop": "centre"},
        {"mean": ()},
        {"mean": (0.5, 0.5)},
        {"channels": 1, "mean": (0.5, 0.5, 0.5)},
        {"mean": (float("nan"),)},
        {"std": (0.0,)},
        {"std": (0.5, 0.5, 0.0)},
        {"std": (-1.0,)},
        {"std": (0.5, 0.5)},
        {"std": (float("inf"),)},
        {"rezise": 8},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError, match=next(name for name in reversed(options))):
        Prepare(**options)


def test_it_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        Prepare().resize = 8


def test_it_goes_through_a_file_unchanged(prepare):
    assert Prepare.model_validate_json(prepare.model_dump_json()) == prepare
