"""A checkpoint: one file with everything that a run needs to go on exactly, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from eyebright.errors import StoredFileError
from eyebright.files import not_a, read_safetensors, write_safetensors
from eyebright.training.fit import State

FORMAT_VERSION = 1
KIND = "eyebright.checkpoint"


def save_checkpoint(path: Path, state: State) -> None:
    """Writes a state as one safetensors file, with its plain values as JSON in the header.

    Raises:
        OutputError: it cannot be written; what stood there before is untouched.
    """
    write_safetensors(path, dict(state.tensors), KIND, {"format_version": FORMAT_VERSION, "state": state.values})


def load_checkpoint(path: Path) -> State:
    """Reads what `save_checkpoint` wrote.

    Raises:
        StoredFileError: missing, damaged, or of a newer format.
    """
    tensors, header = read_safetensors(path, KIND, FORMAT_VERSION)
    if not isinstance(header.get("state"), dict):
        raise not_a(path, "checkpoint", "its header has no state")
    return State(tensors, header["state"])


def newest_checkpoint(folder: Path) -> tuple[Path, State] | None:
    """The newest checkpoint in a folder that can be read, and its path; None where there is none at all.

    Raises:
        StoredFileError: there are checkpoints, and every one is damaged.
    """
    damaged: StoredFileError | None = None
    for path in reversed(list_checkpoints(folder)):
        try:
            return path, load_checkpoint(path)
        except StoredFileError as error:
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files in a folder, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))
