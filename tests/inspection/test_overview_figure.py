import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import AxesImage
from PIL import Image

from eyebright.data.images import Images
from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.inspection.overview import look_at
from eyebright.inspection.overview_figure import COLUMNS, draw_overview
from eyebright.inspection.style import encode


def draw(splits, seed=0):
    return draw_overview(look_at(splits, seed=seed), splits, seed)


def panels(figure):
    """The samples, and the three panels below them by their title."""
    samples, *below = figure.axes
    return samples, {axes.get_title(loc="left"): axes for axes in below}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def overlaps(figure):
    """Pairs of words that lie on top of each other."""
    FigureCanvasAgg(figure).draw()
    words = []
    for axes in figure.axes:
        words += [*axes.texts, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        if axes.axison:
            words += [*axes.get_xticklabels(), *axes.get_yticklabels()]
        if axes.get_legend():
            words += axes.get_legend().get_texts()
    width, height = figure.canvas.get_width_height()
    boxes = [(word.get_text(), word.get_window_extent()) for word in words if word.get_text() and word.get_visible()]
    inside = [(word, box) for word, box in boxes if box.x1 > 0 and box.y1 > 0 and box.x0 < width and box.y0 < height]
    return [
        (inside[i][0], inside[j][0])
        for i in range(len(inside))
        for j in range(i)
        if inside[i][1].shrunk(0.9, 0.9).overlaps(inside[j][1].shrunk(0.9, 0.9))
    ]


@pytest.fixture
def many(noise):
    """`many(50)`: so many classes with long names, of 2 to 14 pictures."""

    def make(classes, channels=3):
        labels = np.repeat(np.arange(classes), 2 + np.arange(classes) * 5 % 13)
        names = tuple(f"a ${k}_{{class with quite a long name" for k in range(classes))
        pictures = Images(noise(len(labels), 6, 9, channels), labels, names)
        return Splits(pictures, pictures.select(range(0, len(labels), 3)), pictures.select(range(0, len(labels), 2)))

    return make


@pytest.mark.parametrize("classes", [2, 20, 21, 200])
def test_any_number_of_classes_fits(many, classes):
    splits = many(classes)
    figure = draw(splits)
    samples, below = panels(figure)
    assert list(below) == ["Pictures of each class", "Brightness in train", "Channels in train"]
    assert overlaps(figure) == []
    captions = [text for text in texts(samples) if "\n" in text]
    assert len(captions) == min(classes, 20)
    assert texts(samples)[0] == "arrays: samples of train" + (f", 20 of {classes} classes" if classes > 20 else "")
    picture = Image.open(io.BytesIO(encode(figure, "png")))
    assert picture.size == tuple(round(100 * inches) for inches in figure.get_size_inches())


def test_each_class_shows_its_own_pictures_and_their_mean(many):
    splits = many(10)
    overview = look_at(splits)
    samples, _ = panels(draw_overview(overview, splits))
    rows = {}
    for image in samples.get_images():
        left, _, _, top = image.get_extent()
        rows.setdefault(round(100 * top), []).append((left, image.get_array()))
    assert [len(row) for row in rows.values()] == [
        1 + min(COLUMNS, row.counts["train"]) for row in overview.classes
    ]  # and the mean
    for label, row in enumerate(rows.values()):
        own = {picture.tobytes() for picture in splits.train.pixels[splits.train.labels == label]}
        *shown, (_, mean) = sorted(row, key=lambda pair: pair[0])
        assert {pixels.tobytes() for _, pixels in shown} <= own
        assert len({pixels.tobytes() for _, pixels in shown}) == min(COLUMNS, len(own))
        exact = splits.train.pixels[splits.train.labels == label].mean(axis=0)
        assert np.abs(np.asarray(mean) - exact).max() < 0.51


@pytest.mark.parametrize(("count", "rows"), [(40, 3), (20, 2)])
def test_two_classes_have_up_to_three_rows_each(noise, count, rows):
    pictures = Images(noise(2 * count, 6, 6, 3), np.repeat([0, 1], count), ("a", "b"))
    samples, _ = panels(draw(Splits(pictures, None, pictures.select([0, -1]))))
    assert len(samples.get_images()) == 2 * min(count, rows * COLUMNS) + 2


def test_digits_have_counts_of_all_parts_and_17_values():
    figure = draw(load_data("digits"))
    samples, below = panels(figure)
    assert sum(isinstance(child, AxesImage) for child in samples.get_children()) == 10 * (COLUMNS + 1)
    bars = below["Pictures of each class"]
    assert [label.get_text() for label in bars.get_yticklabels()] == list("0123456789")
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["train", "val", "test"]
    widths = np.array([bar.get_width() for bar in bars.patches]).reshape(3, 10)
    assert widths.sum() == 1797
    channels = below["Channels in train"]
    assert [line.get_label() for line in channels.lines] == ["grey 0.306 ± 0.376"]
    assert len(channels.lines[0].get_xdata()) == 17  # 0 to 16 are all the values that occur
    assert channels.get_xlabel() == "value, 0…1 (above the top: 49% at 0, 9% at 1)"


def test_sizes_are_drawn_where_they_differ(picture_folder, encode, noise):
    root = picture_folder({"train/cats": 12, "train/dogs": 12, "test/cats": 2, "test/dogs": 2}, size=(20, 30, 3))
    (root / "train/dogs/large.png").write_bytes(encode(noise(300, 200, 3)))
    (root / "train/dogs/broken.png").write_bytes(b"nothing")
    splits = load_data(root, val_fraction=0)
    figure = draw(splits)
    samples, below = panels(figure)
    cats, dogs = below["Sizes in train"].collections
    assert cats.get_offsets().data.tolist() == [[30, 20]] * 12
    assert sorted(dogs.get_offsets().data.tolist()) == [[30, 20]] * 12 + [[200, 300]]
    assert below["Sizes in train"].get_xscale() == "log"
    assert overlaps(figure) == []
    assert "dogs\n14" in texts(samples)
    shown = samples.get_images()
    assert len(shown) == 12 + 13 + 2
    largest = max(shown, key=lambda image: image.get_array().size)
    assert largest.get_array().shape == (160, 107, 3)
    left, right, bottom, top = largest.get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(107 / 160)


def test_the_same_seed_gives_the_same_bytes(many):
    splits = many(3)
    assert encode(draw(splits), "png") == encode(draw(splits), "png") != encode(draw(splits, seed=1), "png")


def test_nothing_that_can_be_read_is_drawn_too(picture_folder):
    root = picture_folder({"train/cats": 2, "train/dogs": 2, "test/cats": 1, "test/dogs": 1})
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    figure = draw(load_data(root, val_fraction=0))
    samples, below = panels(figure)
    assert samples.get_images() == []
    assert len(encode(figure, "svg")) > 1000
    assert "Channels in train" not in below


def test_black_and_white_alone(noise):
    pictures = Images((noise(20, 8, 8, 1) > 128) * np.uint8(255), np.arange(20) % 2, ("a", "b"))
    _, below = panels(draw(Splits(pictures, None, pictures.select(range(4)))))
    channels = below["Channels in train"]
    assert channels.lines[0].get_xdata().tolist() == [0, 1]
    assert channels.get_ylim() == (0, 1)
    assert channels.get_xlabel() == "value, 0…1"
