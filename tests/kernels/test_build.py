import os
import stat
import subprocess
import sys

import pytest
import torch

from eyebright.device import choose_plan
from eyebright.kernels.build import SOURCE, in_use, load_kernels

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


@pytest.mark.parametrize("text", ["exit 1", 'echo nonsense > "$(eval echo \\${$#})"'], ids=["fails", "makes nonsense"])
def test_a_broken_compiler_means_that_torch_computes(empty_cache, tmp_path, monkeypatch, text):
    monkeypatch.setenv("PATH", f"{compilers(tmp_path, text)}:{os.environ['PATH']}")
    assert build() is None
    assert [path.suffix for path in (empty_cache / "kernels").iterdir()] in ([], [".so"])


def test_without_a_compiler_torch_computes(empty_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build() is None
    assert not empty_cache.exists()


def test_where_the_cache_cannot_be_written_torch_computes(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "file"))
    assert build() is None


def test_the_plan_says_who_computes(monkeypatch):
    assert choose_plan("cpu", training=False).kernels == "torch"  # for prediction there are engines
    here = choose_plan("cpu")
    assert here.kernels == ("torch" if load_kernels() is None else "eyebright")
    with here.arithmetic():
        assert in_use.get() == (here.kernels == "eyebright")
        with choose_plan("cpu", training=False).arithmetic():
            assert not in_use.get()
    assert not in_use.get()
    monkeypatch.setattr("eyebright.device.load_kernels", lambda: None)
    there = choose_plan("cpu")
    assert there.kernels == "torch"
    if here != there:
        assert there.differences(here) == {"kernels": ("torch", "eyebright")}


def test_there_is_one_openmp_runtime_in_the_process(compiler):
    """A second one would have threads of its own, which wait in busy loops for the same processors."""
    program = """
import torch
from eyebright.kernels.build import load_kernels
assert load_kernels() is not None
lines = open("/proc/self/maps").read().splitlines()
print(len({line.split()[-1] for line in lines if "gomp" in line or "omp5" in line}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_the_source_is_part_of_the_package():
    assert SOURCE.exists()
    assert torch.get_num_threads() >= 1
