"""Hostile and broken inputs given to the command line: what each answers, and that nothing is left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eyebright.cli import main
from eyebright.data import archives
from eyebright.files import write_json
from proofs import damage, disk, runs


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        make: puts it into a folder and returns the command's arguments.
        says: what the error has to say.
    """

    make: Callable[[Path], list[str]]
    says: str


def jpeg(seed: int = 0, size: tuple[int, int] = (40, 40)) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def _train(data: Path | str, folder: Path, *more: str) -> list[str]:
    changes = ("prepare.resize=[32,32]", "training.epochs=1")
    return [
        "train", "cnn-binary-224", "--data", str(data), "--out", str(folder / "run"), *more,
        *(word for change in changes for word in ("--set", change)),
    ]  # fmt: skip


def _pictures() -> dict[str, bytes]:
    return {f"{name}/{i}.jpg": jpeg(i) for name in ("cats", "dogs") for i in range(20)}


def _zip(*entries: tuple[str | zipfile.ZipInfo, bytes], change: Callable[[bytes], bytes] = bytes) -> Any:
    def make(folder: Path) -> list[str]:
        path = folder / "data.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in [*_pictures().items(), *entries]:
                archive.writestr(name, data)
        path.write_bytes(change(path.read_bytes()))
        return _train(path, folder)

    return make


def _zip_kind(kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("cats/link.jpg")
    entry.external_attr = (kind | 0o777) << 16
    return entry


def _tar(
    *entries: tarfile.TarInfo, name: str = "data.tar.gz", change: Callable[[bytes], bytes] = bytes
) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = folder / name
        with tarfile.open(path, "w:" + (name.rpartition(".")[2] if name.count(".") > 1 else "")) as archive:
            for inside, data in _pictures().items():
                entry = tarfile.TarInfo(inside)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            for entry in entries:
                archive.addfile(entry, io.BytesIO(bytes(min(entry.size, 1024))) if entry.size < 2**20 else None)
        path.write_bytes(change(path.read_bytes()))
        return _train(path, folder)

    return make


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, size
    return entry


def _claim_size(data: bytes) -> bytes:
    """The last entry of a zip says that it holds almost 4 GiB."""
    where = data.rindex(b"PK\1\2")
    return data[: where + 24] + struct.pack("<I", 2**32 - 16) + data[where + 28 :]


def _understate_size(data: bytes) -> bytes:
    where = data.rindex(b"PK\1\2")
    (size,) = struct.unpack("<I", data[where + 24 : where + 28])
    return data[: where + 24] + struct.pack("<I", size - 7) + data[where + 28 :]


def _encrypt(data: bytes) -> bytes:
    where = data.rindex(b"PK\1\2")
    return data[: where + 8] + b"\1\0" + data[where + 10 :]


def _flip_middle(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _folder(spoil: dict[str, bytes] | None = None, *, without: str = "", **more: Any) -> Callable[[Path], list[str]]:
    """A folder of two classes with these files put into it."""

    def make(folder: Path) -> list[str]:
        data = folder / "data"
        for name, content in {**_pictures(), **(spoil or {})}.items():
            if not (without and name.startswith(without)):
                (data / name).parent.mkdir(parents=True, exist_ok=True)
                (data / name).write_bytes(content)
        for name in more.get("folders", ()):
            (data / name).mkdir(parents=True)
        return _train(data, folder)

    return make


def png(width: int, height: int, data: bytes = b"", spoil_checksum: bool = False) -> bytes:
    """A PNG with this size in its header, whatever is in it."""
    whole = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")):
        checksum = zlib.crc32(kind + content) ^ spoil_checksum
        whole += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return whole


def _parts(folder: Path) -> list[str]:
    for name in ("train/cats", "train/dogs", "test/cats", "test/birds"):
        (folder / "data" / name).mkdir(parents=True)
        for index in range(12):
            (folder / "data" / name / f"{index}.jpg").write_bytes(jpeg(index))
    return _train(folder / "data", folder)


def _recipe(text: str | bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = folder / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["train", str(path), "--data", "digits", "--out", str(folder / "run")]

    return make


def _classifier(spoil: Callable[[bytes], bytes]) -> Callable[[Path], list[str]]:
    """A classifier file that was changed, asked about a picture."""

    def make(folder: Path) -> list[str]:
        (folder / "picture.jpg").write_bytes(jpeg())
        whole = (RUN / "classifier.safetensors").read_bytes()
        (folder / "classifier.safetensors").write_bytes(spoil(whole))
        return ["predict", str(folder / "classifier.safetensors"), str(folder / "picture.jpg")]

    return make


def _forged(kind: str) -> Callable[[Path], list[str]]:
    change = {**damage.FORGERIES, **damage.FORGED_CLASSIFIERS}[kind]
    return _classifier(lambda data: damage._forge(data, change, damage.Chance(0)))


def _run(spoil: Callable[[Path], object], command: str = "--resume") -> Callable[[Path], list[str]]:
    """A run that was stopped in the middle and changed since."""

    def make(folder: Path) -> list[str]:
        path = folder / "stopped"
        shutil.copytree(RUN, path)
        if command == "--resume":
            environment = json.loads((path / "environment.json").read_text())
            for key in ("sha256", "finished", "training_seconds", "estimated_seconds"):
                environment.pop(key, None)
            environment["checksums"] = {"recipe.toml": environment["checksums"]["recipe.toml"]}
            write_json(path / "environment.json", environment)
        spoil(path)
        return ["train", "--resume", str(path)] if command == "--resume" else [command, str(path)]

    return make


def _change(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        for file in path.glob(name):
            file.write_bytes(change(file.read_bytes()))

    return spoil


def _other_data(path: Path) -> None:
    """The run's contract is that of another seed's split."""
    import eyebright as eb
    from eyebright.data.split import make_contract

    make_contract(eb.load_data("digits", seed=1)).save(path)


def _cifar10(folder: Path) -> list[str]:
    batches = folder / "root" / "cifar10" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (batches / name).write_bytes(pickle.dumps(Trap(folder / "sprung")))
    return ["train", "resnet20-cifar10", "--root", str(folder / "root"), "--out", str(folder / "run")]


def _mnist(folder: Path) -> list[str]:
    (folder / "root" / "mnist").mkdir(parents=True)
    for stem in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / "root" / "mnist" / f"{stem}-{kind}-ubyte").write_bytes(b"\0\0\x08\3\0\0\0\7")
    return ["train", "lenet5-mnist", "--root", str(folder / "root"), "--out", str(folder / "run")]


def _out_in_a_file(folder: Path) -> list[str]:
    (folder / "file").write_text("")
    return ["train", "lenet5-digits", "--out", str(folder / "file" / "run")]


def _digits(folder: Path) -> list[str]:
    return ["train", "lenet5-digits", "--out", str(folder / "run")]


def _taken(folder: Path) -> list[str]:
    shutil.copytree(RUN, folder / "taken")
    return ["train", "lenet5-digits", "--out", str(folder / "taken")]


def _other_classes(folder: Path) -> list[str]:
    _folder()(folder)
    return ["evaluate", str(RUN / "classifier.safetensors"), "--data", str(folder / "data")]


class Trap:
    """Its pickle would create a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.path}'",)


RUN = Path()  # a finished run of two epochs on the digits, made by `prove_hostile`
TRAP = pickle.dumps(Trap(Path("sprung")))
LINK, DEVICE = _zip_kind(stat.S_IFLNK), _zip_kind(stat.S_IFCHR)

INPUTS: dict[str, Input] = {
    "zip: path upwards": Input(_zip(("../../evil.jpg", b"x")), "outside its folder"),
    "zip: absolute path": Input(_zip(("/tmp/evil.jpg", b"x")), "outside its folder"),
    "zip: drive letter": Input(_zip(("C:\\evil.jpg", b"x")), "outside its folder"),
    "zip: link": Input(_zip((LINK, b"/etc/passwd")), "is a link or a device"),
    "zip: device": Input(_zip((DEVICE, b"")), "is a link or a device"),
    "zip: bomb (4 GiB in 40 kB)": Input(_zip(("cats/big.jpg", b"x" * 99), change=_claim_size), "is larger than 1 GiB"),
    "zip: more in it than it says": Input(
        _zip(("cats/big.jpg", b"x" * 99), change=_understate_size), "refused the archive"
    ),
    "zip: encrypted": Input(_zip(change=_encrypt), "encrypted"),
    "zip: cut off": Input(_zip(change=_halve), "refused the archive"),
    "zip: bit flipped": Input(
        _zip(("cats/z.jpg", bytes(range(256)) * 400), change=_flip_middle), "refused the archive"
    ),
    "zip: is a text": Input(_zip(change=lambda data: b"hello"), "not a zip file"),
    "zip: too many entries (limit set to 30)": Input(_zip(), "more than 30 entries"),
    "tar: path upwards": Input(_tar(_entry("../evil.jpg")), "outside its folder"),
    "tar: absolute path": Input(_tar(_entry("/tmp/evil.jpg")), "outside its folder"),
    "tar: symbolic link": Input(_tar(_entry("cats/l.jpg", tarfile.SYMTYPE, "/etc/passwd")), "link or a device"),
    "tar: hard link": Input(_tar(_entry("cats/l.jpg", tarfile.LNKTYPE, "cats/0.jpg")), "link or a device"),
    "tar: device": Input(_tar(_entry("cats/l.jpg", tarfile.CHRTYPE)), "link or a device"),
    "tar: pipe": Input(_tar(_entry("cats/l.jpg", tarfile.FIFOTYPE)), "link or a device"),
    "tar: bomb (8 GiB in 50 kB)": Input(_tar(_entry("cats/b.jpg", size=2**33)), "is larger than 1 GiB"),
    "tar: a name twice": Input(_tar(_entry("cats/0.jpg")), "File exists"),
    "tar: a file as a folder": Input(_tar(_entry("cats/0.jpg/1.jpg")), "refused the archive"),
    "tar.xz: cut off": Input(_tar(name="data.tar.xz", change=_halve), "refused the archive"),
    "tar.gz: bit flipped": Input(_tar(change=_flip_middle), "refused the archive"),
    "picture: cut off": Input(_folder({"cats/3.jpg": jpeg()[:300]}), "cats/3.jpg"),
    "picture: text": Input(_folder({"cats/3.jpg": b"not a picture"}), "it looks like text"),
    "picture: empty": Input(_folder({"cats/3.jpg": b""}), "the file is empty"),
    "picture: pickle": Input(_folder({"cats/3.jpg": TRAP}), "it looks like a Python pickle"),
    "picture: bomb (100,000×100,000)": Input(_folder({"cats/3.png": png(100_000, 100_000)}), "a decompression bomb"),
    "picture: wrong checksum": Input(_folder({"cats/3.png": png(9, 9, bytes(252), True)}), "cats/3.png"),
    "picture: of no size": Input(_folder({"cats/3.png": png(0, 9)}), "cats/3.png"),
    "source: not there": Input(lambda folder: _train(folder / "nowhere", folder), "there is no data at"),
    "source: one class": Input(_folder(without="dogs"), "one class only: cats"),
    "source: empty class": Input(_folder(folders=["birds"]), "the class 'birds'"),
    "source: unknown class in the test part": Input(_parts, "has the classes birds"),
    "source: classes that the classifier does not know": Input(_other_classes, "does not know"),
    "cifar10: batches that run a program": Input(_cifar10, "neither a builtin value nor an array"),
    "mnist: not idx": Input(_mnist, "cannot read"),
    "recipe: unknown key": Input(_recipe('extends = "lenet5-digits"\n[training]\nepoch = 1'), "did you mean 'epochs'?"),
    "recipe: not TOML": Input(_recipe("[training\nepochs = 1"), "mine.toml"),
    "recipe: extends itself": Input(_recipe('extends = "mine.toml"'), "mine.toml"),
    "recipe: bytes": Input(_recipe(b"\xff\xfe\0\1"), "mine.toml"),
    "recipe: not a number": Input(
        _recipe('extends = "lenet5-digits"\n[training]\nlearning_rate = nan'), "learning_rate"
    ),
    "classifier: cut off": Input(_classifier(_halve), "it is damaged: its checksum is wrong"),
    "classifier: header cut off": Input(_classifier(lambda data: data[:200]), "it is cut off"),
    "classifier: bit flipped": Input(_classifier(_flip_middle), "its checksum is wrong"),
    "classifier: pickle": Input(_classifier(lambda data: TRAP), "a Python pickle"),
    "classifier: a checkpoint": Input(
        _classifier(lambda data: next(iter((RUN / "checkpoints").iterdir())).read_bytes()), "it is a checkpoint"
    ),
    "classifier: newer version": Input(_forged("newer version"), "format version 99"),
    "classifier: header too long": Input(_forged("header too long"), "its header has"),
    "classifier: a billion classes": Input(_forged("a billion classes"), "where the network has"),
    "classifier: weight missing": Input(_forged("weight missing"), "its tensors are not as its header says"),
    "classifier: unknown weight": Input(_forged("weight renamed"), "weights"),
    "run: changed recipe": Input(_run(_change("recipe.toml", lambda data: data + b"\n#")), "has been changed since"),
    "run: damaged environment": Input(_run(_change("environment.json", _halve)), "environment.json"),
    "run: damaged contract": Input(_run(_change("split.safetensors", _flip_middle)), "split.safetensors"),
    "run: all checkpoints damaged": Input(_run(_change("checkpoints/*", _halve)), "none of the checkpoints"),
    "run: metrics changed": Input(
        _run(_change("metrics.jsonl", lambda data: data.replace(b"0.", b"1.", 1))), "none of the checkpoints"
    ),
    "run: other pictures": Input(_run(_other_data), "are not those that"),
    "run: report of a changed run": Input(
        _run(_change("metrics.jsonl", lambda data: data.replace(b"0.", b"1.", 1)), "report"), "would not be true"
    ),
    "output: inside a file": Input(_out_in_a_file, "cannot write"),
    "output: read-only (simulated)": Input(_digits, "Read-only file system"),
    "output: there is a run already": Input(_taken, "there is a run in"),
}


def prove_hostile(folder: Path) -> Iterator[dict[str, Any]]:
    """Gives every input to the command line; yields exit code, message, and what was left behind."""
    global RUN
    folder.mkdir(parents=True)
    RUN = folder / "finished"
    two = runs.Variant("lenet5-digits", ("training.epochs=2",))
    log = folder / "log.txt"
    if (code := runs.wait(runs.start(lambda: runs.train(two, RUN, folder), log))) != 0:
        raise RuntimeError(f"the run for comparison ended with {code}: {log.read_text()}")
    for name, given in INPUTS.items():
        place = folder / "input"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        arguments = given.make(place)
        cache = folder / "cache"
        before = _files(folder)

        def command(arguments: list[str] = arguments, cache: Path = cache, name: str = name) -> None:
            os.environ["EYEBRIGHT_CACHE"] = str(cache)
            os.chdir(folder)
            if "limit set to 30" in name:
                archives.MAX_ENTRIES = 30
            sys.argv = ["eyebright", *arguments]
            with disk.installed(disk.full_at(0, errno.EROFS)) if "read-only" in name else nullcontext():
                main.main()

        code = runs.wait(runs.start(lambda: _exit_code(command), log))
        said = log.read_text()
        error = said[said.index("error: ") :] if "error: " in said else said
        left = sorted(_files(folder) - before)
        whole = "\n  expected: " in error and "\n  to do: " in error and "Traceback" not in said
        yield {
            "input": name,
            "code": code,
            "says": error.splitlines()[0].replace(str(folder), "…") if error else "",
            "left": [str(path) for path in left],
            "ok": code == 1 and given.says in error and whole and not left,
        }


def _exit_code(command: Callable[[], None]) -> None:
    try:
        command()
    except SystemExit as stop:
        sys.stderr.flush()
        os._exit(int(stop.code or 0))


def _files(folder: Path) -> set[Path]:
    """All files but those that may stay: what is remembered of pictures, locks, and the log."""
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if not path.is_dir() and not path.name.startswith("digests.sqlite") and path.suffix not in (".lock", ".txt")
    }
