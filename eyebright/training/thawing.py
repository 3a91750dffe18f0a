"""The head first, then the rest, at once or stage after stage.

Source:
    gradual unfreezing: Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, arXiv 1801.06146,
    §3.3; head first: Kumar et al., arXiv 2202.10054, §4.
"""

from __future__ import annotations

from torch import nn

from eyebright.layers.network import Network
from eyebright.training.recipe import TrainingSection


class Thawing:
    """Which stages of a network are trained in an epoch; it follows from the epoch alone.

    Where a stage waits, its weights get no gradient, and its normalisation uses and keeps its running statistics. What
    was frozen before stays so.

    Args:
        model: whose weights are to be trained; without those that are frozen.
        training: `head_epochs` and `stage_epochs`.
    """

    def __init__(self, model: Network, training: TrainingSection):
        self.model, self.training = model, training
        names = {id(module): name for name, module in model.named_modules()}
        self._still = model.still
        self._stages: list[tuple[list[nn.Parameter], tuple[str, ...]]] = []
        standing = {id(module) for module in model.standing_head.modules()}
        for modules in model.stages().values():
            inner = [m for module in modules for m in module.modules() if id(m) not in standing]
            weights = [p for m in inner for p in m.parameters(recurse=False) if p.requires_grad]
            held = tuple(names[id(m)] for m in inner if list(m.buffers(recurse=False)))
            if weights or held:
                self._stages.append((weights, tuple(name for name in held if name not in self._still)))

    def waiting(self, epoch: int) -> int:
        """How many stages, from the first on, wait in an epoch, counted from 0."""
        first, every = self.training.head_epochs, self.training.stage_epochs
        if epoch < first:
            return len(self._stages)
        return max(0, len(self._stages) - 1 - (epoch - first) // every) if every else 0

    def begin(self, epoch: int) -> None:
        """Prepares the network for an epoch, counted from 0."""
        if not self.training.head_epochs:
            return
        waiting = self.waiting(epoch)
        still = list(self._still)
        for place, (weights, held) in enumerate(self._stages):
            for weight in weights:
                weight.requires_grad_(place >= waiting)
            still += held if place < waiting else ()
        self.model.still = tuple(still)
        self.model.train(self.model.training)
