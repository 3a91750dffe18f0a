"""A checkpoint: one file with everything that a run needs to go on exactly, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eyebright.errors import StoredFileError
from eyebright.files import not_a
from eyebright.tensors import read_safetensors, write_safetensors
from eyebright.training.fit import State

FORMAT_VERSION = 1
KIND = "eyebright.checkpoint"

Lengths = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Checkpoint:
    """A point of a run from which it can go on.

    Attributes:
        state: of the Fit.
        lengths: of the run's growing files at that moment: name → (bytes, their SHA-256).
    """

    state: State
    lengths: Lengths


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint as one safetensors file, with its plain values as JSON in the header.

    Raises:
        OutputError: it cannot be written; what stood there before is untouched.
    """
    header = {"format_version": FORMAT_VERSION, "state": checkpoint.state.values, "lengths": checkpoint.lengths}
    write_safetensors(path, checkpoint.state.tensors, KIND, header)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote.

    Raises:
        StoredFileError: missing, damaged, or of a newer format.
    """
    tensors, header = read_safetensors(path, KIND, FORMAT_VERSION)
    try:
        values = dict(header["state"])
        lengths = {str(name): (int(length), str(digest)) for name, (length, digest) in header["lengths"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_a(path, "checkpoint", f"its header lacks a part: {error}") from error
    return Checkpoint(State(tensors, values), lengths)


def load_newest(folder: Path) -> Iterator[tuple[Path, Checkpoint | StoredFileError]]:
    """The checkpoints in a folder, newest first: each as it was saved, or the error that says what is wrong with it."""
    for path in reversed(list_checkpoints(folder)):
        try:
            yield path, load_checkpoint(path)
        except StoredFileError as error:
            yield path, error


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files in a folder, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))
