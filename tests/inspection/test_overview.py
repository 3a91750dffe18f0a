"""What is said of pictures, parts and channels before training: against slow twins, and as JSON."""

import io
import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eyebright.data.images import ImageFiles, Images
from eyebright.data.prepare import Prepare, channel_statistics
from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.errors import PictureError
from eyebright.inspection.channel_values import SIDE, choose_classes, measure_channels
from eyebright.inspection.overview import count_readings, look_at
from eyebright.inspection.overview_text import render
from eyebright.inspection.picture_facts import common_folder, read_facts


def in_memory(pixels, classes=("a", "b")):
    return Images(pixels, np.arange(len(pixels)) % len(classes), classes)


def as_text(overview, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(render(overview))
    return console.file.getvalue()


# facts of pictures


def test_facts_of_files_are_those_of_the_decoded_pictures(tmp_path, landscape, encode):
    pictures = {
        "a/0.jpg": encode(landscape(30, 50), "JPEG"),
        "a/1.png": encode(landscape(41, 20)[..., :1]),
        "b/2.JPEG": encode(landscape(25, 35), "GIF"),
        "b/3.png": encode(np.repeat(landscape(25, 35)[..., :1], 3, axis=2)),
    }
    for name, data in pictures.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    files = ImageFiles(tuple(tmp_path / name for name in pictures), np.array([0, 0, 1, 1]), ("a", "b"))
    facts = read_facts(files, common_folder([files]))
    assert facts.names == tuple(pictures)
    assert facts.formats == ("JPEG", "PNG", "GIF", "PNG")
    assert facts.file_bytes.tolist() == [len(data) for data in pictures.values()]
    assert facts.channels.tolist() == [3, 1, 3, 3]
    assert facts.grey.tolist() == [False, True, False, True]
    assert facts.readable.all()
    for index in range(4):
        pixels = files.read(index)
        assert (facts.height[index], facts.width[index]) == pixels.shape[:2]
        assert facts.brightness[index] == pytest.approx(sum(map(int, pixels.ravel())) / pixels.size / 255)


def test_names_are_shortened_only_where_there_is_a_common_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.zeros(2, np.int64)
    relative = ImageFiles(tuple(tmp_path.relative_to(tmp_path) / "a" / name for name in "xy"), labels, ("a",))
    absolute = ImageFiles(tuple(tmp_path / "b" / name for name in "xy"), labels, ("a",))
    assert common_folder([absolute]) == tmp_path / "b"
    assert common_folder([relative, absolute]) is None
    assert common_folder([in_memory(np.zeros((2, 4, 4, 1), np.uint8))]) is None
    assert read_facts(absolute).names == tuple(map(str, absolute.paths))


# values of channels


def test_values_of_one_size_are_channel_statistics(noise):
    pictures = in_memory(noise(12, 9, 14, 3) // np.array([1, 2, 3], np.uint8))
    values = measure_channels(pictures, read_facts(pictures))
    assert (values.mean, values.std) == channel_statistics(pictures, Prepare())
    assert (values.pictures, values.of, values.height, values.width, values.resized) == (12, 12, 9, 14, False)
    assert values.mean_error == values.std_error == (0, 0, 0)
    counts = [np.bincount(pictures.pixels[..., channel].ravel(), minlength=256) for channel in range(3)]
    assert np.array_equal(values.histogram, counts)
    for label, name in enumerate(pictures.classes):
        assert values.mean_pictures[name] == pytest.approx(pictures.pixels[label::2].mean(axis=0) / 255)


def test_values_of_large_files_agree_within_the_tolerance_that_is_stated(tmp_path, landscape, encode):
    paths = []
    for seed, size in enumerate([(600, 800), (700, 500), (300, 300), (90, 120)]):
        paths.append(tmp_path / f"{seed}.jpg")
        paths[-1].write_bytes(encode(landscape(*size, seed=seed), "JPEG", quality=92))
    files = ImageFiles(tuple(paths), np.array([0, 1, 0, 1]), ("a", "b"))
    values = measure_channels(files, read_facts(files))
    assert (values.height, values.width, values.resized) == (SIDE, SIDE, True)
    mean, std = channel_statistics(files, Prepare(resize=(SIDE, SIDE)))
    assert values.mean == pytest.approx(mean, abs=0.002)
    assert values.std == pytest.approx(std, abs=0.002)


def test_grey_pictures_have_one_channel_and_mixed_ones_three(tmp_path, noise, encode):
    (tmp_path / "0.png").write_bytes(encode(noise(8, 8, 1)))
    (tmp_path / "1.png").write_bytes(encode(noise(8, 8, 3)))
    paths = (tmp_path / "0.png", tmp_path / "1.png")
    files = ImageFiles(paths, np.array([0, 1]), ("a", "b"))
    assert len(measure_channels(files, read_facts(files)).mean) == 3
    grey = files.select([0])
    assert len(measure_channels(grey, read_facts(grey)).mean) == 1


def test_constant_channels_have_no_spread():
    pictures = in_memory(np.full((4, 5, 5, 3), 51, np.uint8))
    values = measure_channels(pictures, read_facts(pictures), largest_sample=3)
    assert values.mean == (0.2, 0.2, 0.2)
    assert values.std == values.std_error == (0, 0, 0)


def test_a_sample_errs_as_much_as_it_says():
    random = np.random.default_rng(0)
    levels = random.integers(20, 200, (400, 1, 1, 1)) + random.integers(-20, 20, (400, 6, 6, 1)) * random.integers(
        0, 2, (400, 1, 1, 1)
    )
    pictures = in_memory(levels.astype(np.uint8))
    facts = read_facts(pictures)
    whole = measure_channels(pictures, facts)
    samples = [measure_channels(pictures, facts, seed=seed, largest_sample=100) for seed in range(100)]
    assert {(sample.pictures, sample.of) for sample in samples} == {(100, 400)}
    for figure in ("mean", "std"):
        misses = np.array([getattr(sample, figure)[0] - getattr(whole, figure)[0] for sample in samples])
        said = np.mean([getattr(sample, f"{figure}_error")[0] for sample in samples])
        assert np.sqrt((misses**2).mean()) == pytest.approx(said, rel=0.25)
    assert samples[3].mean == measure_channels(pictures, facts, seed=3, largest_sample=100).mean != samples[4].mean


def test_classes_to_show_are_all_or_a_seeded_choice():
    assert choose_classes(7) == list(range(7))
    chosen = choose_classes(200, seed=1)
    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen) == choose_classes(200, seed=1) != choose_classes(200, seed=2)


# all together


@pytest.fixture
def small():
    """Three pictures in train, one in val, two in test: all figures can be checked by hand."""
    train = np.zeros((3, 20, 40, 1), np.uint8)
    train[:, ::2] = 255
    train[1, 0, 0] = 0
    train[2, 0, 1] = 0
    labels = [np.array(column, dtype=np.int64) for column in ([0, 0, 1], [1], [1, 1])]
    others = (train[:1, ::-1].copy(), train[1:, ::-1].copy())
    parts = [Images(pixels, column, ("a", "b")) for pixels, column in zip((train, *others), labels, strict=True)]
    return Splits(*parts, source="by hand")


def test_json_of_a_known_set(small):
    def one(value):
        return {"min": value, "median": value, "max": value}

    def part(pictures, imbalance, majority):
        return {
            "pictures": pictures, "unreadable": 0, "imbalance": imbalance, "majority": majority, "chance": 0.5,
            "height": one(20.0), "width": one(40.0), "aspect": one(2.0), "megapixels": one(0.0008), "sizes": 1,
            "file_bytes": None, "formats": {"array": pictures}, "channels": {"grey": pictures},
            "grey_stored_as_colour": 0, "turned": 0,
        }  # fmt: skip

    found = json.loads(json.dumps(look_at(small).as_dict()))
    warnings = found.pop("warnings")
    mean = Fraction(3 * 400 - 2, 3 * 800)  # of zeros and ones
    assert found == {
        "source": "by hand",
        "classes": ["a", "b"],
        "counts": {"train": {"a": 2, "b": 1}, "val": {"a": 0, "b": 1}, "test": {"a": 0, "b": 2}},
        "parts": {"train": part(3, 2.0, 2 / 3), "val": part(1, 1.0, 0.0), "test": part(2, 1.0, 0.0)},
        "per_class": [
            {
                "name": "a",
                "counts": {"train": 2, "val": 0, "test": 0},
                "shares": {"train": 2 / 3, "val": 0.0, "test": 0.0},
                "height": 20.0,
                "width": 40.0,
                "brightness": pytest.approx((400 + 399) / 1600),
            },
            {
                "name": "b",
                "counts": {"train": 1, "val": 1, "test": 2},
                "shares": {"train": 1 / 3, "val": 1.0, "test": 1.0},
                "height": 20.0,
                "width": 40.0,
                "brightness": pytest.approx(399 / 800),
            },
        ],
        "channel_values": {
            "pictures": 3, "of": 3, "height": 20, "width": 40, "resized": False,
            "mean": [round(float(mean), 6)], "std": [round(float(mean * (1 - mean)) ** 0.5, 6)],
            "mean_error": [0.0], "std_error": [0.0],
        },
        "unreadable": [],
    }  # fmt: skip
    assert [(warning["kind"], warning["count"], warning["classes"]) for warning in warnings] == [
        ("missing_class", 1, ["a"]),
        ("missing_class", 1, ["a"]),
        ("few_pictures", 2, ["a", "b"]),
    ]
    assert warnings[2] == {
        "kind": "few_pictures",
        "problem": "2 classes have fewer than 10 pictures in train: a (2), b (1)",
        "remedy": "add pictures, or leave the class out; transfer learning needs the fewest",
        "count": 2,
        "pictures": [],
        "classes": ["a", "b"],
    }


def test_parts_of_files(picture_folder, tmp_path, encode, noise):
    root = picture_folder({"train/cats": 30, "train/dogs": 12, "test/cats": 10, "test/dogs": 11})
    (root / "train/cats/wide.bmp").write_bytes(encode(noise(10, 40, 3), "BMP"))
    splits = load_data(root, val_fraction=0)
    part = look_at(splits).parts["train"]
    assert (part.pictures, part.sizes, part.formats) == (43, 2, {"BMP": 1, "PNG": 42})
    assert part.imbalance == pytest.approx(31 / 12)
    assert part.file_bytes == sum(path.stat().st_size for path in (root / "train").rglob("*.*"))
    assert (part.height.min, part.height.median, part.height.max) == (8, 8, 10)
    assert (part.aspect.min, part.aspect.max) == (6 / 8, 4)
    assert part.majority == pytest.approx(31 / 43)
    assert look_at(splits).parts["test"].majority == pytest.approx(10 / 21)  # train's class, not test's
    assert "val" not in look_at(splits).parts


def test_every_reading_is_counted(small):
    readings = []
    look_at(small, on_read=lambda: readings.append(1))
    assert len(readings) == count_readings(small) == 9
    readings.clear()
    look_at(small, on_read=lambda: readings.append(1), largest_sample=2)
    assert len(readings) == count_readings(small, largest_sample=2) == 8


def test_nothing_that_can_be_read_is_no_error(picture_folder):
    root = picture_folder({"train/cats": 2, "train/dogs": 2, "val/cats": 1, "test/dogs": 1})
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    overview = look_at(load_data(root))
    train = overview.parts["train"]
    assert (train.unreadable, train.height, train.sizes, train.formats) == (4, None, 0, {})
    assert overview.channel_values is None
    assert overview.as_dict()["channel_values"] is None
    assert json.dumps(overview.as_dict(), allow_nan=False)
    assert "4 pictures of train cannot be read: train/cats/0.png (the file is empty)" in " ".join(
        as_text(overview, 200).split()
    )


def test_a_picture_that_is_lost_between_two_readings_is_an_error(tmp_path, encode, noise, refuses):
    path = tmp_path / "0.png"
    path.write_bytes(encode(noise(8, 8, 3)))
    files = ImageFiles((path,), np.zeros(1, np.int64), ("a",))
    facts = read_facts(files)
    path.unlink()
    with refuses(PictureError, "No such file"):
        measure_channels(files, facts)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_text_says_it_all_at_any_width(small, width):
    text = as_text(look_at(small), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for said in ("by hand: 2 classes", "66.7%", "grey 0.4992 0.5000", "Over every pixel of all 3 training pictures"):
        assert said in words
    assert words.index("a (2), b (1)") < words.index("to do: add pictures")


def test_the_text_of_many_classes_has_the_largest_and_the_smallest(noise):
    counts = np.arange(100, 0, -1)
    labels = np.repeat(np.arange(100), counts)
    pictures = Images(noise(len(labels), 2, 2, 1), labels, tuple(f"[b]{k:03}" for k in range(100)))
    splits = Splits(pictures, None, pictures.select(range(50)))
    text = as_text(look_at(splits, largest_sample=500))
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("[b]", "…"))] == [
        *(f"[b]{k:03}" for k in range(10)),
        "…",
        *(f"[b]{k:03}" for k in range(90, 100)),
    ]
    assert "a random sample of 500 of the 5,050 training pictures" in " ".join(text.split())
    assert "±" in text


def test_mixed_sizes_are_said_of_each_class(picture_folder):
    root = picture_folder({"a": 20, "b": 20})
    for path in (root / "b").glob("*.png"):
        Image.open(path).resize((90, 50)).save(path)
    text = as_text(look_at(load_data(root)))
    assert next(line for line in text.splitlines() if line.startswith("b ")).split()[-2:-1] == ["50×90"]
