"""What a trained network makes of pictures, before its last layer: computed once, and kept (lecture: L3.8).

Source:
    Donahue et al.: DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition, ICML 2014.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from eyebright.classifier import ROWS, Classifier
from eyebright.data.augment import Augment
from eyebright.data.batches import Loader
from eyebright.data.cache import lock, note_use, remove_unused
from eyebright.data.images import Pictures
from eyebright.data.split import picture_digests
from eyebright.errors import StoredFileError
from eyebright.files import cache_folder, make_folder, remove
from eyebright.random import generator
from eyebright.tensors import read_safetensors, tensor_digest, write_safetensors

FORMULA = 3  # counts the ways in which embeddings have been computed
FORMAT_VERSION = 1
KIND = "eyebright.embeddings"
BATCH = 4 * ROWS  # pictures through the network at a time
KEPT_EVERY = 1024  # pictures: an interruption loses no more
FILES = 16  # of one kind, before they are made one

Values = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One way in which a picture is changed before it is embedded.

    Attributes:
        augment: what is done to it.
        number: another one, another outcome; it follows from this number and the picture alone.
    """

    augment: Augment
    number: int


class Embedder:
    """Embeds pictures by a network, and keeps what it has computed in the cache.

    It is found there again by the picture's content, the weights before the last layer, the Prepare, the arithmetic and
    the view: if any of these is another, it is computed anew.

    Args:
        backbone: whose network and Prepare.
        keep: whether to use the cache.
    """

    def __init__(self, backbone: Classifier, *, keep: bool = True):
        self.backbone, self.keep = backbone, keep
        body = {name: tensor_digest(value) for name, value in _body(backbone).items()}
        options = {
            key: value for key, value in backbone.model.model_options.items() if key not in ("num_classes", "head")
        }
        plan = backbone.plan
        self._made_by: dict[str, Any] = {
            "formula": FORMULA,
            "model": backbone.model.model_name,
            "options": options,
            "weights": body,
            "prepare": backbone.prepare.model_dump(mode="json"),
            "arithmetic": [plan.device.partition(":")[0], plan.number_format, plan.kernels, plan.torch_version],
            "maps": bool((backbone.model.model_options.get("head") or {}).get("maps")),  # not pooled
        }

    def __call__(
        self, pictures: Pictures, view: View | None = None, on_picture: Callable[[], object] | None = None
    ) -> Values:
        """Embeddings of pictures, in order.

        Args:
            pictures: in memory or on disk.
            view: how each is changed first; None: it is seen as in prediction.
            on_picture: called for each, whether it is computed or found, for a progress bar.

        Returns:
            float32 `[N, D]`.

        Raises:
            PictureError: a picture cannot be decoded.
            OutputError: the cache cannot be written.
        """
        contents, _ = picture_digests(pictures)
        if not self.keep:
            return self._compute(pictures, contents, np.arange(len(pictures)), view, on_picture)
        folder = self._folder(view)
        shelf = _Shelf(folder)
        note_use(folder)
        remove_unused(folder.parent.glob("*"))
        found = shelf.read(contents)
        missing = np.array([i for i, content in enumerate(contents) if content.tobytes() not in found], dtype=np.int64)
        for _ in range(len(pictures) - len(missing)):
            _tick(on_picture)
        for start in range(0, len(missing), KEPT_EVERY):
            some = missing[start : start + KEPT_EVERY]
            made = self._compute(pictures, contents, some, view, on_picture)
            shelf.add(contents[some], made)
            found |= {contents[i].tobytes(): row for i, row in zip(some.tolist(), made, strict=True)}
        return np.stack([found[content.tobytes()] for content in contents])

    @property
    def name(self) -> str:
        """Another one for whatever makes other embeddings of the same pictures."""
        return self._name(None)

    def _name(self, view: View | None) -> str:
        seen = view and {"augment": view.augment.model_dump(mode="json"), "number": view.number}
        text = json.dumps(self._made_by | {"view": seen}, sort_keys=True)
        return f"{self.backbone.model.model_name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def _folder(self, view: View | None) -> Path:
        return cache_folder() / "embeddings" / self._name(view)

    def _compute(
        self,
        pictures: Pictures,
        contents: NDArray[np.uint8],
        chosen: NDArray[np.int64],
        view: View | None,
        on_picture: Callable[[], object] | None,
    ) -> Values:
        rows = []
        for inputs in self._inputs(pictures.select(chosen), contents[chosen], view):
            made = self.backbone.embeddings(inputs)
            rows += list(made)
            for _ in made:
                _tick(on_picture)
        values: Values = torch.stack(rows).numpy()
        return values

    def _inputs(self, pictures: Pictures, contents: NDArray[np.uint8], view: View | None) -> Any:
        """Prepared pictures in order, float32 `[n, C, H, W]`."""
        prepare = self.backbone.prepare
        if view is None:
            alone = prepare.output_size is None and prepare.resize is not None
            loader = Loader(pictures, prepare, self.backbone.plan, 1 if alone else BATCH)
            yield from (batch.inputs for batch in loader.batches())
            return
        for start in range(0, len(pictures), BATCH):
            seen = [self._seen(pictures, i, contents[i], view) for i in range(start, min(start + BATCH, len(pictures)))]
            yield prepare.normalise(torch.cat(seen))

    def _seen(self, pictures: Pictures, index: int, content: NDArray[np.uint8], view: View) -> Tensor:
        """One picture as this view shows it, uint8 `[1, H, W, C]`: by chance, which its content and the view decide."""
        prepare = self.backbone.prepare
        random = generator(view.number, "view", content.tobytes().hex())
        pixels = torch.from_numpy(prepare.resize_picture(pictures.read(index, prepare.at_least)))[None]
        cropped = view.augment.crop_batch(pixels, random, prepare)
        return view.augment.change_batch(cropped, random, prepare, seed=0, epoch=view.number, indices=np.zeros(1, int))


class _Shelf:
    """Embeddings of one kind in the cache: a few files of rows by their pictures' contents."""

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, contents: NDArray[np.uint8]) -> dict[bytes, Values]:
        """Those of these contents, uint8 `[N, 32]`, that are there."""
        wanted = {content.tobytes() for content in contents}
        return {content: row for content, row in self._rows().items() if content in wanted}

    def add(self, contents: NDArray[np.uint8], values: Values) -> None:
        """Keeps rows."""
        with self._lock():
            make_folder(self.folder)
            if len(self._files()) < FILES:
                self._write(torch.from_numpy(contents), torch.from_numpy(values))
                return
            rows = self._rows() | {content.tobytes(): row for content, row in zip(contents, values, strict=True)}
            before = self._files()
            whole = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32).copy()
            self._write(torch.from_numpy(whole), torch.from_numpy(np.stack(list(rows.values()))))
            for path in before:
                remove(path)

    def _write(self, contents: Tensor, values: Tensor) -> None:
        numbers = [int(path.stem) for path in self._files()]
        path = self.folder / f"{max(numbers, default=0) + 1:06d}.safetensors"
        tensors = {"contents": contents, "embeddings": values}
        write_safetensors(path, tensors, KIND, {"format_version": FORMAT_VERSION})

    def _rows(self) -> dict[bytes, Values]:
        rows: dict[bytes, Values] = {}
        for path in self._files():
            try:
                tensors, _ = read_safetensors(path, KIND, FORMAT_VERSION)
                contents, values = tensors["contents"].numpy(), tensors["embeddings"].numpy()
            except (StoredFileError, KeyError):  # damaged, or of a newer form: computed anew
                continue
            rows |= {content.tobytes(): row for content, row in zip(contents, values, strict=True)}
        return rows

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def _lock(self) -> FileLock:
        return lock(self.folder.name)


def _body(backbone: Classifier) -> dict[str, Tensor]:
    """The weights and statistics that embeddings follow from."""
    standing = backbone.model.standing_head
    head = {id(value) for value in (*standing.parameters(), *standing.buffers())}
    state = backbone.model.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if id(value) not in head}


def _tick(on_picture: Callable[[], object] | None) -> None:
    if on_picture is not None:
        on_picture()
