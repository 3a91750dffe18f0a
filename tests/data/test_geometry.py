import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from eyebright.data.geometry import (
    alternating_flip,
    draw_pieces,
    horizontal_flip,
    move,
    perspective,
    random_crop,
    random_resized_crop,
    rotate,
)
from eyebright.random import generator


def values(count, *shape):
    """What a function draws first from the generator of these tests."""
    return torch.rand(count, *shape, generator=generator(0, "test")).numpy()


def random(seed=0):
    return generator(seed, "test")


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


def test_each_picture_of_its_own_size_is_cropped_within_itself(noise):
    sizes = [(8, 8), (12, 9), (8, 30), (5, 7)]
    pictures = [torch.from_numpy(noise(*size, 3, seed=i)) for i, size in enumerate(sizes)]
    cropped = random_crop(pictures, random(), (8, 8))
    assert cropped.shape == (4, 8, 8, 3)
    for picture, place, result in zip(pictures, values(4, 2), cropped.numpy(), strict=True):
        assert np.array_equal(result, crop_twin(picture.numpy(), place, (8, 8), 0))


# resized crop


SHAPES = {"a square": (40, 40), "a photograph": (60, 90), "a strip": (10, 400), "a column": (300, 9), "a pixel": (1, 1)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.5, 0.5), (1.0, 1.0)], ids=str)
def test_pieces_lie_within_their_picture_and_have_a_shape_of_the_range(shape, area):
    pieces = draw_pieces(torch.tensor([shape]).expand(3000, 2), random(), area, (3 / 4, 4 / 3))
    top, left, height, width = pieces.numpy().T
    assert min(top.min(), left.min()) >= 0 and min(height.min(), width.min()) >= 1
    assert (top + height).max() <= shape[0] and (left + width).max() <= shape[1]
    # a side is rounded by half a pixel
    assert ((width + 0.5) / (height - 0.5) >= 3 / 4).all() and ((width - 0.5) / (height + 0.5) <= 4 / 3).all()


def test_area_and_logarithm_of_the_aspect_are_drawn_evenly():
    _, _, height, width = draw_pieces(torch.tensor([[1000, 1000]]).expand(20000, 2), random(), (0.1, 0.5), (0.5, 2)).T
    shares = (height * width).numpy() / 1000**2
    aspects = np.log2(width.numpy() / height.numpy())
    for drawn, low, high in ((shares, 0.1, 0.5), (aspects, -1, 1)):
        counts, _ = np.histogram(drawn, 10, (low, high))
        assert counts.sum() >= 19900 and counts.min() > 1850 and counts.max() < 2150


def test_pieces_are_found_as_one_picture_after_the_other_finds_them():
    sizes, area, aspect = [(30, 40), (25, 25), (12, 90)] * 20, (0.3, 1.0), (3 / 4, 4 / 3)
    same = random()
    shares, shapes = torch.rand(2, 10, 60, generator=same).numpy().astype(np.float64)
    places = torch.rand(60, 2, generator=same).numpy()
    pieces = draw_pieces(torch.tensor(sizes), random(), area, aspect).tolist()
    found = 0
    for i, (tall, wide) in enumerate(sizes):
        for share, shape in zip(shares[:, i], shapes[:, i], strict=True):
            pixels = tall * wide * (0.3 + 0.7 * share)
            ratio = math.exp(math.log(3 / 4) + shape * math.log(16 / 9))
            height, width = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
            if height <= tall and width <= wide:
                top, left = int(places[i, 0] * (tall - height + 1)), int(places[i, 1] * (wide - width + 1))
                assert pieces[i] == [top, left, height, width]
                found += 1
                break
    assert found >= 40


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resized_crop_is_the_one_that_pillow_makes(landscape, channels, kind):
    pictures = [landscape(50, 70, seed)[..., :channels] for seed in range(8)]
    cropped = random_resized_crop([torch.from_numpy(p) for p in pictures], random(), (24, 20), (0.1, 1.0), kind)
    assert cropped.shape == (8, 24, 20, channels)
    pieces = draw_pieces(torch.tensor([[50, 70]] * 8), random(), (0.1, 1.0), (3 / 4, 4 / 3)).tolist()
    for picture, (top, left, height, width), result in zip(pictures, pieces, cropped.numpy(), strict=True):
        piece = Image.fromarray(picture.squeeze()).crop((left, top, left + width, top + height))
        twin = np.asarray(piece.resize((20, 24), Image.Resampling[kind.upper()])).reshape(24, 20, channels)
        assert np.abs(result.astype(int) - twin).max() <= 2


def test_resized_crops_come_from_pictures_of_all_sizes(noise):
    sizes = [(8, 8), (12, 9), (8, 30), (5, 7), (1, 1)]
    pictures = [torch.from_numpy(noise(*size, 3, seed=i)) for i, size in enumerate(sizes)]
    assert random_resized_crop(pictures, random(), (6, 7)).shape == (5, 6, 7, 3)


def test_the_whole_picture_at_its_own_size_is_left_as_it_is(batch):
    pixels = batch(4, 12, 12, 3)
    drawn = random_resized_crop(pixels, random(), (12, 12), (1.0, 1.0))
    whole = draw_pieces(torch.tensor([[12, 12]] * 4), random(), (1.0, 1.0), (3 / 4, 4 / 3))[:, 2:].eq(12).all(dim=1)
    assert whole.any()
    assert torch.equal(drawn[whole], pixels[whole])


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


@pytest.fixture
def indices():
    return np.random.default_rng(0).permutation(5000)[:1000]


def mirrored(epoch, indices, seed=0):
    """Which pictures of a dark left and a bright right half are mirrored."""
    halves = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(len(indices), -1, -1, -1)
    return alternating_flip(halves, seed, epoch, indices)[:, 0, 0, 0].numpy() == 255


@pytest.mark.parametrize("epoch", [0, 1, 6, 181])
def test_two_epochs_in_a_row_show_every_picture_both_ways(indices, epoch):
    assert (mirrored(epoch, indices) != mirrored(epoch + 1, indices)).all()
    assert (mirrored(epoch, indices) == mirrored(epoch + 2, indices)).all()


def test_about_half_begin_mirrored_and_each_on_its_own(indices):
    first = mirrored(0, np.arange(4000))
    assert abs(first.mean() - 0.5) < 0.03
    for apart in (1, 2, 3, 64, 128):
        assert abs((first[apart:] == first[:-apart]).mean() - 0.5) < 0.03
    assert abs((mirrored(0, indices, seed=1) == mirrored(0, indices)).mean() - 0.5) < 0.06


def test_a_picture_begins_the_same_way_in_whatever_batch_it_comes(indices):
    whole = mirrored(0, indices)
    assert all(mirrored(0, indices[i : i + 1])[0] == whole[i] for i in range(20))


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


# moves


def test_a_move_by_whole_pixels_is_exact(batch):
    pixels = batch(1, 8, 11, 3)
    moved = move(pixels, torch.tensor([[[1.0, 0, 3], [0, 1, -2]]]))  # what stands at (x, y) comes from (x + 3, y - 2)
    expected = torch.zeros_like(pixels)
    expected[:, 2:, :8] = pixels[:, :6, 3:]
    assert torch.equal(moved, expected)


# perspective


def test_corners_that_stay_change_nothing(batch):
    pixels = batch(4, 33, 31, 3)
    assert torch.equal(perspective(pixels, random(), 0.0), pixels)


@pytest.mark.parametrize("size", [(60, 60), (50, 80)], ids=str)
def test_a_perspective_is_the_one_that_pillow_makes(landscape, size):
    picture = landscape(*size)
    changed = perspective(torch.from_numpy(picture)[None], random(), 0.5)[0].numpy()
    same = random()
    torch.rand(1, generator=same)
    inwards = 1 - 0.5 * torch.rand(4, 2, generator=same, dtype=torch.float64).numpy()
    half = np.array([size[1], size[0]]) / 2
    source = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + half
    seen = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * inwards * half + half
    rows, targets = [], []
    for (x, y), (u, v) in zip(seen, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        targets += [u, v]
    numbers = np.linalg.solve(rows, targets)

    def with_pillow(image):
        return np.asarray(image.transform(size[::-1], Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BILINEAR))

    both = with_pillow(Image.new("L", size[::-1], 255)) > 0
    square = np.ones((3, 3))
    inside = binary_erosion(both, square, 2)  # at the rim Pillow takes the nearest pixel where we blend with black
    assert 0.2 < inside.mean() < 0.9
    assert np.abs(changed.astype(int) - with_pillow(Image.fromarray(picture)))[inside].max() <= 2
    assert (changed[~binary_dilation(both, square, 2)] == 0).all()


def test_at_the_largest_distortion_a_picture_is_never_turned_inside_out():
    """What was above stays above, and what was on the left on the left."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    ramps = torch.stack([5 * y + 20, 5 * x + 20, torch.full_like(y, 255)], dim=2).to(torch.uint8)
    changed = perspective(ramps.expand(500, -1, -1, -1), random(), 0.6).int()
    inside = changed[..., 2] == 255
    assert (inside.sum(dim=(1, 2)) > 0.1 * 40 * 40).all()
    for channel, dim in ((0, 1), (1, 2)):
        neighbours = inside[:, 1:] & inside[:, :-1] if dim == 1 else inside[:, :, 1:] & inside[:, :, :-1]
        assert (changed[..., channel].diff(dim=dim)[neighbours] >= 0).all()


def test_changed_are_those_whose_number_is_below_the_probability(batch):
    pixels = batch(20, 12, 12, 3)
    changed = perspective(pixels, random(), 0.5, 0.3)
    assert ((changed != pixels).flatten(1).any(dim=1).numpy() == (values(20) < 0.3)).all()
