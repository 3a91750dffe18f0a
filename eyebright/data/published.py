"""Published sets in their published forms: found under the data root, or fetched there from their canonical home."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from eyebright.data.archives import unpack
from eyebright.data.downloads import fetch, first_line
from eyebright.data.imagenet import load_imagenet, load_tiny_imagenet
from eyebright.data.images import Images, Pictures
from eyebright.errors import DataError

MNIST_HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"
MNIST_FILES = {  # name → MD5 of the published file
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb89873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_MNIST_HOME = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_HOME = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVES = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
CIFAR100_ARCHIVES = {
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
}
INSIDE = {  # the folder that each archive makes
    "cifar-10-binary.tar.gz": "cifar-10-batches-bin", "cifar-10-python.tar.gz": "cifar-10-batches-py",
    "cifar-100-binary.tar.gz": "cifar-100-binary", "cifar-100-python.tar.gz": "cifar-100-python",
}  # fmt: skip


def load_digits(root: Path) -> dict[str, Pictures]:
    """Scikit-learn's 1,797 handwritten digits, 8×8 grey, embedded: 1,437 for training, 360 for test.

    The published set has no parts; the test part is a stratified fifth, the same whatever the seed of a run.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits as load

    from eyebright.data.cuts import stratified_cut

    digits = load()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0…16 → 0…255
    labels = digits.target.astype(np.int64)
    everything = Images(pixels, labels, tuple(str(name) for name in digits.target_names))
    kept, cut = stratified_cut(labels, 360 / len(labels), seed=0)
    return {"train": everything.select(kept), "test": everything.select(cut)}


def load_mnist(root: Path) -> dict[str, Pictures]:
    """MNIST in its published idx form: 60,000 + 10,000 digits, 28×28 grey.

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998.
    """
    return _load_idx(root / "mnist", MNIST_HOME, MNIST_FILES, tuple("0123456789"))


def load_fashion_mnist(root: Path) -> dict[str, Pictures]:
    """Fashion-MNIST in its published idx form: 60,000 + 10,000 pictures of clothes, 28×28 grey, 10 classes.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv 1708.07747, 2017.
    """
    return _load_idx(root / "fashion-mnist", FASHION_MNIST_HOME, FASHION_MNIST_FILES, FASHION_MNIST_CLASSES)


def load_cifar10(root: Path) -> dict[str, Pictures]:
    """CIFAR-10 in its published binary or Python form: 50,000 + 10,000 pictures, 32×32 colour, 10 classes.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    batches = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    return _load_cifar(root / "cifar10", CIFAR10_ARCHIVES, batches, CIFAR10_CLASSES, labels=1, key=b"labels")


def load_cifar100(root: Path) -> dict[str, Pictures]:
    """CIFAR-100 in its published binary or Python form: 50,000 + 10,000 pictures, 32×32 colour, its 100 fine classes.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    batches = {"train": ["train"], "test": ["test"]}
    names = resources.files("eyebright.data").joinpath("cifar100_classes.txt").read_text(encoding="utf-8")
    classes = tuple(names.split())
    return _load_cifar(root / "cifar100", CIFAR100_ARCHIVES, batches, classes, labels=2, key=b"fine_labels")


PUBLISHED = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "tiny-imagenet": load_tiny_imagenet,
    "imagenet": load_imagenet,
}


def _load_idx(folder: Path, home: str, files: dict[str, str], classes: tuple[str, ...]) -> dict[str, Pictures]:
    def find(name: str) -> Path:
        there = [path for path in (folder / name, folder / name.removesuffix(".gz")) if path.exists()]
        return there[0] if there else fetch(home + name, f"md5:{files[name]}", folder)

    parts: dict[str, Pictures] = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        pixels = _read_idx(find(f"{stem}-images-idx3-ubyte.gz"), dimensions=3)
        labels = _read_idx(find(f"{stem}-labels-idx1-ubyte.gz"), dimensions=1)
        parts[part] = Images(pixels[..., None], labels.astype(np.int64), classes)
    return parts


def _read_idx(path: Path, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An idx file of unsigned bytes: two zero bytes, the type 8, the number of dimensions, their sizes, the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, found = struct.unpack(">HBB", data[:4])
        if (zero, kind, found) != (0, 8, dimensions):
            raise ValueError(f"its header is {data[:4].hex(' ')}, not 00 00 08 {dimensions:02x}")
        shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise _damaged(path, error, "an idx file of unsigned bytes, plain or gzipped") from error


def _load_cifar(
    root: Path,
    archives: dict[str, str],
    batches: dict[str, list[str]],
    classes: tuple[str, ...],
    labels: int,
    key: bytes,
) -> dict[str, Pictures]:
    """Parts from the batches of each; in binary form a record begins with so many labels, of which the last counts."""
    first = batches["train"][0]
    folder = _cifar_folder(root, archives, first)
    if folder is None:
        archive = next((root / name for name in archives if (root / name).exists()), None)
        binary, md5 = next(iter(archives.items()))
        unpacked = unpack(archive or fetch(CIFAR10_HOME + binary, f"md5:{md5}", root))
        folder = _cifar_folder(unpacked, archives, first) or unpacked
    parts: dict[str, Pictures] = {}
    for part, names in batches.items():
        read = [_read_cifar_batch(folder, name, labels, key) for name in names]
        planes = np.concatenate([pixels for pixels, _ in read])  # [N, 3, 32, 32]
        pixels = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        parts[part] = Images(pixels, np.concatenate([own for _, own in read]), classes)
    return parts


def _cifar_folder(root: Path, archives: dict[str, str], first: str) -> Path | None:
    """The folder with the batches: this one, or the one inside that an archive makes."""
    for candidate in (root, *(root / INSIDE[name] for name in archives)):
        if (candidate / f"{first}.bin").exists() or (candidate / first).is_file():
            return candidate
    return None


def _read_cifar_batch(
    folder: Path, name: str, labels: int, key: bytes
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pixels `[N, 3, 32, 32]` and labels `[N]` of one batch in either form."""
    binary = folder / f"{name}.bin"
    try:
        if binary.exists():
            records = np.frombuffer(binary.read_bytes(), np.uint8).reshape(-1, labels + 3 * 32 * 32)
            if not len(records):
                raise ValueError("it is empty")
            return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int64)
        batch = ArrayUnpickler(io.BytesIO((folder / name).read_bytes()), encoding="bytes").load()
        return batch[b"data"].reshape(-1, 3, 32, 32), np.asarray(batch[key], dtype=np.int64)
    except Exception as error:  # an unpickler meets arbitrary bytes: whatever it raises means that they are no batch
        raise _damaged(folder / name, error, "a batch of CIFAR in its published binary or Python form") from error


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of builtin values and NumPy arrays and refuses everything else: no other code is ever run."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """Called by pickle for every global name in the file."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither a builtin value nor an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _damaged(path: Path, error: Exception, expected: str) -> DataError:
    return DataError(
        f"cannot read {path}: {first_line(error)}",
        expected=expected,
        remedy="delete it, so that it is fetched again, or put the published file there",
    )
