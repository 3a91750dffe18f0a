import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from eyebright.data import tables
from eyebright.data.sources import load_data, load_parts
from eyebright.errors import DataError


@pytest.fixture
def listed(tmp_path):
    """A folder with twelve pictures; `listed(text)` writes a CSV beside them."""
    (tmp_path / "pictures").mkdir()
    for index in range(12):
        Image.new("RGB", (8, 8), (20 * index, 0, 0)).save(tmp_path / "pictures" / f"{index}.png")

    def write(text, encoding="utf-8"):
        (tmp_path / "list.csv").write_bytes(text.encode(encoding))
        return tmp_path / "list.csv"

    return write


def rows(parts):
    return "".join(f"pictures/{i}.png,{'cat' if i % 2 else 'dog'},{part}\n" for i, part in enumerate(parts))


def test_a_csv_with_parts(listed):
    parts = load_parts(listed("path,label,part\n" + rows(["train"] * 6 + ["val"] * 2 + ["test"] * 4)))
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "val": 2, "test": 4}
    assert parts["train"].classes == parts["test"].classes == ("cat", "dog")
    assert parts["train"].labels.tolist() == [1, 0] * 3
    assert parts["test"].read(3)[0, 0].tolist() == [220, 0, 0]


@pytest.mark.parametrize("first", ["path,label,part", "part,path,label"])
def test_a_csv_with_several_labels(listed, first):
    rows = [("0", "cat;dog"), ("1", "dog"), ("2", " dog | ship;dog"), ("3", "ship;")]
    cells = [{"path": f"pictures/{name}.png", "label": label, "part": "train"} for name, label in rows]
    text = "\n".join([first, *(",".join(row[column] for column in first.split(",")) for row in cells)])
    pictures = load_parts(listed(text))["train"]
    assert pictures.classes == ("cat", "dog", "ship")
    assert pictures.labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_a_column_of_labels_may_be_empty_and_need_not_have_several(listed):
    text = "path,labels\npictures/0.png,cat\npictures/1.png,dog\npictures/2.png,\n"
    pictures = load_parts(listed(text))["train"]
    assert pictures.labels.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_a_csv_with_several_labels_is_cut(listed):
    text = "path,labels\n" + "".join(
        f"pictures/{i}.png,{'a;b' if i % 3 else 'b' if i % 2 else ''}\n" for i in range(12)
    )
    splits = load_data(listed(text), val_fraction=0.25)
    assert sum(len(part) for part in splits.parts().values()) == 12
    assert all(part.labels.sum(axis=0).all() for part in splits.parts().values())


def test_a_csv_with_groups(listed):
    text = "path,label,group\n" + "".join(f"pictures/{i}.png,{'ab'[i // 6]},{i // 2}\n" for i in range(12))
    assert load_parts(listed(text))["train"].groups == tuple("001122334455")
    splits = load_data(listed(text), val_fraction=0, test_fraction=0.3)
    assert splits.shared_groups() == {}
    assert sorted(splits.test.groups) == sorted(2 * list(set(splits.test.groups)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_without_parts_is_cut(listed, encoding):
    text = "label,more,path\n" + "".join(
        f'"Käse, alt",x,pictures/{i}.png\ndog,x,pictures/{i + 6}.png\n' for i in range(6)
    )
    splits = load_data(listed(text, encoding), val_fraction=0.2)
    assert splits.classes == ("Käse, alt", "dog")
    assert sum(len(part) for part in splits.parts().values()) == 12


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column path and no label"),
        ("path,class\na,b\n", "no column label"),
        ("path,label\n", "no rows"),
        ("path,label\npictures/0.png,\n", "line 2 is pictures/0.png,"),
        ("path,label\npictures/0.png,cat\n,cat\n", "line 3 is ,cat"),
        ("path,label,part\npictures/0.png,cat,training\n", "line 2 is pictures/0.png,cat,training"),
        ("path,label\npictures/0.png,cat,3,4\n", "line 2 is"),
        ("path,labels\npictures/0.png\n", "line 2 is pictures/0.png,"),
        ("path,label\npictures/0.png,a;b\npictures/1.png,\n", "line 3 is pictures/1.png,"),
        ("path,label,group\npictures/0.png,cat,\n", "line 2 is pictures/0.png,cat,"),
        ("path,label\npictures/99.png,cat\n", "line 2 names pictures/99.png, and there is no such file"),
        ('path,label\n"pictures/0.png,cat\n', "unexpected end of data"),
    ],
)
def test_a_csv_that_will_not_do(listed, refuses, text, says):
    with refuses(DataError, "cannot take pictures from") as raised:
        load_parts(listed(text))
    assert says in raised.value.problem


def test_a_csv_that_is_no_text(listed, refuses):
    with refuses(DataError, "cannot take pictures from .*utf-8"):
        load_parts(listed("path,label\nä,b\n", "latin-1"))


def arrays(count=12, channels=(3,), seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 8, 9, *channels), dtype=np.uint8), np.arange(count) % 3


@pytest.mark.parametrize("names", ["x_{0} y_{0}", "{0}_images {0}_labels", "X_{0} y_{0}"])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_arrays_of_parts(tmp_path, names, channels):
    stored = {}
    for seed, part in enumerate(("train", "val", "test")):
        pictures, labels = arrays(12, channels, seed)
        first, second = names.format(part).split()
        stored |= {first: pictures, second: labels.astype(np.uint8)[:, None]}
    np.savez(tmp_path / "set.npz", **stored)
    parts = load_parts(tmp_path / "set.npz")
    assert list(parts) == ["train", "val", "test"]
    for seed, part in enumerate(parts.values()):
        pictures, labels = arrays(12, channels, seed)
        assert np.array_equal(part.pixels.reshape(pictures.shape), pictures)
        assert np.array_equal(part.labels, labels) and part.labels.dtype == np.int64
        assert part.classes == ("0", "1", "2")


def test_arrays_of_one_part_with_names(tmp_path):
    pictures, labels = arrays(30)
    np.savez_compressed(tmp_path / "a.npz", images=pictures, labels=labels, classes=np.array(["a", "b", "c", "d"]))
    assert load_parts(tmp_path / "a.npz")["train"].classes == ("a", "b", "c", "d")
    np.savez(tmp_path / "b.npz", x=pictures, y=np.array(["dog", "cat", "owl"])[labels])
    splits = load_data(tmp_path / "b.npz")
    assert splits.classes == ("cat", "dog", "owl")
    assert sum(len(part) for part in splits.parts().values()) == 30
    assert load_parts(tmp_path / "b.npz")["train"].labels.tolist()[:3] == [1, 0, 2]


def spoilt():
    pictures, labels = arrays()
    return {
        "its labels are float64": {"x": pictures, "y": labels.astype(float)},
        r"its labels are int64 \[12, 2\]": {"x": pictures, "y": np.stack([labels, labels], 1)},
        "its labels go from -1": {"x": pictures, "y": labels - 1},
        "for 2 classes": {"x": pictures, "y": labels, "classes": np.array(["a", "b"])},
        "its labels go from 0 to 1000000000000": {"x": pictures, "y": np.array([0, 10**12] * 6)},
        r"its pictures for train are float64 \[12, 8, 9, 3\]": {"x": pictures / 255, "y": labels},
        r"its pictures for train are uint8 \[12, 8, 9, 4\]": {"x": arrays(12, (4,))[0], "y": labels},
        "it has the arrays a, b": {"a": pictures, "b": labels},
        "it has the parts test and none called train": {"x_test": pictures, "y_test": labels},
        "Object arrays cannot be loaded": {"x": pictures, "y": np.array([{}] * 12, dtype=object)},
    }


@pytest.mark.parametrize("says", spoilt())
def test_arrays_that_will_not_do(tmp_path, refuses, says):
    np.savez(tmp_path / "a.npz", **spoilt()[says])
    with refuses(DataError, says):
        load_parts(tmp_path / "a.npz")


@pytest.mark.parametrize("what", ["text", "empty", "pickle", "cut off", "too large", "a lie"])
def test_files_that_are_no_arrays(tmp_path, refuses, monkeypatch, what):
    path = tmp_path / "a.npz"
    pictures, labels = arrays()
    np.savez(path, x=pictures, y=labels)
    match what:
        case "text":
            path.write_text("x,y")
        case "empty":
            path.write_bytes(b"")
        case "pickle":
            path.write_bytes(pickle.dumps([1]))
        case "cut off":
            path.write_bytes(path.read_bytes()[:-300])
        case "too large":
            monkeypatch.setattr(tables, "LARGEST", 1000)
        case "a lie":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 100, 100, 3)}
            )
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x.npy", header.getvalue() + b"\0" * 100)
    with refuses(DataError, "cannot take pictures from"):
        load_parts(path)


def test_labels_for_another_number_of_pictures(tmp_path, refuses):
    pictures, labels = arrays()
    np.savez(tmp_path / "a.npz", x=pictures, y=labels[:-1])
    with refuses(DataError, r"labels of int64 with shape \[11\]"):
        load_parts(tmp_path / "a.npz")
