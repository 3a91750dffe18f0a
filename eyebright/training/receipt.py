"""The freeze receipt: what a training left as it was, to the bit, and how far it moved the rest (lecture: L3.7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from eyebright.layers.network import Network
from eyebright.tensors import tensor_digest


@dataclass(frozen=True)
class Entry:
    """One parameter or buffer.

    Attributes:
        name: state-dict key.
        kind: ``"parameter"`` or ``"buffer"``.
        frozen: whether it was to stay as it is.
        before, after: SHA-256 of its bytes, hexadecimal.
        moved: the length of the change, in lengths of what it was; None where that was 0 or it is no floating point.
    """

    name: str
    kind: str
    frozen: bool
    before: str
    after: str
    moved: float | None

    @property
    def same(self) -> bool:
        """Whether it is the same to the bit."""
        return self.before == self.after


@dataclass(frozen=True)
class Receipt:
    """Every parameter and buffer of a network, before training and after it.

    Attributes:
        freeze: the patterns that froze it.
        moving: those of the running statistics that were let go.
        entries: in the order of the state dict.
    """

    freeze: tuple[str, ...]
    moving: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def broken(self) -> tuple[Entry, ...]:
        """What should have stayed as it was and did not."""
        return tuple(entry for entry in self.entries if entry.frozen and not entry.same)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"broken": [entry.name for entry in self.broken]}

    def sentences(self) -> list[str]:
        """What it proves, and what moved farthest."""
        frozen = [entry for entry in self.entries if entry.frozen]
        moved = [entry for entry in self.entries if not entry.same]
        said = [
            f"frozen: {len(frozen)} of {len(self.entries)} parameters and buffers; "
            + (f"{len(self.broken)} of them changed: {_names(self.broken)}" if self.broken else
               "all of them are the same to the bit (SHA-256)")
        ]  # fmt: skip
        farthest = sorted((entry for entry in moved if entry.moved is not None), key=lambda entry: -(entry.moved or 0))
        if farthest:
            shown = (f"{entry.name} ({entry.moved:.2g} of its length)" for entry in farthest[:3])
            said.append(f"moved: {len(moved)}; farthest {', '.join(shown)}")
        if self.moving:
            let_go = [entry for entry in moved if entry.kind == "buffer"]
            said.append(f"statistics that were let go by {', '.join(self.moving)} moved: {_names(let_go) or 'none'}")
        return said


def frozen_names(model: Network) -> frozenset[str]:
    """State-dict keys of what a training of this network leaves as it is."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return frozenset(frozen | {f"{name}.{key}" for name in model.still for key, _ in _own_buffers(model, name)})


def make_receipt(
    before: Mapping[str, Tensor], model: Network, frozen: frozenset[str], freeze: Sequence[str], moving: Sequence[str]
) -> Receipt:
    """Compares a network with what it was.

    Args:
        before: its state dict before training.
        model: after training; parts of it that were there for training alone may be gone.
        frozen: as `frozen_names` gives them.
        freeze: the patterns that froze them.
        moving: those of the running statistics that were let go.
    """
    parameters = {name for name, _ in model.named_parameters()}
    entries = []
    for name, after in model.state_dict().items():
        kind = "parameter" if name in parameters else "buffer"
        digests = tensor_digest(before[name]), tensor_digest(after)
        entries.append(Entry(name, kind, name in frozen, *digests, _moved(before[name], after)))
    return Receipt(tuple(freeze), tuple(moving), tuple(entries))


def _moved(before: Tensor, after: Tensor) -> float | None:
    if not before.is_floating_point():
        return None
    length = float(before.double().norm())
    change = float((after.double().cpu() - before.double().cpu()).norm())
    return change / length if length and math.isfinite(change) else None


def _own_buffers(model: Network, name: str) -> list[tuple[str, Tensor]]:
    return list(model.get_submodule(name).named_buffers(recurse=False))


def _names(entries: Sequence[Entry]) -> str:
    shown = ", ".join(entry.name for entry in entries[:5])
    return shown + (f" and {len(entries) - 5} more" if len(entries) > 5 else "")
