"""Published sets in their published forms: found under the data root, or fetched there from their canonical home."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from eyebright.data.archives import unpack
from eyebright.data.downloads import fetch, first_line
from eyebright.data.images import Images, Pictures
from eyebright.errors import DataError

MNIST_HOME = "https://storage.googleapis.com/cvdf-datasets/mnist/"
MNIST_FILES = {  # name → MD5 of the published file
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb89873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
CIFAR10_HOME = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVES = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def load_digits(root: Path) -> dict[str, Pictures]:
    """Scikit-learn's 1,797 handwritten digits, 8×8 grey, embedded: 1,437 for training, 360 for test.

    The published set has no parts; the test part is a stratified fifth, the same whatever the seed of a run.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits as load

    from eyebright.data.split import stratified_cut

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
    folder = root / "mnist"
    classes = tuple("0123456789")
    parts: dict[str, Pictures] = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        pixels = _read_idx(_mnist_file(folder, f"{stem}-images-idx3-ubyte.gz"), dimensions=3)
        labels = _read_idx(_mnist_file(folder, f"{stem}-labels-idx1-ubyte.gz"), dimensions=1)
        parts[part] = Images(pixels[..., None], labels.astype(np.int64), classes)
    return parts


def load_cifar10(root: Path) -> dict[str, Pictures]:
    """CIFAR-10 in its published binary or Python form: 50,000 + 10,000 pictures, 32×32 colour, 10 classes.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    batches = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    folder = _find_cifar10(root / "cifar10")
    parts: dict[str, Pictures] = {}
    for part, names in batches.items():
        read = [_read_cifar10_batch(folder, name) for name in names]
        planes = np.concatenate([pixels for pixels, _ in read])  # [N, 3, 32, 32]
        labels = np.concatenate([labels for _, labels in read])
        parts[part] = Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels, CIFAR10_CLASSES)
    return parts


PUBLISHED = {"digits": load_digits, "mnist": load_mnist, "cifar10": load_cifar10}


def _mnist_file(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.exists():
            return candidate
    return fetch(MNIST_HOME + name, f"md5:{MNIST_FILES[name]}", folder)


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


def _find_cifar10(folder: Path) -> Path:
    """The folder with the batches; an archive that holds them is unpacked into the cache."""
    found = _cifar10_folder(folder)
    if found is None:
        archive = next((folder / name for name in CIFAR10_ARCHIVES if (folder / name).exists()), None)
        binary, md5 = next(iter(CIFAR10_ARCHIVES.items()))
        unpacked = unpack(archive or fetch(CIFAR10_HOME + binary, f"md5:{md5}", folder))
        found = _cifar10_folder(unpacked) or unpacked
    return found


def _cifar10_folder(folder: Path) -> Path | None:
    for candidate in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        if (candidate / "data_batch_1.bin").exists() or (candidate / "data_batch_1").exists():
            return candidate
    return None


def _read_cifar10_batch(folder: Path, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pixels `[N, 3, 32, 32]` and labels `[N]` of one batch in either form."""
    binary = folder / f"{name}.bin"
    try:
        if binary.exists():
            records = np.frombuffer(binary.read_bytes(), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)
        batch = ArrayUnpickler(io.BytesIO((folder / name).read_bytes()), encoding="bytes").load()
        return batch[b"data"].reshape(-1, 3, 32, 32), np.asarray(batch[b"labels"], dtype=np.int64)
    except Exception as error:  # an unpickler meets arbitrary bytes: whatever it raises means that they are no batch
        raise _damaged(folder / name, error, "a batch of CIFAR-10 in its published binary or Python form") from error


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
