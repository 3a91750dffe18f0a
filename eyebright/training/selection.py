"""Which training pictures an epoch shows: all that are hard, and a part of those that are easy.

Source:
    Qin et al.: InfoBatch, Lossless Training Speed Up by Unbiased Dynamic Data Pruning, ICLR 2024, §3. There, the easy
    pictures that stay count for those that were left out as well; here they do not, so hard ones weigh more.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eyebright.random import generator


class Selection:
    """Leaves out a part of the pictures that were answered best when they were last seen; another part in each epoch.

    Args:
        count: training pictures.
        easy: share of them that counts as easy: those with the smallest losses.
        left_out: share of the easy ones that an epoch does not show.
        seed: of the choice.

    Attributes:
        per_epoch: pictures that an epoch shows.
        losses: float32 `[count]`: of each picture when it was last seen; infinite before.
        at_start: the same when the epoch began, by which its pictures are chosen.
    """

    def __init__(self, count: int, easy: float, left_out: float, seed: int):
        self.easy = round(count * easy)
        self.per_epoch = max(1, count - round(self.easy * left_out))
        self.seed = seed
        self.losses = torch.full((count,), torch.inf)
        self.at_start = self.losses.clone()

    def choose(self, epoch: int) -> NDArray[np.int64]:
        """The pictures of an epoch, int64 `[per_epoch]`, in ascending order."""
        chance = generator(self.seed, "easy", epoch)
        order = torch.randperm(len(self.losses), generator=chance)  # of equal losses any may be the smaller
        order = order[self.at_start[order].argsort(stable=True)]
        easy = order[: self.easy][torch.randperm(self.easy, generator=chance)]
        hard = order[self.easy :]
        chosen: NDArray[np.int64] = torch.cat([hard, easy])[: self.per_epoch].sort().values.numpy()
        return chosen

    def take(self, indices: NDArray[np.int64], losses: Tensor) -> None:
        """Remembers the losses, `[N]`, of these pictures."""
        self.losses[torch.from_numpy(indices)] = losses.float().cpu()

    def end_epoch(self) -> None:
        """From now on, pictures are chosen by what is known now."""
        self.at_start = self.losses.clone()

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept to go on exactly."""
        return {"losses": self.losses, "at_start": self.at_start}
