"""Compiles the kernels once on each machine and loads them; where there is no C++ compiler, torch's operators are used.

No operation is left to the compiler's taste: sums have a fixed order, and a product and a sum are one operation only
where the source says so, so that results do not depend on how well it optimises.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from contextvars import ContextVar
from pathlib import Path

import torch

from eyebright.files import cache_folder

SOURCES = tuple(Path(__file__).with_name(name) for name in ("sweeps.cpp", "convolution.cpp"))
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
WIDE = ("-mprefer-vector-width=512",)  # x86: the compiler would leave half of AVX-512 unused
MOST_SECONDS = 120

in_use: ContextVar[bool] = ContextVar("in_use", default=False)  # whether layers take the kernels, see `Plan.arithmetic`

_pointer, _long, _int, _float, _uint = (
    ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float, ctypes.c_uint32,
)  # fmt: skip
_OF_BOTH_FORMATS = {
    "forward": [_int, *[_pointer] * 9, _long, _long, _float, _float, _int],
    "backward": [_int, *[_pointer] * 11, _long, _long, _int],
    "pool": [*[_pointer] * 3, *[_long] * 9, _int],
    "unpool": [*[_pointer] * 3, *[_long] * 9, _int],
    "drop": [_pointer, _pointer, _long, _uint, _uint, _uint, _float, _int],
}
_ARGUMENTS = {
    **{f"{name}_float32": arguments for name, arguments in _OF_BOTH_FORMATS.items()},
    **{f"{name}_bfloat16": arguments for name, arguments in _OF_BOTH_FORMATS.items()},
    "descend_bfloat16": [*[_pointer] * 4, _long, *[_float] * 5, _int],
    "descend_adam_bfloat16": [*[_pointer] * 5, _long, *[_float] * 8, _int],
}
_CONVOLUTIONS = {  # these and the next return a number
    "convolve": [*[_pointer] * 4, *[_long] * 10, _int, _int, _int],
    "convolve_weights": [*[_pointer] * 3, *[_long] * 10, _int, _int],
}
_TELLING = {
    **{f"{name}_float32": arguments for name, arguments in _CONVOLUTIONS.items()},
    "has_wide_vectors": [],
    "has_bfloat16_products": [],
}
_TELLING_OF_BFLOAT16 = {f"{name}_bfloat16": arguments for name, arguments in _CONVOLUTIONS.items()}


def kernels_version() -> str:
    """A name for what the kernels compute: other sources may round otherwise, so the plan of a run says it."""
    return hashlib.blake2b(b"".join(source.read_bytes() for source in SOURCES), digest_size=4).hexdigest()


@functools.cache
def load_kernels() -> ctypes.CDLL | None:
    """The compiled kernels, made now if they are not in the cache yet (seconds, once); None where they can't be."""
    try:
        if not sys.platform.startswith("linux"):
            return None
        runtime = _openmp_runtime()
        flags = [*FLAGS, *(WIDE if platform.machine() == "x86_64" else ())]
        about = ([source.read_text(encoding="utf-8") for source in SOURCES], flags, runtime.name, _processor())
        name = f"{hashlib.blake2b(repr(about).encode(), digest_size=8).hexdigest()}.so"
        target = cache_folder() / "kernels" / name
        try:
            return _load(target)
        except (OSError, AttributeError):
            return _compile(flags, runtime, target)
    except (OSError, AttributeError, ValueError, subprocess.SubprocessError):
        return None


@functools.cache
def has_wide_vectors() -> bool:
    """Whether convolutions by transforms are worth it here: on processors with AVX-512, or AVX2 and FMA."""
    kernels = load_kernels()
    return kernels is not None and bool(kernels.has_wide_vectors())


@functools.cache
def has_bfloat16_products() -> bool:
    """Whether the same is worth it for bfloat16 maps: with AVX-512-BF16, but not with AMX, of which torch makes use."""
    kernels = load_kernels()
    return kernels is not None and bool(kernels.has_bfloat16_products()) and not has_tiles()


def has_tiles() -> bool:
    """Whether torch multiplies bfloat16 by AMX's tiles here: faster than our kernels could by vectors."""
    return bool(torch.cpu._is_amx_tile_supported())  # torch has no public name for this question yet


def _load(path: Path) -> ctypes.CDLL:
    """A library that this user has made."""
    _check_owner(path.parent, path)
    library = ctypes.CDLL(str(path))
    of_bfloat16 = _TELLING_OF_BFLOAT16 if library.has_bfloat16_products() else {}
    for names, kind in ((_ARGUMENTS, None), (_TELLING, _int), (of_bfloat16, _int)):
        for name, arguments in names.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, kind
    return library


def _run_together(commands: list[list[str]]) -> None:
    """Runs commands at the same time; whatever happens, none of them goes on afterwards."""
    silent = subprocess.DEVNULL
    running = [subprocess.Popen(command, stdout=silent, stderr=silent) for command in commands]
    try:
        for command, process in zip(commands, running, strict=True):
            if process.wait(MOST_SECONDS):
                raise subprocess.CalledProcessError(process.returncode, command)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _check_owner(*places: Path) -> None:
    for place in places:
        if place.stat().st_uid != os.getuid():
            raise PermissionError(f"{place} belongs to somebody else")


def _compile(flags: list[str], runtime: Path, target: Path) -> ctypes.CDLL:
    """Compiles beside the target, loads, and renames: another process finds a library that works, or none."""
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_owner(target.parent)
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
        made, linked = [Path(folder, f"{source.stem}.o") for source in SOURCES], Path(folder, target.name)
        commands = [
            [*compiler, *flags, "-fopenmp", "-c", str(source), "-o", str(to)]
            for source, to in zip(SOURCES, made, strict=True)
        ]
        _run_together(commands)
        _run_together([[*compiler, "-shared", *map(str, made), str(runtime), "-o", str(linked)]])
        library = _load(linked)
        linked.replace(target)
        return library


def _openmp_runtime() -> Path:
    """The OpenMP library that torch has loaded (others bring their own): the kernels run on its threads."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    paths = {path for line in lines if (path := Path(line.split(maxsplit=5)[-1])).name.startswith("libgomp")}
    own = {path for path in paths if Path(torch.__file__).parent in path.parents}
    if len(found := own or paths) != 1:
        raise FileNotFoundError("it is not to be told which OpenMP library is torch's")
    return found.pop()


def _processor() -> str:
    """What the compiler looks at for ``-march=native``: a cache may be shared between machines."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(kinds)}))
