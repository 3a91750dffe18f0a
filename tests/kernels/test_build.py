import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from eyebright.device import choose_plan
from eyebright.kernels.build import _run_together, in_use, kernels_version, load_kernels

build = load_kernels.__wrapped__  # without what this process remembers


def compilers(folder, text):
    """A compiler that does what the text says, as the only program that is found."""
    path = folder / "g++"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


@pytest.fixture
def compiler():
    if load_kernels() is None:
        pytest.skip("no C++ compiler here")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("eyebright.kernels.build.FLAGS", ("-std=c++17", "-O0", "-fPIC"))  # compiled in less time
    return tmp_path / "cache"


def test_they_are_compiled_once_and_found_again_even_without_a_compiler_that_works(
    compiler, empty_cache, tmp_path, monkeypatch
):
    assert build() is not None
    (made,) = (empty_cache / "kernels").iterdir()
    written = made.stat().st_mtime_ns
    monkeypatch.setenv("PATH", compilers(tmp_path, "exit 1"))
    assert build() is not None
    assert list((empty_cache / "kernels").iterdir()) == [made]
    assert made.stat().st_mtime_ns == written


def test_processes_that_compile_at_the_same_time_all_have_them(compiler, empty_cache):
    said = "from eyebright.kernels.build import load_kernels; print(load_kernels() is not None)"
    processes = [subprocess.Popen([sys.executable, "-c", said], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == 3 * ["True\n"]
    assert [path.suffix for path in (empty_cache / "kernels").iterdir()] == [".so"]


BROKEN = {
    "fails": "exit 1",
    "makes nonsense": 'for last; do :; done; echo nonsense > "$last"',
    "makes another library": 'for last; do :; done; case "$last" in *.o) touch "$last";; *) echo "" | '
    '{real} -x c++ -shared - -o "$last";; esac',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_compiler_means_that_torch_computes_until_there_is_a_good_one(
    compiler, empty_cache, tmp_path, monkeypatch, text
):
    good = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{compilers(tmp_path, text.replace('{real}', shutil.which('g++') or ''))}:{good}")
    assert build() is None
    assert not list((empty_cache / "kernels").iterdir())
    program = "from eyebright.kernels.build import load_kernels; assert load_kernels() is not None"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PATH": good})


def test_compilers_end_with_whoever_began_them(monkeypatch):
    """One has failed, or we are stopped: the others do not go on."""
    begun = []
    begin = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **more: begun.append(begin(*given, **more)) or begun[-1])
    with pytest.raises(subprocess.CalledProcessError):
        _run_together([["false"], ["sleep", "600"]])
    assert [process.returncode for process in begun] == [1, -signal.SIGKILL]


def test_a_damaged_library_is_made_anew(compiler, empty_cache):
    assert build() is not None
    (made,) = (empty_cache / "kernels").iterdir()
    made.unlink()  # the one that is loaded stays as it is
    made.write_bytes(b"\x7fELF")
    assert build() is not None
    assert made.stat().st_size > 10_000


def test_nobody_else_s_library_is_loaded(compiler, empty_cache, monkeypatch):
    assert build() is not None
    assert stat.S_IMODE((empty_cache / "kernels").stat().st_mode) == 0o700
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert build() is None


@pytest.mark.parametrize("text", ["env {}", "{} -m64", ""])
def test_the_compiler_may_have_words_of_its_own(compiler, empty_cache, monkeypatch, text):
    if platform.machine() != "x86_64":
        pytest.skip("-m64 is for x86")
    monkeypatch.setenv("CXX", text.format(shutil.which("g++")))
    assert build() is not None


@pytest.mark.parametrize("path", ["/proc/self/maps", "/proc/cpuinfo"])
def test_without_proc_torch_computes(empty_cache, monkeypatch, path):
    read = Path.read_text

    def without(self, *given, **named):
        if str(self) == path:
            raise FileNotFoundError(path)
        return read(self, *given, **named)

    monkeypatch.setattr(Path, "read_text", without)
    assert build() is None


def test_elsewhere_torch_computes(empty_cache, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert build() is None


def test_without_a_compiler_torch_computes(empty_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build() is None
    assert not list((empty_cache / "kernels").iterdir())


def test_where_the_cache_cannot_be_written_torch_computes(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "file"))
    assert build() is None


def test_the_plan_says_who_computes(monkeypatch):
    assert choose_plan("cpu", training=False).kernels == "torch"  # for prediction there are engines
    here = choose_plan("cpu")
    assert here.kernels == ("torch" if load_kernels() is None else f"eyebright-{kernels_version()}")
    with here.arithmetic():
        assert in_use.get() == (here.kernels != "torch")
        with choose_plan("cpu", training=False).arithmetic():
            assert not in_use.get()
    assert not in_use.get()
    monkeypatch.setattr("eyebright.device.load_kernels", lambda: None)
    there = choose_plan("cpu")
    assert there.kernels == "torch"
    if here != there:
        assert there.differences(here) == {"kernels": ("torch", here.kernels)}


def test_there_is_one_openmp_runtime_in_the_process(compiler):
    """A second one would have threads of its own, which wait in busy loops for the same processors."""
    program = """
import sklearn.metrics  # brings an OpenMP library of its own
import torch
from pathlib import Path
from eyebright.kernels.build import _openmp_runtime, load_kernels
def runtimes():
    lines = open("/proc/self/maps").read().splitlines()
    return {line.split()[-1] for line in lines if "libgomp" in line or "libomp" in line or "libiomp" in line}
before = runtimes()
assert load_kernels() is not None
assert runtimes() == before, (before, runtimes())
assert Path(torch.__file__).parent in _openmp_runtime().parents
"""
    subprocess.run([sys.executable, "-c", program], check=True)
