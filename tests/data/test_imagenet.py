import hashlib
import io
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from eyebright.data import imagenet
from eyebright.data.imagenet import imagenet_classes, load_imagenet, load_tiny_imagenet
from eyebright.data.sources import load_data, load_parts
from eyebright.errors import ArchiveError, DataError, DownloadError

NAMES, WNIDS = imagenet_classes()
VAL = "ILSVRC2012_val_{:08}.JPEG"
TRUTH = [7, 0, 999, 0, 134, 500]  # classes of the made-up validation pictures


@pytest.fixture
def picture(noise, encode):
    """`picture(5)`: an encoded picture of its own."""
    return lambda seed: encode(noise(2, 2, 3, seed=seed))


def ids_of_synsets():
    """ILSVRC ids of the 1000 synsets: 1…1000, not in the order of the synsets."""
    return (np.random.default_rng(0).permutation(1000) + 1).tolist()


def devkit_files(ids=None, truth=TRUTH):
    """The two files of the development kit that count, as they are published: inner synsets follow the leaves."""
    ids = ids or ids_of_synsets()
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    leaves = sorted(zip(ids, WNIDS, NAMES, [0] * 1000, strict=True))
    rows = [*leaves, (1001, "n00001740", "entity", 2), (1002, "n00001930", "physical entity", 3)]
    synsets = np.array(rows, dtype=kind)[:, None]  # [1002, 1]
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    lines = "".join(f"{ids[label]}\n" for label in truth)
    return {"data/meta.mat": file.getvalue(), f"data/{imagenet.GROUND_TRUTH}": lines.encode()}


@pytest.fixture
def ilsvrc(tmp_path, picture, make_archive):
    """`ilsvrc(train="tar", val="flat", labels="devkit folder")`: a root with a small ImageNet in these forms."""

    def make(train="folders", val="folders", labels=None):
        folder = tmp_path / "imagenet"
        folder.mkdir()
        same = picture(0)
        in_classes = {f"{wnid}/{wnid}_{i}.JPEG": same for wnid in WNIDS for i in range(1 + (wnid == WNIDS[3]))}
        flat = {VAL.format(number): picture(number) for number in range(1, len(TRUTH) + 1)}

        def write(place, files):
            for name, data in files.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)

        match train:
            case "tar":
                inner = {wnid: {} for wnid in WNIDS}
                for name, data in in_classes.items():
                    inner[name.partition("/")[0]][name.partition("/")[2]] = data
                tars = {f"{wnid}.tar": make_archive("a.tar", files).read_bytes() for wnid, files in inner.items()}
                make_archive(f"imagenet/{imagenet.TRAIN_TAR}", tars)
            case "folders":
                write(folder / "train", in_classes)
            case "kaggle":
                write(folder / imagenet.KAGGLE_PICTURES / "train", in_classes)
        match val:
            case "tar":
                make_archive(f"imagenet/{imagenet.VAL_TAR}", flat)
            case "flat":
                write(folder / "val", flat)
            case "folders":
                write(folder / "val", in_classes)
            case "kaggle":
                write(folder / imagenet.KAGGLE_PICTURES / "val", flat)
        match labels:
            case "devkit":
                files = {f"{imagenet.DEVKIT}/{name}": data for name, data in devkit_files().items()}
                make_archive(f"imagenet/{imagenet.DEVKIT_TAR}", files)
            case "devkit folder":
                write(folder / imagenet.DEVKIT, devkit_files())
            case "devkit's files":
                write(folder, devkit_files())
            case "kaggle":
                lines = [f"{VAL.format(i + 1)[:-5]},{WNIDS[label]} 1 2 3 4 " for i, label in enumerate(TRUTH)]
                lines[0] += f"{WNIDS[1]} 5 6 7 8 "  # a second box
                text = "\n".join(["ImageId,PredictionString", *reversed(lines)])
                write(folder, {imagenet.KAGGLE_LABELS: text.encode()})
        return tmp_path

    return make


def test_the_made_up_ids_are_in_another_order_than_the_synsets():
    assert ids_of_synsets() != sorted(ids_of_synsets()) == list(range(1, 1001))


@pytest.mark.parametrize(
    ("train", "val", "labels"),
    [
        ("folders", "flat", "devkit"),
        ("folders", "flat", "devkit folder"),
        ("folders", "flat", "devkit's files"),
        ("tar", "tar", "devkit"),
        ("kaggle", "kaggle", "kaggle"),
    ],
)
def test_every_layout_gives_the_same_pictures_with_the_same_classes(ilsvrc, picture, train, val, labels):
    parts = load_parts("imagenet", root=ilsvrc(train, val, labels))
    assert list(parts) == ["train", "val"]
    assert parts["train"].classes == parts["val"].classes == NAMES
    counts = np.bincount(parts["train"].labels)
    assert len(counts) == 1000 and counts[3] == 2 and counts.sum() == 1001
    assert all(
        path.name.startswith(WNIDS[label]) and path.parent.name == WNIDS[label]
        for path, label in zip(parts["train"].paths, parts["train"].labels, strict=True)
    )
    assert parts["val"].labels.tolist() == TRUTH
    assert [path.read_bytes() for path in parts["val"].paths] == [picture(i + 1) for i in range(len(TRUTH))]


def test_validation_pictures_in_folders_need_no_list(ilsvrc):
    splits = load_data("imagenet", root=ilsvrc(), val_fraction=0)
    assert len(splits.test) == 1001 and splits.val is None
    assert splits.test.labels.tolist() == splits.train.labels.tolist()


def test_a_missing_validation_picture_does_not_shift_the_labels_of_the_others(ilsvrc):
    root = ilsvrc("folders", "flat", "devkit folder")
    (root / "imagenet" / "val" / VAL.format(2)).unlink()
    assert load_imagenet(root)["val"].labels.tolist() == [TRUTH[0], *TRUTH[2:]]


def test_the_published_archives_are_unpacked_once(ilsvrc, monkeypatch):
    root = ilsvrc("tar", "tar", "devkit")
    first = load_imagenet(root)["train"].paths
    monkeypatch.setattr("eyebright.data.archives._write_entries", None)
    assert load_imagenet(root)["train"].paths == first


@pytest.mark.parametrize(("train", "val"), [(None, "folders"), ("folders", None), (None, None)])
def test_without_imagenet_the_reader_learns_which_files_to_put_where(ilsvrc, refuses, train, val):
    root = ilsvrc(train, val)
    missing = imagenet.VAL_TAR if train else imagenet.TRAIN_TAR
    with refuses(DataError, f"ImageNet is not whole in .*{missing}") as raised:
        load_imagenet(root)
    for name in (imagenet.TRAIN_TAR, imagenet.VAL_TAR, imagenet.DEVKIT_TAR):
        assert name in raised.value.expected
    assert str(root / "imagenet") in raised.value.remedy and "image-net.org" in raised.value.remedy


def test_flat_validation_pictures_without_a_list_are_refused(ilsvrc, refuses):
    with refuses(DataError, "says what the validation pictures show"):
        load_imagenet(ilsvrc("folders", "flat"))


@pytest.mark.parametrize("gone", ["folder", "pictures"])
def test_a_class_without_pictures_is_named(ilsvrc, refuses, gone):
    root = ilsvrc()
    folder = root / "imagenet" / "train" / WNIDS[500]
    shutil.rmtree(folder)
    if gone == "pictures":
        folder.mkdir()
        (folder / ".hidden.JPEG").write_bytes(b"")
    with refuses(DataError, f"{WNIDS[500]}: of 1000 folders, one a class, 1 are missing or empty"):
        load_imagenet(root)


DAMAGES = {
    "no list": ("data/meta.mat", b"hello", "meta.mat"),
    "cut off": ("data/meta.mat", devkit_files()["data/meta.mat"][:3000], "meta.mat"),
    "another table": ("data/meta.mat", None, "meta.mat"),
    "an unknown class": (f"data/{imagenet.GROUND_TRUTH}", b"7\n1003\n", "it has the class 1003, which meta.mat does"),
    "no number": (f"data/{imagenet.GROUND_TRUTH}", b"7\nseven\n", "it has the class .*seven"),
    "no text": (f"data/{imagenet.GROUND_TRUTH}", b"\xff\xff", "utf-8"),
}


@pytest.mark.parametrize(("name", "data", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_development_kit_is_named(ilsvrc, refuses, name, data, says):
    root = ilsvrc("folders", "flat", "devkit's files")
    if data is None:
        file = io.BytesIO()
        savemat(file, {"synsets": np.arange(3)})
        data = file.getvalue()
    (root / "imagenet" / name).write_bytes(data)
    with refuses(DataError, f"cannot take pictures from .*{says}"):
        load_imagenet(root)


def test_a_validation_picture_that_no_list_names_is_refused(ilsvrc, picture, refuses):
    root = ilsvrc("folders", "flat", "devkit folder")
    (root / "imagenet" / "val" / VAL.format(7)).write_bytes(picture(1))
    with refuses(DataError, "of 7 validation pictures, 1 have no known class, for example .*_00000007.JPEG"):
        load_imagenet(root)
    shutil.rmtree(root / "imagenet" / "val")
    (root / "imagenet" / "val").mkdir()
    with refuses(DataError, "of 0 validation pictures"):
        load_imagenet(root)


def test_a_damaged_published_archive_is_named(ilsvrc, refuses):
    root = ilsvrc("folders", "tar", "devkit")
    path = root / "imagenet" / imagenet.VAL_TAR
    path.write_bytes(path.read_bytes()[:3000])
    with refuses(ArchiveError, imagenet.VAL_TAR):
        load_imagenet(root)


# tiny imagenet

TINY_WORDS = {
    "n02000001": "crane, bird",
    "n02000002": "goldfish, Carassius auratus",
    "n02000003": "crane, machine",
    "n02000004": "jay",
    "n02000005": "jay",
    "n09999999": "of no picture",
}
TINY_VAL = ["n02000003", "n02000001", "n02000002", "n02000003"]


@pytest.fixture
def tiny_files(picture):
    """Name → content of a small Tiny ImageNet's files."""
    wnids = list(TINY_WORDS)[:5]
    files = {
        f"train/{wnid}/images/{wnid}_{i}.JPEG": picture(10 * place + i)
        for place, wnid in enumerate(wnids)
        for i in range(2)
    }
    files |= {f"train/{wnid}/{wnid}_boxes.txt": b"n_0.JPEG\t0\t0\t62\t62\n" for wnid in wnids}
    files |= {f"val/images/val_{i}.JPEG": picture(100 + i) for i in range(len(TINY_VAL))}
    files |= {"test/images/test_0.JPEG": picture(200)}
    texts = {
        "wnids.txt": "\n".join(reversed(wnids)) + "\n",
        "words.txt": "".join(f"{wnid}\t{words}\n" for wnid, words in TINY_WORDS.items()),
        "val/val_annotations.txt": "".join(f"val_{i}.JPEG\t{w}\t0\t0\t62\t62\n" for i, w in enumerate(TINY_VAL)),
    }
    return files | {name: text.encode() for name, text in texts.items()}


@pytest.fixture
def tiny(tmp_path, tiny_files, make_archive):
    """`tiny("folder")`: a root with a small Tiny ImageNet; options replace files."""

    def make(place, **changes):
        files = tiny_files | {name: data for name, data in changes.items() if data is not None}
        files = {name: data for name, data in files.items() if changes.get(name, b"") is not None}
        folder = tmp_path / "tiny-imagenet"
        folder.mkdir()
        if place == "archive":
            make_archive("tiny-imagenet/tiny-imagenet-200.zip", {f"tiny-imagenet-200/{n}": d for n, d in files.items()})
            return tmp_path
        inside = folder if place == "folder" else folder / "tiny-imagenet-200"
        for name, data in files.items():
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            (inside / name).write_bytes(data)
        return tmp_path

    return make


@pytest.mark.parametrize("place", ["folder", "folder in folder", "archive"])
def test_tiny_imagenet_has_its_pictures_and_readable_names(tiny, tiny_files, place):
    parts = load_parts("tiny-imagenet", root=tiny(place))
    classes = ("crane, bird", "goldfish", "crane, machine", "jay (n02000004)", "jay (n02000005)")
    assert parts["train"].classes == parts["val"].classes == classes
    assert parts["train"].labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert parts["train"].paths[2].name == "n02000002_0.JPEG"
    assert parts["val"].labels.tolist() == [2, 0, 1, 2]
    assert [path.read_bytes() for path in parts["val"].paths] == [
        tiny_files[f"val/images/val_{i}.JPEG"] for i in range(4)
    ]


def test_tiny_imagenets_validation_counts_as_its_test_part(tiny):
    splits = load_data("tiny-imagenet", root=tiny("folder"), val_fraction=0.5)
    assert [len(part) for part in splits.parts().values()] == [5, 5, 4]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"val/val_annotations.txt": None}, "cannot take pictures from .*val_annotations.txt: .*No such file"),
        ({"words.txt": b"\xff"}, "cannot take pictures from .*words.txt"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn02000003\nval_1.JPEG\n"}, "4 validation pictures, 3 have no known"),
        ({"wnids.txt": b"n02000001\nn02000002\n"}, "4 validation pictures, 2 have no known class"),
        ({"wnids.txt": b"n02000001\nn02000007\n"}, "n02000007/images: of 2 folders, one a class, 1 are missing"),
    ],
)
def test_a_tiny_imagenet_that_is_not_whole_is_refused(tiny, refuses, change, says):
    with refuses(DataError, says):
        load_tiny_imagenet(tiny("folder", **change))


def test_a_class_that_words_txt_lacks_is_called_by_its_identifier(tiny):
    root = tiny("folder", **{"words.txt": b"n02000002\tgoldfish\n"})
    assert load_tiny_imagenet(root)["train"].classes[:2] == ("n02000001", "goldfish")


def test_tiny_imagenet_is_fetched_from_its_home_into_the_root(server, tiny, monkeypatch, tmp_path, refuses):
    url, folder, asked = server
    archive = tiny("archive") / "tiny-imagenet" / "tiny-imagenet-200.zip"
    data = archive.read_bytes()
    archive.rename(folder / archive.name)
    monkeypatch.setattr(imagenet, "TINY_ARCHIVE", url + archive.name)
    with refuses(DownloadError, "another checksum"):
        load_tiny_imagenet(tmp_path / "root")
    monkeypatch.setattr(imagenet, "TINY_MD5", hashlib.md5(data).hexdigest())
    for _ in range(2):
        assert len(load_tiny_imagenet(tmp_path / "root")["val"]) == 4
    assert asked == ["/tiny-imagenet-200.zip"] * 2
    assert (tmp_path / "root" / "tiny-imagenet" / "tiny-imagenet-200.zip").read_bytes() == data
