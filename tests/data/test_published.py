import gzip
import hashlib
import io
import os
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from eyebright.data import published
from eyebright.data.published import (
    CIFAR10_ARCHIVES,
    CIFAR10_CLASSES,
    MNIST_FILES,
    PUBLISHED,
    ArrayUnpickler,
    load_cifar10,
    load_digits,
    load_mnist,
)
from eyebright.errors import ArchiveError, DataError, DownloadError


class Trap:
    """Unpickled, it would leave a folder behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"mkdir {self.path}",)


@pytest.fixture
def offline(offline, monkeypatch):
    """No test of these reaches the network: the published homes are a port where nobody listens."""
    monkeypatch.setattr(published, "MNIST_HOME", f"{offline}mnist/")
    monkeypatch.setattr(published, "FASHION_MNIST_HOME", f"{offline}fashion-mnist/")
    monkeypatch.setattr(published, "CIFAR10_HOME", f"{offline}cifar/")
    return offline


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_set_says_where_it_comes_from(name):
    assert "Source: " in PUBLISHED[name].__doc__


# digits


def test_digits_have_their_parts_and_every_class_in_both(tmp_path):
    parts = load_digits(tmp_path)
    assert {name: len(part) for name, part in parts.items()} == {"train": 1437, "test": 360}
    for part in parts.values():
        assert part.pixels.shape[1:] == (8, 8, 1) and part.classes == tuple("0123456789")
        assert set(part.labels.tolist()) == set(range(10))
        assert part.pixels.min() == 0 and part.pixels.max() == 255


def test_digits_are_scikit_learns_and_each_in_one_part(tmp_path):
    from sklearn.datasets import load_digits as scikit_learns

    theirs, ours = scikit_learns(), load_digits(tmp_path)
    pixels = np.concatenate([part.pixels for part in ours.values()])
    labels = np.concatenate([part.labels for part in ours.values()])
    numbers = [int(part.name(i).split()[-1]) for part in ours.values() for i in range(len(part))]
    assert sorted(numbers) == list(range(1797))
    assert np.array_equal(labels, theirs.target[numbers])
    assert np.abs(pixels[..., 0] - theirs.images[numbers] * 255 / 16).max() <= 0.5


# mnist


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path, noise, offline):
    """`mnist()`: a root with a small MNIST; options change its files."""

    def make(zipped=True, **changes):
        folder = tmp_path / "mnist"
        folder.mkdir(exist_ok=True)
        arrays = {
            "train-images-idx3-ubyte": noise(20, 28, 28),
            "train-labels-idx1-ubyte": noise(20) % 10,
            "t10k-images-idx3-ubyte": noise(5, 28, 28, seed=1),
            "t10k-labels-idx1-ubyte": noise(5, seed=1) % 10,
        }
        for name, array in arrays.items():
            data = changes.get(name.partition("-idx")[0].replace("-", "_"), idx(array))
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
        return tmp_path

    return make


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_plain_or_zipped(mnist, noise, zipped):
    parts = load_mnist(mnist(zipped))
    assert np.array_equal(parts["train"].pixels, noise(20, 28, 28, 1))
    assert np.array_equal(parts["test"].pixels, noise(5, 28, 28, 1, seed=1))
    assert np.array_equal(parts["train"].labels, noise(20) % 10)
    assert parts["train"].labels.dtype == np.int64 and parts["test"].classes == tuple("0123456789")


DAMAGES = {
    "empty": b"",
    "cut off in the header": struct.pack(">HBBI", 0, 8, 3, 20),
    "cut off": idx(np.zeros((20, 28, 28), np.uint8))[:-1],
    "too long": idx(np.zeros((20, 28, 28), np.uint8)) + b"\0",
    "other dimensions": idx(np.zeros((20, 28), np.uint8)),
    "other type": struct.pack(">HBB3I", 0, 13, 3, 20, 28, 28) + bytes(4 * 20 * 28 * 28),
    "text": b"<html>not found</html>",
    "huge": struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_idx_file_is_named(mnist, refuses, damage, zipped):
    with refuses(DataError, "cannot read .*train-images-idx3-ubyte") as raised:
        load_mnist(mnist(zipped, train_images=damage))
    assert raised.value.remedy.startswith("delete it")


@pytest.mark.parametrize("position", [0, 3, 30, -6, -2])
def test_a_damaged_zip_around_an_idx_file_is_named(mnist, refuses, position):
    path = mnist() / "mnist" / "t10k-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    with refuses(DataError, "cannot read .*t10k-images-idx3-ubyte.gz"):
        load_mnist(path.parents[1])


def test_a_zip_that_was_cut_off_is_named(mnist, refuses):
    path = mnist() / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with refuses(DataError, "cannot read .*train-labels-idx1-ubyte.gz"):
        load_mnist(path.parents[1])


@pytest.mark.parametrize("labels", [np.zeros(19, np.uint8), np.full(20, 10, np.uint8)], ids=["too few", "unknown"])
def test_labels_that_do_not_fit_the_pictures_are_refused(mnist, refuses, labels):
    with refuses(DataError, "for 20 pictures of 10 classes"):
        load_mnist(mnist(train_labels=idx(labels)))


def test_pictures_of_mnist_can_be_prepared_without_a_warning(mnist):
    from eyebright.data.prepare import Prepare, channel_statistics

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        channel_statistics(load_mnist(mnist())["train"], Prepare(channels=1))


def test_the_real_mnist_is_read(shared_file):
    parts = load_mnist(shared_file("mnist").parent)
    assert {name: len(part) for name, part in parts.items()} == {"train": 17_435, "test": 10_000}
    test = parts["test"]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert test.pixels.shape == (10_000, 28, 28, 1) and round(test.pixels.mean() / 255, 4) == 0.1325


def test_the_real_test_files_are_the_published_ones(shared_file):
    for name, md5 in MNIST_FILES.items():
        if name.startswith("t10k"):
            assert hashlib.md5((shared_file("mnist") / name).read_bytes()).hexdigest() == md5


# cifar-10

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def cifar_pictures():
    """Batch → pixels `[10, 32, 32, 3]` and labels, one picture of each class in each batch."""
    random = np.random.default_rng(0)
    return {
        name: (random.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8), random.permutation(10)) for name in BATCHES
    }


def batch_bytes(form, pixels, labels, protocol=2):
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    if form == "binary":
        return np.hstack([labels[:, None].astype(np.uint8), planes]).tobytes()
    # Python 2 wrote the published files, so their names are bytes
    return pickle.dumps({b"data": planes, b"labels": labels.tolist(), b"batch_label": b"batch"}, protocol)


@pytest.fixture
def cifar(tmp_path, offline, make_archive):
    """`cifar("binary", "folder")`: a root with a small CIFAR-10; options replace the content of batches."""

    def make(form, place, **changes):
        inside = "cifar-10-batches-bin" if form == "binary" else "cifar-10-batches-py"
        files = {}
        for name, (pixels, labels) in cifar_pictures().items():
            files[name + ".bin" * (form == "binary")] = changes.get(name, batch_bytes(form, pixels, labels))
        folder = tmp_path / "cifar10"
        folder.mkdir(exist_ok=True)
        if place == "archive":
            archive = f"cifar10/cifar-10-{form}.tar.gz"
            make_archive(archive, {f"{inside}/{name}": data for name, data in files.items()})
            return tmp_path
        if place == "folder in folder":
            folder = folder / inside
            folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return tmp_path

    return make


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("place", ["folder", "folder in folder", "archive"])
def test_both_forms_of_cifar10_give_its_pictures(cifar, form, place):
    parts, pictures = load_cifar10(cifar(form, place)), cifar_pictures()
    assert np.array_equal(parts["test"].pixels, pictures["test_batch"][0])
    assert np.array_equal(parts["test"].labels, pictures["test_batch"][1])
    assert np.array_equal(parts["train"].pixels, np.concatenate([pictures[name][0] for name in BATCHES[:5]]))
    assert np.array_equal(parts["train"].labels, np.concatenate([pictures[name][1] for name in BATCHES[:5]]))
    assert parts["train"].labels.dtype == np.int64


def test_cifar10s_classes_are_in_their_published_order(cifar):
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    parts = load_cifar10(cifar("binary", "folder"))
    assert list(parts["train"].classes) == list(parts["test"].classes) == list(CIFAR10_CLASSES) == names


@pytest.mark.parametrize("protocol", [1, 2, 3, 4])
def test_any_protocol_with_an_array_is_read(cifar, protocol):
    pixels, labels = cifar_pictures()["test_batch"]
    root = cifar("python", "folder", test_batch=batch_bytes("python", pixels, labels, protocol))
    assert np.array_equal(load_cifar10(root)["test"].pixels, pixels)


def test_arrays_pickled_by_old_numpy_are_read():
    data = pickle.dumps(np.arange(6, dtype=np.uint8), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert ArrayUnpickler(io.BytesIO(data), encoding="bytes").load().tolist() == list(range(6))


def pickles(tmp_path):
    evil = tmp_path / "sprung"
    return {
        "os.system": pickle.dumps(Trap(evil)),
        "os.system, old": pickle.dumps(Trap(evil), 0),
        "in a batch": pickle.dumps({b"labels": [1], b"data": Trap(evil)}),
        "eval": b'cbuiltins\neval\n(S\'__import__("os").mkdir("%s")\'\ntR.' % str(evil).encode(),
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR.",
        "numpy's own": b"cnumpy\nload\n(S'x'\ntR.",
        "numpy.testing": b"cnumpy.testing._private.utils\nrunstring\n(S'import os'\n}tR.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    }


@pytest.mark.parametrize("name", pickles(Path("x")))
@pytest.mark.parametrize("place", ["folder", "archive"])
def test_nothing_but_arrays_is_unpickled(cifar, tmp_path, refuses, name, place):
    root = cifar("python", place, data_batch_3=pickles(tmp_path)[name])
    with refuses(DataError, "cannot read .*data_batch_3: it names .* neither a builtin value nor an array"):
        load_cifar10(root)
    assert not (tmp_path / "sprung").exists()


def test_the_trap_of_these_tests_would_spring(tmp_path):
    pickle.loads(pickles(tmp_path)["os.system"])
    assert (tmp_path / "sprung").is_dir()


NO_BATCHES = {
    "empty": b"",
    "text": b"hello",
    "a list": pickle.dumps([1, 2]),
    "a number": pickle.dumps(3),
    "no data": pickle.dumps({b"labels": [1]}),
    "data is bytes": pickle.dumps({b"labels": [1], b"data": b"x" * 3072}),
    "other shape": pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)}),
    "labels are names": pickle.dumps({b"labels": [b"cat"], b"data": np.zeros((1, 3072), np.uint8)}),
    "deep": b"(" * 10_000 + b"." * 3,
    "a number too long": b"\x80\x04\x8e" + b"\xff" * 8,
}


@pytest.mark.parametrize("content", NO_BATCHES.values(), ids=NO_BATCHES)
def test_a_pickle_that_is_no_batch_is_named(cifar, refuses, content):
    with refuses(DataError, "cannot read .*data_batch_2"):
        load_cifar10(cifar("python", "folder", data_batch_2=content))


@pytest.mark.parametrize("content", [b"x", bytes(3072), bytes(3074)], ids=["a byte", "no label", "a byte too many"])
@pytest.mark.parametrize("place", ["folder", "archive"])
def test_a_binary_batch_of_another_size_is_named(cifar, refuses, content, place):
    with refuses(DataError, "cannot read .*test_batch"):
        load_cifar10(cifar("binary", place, test_batch=content))


def test_every_damage_to_a_pickle_is_a_data_error_or_gives_arrays(cifar, noise):
    pixels, labels = noise(2, 32, 32, 3), np.array([1, 2])
    good = batch_bytes("python", pixels, labels)
    outcomes = set()
    for position in [*range(150), *range(len(good) - 60, len(good))]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << position % 8
        root = cifar("python", "folder", data_batch_1=bytes(damaged))
        try:
            published._read_cifar_batch(root / "cifar10", "data_batch_1", 1, b"labels")
            outcomes.add("arrays")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"arrays", "refused"}


def test_a_label_beyond_the_classes_is_refused(cifar, refuses):
    pixels, labels = cifar_pictures()["test_batch"]
    with refuses(DataError, "from 1 to 10 for 10 pictures of 10 classes"):
        load_cifar10(cifar("binary", "folder", test_batch=batch_bytes("binary", pixels, labels + 1)))


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_missing_batch_is_named(cifar, refuses, form):
    root = cifar(form, "folder")
    next((root / "cifar10").glob("data_batch_4*")).unlink()
    with refuses(DataError, "cannot read .*data_batch_4"):
        load_cifar10(root)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_an_archive_that_was_cut_off_is_named(cifar, refuses, share):
    path = cifar("binary", "archive") / "cifar10" / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with refuses(ArchiveError, "cifar-10-binary.tar.gz"):
        load_cifar10(path.parents[1])


def test_a_flipped_bit_in_an_archive_is_noticed(cifar, refuses):
    path = cifar("binary", "archive") / "cifar10" / "cifar-10-binary.tar.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with refuses(ArchiveError, "cifar-10-binary.tar.gz"):
        load_cifar10(path.parents[1])


def test_an_archive_of_something_else_is_named(tmp_path, make_archive, refuses):
    (tmp_path / "cifar10").mkdir()
    make_archive("cifar10/cifar-10-binary.tar.gz", {"readme.txt": b"nothing"})
    with refuses(DataError, "cannot read .*data_batch_1"):
        load_cifar10(tmp_path)


# fashion-mnist and cifar100: the same forms with other classes


def test_fashion_mnist_has_clothes(mnist, noise, offline, monkeypatch):
    root = mnist()
    (root / "mnist").rename(root / "fashion-mnist")
    parts = PUBLISHED["fashion-mnist"](root)
    assert np.array_equal(parts["train"].pixels, noise(20, 28, 28, 1))
    assert parts["test"].classes[::9] == ("T-shirt/top", "Ankle boot")
    assert len(set(parts["test"].classes)) == 10
    assert set(published.FASHION_MNIST_FILES) == set(MNIST_FILES)


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("place", ["folder", "folder in folder", "archive"])
def test_both_forms_of_cifar100_give_its_fine_classes(tmp_path, offline, make_archive, form, place):
    random = np.random.default_rng(0)
    folder, inside = tmp_path / "cifar100", f"cifar-100-{form}"
    pictures = {name: random.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8) for name in ("train", "test")}
    fine = {name: random.integers(0, 100, 30) for name in pictures}
    files = {}
    for name, pixels in pictures.items():
        planes = pixels.transpose(0, 3, 1, 2).reshape(30, -1)
        coarse = fine[name] // 5
        if form == "binary":
            labels = np.stack([coarse, fine[name]], axis=1).astype(np.uint8)
            files[f"{name}.bin"] = np.hstack([labels, planes]).tobytes()
        else:
            batch = {b"data": planes, b"fine_labels": fine[name].tolist(), b"coarse_labels": coarse.tolist()}
            files[name] = pickle.dumps(batch, 2)
    target = folder / inside if place == "folder in folder" else folder
    target.mkdir(parents=True)
    if place == "archive":
        archive = f"cifar100/cifar-100-{form}.tar.gz"
        make_archive(archive, {f"{inside}/{name}": data for name, data in files.items()})
    else:
        for name, data in files.items():
            (target / name).write_bytes(data)
    parts = PUBLISHED["cifar100"](tmp_path)
    for name, part in parts.items():
        assert np.array_equal(part.pixels, pictures[name])
        assert np.array_equal(part.labels, fine[name])
    classes = parts["train"].classes
    assert (len(classes), classes[0], classes[51], classes[99]) == (100, "apple", "mushroom", "worm")
    assert list(classes) == sorted(set(classes))


# downloads


def md5_of(data):
    return hashlib.md5(data).hexdigest()


@pytest.mark.parametrize(
    ("load", "first"),
    [
        (load_mnist, "mnist/train-images-idx3-ubyte.gz"),
        (load_cifar10, "cifar10/cifar-10-binary.tar.gz"),
        (PUBLISHED["fashion-mnist"], "fashion-mnist/train-images-idx3-ubyte.gz"),
        (PUBLISHED["cifar100"], "cifar100/cifar-100-binary.tar.gz"),
    ],
)
def test_a_set_that_is_not_there_is_asked_for_at_its_home(offline, tmp_path, refuses, load, first):
    with refuses(DownloadError, first.rpartition("/")[2]) as raised:
        load(tmp_path)
    assert str(tmp_path / first) in raised.value.remedy


def test_mnist_is_fetched_from_its_home_into_the_root(server, mnist, monkeypatch, tmp_path):
    url, folder, asked = server
    (mnist() / "mnist").rename(folder / "mnist")
    files = {name: md5_of((folder / "mnist" / name).read_bytes()) for name in MNIST_FILES}
    monkeypatch.setattr(published, "MNIST_HOME", url + "mnist/")
    monkeypatch.setattr(published, "MNIST_FILES", files)
    assert len(load_mnist(tmp_path / "root")["train"]) == 20
    assert sorted(asked) == sorted(f"/mnist/{name}" for name in MNIST_FILES)
    load_mnist(tmp_path / "root")
    assert len(asked) == 4


def test_cifar10_is_fetched_from_its_home_into_the_root(server, cifar, monkeypatch, tmp_path):
    url, folder, asked = server
    name = "cifar-10-binary.tar.gz"
    (cifar("binary", "archive") / "cifar10" / name).rename(folder / name)
    monkeypatch.setattr(published, "CIFAR10_HOME", url)
    monkeypatch.setattr(published, "CIFAR10_ARCHIVES", {name: md5_of((folder / name).read_bytes())})
    assert len(load_cifar10(tmp_path / "root")["train"]) == 50
    assert asked == [f"/{name}"]


def test_downloads_come_over_https():
    assert published.MNIST_HOME.startswith("https://") and published.CIFAR10_HOME.startswith("https://")
    assert published.FASHION_MNIST_HOME.startswith("https://")
    sums = [MNIST_FILES, published.FASHION_MNIST_FILES, CIFAR10_ARCHIVES, published.CIFAR100_ARCHIVES]
    assert all(len(bytes.fromhex(md5)) == 16 for files in sums for md5 in files.values())
