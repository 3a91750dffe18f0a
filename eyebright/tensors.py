"""Tensors with a header, in one checksummed safetensors file: no pickle is ever written or read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from eyebright.errors import StoredFileError
from eyebright.files import CHUNK, Buffer, not_a, write_atomically

MAX_HEADER = 4 * 2**20  # bytes: ours have some 100 for each tensor; JSON takes up to 20 times its size in memory
START = b'{"__metadata__":{"sha256":"'  # every file of ours begins with this, after the header's length
DIGITS = 64
NO_CHECKSUM = b"0" * DIGITS
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write_safetensors(path: Path, tensors: dict[str, Tensor], kind: str, header: dict[str, Any]) -> None:
    """Writes tensors and, under the name `kind`, a JSON header as one file, whole or not at all.

    The file's checksum, the SHA-256 of all its bytes with the checksum's own digits as zeros, stands at its beginning.

    Raises:
        OutputError: it cannot be written; what stood at `path` is untouched.
    """
    ours = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    order = sorted(ours, key=lambda name: (-ours[name].element_size(), name))  # so that every tensor is aligned
    table: dict[str, Any] = {"__metadata__": {"sha256": NO_CHECKSUM.decode(), kind: json.dumps(header)}}
    end = 0
    for name in order:
        begin, end = end, end + ours[name].nbytes
        table[name] = {
            "dtype": DTYPES[ours[name].dtype], "shape": list(ours[name].shape), "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    length = struct.pack("<Q", len(text))
    whole = hashlib.sha256(length + text)
    for name in order:
        whole.update(_bytes(ours[name]))

    def content() -> Iterator[Buffer]:
        yield length + text.replace(NO_CHECKSUM, whole.hexdigest().encode(), 1)
        for name in order:
            yield _bytes(ours[name])

    write_atomically(path, content())


def read_safetensors(
    path: Path, kind: str, newest_version: int, *, mapped: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON header called `kind` of a file that `write_safetensors` wrote.

    The checksum is compared before anything of the file is believed.

    Args:
        path: of the file.
        kind: what it should be.
        newest_version: of its format that the caller understands.
        mapped: whether tensors stay in the file, mapped into memory, and are read when they are used. Only for files
            that nobody ever changes in place.

    Raises:
        StoredFileError: missing, damaged, of another kind, or of a newer format than `newest_version`.
    """
    what = kind.rpartition(".")[2]
    try:
        with path.open("rb") as file:
            text = _read_checked(file, path, what)
    except OSError as error:
        raise not_a(path, what, error.strerror or str(error)) from error
    try:
        metadata = json.loads(text)["__metadata__"]
        header = json.loads(metadata[kind]) if kind in metadata else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise not_a(path, what, f"its header is not as it should be: {str(error) or type(error).__name__}") from error
    if header is None:
        kinds = [name.rpartition(".")[2] for name in metadata if name != "sha256"]
        raise not_a(path, what, f"it is a {' and '.join(kinds) or 'file of nothing'}")
    version = header.pop("format_version", None) if isinstance(header, dict) else None
    if not isinstance(version, int):
        raise not_a(path, what, "its header has no format version, which is a number")
    if version > newest_version:
        raise StoredFileError(
            f"{path} has format version {version}",
            expected=f"at most {newest_version}, the newest that this eyebright knows",
            remedy="update eyebright",
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise not_a(path, what, f"its tensors are not as its header says: {error}") from error
    if not mapped:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # the file may change after
    return tensors, header


def _read_checked(file: IO[bytes], path: Path, what: str) -> bytes:
    """The header of a whole file, as bytes; the checksum has been compared."""
    size = path.stat().st_size
    start = file.read(8)
    if len(start) < 8:
        raise not_a(path, what, "it is empty" if not start else f"it is cut off after {len(start)} bytes")
    (length,) = struct.unpack("<Q", start)
    beginning = file.read(len(START))
    if beginning != START:
        raise not_a(path, what, _what_else(start + beginning))
    if length > MAX_HEADER:
        raise not_a(path, what, f"its header has {length:,} bytes, more than {MAX_HEADER:,}")
    if 8 + length > size:
        raise not_a(path, what, f"it is cut off: its header alone has {length:,} bytes, the file {size:,}")
    if length < len(START) + DIGITS:
        raise not_a(path, what, f"it is damaged: it gives its header {length} bytes")
    checksum = file.read(DIGITS)
    rest = file.read(length - len(START) - DIGITS)
    whole = hashlib.sha256(start + START + NO_CHECKSUM + rest)
    buffer = bytearray(CHUNK)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        whole.update(memoryview(buffer)[:count])
    if whole.hexdigest().encode() != checksum:
        raise not_a(path, what, "it is damaged: its checksum is wrong")
    return START + checksum + rest


def _what_else(start: bytes) -> str:
    """What a file seems to be that is none of ours."""
    if start[:1] == b"\x80" or start[:2] == b"PK":
        return "it is a Python pickle or a zip, which eyebright never opens: a pickle can run any program"
    if start[8:9] == b"{":
        return "it is another program's safetensors file, or damaged: it does not begin with a checksum"
    return f"it is none, or damaged: it begins with the bytes {start[:8].hex(' ')}"


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those tensors whose names begin so, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's number format, shape and bytes, hexadecimal."""
    values = tensor.detach().cpu().contiguous()
    whole = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    whole.update(values.flatten().view(dtype=torch.uint8).numpy().tobytes() if values.numel() else b"")
    return whole.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data
