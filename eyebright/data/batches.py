"""The one loader: pictures in memory or on disk → batches on the device, in an order that the seed alone decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.data.ahead import ahead
from eyebright.data.augment import Augment
from eyebright.data.images import ImageFiles, Images, Pictures
from eyebright.data.mixing import Mixture
from eyebright.data.prepare import Prepare
from eyebright.data.prepared import PreparedFiles, prepare_files
from eyebright.device import Plan
from eyebright.errors import DataError
from eyebright.random import generator

MEMORY_LIMIT = 2 * 2**30  # bytes of pixels that are taken into memory


@dataclass(frozen=True)
class Batch:
    """A batch as the network takes it.

    Attributes:
        inputs: float32 `[N, C, H, W]`, normalised, on the device.
        labels: int64 `[N]`, or `[N, K]` where a picture can have several; on the device.
        indices: int64 `[N]`: which pictures these are.
        partner_labels: int64 `[N]`, on the device: of the pictures that were mixed in (mixup, CutMix); the same as
            `labels` where nothing was.
        share: how much of each picture is its own, 0…1; the rest is its partner's.
    """

    inputs: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    partner_labels: Tensor
    share: float


class Loader:
    """Makes batches of pictures.

    What a batch holds depends on (seed, epoch, step) alone: loading can start at any step, and the number of workers
    changes nothing but the speed.

    Args:
        pictures: in memory or on disk.
        prepare: how they are prepared.
        plan: where the batches go.
        batch_size: pictures in a batch; the last one of an epoch may be smaller.
        augment: what training adds; None for evaluation.
        shuffle: whether each epoch has an order of its own.
        seed: of order and augmentation.
        workers: threads that prepare batches ahead; None: 2 for files or for a GPU, else 0.
        per_epoch: pictures of an epoch, where that is not all; `batches` is then told which.
    """

    def __init__(
        self,
        pictures: Pictures,
        prepare: Prepare,
        plan: Plan,
        batch_size: int,
        *,
        augment: Augment | None = None,
        shuffle: bool = False,
        seed: int = 0,
        workers: int | None = None,
        per_epoch: int | None = None,
    ):
        self.per_epoch = len(pictures) if per_epoch is None else per_epoch
        self.pictures, self.prepare, self.plan = pictures, prepare, plan
        self.batch_size, self.augment, self.shuffle, self.seed = batch_size, augment, shuffle, seed
        if workers is None:
            workers = 0 if isinstance(pictures, Images) and plan.device == "cpu" else 2
        self.workers = workers
        self._labels = torch.from_numpy(np.array(pictures.labels))  # torch takes no read-only or reversed views
        self._resident = self._bring_to_device()

    @property
    def steps(self) -> int:
        """Batches in an epoch. A last training batch of a single picture is left out: batch norm needs two."""
        count = self.per_epoch
        steps = -(-count // self.batch_size)
        return steps - 1 if self.shuffle and steps > 1 and count % self.batch_size == 1 else steps

    def batches(
        self, epoch: int = 0, first_step: int = 0, among: NDArray[np.int64] | None = None
    ) -> Generator[Batch, None, None]:
        """The batches of an epoch from `first_step` on, in order.

        Args:
            epoch: counted from 0.
            first_step: counted from 0.
            among: int64 `[per_epoch]`: which pictures the epoch is made of; None: all.

        Raises:
            PictureError: a picture cannot be decoded.
            DataError: pictures of different sizes with nothing in Prepare that makes them equal.
        """
        order = self._order(epoch)
        order = order if among is None else among[order]

        def make(step: int) -> Batch:
            mixture, indices = self._mix(order, epoch, step)
            own = self._labels[torch.from_numpy(indices)]
            labels, partners = (x.to(self.plan.device, non_blocking=True) for x in (own, own[mixture.partners]))
            return Batch(self.prepare.normalise(mixture.pixels), labels, indices, partners, mixture.share)

        with closing(ahead(make, range(first_step, self.steps), self.workers)) as made:
            yield from made

    def pixels(self, epoch: int = 0, first_step: int = 0) -> Generator[Tensor, None, None]:
        """The same batches before they are normalised: uint8 `[N, H, W, C]`, on the device."""
        order = self._order(epoch)
        steps = range(first_step, self.steps)
        with closing(ahead(lambda step: self._mix(order, epoch, step)[0].pixels, steps, self.workers)) as made:
            yield from made

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.per_epoch)
        return torch.randperm(self.per_epoch, generator=generator(self.seed, "order", epoch)).numpy()

    def _mix(self, order: NDArray[np.int64], epoch: int, step: int) -> tuple[Mixture, NDArray[np.int64]]:
        indices = order[step * self.batch_size : (step + 1) * self.batch_size]
        pixels = self._read(indices)
        if self.augment is None:
            whole = pixels if isinstance(pixels, Tensor) else self._join(pixels)
            return _unmixed(self.plan.place_pixels(self.prepare.crop_batch(whole))), indices
        random = generator(self.seed, "augment", epoch, step)
        cropped = self.plan.place_pixels(self._crop(pixels, self.augment, random))
        batch = self.augment.change_batch(cropped, random, self.prepare, seed=self.seed, epoch=epoch, indices=indices)
        return self.augment.mix_batch(batch, random) or _unmixed(batch), indices

    def _crop(self, pixels: Tensor | list[Tensor], augment: Augment, random: torch.Generator) -> Tensor:
        if isinstance(pixels, list):
            if not augment.crops or self.prepare.output_size is None:
                pixels = self._join(pixels)
        elif augment.random_resized_crop is None:  # that one resizes on the CPU
            pixels = self.plan.place_pixels(pixels)
        return augment.crop_batch(pixels, random, self.prepare)

    def _bring_to_device(self) -> Tensor | None:
        """All pixels, uint8 `[N, H, W, C]`, for training, where nothing resizes them and the device has room."""
        if not isinstance(self.pictures, Images) or not self.shuffle:
            return None
        size = self.pictures.pixels.shape[1:3]
        resized = self.augment is not None and self.augment.random_resized_crop is not None
        if resized or self.prepare.resized_size(*size) != size:
            return None
        if not self.plan.has_room_for(self.pictures.pixels.nbytes):
            return None
        return self.plan.place_pixels(self.prepare.convert_channels(torch.from_numpy(np.array(self.pictures.pixels))))

    def _read(self, indices: NDArray[np.int64]) -> Tensor | list[Tensor]:
        """Resized pictures: one tensor uint8 `[N, H, W, C]`, or a list where sizes differ."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(indices).to(self._resident.device, non_blocking=True)]
        if isinstance(self.pictures, Images):
            return self.prepare.resize_batch(torch.from_numpy(self.pictures.pixels[indices]))
        pictures = [self.pictures.read(index, self.prepare.at_least) for index in indices.tolist()]
        height, width = pictures[0].shape[:2]
        grown = math.prod(self.prepare.resized_size(height, width)) >= height * width
        if grown and len({picture.shape for picture in pictures}) == 1:  # otherwise one by one takes less memory
            return self.prepare.resize_batch(torch.from_numpy(np.stack(pictures)))
        resized = [torch.from_numpy(self.prepare.resize_picture(picture)) for picture in pictures]
        alike = all(picture.shape == resized[0].shape for picture in resized)
        return torch.stack(resized) if alike else resized

    def _join(self, pictures: list[Tensor]) -> Tensor:
        if self.prepare.crop is None:
            sizes = sorted({f"{picture.shape[0]}×{picture.shape[1]}" for picture in pictures})
            raise DataError(
                f"the pictures have different sizes: {', '.join(sizes[:5])}{' …' if len(sizes) > 5 else ''}",
                expected="one size for all pictures of a batch",
                remedy="set `resize = [height, width]`, or `resize` and `crop`, in the recipe's [prepare]",
            )
        return torch.cat([self.prepare.crop_batch(picture[None]) for picture in pictures])


def _unmixed(pixels: Tensor) -> Mixture:
    return Mixture(pixels, partners=torch.arange(len(pixels)), share=1.0)


def keep_ready(
    pictures: Pictures,
    prepare: Prepare,
    limit: int = MEMORY_LIMIT,
    on_read: Callable[[], object] | None = None,
) -> Pictures:
    """Pictures on disk → the same decoded once, for many epochs, and kept in the cache for later runs.

    Pictures of one size, or that Prepare makes so, are taken into memory; others, and more than `limit`, are mapped
    into memory. Batches are the same either way, and the same as from files.

    Args:
        pictures: in memory or on disk.
        prepare: how they will be prepared.
        limit: bytes of pixels that may be taken into memory.
        on_read: called after each picture, for a progress bar.

    Returns:
        `Images` or `PreparedFiles`; what was given where it is in memory already, or where nothing can be kept.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    if not isinstance(pictures, ImageFiles) or len(pictures) == 0:
        return pictures
    prepared = prepare_files(pictures, prepare, on_read=on_read)
    if prepared is None:
        return pictures
    return _take_into_memory(prepared, prepare, limit) or prepared


def _take_into_memory(pictures: PreparedFiles, prepare: Prepare, limit: int) -> Images | None:
    """All pictures at one size; None where they are too many or their sizes stay different."""
    compact = set(map(tuple, pictures.places[:, 2:].tolist()))
    sizes = compact if len(compact) == 1 else {prepare.resized_size(*size) for size in compact}
    shape = (len(pictures), *next(iter(sizes)), pictures.channels)
    if len(sizes) > 1 or math.prod(shape) > limit:
        return None
    pixels = np.empty(shape, dtype=np.uint8)
    for index in range(len(pictures)):
        picture = pictures.read(index)
        pixels[index] = picture if picture.shape == shape[1:] else prepare.resize_picture(picture)
    names = tuple(map(str, pictures.files.paths))
    return Images(pixels, pictures.labels, pictures.classes, names, pictures.files.groups)
