"""Randomness is derived, not carried: every generator comes from a seed and what it is for.

No state is passed along, so a run can go on at any step, and the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit number that depends on `seed` and every word of `purpose` and on nothing else.

    >>> derive(0, "permutation", 3) == derive(0, "permutation", 3)
    True
    >>> derive(0, "permutation", 3) == derive(0, "permutation", 4)
    False
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, for example ``generator(seed, "augment", epoch, step)``."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Within the block, torch's global generators (dropout, initialisation) start from the derived seed.

    Afterwards they are as they were before: nothing outside the block notices.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *purpose))
        yield
