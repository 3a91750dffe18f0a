import io
import itertools

import numpy as np
import pytest
from PIL import Image

from eyebright.curation.duplicates import NEAR, Duplicates, Pair, choose_threshold, find_duplicates
from eyebright.data.images import ImageFiles, Images
from eyebright.errors import PictureError

CLASSES = ("hill", "lake")
SIZE = 64, 80


def labels(*values):
    return np.array(values, dtype=np.int64)


@pytest.fixture(scope="module")
def scenes(landscape, noise):
    """Twelve different pictures, uint8 `[64, 80, 3]`, with some detail each."""

    def scene(seed):
        detail = resized(noise(16, 20, 3, seed=seed), *SIZE)
        return (0.6 * landscape(*SIZE, seed=seed) + 0.4 * detail).astype(np.uint8)

    return [scene(seed) for seed in range(12)]


@pytest.fixture
def files(tmp_path):
    """`files("train", [pixels or bytes, …], labels)`: picture files of a part."""

    def make(part, contents, given=None, suffix=".png"):
        (tmp_path / part).mkdir()
        paths = []
        for number, content in enumerate(contents):
            paths.append(tmp_path / part / f"{number}{suffix}")
            paths[-1].write_bytes(content if isinstance(content, bytes) else as_bytes(content, "PNG"))
        given = [0] * len(paths) if given is None else given
        return ImageFiles(tuple(paths), labels(*given), CLASSES)

    return make


def as_bytes(pixels, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def resized(pixels, height, width):
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


CHANGES = {
    "stored again": lambda p: as_bytes(p, quality=50),
    "smaller": lambda p: resized(p, 58, 72),
    "larger": lambda p: resized(p, 70, 88),
    "much larger": lambda p: resized(p, 640, 800),
    "thumbnail": lambda p: resized(p, 24, 30),
    "mirrored": lambda p: p[:, ::-1].copy(),
    "cropped": lambda p: p[3:-3, 3:-3].copy(),
    "cropped and scaled back": lambda p: resized(p[3:-3, 3:-3].copy(), *SIZE),
    "cropped on one side": lambda p: p[:, 5:].copy(),
    "brighter": lambda p: np.minimum(p * 1.1, 255).astype(np.uint8),
    "grey": lambda p: np.asarray(Image.fromarray(p).convert("L"))[..., None],
}


def pairs_of(found):
    return {(pair.part_a, pair.index_a, pair.part_b, pair.index_b, pair.kind) for pair in found.pairs}


@pytest.mark.parametrize("change", CHANGES)
def test_a_near_duplicate_in_another_part_is_found(change, scenes, files):
    train = files("train", scenes)
    test = files("test", [CHANGES[change](scenes[4])])
    (pair,) = find_duplicates({"train": train, "test": test}).pairs
    assert (pair.part_a, pair.index_a, pair.part_b, pair.index_b, pair.kind) == ("train", 4, "test", 0, "near")
    assert NEAR <= pair.similarity <= 1 + 1e-6 and pair.is_across and not pair.is_contradiction


def test_different_pictures_are_no_duplicates(scenes, files, landscape):
    many = scenes + [landscape(50, 70, seed=seed) for seed in range(200, 240)]
    assert find_duplicates({"all": files("all", many)}).pairs == ()


def test_kinds_within_a_part(scenes, files):
    data = as_bytes(scenes[0], "PNG")
    same = as_bytes(scenes[0], "BMP")
    inside = files("train", [scenes[1], data, scenes[2], data, same, as_bytes(scenes[2], quality=80)])
    found = find_duplicates({"train": inside})
    assert pairs_of(found) == {
        ("train", 1, "train", 3, "exact"),
        ("train", 1, "train", 4, "same pixels"),
        ("train", 2, "train", 5, "near"),
    }
    assert [pair.similarity for pair in found.pairs][:2] == [1, 1]
    assert found.clusters == ((("train", 1), ("train", 3), ("train", 4)), (("train", 2), ("train", 5)))
    assert found.across_parts() == () and found.counts == {"train": 6}


def test_arrays_and_files_hold_the_same_pixels(scenes, files):
    images = Images(np.stack(scenes[:2]), labels(0, 1), CLASSES)
    found = find_duplicates({"train": images, "test": files("test", [scenes[1]], [1])})
    assert pairs_of(found) == {("train", 1, "test", 0, "same pixels")}
    assert pairs_of(find_duplicates({"a": images, "b": images})) == {("a", i, "b", i, "exact") for i in (0, 1)}


def test_one_picture_many_times_makes_few_pairs(scenes):
    train = Images(np.stack([scenes[0]] * 30), np.zeros(30, dtype=np.int64), CLASSES)
    found = find_duplicates({"train": train, "val": train.select(range(3)), "test": train.select(range(2))})
    assert len(found.pairs) == 29 + 2 + 1 + 3  # with the first in each part, and the firsts with each other
    assert len(found.across_parts()) == 3
    assert len(found.clusters) == 1 and len(found.clusters[0]) == 35
    assert found.leaked("test", into="train") == (0, 1) and found.leaked("val", into="test") == (0, 1, 2)
    assert found.leaked("train", into="elsewhere") == ()


def test_different_classes_of_the_same_picture_are_contradictions(scenes, files):
    train = files("train", [scenes[0], scenes[1], scenes[1], scenes[2]], [0, 0, 1, 1])
    other = Images(np.stack([scenes[0][:, ::-1], scenes[2]]), labels(0, 1), ("lake", "hill"))
    found = find_duplicates({"train": train, "test": other})
    assert [(p.index_a, p.class_a, p.part_b, p.index_b, p.class_b) for p in found.contradictions()] == [
        (0, "hill", "test", 0, "lake"),
        (1, "hill", "train", 2, "lake"),
        (3, "lake", "test", 1, "hill"),
    ]


def test_the_order_of_pictures_and_parts_changes_nothing(scenes, files):
    changed = [CHANGES[name](scenes[i]) for i, name in enumerate(["mirrored", "cropped", "stored again", "grey"])]
    parts = {"train": files("train", scenes), "test": files("test", changed)}
    mixed = {
        name: parts[name].select(np.random.default_rng(0).permutation(len(parts[name]))) for name in ("test", "train")
    }

    def named(pictures):
        found = find_duplicates(pictures)
        name = {(part, i): pictures[part].name(i) for part in pictures for i in range(len(pictures[part]))}
        pairs = {
            (frozenset([name[p.part_a, p.index_a], name[p.part_b, p.index_b]]), p.kind, round(p.similarity, 4))
            for p in found.pairs
        }
        return pairs, {frozenset(name[place] for place in cluster) for cluster in found.clusters}

    assert named(parts) == named(mixed)
    assert len(named(parts)[0]) == 4


def test_clusters_are_connected_components():
    def pair(a, b):
        return Pair("train", a, "train", b, "near", 0.95, "hill", "hill")

    edges = [(0, 9), (1, 2), (3, 4), (2, 3), (5, 9), (4, 6)]
    for order in itertools.permutations(edges, 6):
        found = Duplicates(tuple(pair(*edge) for edge in order), {"train": 10}, NEAR)
        assert [[i for _, i in cluster] for cluster in found.clusters] == [[0, 5, 9], [1, 2, 3, 4, 6]]


def test_pictures_without_contrast_are_duplicates_by_their_pixels_alone():
    pixels = np.zeros((6, 40, 40, 3), dtype=np.uint8)
    pixels[2:4] = 255
    pixels[4, 0, 0] = 1
    pixels[5, :, ::2] = 2
    found = find_duplicates({"all": Images(pixels, labels(0, 0, 0, 0, 0, 0), CLASSES)})
    assert pairs_of(found) == {("all", 0, "all", 1, "exact"), ("all", 2, "all", 3, "exact")}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_pictures(count, scenes):
    pixels = np.stack([scenes[0], scenes[0][:, ::-1]])[:count]
    found = find_duplicates({"all": Images(pixels, labels(*[0] * count), CLASSES)})
    assert len(found.pairs) == count // 2 and found.threshold == NEAR
    assert find_duplicates({}).pairs == () and find_duplicates({}).clusters == ()


def test_pictures_that_are_alike_by_nature_need_more_likeness():
    """Bars of about the same place, as handwritten ones are: each looks like a copy of some other."""
    random = np.random.default_rng(0)
    x = np.arange(28)[None, :] + np.arange(28)[:, None] * 0.0
    pixels = np.zeros((60, 28, 28, 1), dtype=np.uint8)
    for picture in pixels:
        slant = random.uniform(-0.05, 0.05) * (np.arange(28)[:, None] - 14)
        bar = np.abs(x - 14 - slant - random.uniform(-1, 1)) < random.uniform(1.5, 2.5)
        picture[..., 0] = 255 * (bar & (np.abs(np.arange(28) - 14) < random.integers(8, 11))[:, None])
    pixels = np.unique(pixels, axis=0)
    found = find_duplicates({"all": Images(pixels, np.zeros(len(pixels), dtype=np.int64), CLASSES)})
    assert found.threshold > NEAR
    assert len(found.pairs) < len(pixels) / 4
    assert all(pair.similarity >= found.threshold for pair in found.pairs)


@pytest.mark.parametrize(
    "similarities, false, each, expected",
    [
        ([0.95, 0.92], [], 1.0, 0.9),
        ([0.95, 0.92], [0.89], 1.0, 0.9),
        ([0.95, 0.92], [0.91], 1.0, 0.91),
        ([0.95] * 100, [0.94], 1.0, 0.9),
        ([0.95] * 100, [0.94], 1.1, 0.94),
        ([0.95] * 100 + [0.91] * 50, [0.94, 0.92, 0.91], 1.0, 0.92),
        ([], [0.99], 1.0, 0.99),
    ],
)
def test_no_more_than_one_percent_are_false_by_estimate(similarities, false, each, expected):
    found = choose_threshold(np.array(similarities, np.float32), np.array(false, np.float32), each)
    assert found == pytest.approx(expected, abs=1e-6)
    assert found == NEAR or (np.array(false, np.float32) >= found).sum() < (np.array(false, np.float32) >= NEAR).sum()


def test_progress_is_told_twice_a_picture_and_files_must_be_pictures(scenes, files, refuses):
    told = []
    find_duplicates({"a": files("a", scenes[:3]), "b": files("b", scenes[:2])}, lambda: told.append(1))
    assert len(told) == 2 * 5
    with refuses(PictureError, "it looks like text"):
        find_duplicates({"c": files("c", [b"no picture"])})
