"""Files: replaced whole or not at all, whatever happens meanwhile; and weights with a header, without any pickle."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eyebright.errors import OutputError, StoredFileError

MAX_HEADER = 100 * 2**20  # bytes


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write(temporary)`` beside `path`, syncs what it wrote, and renames it to `path`.

    Raises:
        OutputError: the folder cannot be written, or the disk is full. What stood at `path` is still there.
    """
    with _as_output_error(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file by `text`, in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replaces a JSON file by `value`, indented for people to read."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        OutputError: it cannot be made.
    """
    with _as_output_error(path):
        path.mkdir(parents=True, exist_ok=True)


def write_safetensors(path: Path, tensors: dict[str, Tensor], kind: str, header: dict[str, Any]) -> None:
    """Writes tensors, and under the name `kind` a JSON header with their checksum, as one file, whole or not at all.

    Raises:
        OutputError: it cannot be written; what stood at `path` is untouched.
    """
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = json.loads(json.dumps(header))  # as it will be read: keys become text
    header |= {"sha256": _checksum(whole, header)}
    metadata = {kind: json.dumps(header, ensure_ascii=False)}

    def write(temporary: Path) -> None:
        try:
            save_file(whole, temporary, metadata)
        except SafetensorError as error:  # a full disk, as safetensors says it
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_safetensors(path: Path, kind: str, newest_version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON header called `kind` of a file that `write_safetensors` wrote.

    Raises:
        StoredFileError: missing, damaged, of another kind, or of a newer format than `newest_version`.
    """
    what = kind.rpartition(".")[2]
    if not path.is_file():
        raise not_a(path, what, "there is no such file")
    try:
        header = json.loads(_read_header(path)["__metadata__"][kind])
        version = header["format_version"]
        checksum = header.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        raise not_a(path, what, _why_not(path)) from error
    if not isinstance(version, int) or version > newest_version:
        raise StoredFileError(
            f"{path} has format version {version}",
            expected=f"at most {newest_version}, the newest that this eyebright knows",
            remedy="update eyebright",
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise not_a(path, what, f"it is damaged: {error}") from error
    if _checksum(tensors, header) != checksum:
        raise not_a(path, what, "it is damaged: its checksum is wrong")
    return tensors, header


def not_a(path: Path, what: str, reason: str) -> StoredFileError:
    """The error for a file that is not what it should be."""
    return StoredFileError(
        f"cannot read {path} as a {what}: {reason}",
        expected=f"a whole {what} file that eyebright wrote (safetensors)",
        remedy="check the path; if the file was copied, copy it again; a run folder with checkpoints can be resumed",
    )


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            expected="a folder that this user may write to, on a disk with room left",
            remedy="choose another place with `--out`, or free some room; what was there before is untouched",
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER, path.stat().st_size):
            raise ValueError("header longer than the file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise TypeError("header is not a table")
    return header


def _why_not(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        return error.strerror or str(error)
    if start[:1] == b"\x80" or start[:2] == b"PK":
        return "it is a Python pickle or a zip, which eyebright never opens: a pickle can run any program"
    return "it is empty" if not start else "its header is not an eyebright header"


def _checksum(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    whole = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
