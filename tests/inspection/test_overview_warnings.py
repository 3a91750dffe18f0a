"""Every warning about data, each with a planted fault, and not one where nothing is wrong."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chi2_contingency
from sklearn.metrics import roc_auc_score

from eyebright.data.images import Images
from eyebright.data.sources import load_data
from eyebright.data.split import Splits
from eyebright.inspection.class_checks import compare_shares, usual_values, win_rates
from eyebright.inspection.name_checks import alike
from eyebright.inspection.overview import look_at
from eyebright.inspection.picture_checks import same_pictures
from eyebright.inspection.picture_facts import read_facts


@pytest.fixture
def make(noise):
    """`make((20, 20), (10, 10), (10, 10))`: parts with so many pictures of each class, in memory."""

    def splits(train=(20, 20), val=(10, 10), test=(10, 10), classes=None, size=(40, 40, 3)):
        def part(counts, seed):
            labels = np.repeat(np.arange(len(counts)), counts)
            names = classes or tuple(f"class {chr(97 + label)}" for label in range(len(counts)))
            return Images(noise(len(labels), *size, seed=seed), labels, names)

        return Splits(part(train, 1), part(val, 2), part(test, 3))

    return splits


@pytest.fixture
def files(tmp_path, noise, encode):
    """A folder of two classes, 15 pictures each in train and val, each of another size; `files(change)` spoils it."""

    def load(change=lambda root: None):
        root = tmp_path / "data"
        for number, inside in enumerate(("train/cats", "train/dogs", "val/cats", "val/dogs")):
            (root / inside).mkdir(parents=True)
            for i in range(15):
                pixels = noise(70 + i % 7, 80 + i % 5, 3, seed=100 * number + i)
                (root / inside / f"{i:02}.png").write_bytes(encode(pixels))
        change(root)
        return load_data(root)

    return load


def warnings_of(splits):
    return look_at(splits).warnings


def only(splits):
    """The one finding there is."""
    (finding,) = warnings_of(splits)
    assert finding.problem
    assert finding.remedy
    return finding


def test_nothing_is_found_where_nothing_is_wrong(make, files):
    assert warnings_of(make()) == ()
    assert warnings_of(make((30, 10), (10, 5))) == ()  # three times as many, and ten, are still good
    assert warnings_of(files()) == ()


def test_pictures_that_cannot_be_read(files):
    def spoil(root):
        (root / "train/cats/03.png").write_bytes(b"not a picture")
        (root / "val/dogs/04.png").write_bytes((root / "val/dogs/04.png").read_bytes()[:60])
        (root / "val/dogs/05.png").unlink()
        (root / "val/dogs/05.png").symlink_to(root / "nowhere")

    overview = look_at(files(spoil))
    findings = {finding.problem.split(" of ")[1].split()[0]: finding for finding in overview.warnings}
    assert [finding.kind for finding in overview.warnings] == ["unreadable"] * len(findings)
    rows = overview.as_dict()["unreadable"]
    names = {row["picture"] for row in rows}
    assert len(rows) == 3
    assert {"val/dogs/04.png", "val/dogs/05.png"} < names
    text = next(row for row in rows if row["picture"].endswith("cats/03.png"))
    assert text["reason"].startswith("it looks like text: 'not a picture'")
    assert text["reason"].endswith("it looks like text: 'not a picture'")
    assert next(row for row in rows if row["picture"] == "val/dogs/05.png")["reason"] == "No such file or directory"
    assert findings["test"].pictures == ("val/dogs/04.png", "val/dogs/05.png")
    assert "2 pictures of test cannot be read: val/dogs/04.png (" in findings["test"].problem


def test_the_same_picture_under_two_classes(make):
    splits = make()
    splits.train.pixels[25] = splits.train.pixels[4]
    finding = only(splits)
    assert (finding.kind, finding.count, finding.pictures) == ("two_labels", 1, ("picture 4",))
    assert finding.problem == (
        "1 picture stands under more than one class: picture 4 (class a) is the same as picture 25 (class b)"
    )


def test_the_same_picture_in_two_parts(make):
    splits = make()
    splits.val.pixels[2] = splits.test.pixels[3] = splits.train.pixels[4]
    splits.test.pixels[15] = splits.val.pixels[12]
    found = {finding.problem.partition(":")[0]: finding for finding in warnings_of(splits)}
    assert {finding.kind for finding in found.values()} == {"leakage"}
    assert found["1 picture of val is also in train"].pictures == ("picture 2",)
    assert found["1 picture of test is also in train"].pictures == ("picture 3",)
    assert found["2 pictures of test are also in val"].pictures == ("picture 3", "picture 15")


def test_the_same_picture_twice_in_one_part(make):
    splits = make()
    splits.train.pixels[[1, 2]] = splits.train.pixels[0]
    finding = only(splits)
    assert (finding.kind, finding.count, finding.pictures) == ("copies", 2, ("picture 1", "picture 2"))
    assert "picture 1 is the same as picture 0" in finding.problem


def test_same_pictures_are_those_of_a_slow_comparison(noise):
    random = np.random.default_rng(0)
    parts = {name: noise(6, 4, 4, 1, seed=0)[random.integers(0, 6, 8)] for name in ("train", "val")}
    facts = {name: read_facts(Images(pixels, np.zeros(8, np.int64), ("a",))) for name, pixels in parts.items()}
    everywhere = [(name, index) for name in parts for index in range(8)]
    pairs = {(a, b) for a, b in combinations(everywhere, 2) if (parts[a[0]][a[1]] == parts[b[0]][b[1]]).all()}
    found = {pair for group in same_pictures(facts) for pair in combinations(group, 2)}
    assert found == pairs
    assert len(pairs) > 5


def test_pictures_of_one_size_only_count_as_the_same(make):
    splits = make()
    flat = splits.train.pixels[0].reshape(20, 80, 3)  # the same bytes in another shape
    splits = replace(splits, val=Images(flat[None], np.zeros(1, np.int64), splits.classes))
    assert "leakage" not in {finding.kind for finding in warnings_of(splits)}


def test_classes_without_pictures_in_a_part(make):
    finding = only(make(val=(10, 0)))
    assert (finding.kind, finding.classes) == ("missing_class", ("class b",))
    assert finding.problem == "val has no pictures of class b"


def test_classes_with_few_pictures(make):
    finding = only(make((20, 9)))
    assert (finding.kind, finding.classes, finding.count) == ("few_pictures", ("class b",), 1)
    assert finding.problem == "1 class has fewer than 10 pictures in train: class b (9)"


def test_imbalance(make):
    finding = only(make((31, 10)))
    assert (finding.kind, finding.classes) == ("imbalance", ("class a", "class b"))
    assert "3.1 times as many pictures in train as class b (31 and 10)" in finding.problem


def test_parts_that_differ(make):
    finding = only(make((40, 40), (30, 5), (12, 8), size=(16, 16, 1)))
    assert (finding.kind, finding.classes) == ("differing_parts", ("class a",))
    assert "val has other shares" in finding.problem
    assert "50.0% of train, 85.7% of val" in finding.problem


@pytest.mark.parametrize("classes", [2, 5, 30])
def test_the_test_of_shares_is_scipys_where_all_classes_are_large(classes):
    random = np.random.default_rng(classes)
    first, second = random.integers(40, 90, classes), random.integers(40, 90, classes)
    assert compare_shares(first, second) == pytest.approx(chi2_contingency([first, second], False).pvalue, rel=1e-9)


def test_small_classes_are_tested_together():
    first, second = np.array([50, 2, 2, 2, 0]), np.array([40, 1, 8, 3, 0])
    together = chi2_contingency([[50, 6], [40, 12]], False).pvalue
    assert compare_shares(first, second) == pytest.approx(together, rel=1e-9)
    assert compare_shares(np.array([7, 0]), np.array([9, 0])) == 1.0


def test_a_class_that_is_darker_than_others(make):
    splits = make((20, 20, 20), (10, 10, 10), (10, 10, 10))
    splits.train.pixels[20:40] //= 2
    finding = only(splits)
    assert (finding.kind, finding.classes, finding.count) == ("shortcut", ("class b",), 1)
    assert "pictures of class b are darker than nearly all others" in finding.problem


def test_of_two_classes_that_differ_one_is_named(make):
    splits = make()
    splits.train.pixels[20:] //= 2
    assert only(splits).classes == ("class a",)
    assert "class a are brighter" in only(splits).problem


def test_a_class_in_another_format(files):
    def spoil(root):
        for path in (root / "train/dogs").iterdir():
            Image.open(path).save(path.with_suffix(".jpg"), quality=95)
            path.unlink()

    finding = only(files(spoil))
    assert finding.kind == "shortcut"
    assert finding.problem == (
        "1 class can be told without looking at what is shown: pictures of cats are PNG, and others are not"
    )


def test_a_class_in_another_size(files):
    def spoil(root):
        for path in (root / "train/dogs").iterdir():
            Image.open(path).resize((83, 72)).save(path)
        for number, path in enumerate(sorted((root / "train/cats").iterdir())):
            size = (82 + 2 * (number % 2), 70 + number % 5)  # on either side: neither is the larger
            Image.open(path).resize(size).save(path)

    findings = [finding for finding in warnings_of(files(spoil)) if finding.kind == "shortcut"]
    assert findings[0].classes == ("dogs",)
    assert "pictures of dogs are 83×72 pixels, and others are not" in findings[0].problem


@pytest.mark.parametrize("ties", [True, False])
def test_win_rates_are_areas_under_the_curve(ties):
    random = np.random.default_rng(0)
    values = random.integers(0, 9, 200).astype(float) if ties else random.normal(size=200)
    labels = np.concatenate([np.repeat(np.arange(3), 60), np.repeat(np.arange(3, 5), (9, 11))])
    rates = win_rates(values, labels, 5)
    for label in (0, 1, 2, 4):
        assert rates[label] == pytest.approx(roc_auc_score(labels == label, values), abs=1e-12)
    assert rates[3] == 0.5  # nine pictures say nothing


def test_usual_values_need_nearly_all_of_the_class_and_hardly_any_other():
    labels = np.repeat([0, 1], [100, 100])
    values = np.array(["png"] * 95 + ["jpg"] * 5 + ["png"] * 5 + ["jpg"] * 95)
    assert usual_values(values, labels, 2) == {0: "png", 1: "jpg"}
    values[0] = "gif"
    assert usual_values(values, labels, 2) == {1: "jpg"}
    values[100] = values[106] = "png"
    assert usual_values(values, labels, 2) == {}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("cat", "dog "), "1 class name has spaces that are hard to see: 'dog '"),
        (("hot  dog", " dog"), "2 class names have spaces"),
        (("cat", "Cat"), "the classes 'cat' and 'Cat' have almost the same name"),
        (("hot dog", "hot_dog"), "the classes 'hot dog' and 'hot_dog' have almost"),
        (("cat", "cats"), "the classes 'cat' and 'cats' have almost"),
        (("cat", "New Folder (2)"), "1 class name looks like no class: 'New Folder (2)'"),
        (("cat", "dog - Copy"), "like no class: 'dog - Copy'"),
        (("test", "val"), "2 class names look like no class: 'test', 'val'"),
        (("cat", "IMG_001.jpg"), "like no class: 'IMG_001.jpg'"),
    ],
)
def test_class_names_that_look_like_mistakes(make, names, says):
    finding = only(make(classes=names))
    assert finding.kind == "class_names"
    assert says in finding.problem
    assert set(finding.classes) <= set(names)


def test_a_class_for_each_file(make):
    findings = warnings_of(make((1,) * 6 + (12,), (0,) * 6 + (10,), (0,) * 6 + (10,)))
    finding = next(finding for finding in findings if finding.kind == "class_names")
    assert "6 of 7 classes have a single picture: class a, class b, class c and 3 more" in finding.problem


def test_names_that_mean_different_things_are_left_alone(make):
    assert alike(("glass", "grass", "bus", "1", "11", "c", "c++")) == []
    assert warnings_of(make(classes=("train", "bus"))) == ()


def test_pictures_of_one_colour(make):
    splits = make()
    splits.train.pixels[7] = (10, 200, 30)
    splits.val.pixels[3] = 90
    splits.val.pixels[3, ::2] = 93  # what a JPEG may add
    splits.test.pixels[4] = 90
    splits.test.pixels[4, 30] = 94
    found = {finding.problem: finding for finding in warnings_of(splits)}
    assert list(found) == [
        "1 picture of train is one colour throughout: picture 7",
        "1 picture of val is one colour throughout: picture 3",
    ]
    assert {finding.kind for finding in found.values()} == {"constant"}


def test_tiny_pictures(make):
    finding = only(make(size=(12, 30, 1)))
    assert (finding.kind, finding.count) == ("small", 80)
    assert "the shorter side of the pictures is 12 pixels" in finding.problem
    assert warnings_of(make(size=(28, 28, 1))) == ()


def test_a_thumbnail_among_larger_pictures(files):
    def spoil(root):
        for folder in root.glob("*/*"):
            for path in folder.iterdir():
                picture = Image.open(path)
                picture.resize((picture.width * 2, picture.height * 2)).save(path)
        Image.effect_noise((30, 90), 80).convert("RGB").save(root / "train/cats/07.png")

    splits = files(spoil)
    finding = only(splits)
    assert (finding.kind, finding.count) == ("small", 1)
    assert finding.pictures[0].endswith("cats/07.png")
    assert "1 picture of" in finding.problem
    assert "fewer than 32 pixels" in finding.problem


def test_grey_among_colour(files):
    def spoil(root):
        for name in ("train/cats/01.png", "val/dogs/02.png"):
            Image.open(root / name).convert("L").save(root / name)

    finding = only(files(spoil))
    assert (finding.kind, finding.count) == ("mixed_channels", 2)
    assert finding.problem == "2 of 60 pictures are grey, the others are in colour"


def test_grey_stored_as_colour(make):
    splits = make()
    for part in splits.parts().values():
        part.pixels[...] = part.pixels[..., :1]
    finding = only(splits)
    assert (finding.kind, finding.count) == ("grey_stored_as_colour", 40)
    splits.train.pixels[0, 5, 5, 1] ^= 1  # one pixel of colour
    assert warnings_of(splits) == ()


def test_pictures_stored_turned(files):
    def spoil(root):
        exif = Image.Exif()
        exif[0x0112] = 6
        for number in (4, 9):
            path = root / f"val/dogs/{number:02}.png"
            Image.open(path).save(path, exif=exif)

    splits = files(spoil)
    finding = only(splits)
    assert (finding.kind, finding.count) == ("turned", 2)
    assert finding.pictures == ("val/dogs/04.png", "val/dogs/09.png")
    facts = look_at(splits).facts["test"]
    index = facts.names.index("val/dogs/04.png")
    assert (facts.height[index], facts.width[index]) == (84, 74)  # upright
