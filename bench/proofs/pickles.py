"""Pickles in disguise, each of which would create a file if it were loaded: none is."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eyebright.cli import main
from proofs import runs
from proofs.hostile import jpeg


class _Call:
    """Its pickle calls a function when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def _gadgets(trap: Path) -> dict[str, object]:
    """Ways in which loading a pickle creates the file `trap`."""
    program = f"open({str(trap)!r}, 'w').close()"
    return {
        "os.system": _Call(os.system, f"touch '{trap}'"),
        "subprocess": _Call(subprocess.call, ["touch", str(trap)]),
        "exec": _Call(builtins.exec, program),
        "eval": _Call(builtins.eval, program),
        "pathlib": _Call(Path.touch, trap),
    }


def _torch_zip(data: bytes) -> bytes:
    """As torch has saved since 1.6: a zip with data.pkl in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def _in_tar(data: bytes) -> bytes:
    """As torch saved before 0.1.10: a tar with pickles in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


DISGUISES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain, .safetensors": ("c.safetensors", bytes),
    "plain, .pth": ("c.pth", bytes),
    "plain, .pt": ("c.pt", bytes),
    "zipped as torch does, .pth": ("c.pth", _torch_zip),
    "zipped as torch does, .safetensors": ("c.safetensors", _torch_zip),
    "in a tar as torch did, .pth": ("c.pth", _in_tar),
    "behind a safetensors length": ("c.safetensors", lambda data: len(data).to_bytes(8, "little") + data),
    "as a picture": ("data/cats/3.jpg", bytes),
    "as a batch of CIFAR-10": ("root/cifar10/cifar-10-batches-py/data_batch_1", bytes),
    "as a checkpoint of a run": ("stopped/checkpoints/step-999999999.safetensors", bytes),
}


def prove_pickles(folder: Path, run: Path) -> Iterator[dict[str, Any]]:
    """Gives every gadget in every disguise to the command that would read it; yields whether it was executed.

    Args:
        folder: to work in.
        run: a finished run.
    """
    folder.mkdir(parents=True)
    for disguise, (name, dress) in DISGUISES.items():
        for gadget in _gadgets(Path()):
            place = folder / "input"
            shutil.rmtree(place, ignore_errors=True)
            trap = place / "sprung"
            data = pickle.dumps(_gadgets(trap)[gadget])
            _prepare(place, run)
            (place / name).write_bytes(dress(data))
            pickle.loads(data)  # the trap is a real one …
            sprung = trap.exists()
            trap.unlink(missing_ok=True)
            arguments = _command(place, name)

            def command(place: Path = place, arguments: list[str] = arguments) -> None:
                os.environ["EYEBRIGHT_CACHE"] = str(place / "cache")
                sys.argv = ["eyebright", *arguments]
                main.main()

            log = folder / "log.txt"
            code = runs.wait(runs.start(lambda command=command: _call(command), log))
            yield {
                "disguise": disguise,
                "gadget": gadget,
                "trap works": sprung,
                "executed": trap.exists(),  # … and was not sprung by us
                "code": code,
                "says": log.read_text().replace(str(folder), "…").splitlines()[0],
            }


def _call(command: Callable[[], None]) -> None:
    try:
        command()
    except SystemExit as stop:
        sys.stderr.flush()
        os._exit(int(stop.code or 0))


def _prepare(place: Path, run: Path) -> None:
    for index in range(20):
        for name in ("cats", "dogs"):
            (place / "data" / name).mkdir(parents=True, exist_ok=True)
            (place / "data" / name / f"{index}.jpg").write_bytes(jpeg(index))
    (place / "root" / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    shutil.copytree(run, place / "stopped")


def _command(place: Path, name: str) -> list[str]:
    if name.startswith("data"):
        return ["train", "cnn-binary-224", "--data", str(place / "data"), "--out", str(place / "run")]
    if name.startswith("root"):
        return ["train", "resnet20-cifar10", "--root", str(place / "root"), "--out", str(place / "run")]
    if name.startswith("stopped"):
        return ["verify", str(place / "stopped")]
    return ["predict", str(place / name), str(place / "data" / "cats" / "0.jpg")]
