"""Damaged checkpoints and classifiers: each is detected, says so, and takes little memory."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import eyebright as eb
from eyebright.tensors import DIGITS, MAX_HEADER, NO_CHECKSUM, START
from eyebright.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from proofs import runs

Chance = random.Random


def _flip(data: bytearray, chance: Chance) -> None:
    where = chance.choice([8, 8 + len(START) + DIGITS, _data_begins(data), len(data)])  # parts of all sizes are met
    data[chance.randrange(where)] ^= 1 << chance.randrange(8)


def _truncate(data: bytearray, chance: Chance) -> None:
    del data[chance.randrange(len(data)) if chance.random() < 0.5 else -chance.randint(1, 64) :]


def _swap(data: bytearray, chance: Chance) -> None:
    """Two pieces of the same length change places."""
    length = 4 * chance.choice([1, 8, 256, 4096])
    first, second = (chance.randrange(0, len(data) - length, 4) for _ in range(2))
    one, other = bytes(data[first : first + length]), bytes(data[second : second + length])
    data[first : first + length], data[second : second + length] = other, one


def _erase(data: bytearray, chance: Chance) -> None:
    """A block as a disk loses it: zeros."""
    begin = chance.randrange(0, len(data), 512)
    data[begin : begin + 512] = bytes(len(data[begin : begin + 512]))


def _append(data: bytearray, chance: Chance) -> None:
    data += chance.randbytes(chance.randint(1, 4096))


def _double(data: bytearray, chance: Chance) -> None:
    begin = chance.randrange(len(data))
    data[begin:begin] = data[begin : begin + chance.randint(1, 4096)]


ACCIDENTS: dict[str, Callable[[bytearray, Chance], None]] = {
    "bit flipped": _flip, "cut off": _truncate, "two parts swapped": _swap, "block lost": _erase,
    "bytes added": _append, "bytes doubled": _double,
}  # fmt: skip


def _first_tensor(table: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = next(value for name, value in table.items() if name != "__metadata__")
    return entry


def _change_header(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any], Chance], None]:
    """A change to the JSON of ours that is kept in the table's metadata."""

    def forge(table: dict[str, Any], chance: Chance) -> None:
        (kind,) = table["__metadata__"].keys() - {"sha256"}
        header = json.loads(table["__metadata__"][kind])
        change(header)
        table["__metadata__"][kind] = json.dumps(header)

    return forge


def _rename(table: dict[str, Any], chance: Chance) -> None:
    name = chance.choice([name for name in table if name != "__metadata__"])
    table[f"{name}_"] = table.pop(name)


def _lose(table: dict[str, Any], chance: Chance) -> None:
    """The last weight is taken out of the table; its bytes stay."""
    del table[chance.choice([name for name in table if name.startswith("model.")])]


def _reshape(table: dict[str, Any], chance: Chance) -> None:
    entry = table[chance.choice([name for name in table if name.startswith("model.")])]
    entry["shape"] = [1, *entry["shape"]]


def _enlarge(table: dict[str, Any], chance: Chance) -> None:
    _first_tensor(table)["shape"] = [2**40, 2**20]


def _overlap(table: dict[str, Any], chance: Chance) -> None:
    names = [name for name in table if name != "__metadata__"]
    table[names[0]]["data_offsets"] = table[names[1]]["data_offsets"]


def _retype(table: dict[str, Any], chance: Chance) -> None:
    entry = table[chance.choice([n for n in table if n.startswith("model.") and table[n]["dtype"] == "F32"])]
    entry["dtype"] = "I32"


def _nest(table: dict[str, Any], chance: Chance) -> None:
    (kind,) = table["__metadata__"].keys() - {"sha256"}
    table["__metadata__"][kind] = "[" * 100_000


def _inflate(table: dict[str, Any], chance: Chance) -> None:
    """As much JSON as a header may have, of the kind that takes most memory."""
    (kind,) = table["__metadata__"].keys() - {"sha256"}
    table["__metadata__"][kind] = "[" + "[]," * ((MAX_HEADER - 200_000) // 3) + "0]"


def _exceed(table: dict[str, Any], chance: Chance) -> None:
    table["__metadata__"]["more"] = "x" * (MAX_HEADER + chance.randrange(1000))


# what a stranger can write who computes the right checksum
FORGERIES: dict[str, Callable[[dict[str, Any], Chance], None]] = {
    "weight renamed": _rename,
    "weight missing": _lose,
    "shape changed": _reshape,
    "shape enormous": _enlarge,
    "weights overlap": _overlap,
    "type changed": _retype,
    "newer version": _change_header(lambda header: header.update(format_version=99)),
    "no version": _change_header(lambda header: header.pop("format_version")),
    "version is text": _change_header(lambda header: header.update(format_version="1")),
    "part of the header missing": _change_header(lambda header: header.popitem() if len(header) < 4 else _drop(header)),
    "header nested deeply": _nest,
    "header of small things": _inflate,
    "header too long": _exceed,
}
FORGED_CLASSIFIERS: dict[str, Callable[[dict[str, Any], Chance], None]] = {
    "unknown network": _change_header(lambda header: header.update(model="lenet6")),
    "unknown option": _change_header(lambda header: header["options"].update(depth=3)),
    "a billion classes": _change_header(lambda header: header["options"].update(num_classes=10**9)),
    "too few class names": _change_header(lambda header: header["classes"].pop()),
    "class names are numbers": _change_header(lambda header: header.update(classes=list(range(10)))),
    "class names are a text": _change_header(lambda header: header.update(classes="0123456789")),
    "unknown key in prepare": _change_header(lambda header: header["prepare"].update(rotate=3)),
    "enormous resize": _change_header(lambda header: header["prepare"].update(resize=[10**9, 10**9])),
    "infinite mean": _change_header(lambda header: header["prepare"].update(mean=[float("inf")])),
}


def _drop(header: dict[str, Any]) -> None:
    del header["prepare" if "prepare" in header else "state"]


def _forge(data: bytes, change: Callable[[dict[str, Any], Chance], None], chance: Chance) -> bytes:
    """A file with a changed table and the checksum that belongs to it."""
    begins = _data_begins(data)
    table = json.loads(data[8:begins])
    change(table, chance)
    table["__metadata__"] = {"sha256": NO_CHECKSUM.decode()} | {
        key: value for key, value in table["__metadata__"].items() if key != "sha256"
    }
    table = {"__metadata__": table.pop("__metadata__")} | table
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    whole = struct.pack("<Q", len(text)) + text + data[begins:]
    return whole.replace(NO_CHECKSUM, hashlib.sha256(whole).hexdigest().encode(), 1)


def _data_begins(data: bytes | bytearray) -> int:
    length: int = struct.unpack("<Q", data[:8])[0]
    return 8 + length


def prove_damage(folder: Path, count: int) -> Iterator[dict[str, Any]]:
    """So many damaged files, checkpoints and classifiers in turn; yields for each kind how many were not detected.

    The last thing yielded is the memory taken beyond that of a whole file, at its highest.
    """
    folder.mkdir(parents=True)
    report = folder / "result.json"
    log = folder / "damage.log"
    code = runs.wait(runs.start(lambda: runs.save(report, _damage(folder, count)), log))
    if code != 0:
        raise RuntimeError(f"reading damaged files ended with {code}: {log.read_text()[-2000:]}")
    yield from json.loads(report.read_text())


def _damage(folder: Path, count: int) -> list[dict[str, Any]]:
    recipe = eb.load_recipe("lenet5-digits", ["training.epochs=1", "training.ema_decay=0.9"])
    fit = eb.Fit(recipe, eb.load_data("digits"), seed=0, plan=eb.choose_plan("cpu", "float32", threads=1))
    next(iter(fit))
    fit.classifier().save(folder / "classifier.safetensors")
    save_checkpoint(folder / "checkpoint.safetensors", Checkpoint(fit.state(), {}))
    whole = {name: (folder / f"{name}.safetensors").read_bytes() for name in ("classifier", "checkpoint")}

    def load_classifier(path: Path) -> object:
        return eb.Classifier.load(path, device="cpu")

    def restore(path: Path) -> object:
        fit.load_state(load_checkpoint(path).state)
        return fit

    load: dict[str, Callable[[Path], object]] = {"classifier": load_classifier, "checkpoint": restore}
    for name in whole:
        load[name](folder / f"{name}.safetensors")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = _peak_memory()
    chance = Chance(0)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for index in range(count):
        name = ("classifier", "checkpoint")[index % 2]
        forgeries = FORGERIES | (FORGED_CLASSIFIERS if name == "classifier" else {})
        if index % 10 < 8:
            kind = chance.choice(list(ACCIDENTS))
            data = bytearray(whole[name])
            while data == whole[name]:
                ACCIDENTS[kind](data, chance)
        else:
            kind = chance.choice(list(forgeries))
            data = bytearray(_forge(whole[name], forgeries[kind], chance))
        path = folder / "damaged.safetensors"
        path.write_bytes(data)
        row = rows.setdefault((name, kind), {"file": name, "damage": kind, "count": 0, "undetected": 0, "crashed": 0})
        row["count"] += 1
        try:
            load[name](path)
            row["undetected"] += 1
        except eb.EyebrightError as error:
            row.setdefault("says", str(error).splitlines()[0].replace(str(path), "FILE"))
        except Exception as error:
            row["crashed"] += 1
            row["says"] = repr(error)
    memory = {"memory_mib": (_peak_memory() - before) / 2**20, "file_mib": max(map(len, whole.values())) / 2**20}
    return [*rows.values(), memory]


def _peak_memory() -> int:
    """Bytes that this process has held at the most."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
