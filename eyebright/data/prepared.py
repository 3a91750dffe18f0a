"""Prepared pictures on disk: decoded and resized once, then read at the speed of memory.

A cache is a folder for each way of preparing, in it a folder for each set of pictures, in it files of some 16 MiB of
pixels, which are written whole, never changed, and mapped into memory. A picture is found by the digest of its encoded
bytes, in whichever set it was first prepared: other splits of the same pictures cost nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from eyebright.data.ahead import ahead
from eyebright.data.cache import lock, note_use, remove_unused
from eyebright.data.digests import file_digests
from eyebright.data.images import ImageFiles, Labels, Pixels
from eyebright.data.prepare import Prepare
from eyebright.errors import DataError, DataWarning, OutputError, StoredFileError
from eyebright.files import cache_folder, make_folder, remove, remove_unfinished
from eyebright.tensors import read_safetensors, write_safetensors

FORMAT_VERSION = 1
KIND = "eyebright.prepared pictures"
SHARD_BYTES = 16 * 2**20  # pixels in a file
AT_ONCE = 16  # pictures that a thread decodes before it hands them over


@dataclass(frozen=True, eq=False)
class PreparedFiles:
    """Pictures on disk whose prepared pixels are mapped into memory.

    Attributes:
        files: the pictures.
        shards: pixels of many pictures one after the other, uint8 `[bytes]` each.
        places: int64 `[N, 4]`: shard, first byte, height and width of each picture.
        channels: of all of them.
    """

    files: ImageFiles
    shards: tuple[Pixels, ...] = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)
    channels: int

    @property
    def labels(self) -> Labels:
        """int64 `[N]`."""
        return self.files.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""
        return self.files.classes

    @property
    def groups(self) -> tuple[str, ...] | None:
        """`[N]` what each picture is of, see `Pictures`; or None."""
        return self.files.groups

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, at_least: tuple[int, int] | None = None) -> Pixels:
        """One picture as `Prepare.compact_picture` made it, uint8 `[H, W, channels]`, read-only."""
        shard, start, height, width = self.places[index].tolist()
        pixels: Pixels = self.shards[shard][start : start + height * width * self.channels]
        return pixels.reshape(height, width, self.channels)

    def name(self, index: int) -> str:
        """The file's path."""
        return self.files.name(index)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> PreparedFiles:
        """The pictures at these indices, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return PreparedFiles(self.files.select(chosen), self.shards, self.places[chosen], self.channels)


def prepare_files(
    pictures: ImageFiles, prepare: Prepare, *, on_read: Callable[[], object] | None = None, workers: int = 2
) -> PreparedFiles | None:
    """Pictures from the cache; those that are not there yet are decoded and put there.

    Processes that prepare the same pictures wait for one another. One that is killed leaves the files that it finished,
    and the next one goes on from there.

    Args:
        pictures: on disk.
        prepare: of it, what comes before the crop.
        on_read: called once for each picture, for a progress bar.
        workers: threads that decode.

    Returns:
        None where there is no room for them, or no leave to write: then a warning says why.

    Raises:
        PictureError: a picture cannot be decoded.
        DataError: a picture was changed while it was read.
    """
    digests = _rows(file_digests(pictures.paths, workers=workers)[0])
    folder = cache_folder() / "prepared" / _key(prepare)
    own = folder / hashlib.sha256(b"".join(sorted(set(digests)))).hexdigest()[:16]
    try:
        make_folder(own)
        note_use(own)
        remove_unused(folder.parent.glob("*/*"))
        with lock(f"prepared-{folder.name}-{own.name}"):
            remove_unfinished(own)
            return _fill(pictures, digests, prepare, folder, own, on_read, workers)
    except (OutputError, OSError, NotImplementedError) as error:
        shutil.rmtree(own, ignore_errors=True)  # a full disk is not left full
        reason = error.problem if isinstance(error, OutputError) else str(error)
        warnings.warn(
            f"prepared pictures cannot be kept: {reason}. They are decoded anew in every epoch; to keep them, free "
            "some room or set EYEBRIGHT_CACHE to another folder",
            DataWarning,
            stacklevel=2,
        )
        return None


def compact_pictures(pictures: ImageFiles, prepare: Prepare, workers: int = 2) -> Generator[Pixels, None, None]:
    """Every picture as `Prepare.compact_picture` makes it, in order; threads decode a few ahead.

    Raises:
        PictureError: the first picture in order that cannot be decoded.
    """

    def work(start: int) -> list[Pixels]:
        some = range(start, min(start + AT_ONCE, len(pictures)))
        return [prepare.compact_picture(pictures.read(index, prepare.at_least)) for index in some]

    with closing(ahead(work, range(0, len(pictures), AT_ONCE), workers)) as made:
        for some in made:
            yield from some


def _key(prepare: Prepare) -> str:
    """Names everything that prepared pixels depend on, but for the pictures."""
    facts = [
        FORMAT_VERSION, prepare.channels, prepare.resize, prepare.interpolation,
        PIL.__version__, simplejpeg.__version__, torch.__version__, torch.backends.cpu.get_cpu_capability(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _fill(
    pictures: ImageFiles,
    digests: list[bytes],
    prepare: Prepare,
    folder: Path,
    own: Path,
    on_read: Callable[[], object] | None,
    workers: int,
) -> PreparedFiles:
    found = _Found(set(digests), prepare.channels)
    for path in sorted(folder.glob("*/*.safetensors")):
        found.take(path)
    missing = {digest: index for index, digest in enumerate(digests) if digest not in found.places}
    for _ in range(len(digests) - len(missing)):
        if on_read is not None:
            on_read()
    chosen = pictures.select(list(missing.values()))
    with closing(compact_pictures(chosen, prepare, workers)) as made:
        for shard in _in_shards(zip(missing, made, strict=True), on_read):
            _check_unchanged([pictures.paths[missing[digest]] for digest, _ in shard], [digest for digest, _ in shard])
            found.take(_write(own, shard))
    return PreparedFiles(
        pictures,
        tuple(found.shards),
        np.array([found.places[digest] for digest in digests], dtype=np.int64).reshape(-1, 4),
        prepare.channels,
    )


class _Found:
    """Where the pictures looked for stand in the files of a cache."""

    def __init__(self, wanted: set[bytes], channels: int):
        self.wanted, self.channels = wanted, channels
        self.places: dict[bytes, tuple[int, int, int, int]] = {}
        self.shards: list[Pixels] = []

    def take(self, path: Path) -> None:
        """Adds a file's pictures; a damaged file is removed, so that its pictures are prepared again."""
        try:
            with safe_open(path, "numpy") as file:
                new = self.wanted.intersection(_rows(file.get_tensor("digests"))) - self.places.keys()
            if not new:
                return
            tensors, _ = read_safetensors(path, KIND, FORMAT_VERSION, mapped=True)
        except (StoredFileError, SafetensorError, OSError):
            remove(path)
            return
        pixels: Pixels = tensors["pixels"].numpy()
        pixels.flags.writeable = False
        sizes: NDArray[np.int64] = tensors["sizes"].numpy()
        starts = (sizes.prod(axis=1) * self.channels).cumsum() - sizes.prod(axis=1) * self.channels
        rows = zip(_rows(tensors["digests"].numpy()), starts.tolist(), *sizes.T.tolist(), strict=True)
        self.places |= {digest: (len(self.shards), *place) for digest, *place in rows if digest in new}
        self.shards.append(pixels)
        note_use(path.parent)


def _rows(digests: NDArray[np.uint8]) -> list[bytes]:
    return [digest.tobytes() for digest in digests]


Shard = list[tuple[bytes, Pixels]]


def _in_shards(made: Iterable[tuple[bytes, Pixels]], on_read: Callable[[], object] | None) -> Iterator[Shard]:
    shard: Shard = []
    size = 0
    for digest, pixels in made:
        shard.append((digest, pixels))
        size += pixels.nbytes
        if on_read is not None:
            on_read()
        if size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _check_unchanged(paths: Sequence[Path], digests: Sequence[bytes]) -> None:
    for path, before, now in zip(paths, digests, _rows(file_digests(paths)[0]), strict=True):
        if before != now:
            raise DataError(
                f"{path} was changed while it was read",
                expected="pictures that nobody changes meanwhile",
                remedy="wait until they are all written, and begin again",
            )


def _write(folder: Path, shard: Shard) -> Path:
    digests = b"".join(digest for digest, _ in shard)
    path = folder / f"{hashlib.sha256(digests).hexdigest()[:16]}.safetensors"
    tensors = {
        "digests": torch.frombuffer(bytearray(digests), dtype=torch.uint8).view(-1, 32),
        "sizes": torch.tensor([pixels.shape[:2] for _, pixels in shard]),  # int64 [n, 2]
        "pixels": torch.cat([torch.from_numpy(pixels).reshape(-1) for _, pixels in shard]),
    }
    write_safetensors(path, tensors, KIND, {"format_version": FORMAT_VERSION})
    return path
