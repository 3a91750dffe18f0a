"""What many tests need: the shared data, a cache of their own, tiny pictures, folders and archives, and `refuses`."""

import http.server
import io
import os
import socket
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import eyebright as package
from eyebright.cli import main
from eyebright.errors import EyebrightError
from eyebright.kernels import functions
from eyebright.kernels.build import in_use, load_kernels

SHARED_MISSING = "the shared data are missing: set EYEBRIGHT_DATA to their folder"
TAR_MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".txz": "w:xz", ".tar.bz2": "w:bz2"}

DEFAULT_MARKS = "not slow and not cuda"
PACKAGE = Path(package.__file__).parent
UNMET = pytest.StashKey()

# the same examples in every run, and no deadline: a busy machine is no bug
settings.register_profile("eyebright", derandomize=True, deadline=None, database=None)
settings.load_profile("eyebright")


MADE = set()  # (file below the package, line) where an error was made, and where the function that made it was called


def pytest_sessionstart(session):
    """Notes where errors are made, to tell at the end which messages no test has met."""
    make = EyebrightError.__init__

    def note_and_make(self, *given, **parts):
        frame = sys._getframe(1)
        for _ in range(2):
            if frame is not None and PACKAGE in (path := Path(frame.f_code.co_filename)).parents:
                MADE.add((path.relative_to(PACKAGE).as_posix(), frame.f_lineno))
                frame = frame.f_back
        make(self, *given, **parts)

    EyebrightError.__init__ = note_and_make


def unmet_messages():
    """The messages that no test of this session has met."""
    from make_errors import read_messages

    def is_met(module, first, last):
        return any((module, line) in MADE for line in range(first, last + 1))

    return [message for message in read_messages() if not all(is_met(*place) for place in message.places)]


def is_whole(config):
    """Whether all default tests were asked for: no paths, words, marks or other choice."""
    choices = ("keyword", "collectonly", "deselect", "ignore", "ignore_glob", "lf", "stepwise")
    everything = config.args == config.getini("testpaths") and config.option.markexpr == DEFAULT_MARKS
    return everything and not hasattr(config, "workerinput") and not any(config.getoption(c, None) for c in choices)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """With several processes: what each has met is brought together."""
    MADE.update(map(tuple, getattr(node, "workeroutput", {}).get("made", ())))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """A whole run in which everything passed, but which met not every message, fails."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["made"] = sorted(MADE)
    if exitstatus == pytest.ExitCode.OK and is_whole(session.config) and (unmet := unmet_messages()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[UNMET] = unmet


def pytest_terminal_summary(terminalreporter, config):
    for message in config.stash.get(UNMET, ()):
        place = ", ".join(f"{module}:{line}" for module, line, _ in message.places)
        terminalreporter.write_line(f"no test has met the message: {place}: {message.problem}", red=True)
    skipped = terminalreporter.stats.get("skipped", [])
    missing = sum(SHARED_MISSING in str(report.longrepr) for report in skipped)
    if missing:
        terminalreporter.write_line(f"{missing} tests were skipped because {SHARED_MISSING}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("EYEBRIGHT_CACHE", str(folder))
        (folder / "kernels").mkdir()
        load_kernels()
        yield folder


@pytest.fixture(autouse=True)
def own_cache(cache_of_the_session, tmp_path_factory, monkeypatch):
    """The folder that is this test's cache: empty but for the compiled kernels, which take seconds to make."""
    folder = tmp_path_factory.mktemp("own") / "cache"
    folder.mkdir()
    (folder / "kernels").symlink_to(cache_of_the_session / "kernels")
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(folder))
    return folder


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def eyebright(monkeypatch, capsys):
    """`eyebright("train", "lenet5-digits")`: runs a command line in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["eyebright", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main.main()
        return Done(stop.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def shared_data():
    """The folder with the real data: `$EYEBRIGHT_DATA`, or `../shared/data` beside the project."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = next((path for path in (Path(os.environ.get("EYEBRIGHT_DATA") or beside), beside) if path.is_dir()), None)
    if folder is None:
        pytest.skip(SHARED_MISSING)
    return folder


@pytest.fixture(scope="session")
def shared_file(shared_data):
    """`shared_file("photos.zip")`: the path of one of the shared data's files."""

    def find(name):
        if not (shared_data / name).exists():
            pytest.skip(f"{SHARED_MISSING} (no {name})")
        return shared_data / name

    return find


@pytest.fixture(scope="session")
def refuses():
    """`with refuses(DataError, "text"):` as `pytest.raises`, and the error has its three parts."""

    @contextmanager
    def check(kind, match):
        with pytest.raises(kind, match=match) as raised:
            yield raised
        error = raised.value
        assert type(error) is kind and isinstance(error, EyebrightError)
        for part in (error.problem, error.expected, error.remedy):
            assert part.strip() and "None" not in part and "{" not in part, part
        assert str(error) == f"{error.problem}\n  expected: {error.expected}\n  to do: {error.remedy}"

    return check


@pytest.fixture(scope="session")
def noise():
    """`noise(2, 8, 6, 3)`: random bytes of this shape, always the same; `noise(…, seed=1)`: others."""

    def make(*shape, seed=0):
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture(scope="session")
def landscape():
    """`landscape(height, width)`: a picture as smooth as a photograph, uint8 `[H, W, 3]`."""

    def make(height, width, seed=0):
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width] / max(height, width)
        waves = [
            sum(np.sin(random.uniform(2, 12) * x + random.uniform(2, 12) * y + random.uniform(0, 6)) for _ in range(6))
            for _ in range(3)
        ]
        return np.clip(128 + 25 * np.stack(waves, axis=2), 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def encode():
    """`encode(pixels, "PNG")`: an encoded picture; `[H, W, 1]` is grey."""

    def to_bytes(pixels, kind="PNG", **options):
        if not isinstance(pixels, Image.Image):
            pixels = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
        file = io.BytesIO()
        pixels.save(file, kind, **options)
        return file.getvalue()

    return to_bytes


@pytest.fixture
def picture_folder(tmp_path, noise, encode):
    """`picture_folder({"train/cats": 3})`: a folder with so many PNG files in each folder inside it."""

    def make(counts, name="pictures", size=(8, 6, 3)):
        root = tmp_path / name
        for place, (inside, count) in enumerate(counts.items()):
            (root / inside).mkdir(parents=True)
            for i in range(count):
                (root / inside / f"{i}.png").write_bytes(encode(noise(*size, seed=1000 * place + i)))
        return root

    return make


@pytest.fixture
def make_archive(tmp_path):
    """`make_archive("a.tar.gz", {"cats/1.png": data})`: an archive; a `TarInfo` as key goes into a tar as it is."""

    def make(name, files):
        path = tmp_path / name
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for entry, data in files.items():
                    archive.writestr(entry, data)
            return path
        mode = next(mode for suffix, mode in TAR_MODES.items() if name.endswith(suffix))
        with tarfile.open(path, mode) as archive:
            for entry, data in files.items():
                member = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
                member.size = member.size or len(data)
                archive.addfile(member, io.BytesIO(data))
        return path

    return make


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the files of a folder: its address, the folder, and what was asked for.

    Below `half-of/` it hangs up after half of what it promised, below `ranges-of/` it begins where it is asked to.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            ways, _, name = self.path.rpartition("/")
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            asked.append(self.path + f" from {start}" * bool(start))
            if ways not in ("/half-of", "/ranges-of", "/half-of/ranges-of"):
                super().do_GET()
                return
            data = (folder / name).read_bytes()
            if "ranges-of" not in ways:
                start = 0
            if start and start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            whole = len(data) - start
            self.wfile.write(data[start:][: whole // 2 if "half-of" in ways else whole])  # promises all and hangs up

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/", folder, asked
        listening.shutdown()
        thread.join()


@pytest.fixture
def offline(monkeypatch):
    """The address of a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return f"http://127.0.0.1:{port}/"


@pytest.fixture
def kernels():
    """Kernels are in use."""
    if load_kernels() is None:
        pytest.skip("no C++ compiler here")
    token = in_use.set(True)
    yield
    in_use.reset(token)


@pytest.fixture
def float32(monkeypatch):
    """Plans compute in float32, as on a processor that does not multiply bfloat16: for comparisons digit by digit."""
    monkeypatch.setattr("eyebright.device._multiplies_bfloat16", lambda device: False)


class Casts(TorchDispatchMode):
    """Counts what is brought into another number format, by its shape."""

    def __init__(self):
        super().__init__()
        self.shapes = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default:
            self.shapes[tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def casts():
    """Within ``with casts`` it counts what is brought into another number format, by shape."""
    return Casts()


@pytest.fixture
def calls(monkeypatch):
    """The names of the kernels that were called."""
    names, call = [], functions._call

    def note(name, *given):
        names.append(name)
        call(name, *given)

    monkeypatch.setattr(functions, "_call", note)
    return names
