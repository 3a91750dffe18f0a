import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strange import REFUSED
from zoo import READ

from eyebright.data import decode as decode_module
from eyebright.data.decode import decode, decode_file
from eyebright.data.digests import pixel_digest
from eyebright.data.images import ImageFiles
from eyebright.data.oddities import count_scans
from eyebright.data.sources import load_data, load_parts
from eyebright.data.split import picture_digests
from eyebright.errors import PictureError

HERE = Path(__file__).parent
pytestmark = [  # in a test the filters of the module are not in force
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def far_off(pixels, animal):
    assert pixels.dtype == np.uint8 and pixels.shape == animal.pixels.shape
    return np.abs(pixels.astype(int) - animal.pixels.astype(int)).max()


@pytest.mark.parametrize("name", READ)
def test_an_odd_picture_is_read_right(tmp_path, name):
    animal = READ[name]
    path = tmp_path / f"odd{animal.ending}"
    path.write_bytes(animal.make())
    pixels = decode_file(path)
    assert far_off(pixels, animal) <= animal.within
    assert pixels.flags.writeable and decode_file(path, (1, 1)).shape[2] == pixels.shape[2]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, name, refuses):
    ending, make, reason = REFUSED[name]
    path = tmp_path / f"odd{ending}"
    path.write_bytes(make())
    with refuses(PictureError, f"^cannot read the picture {re.escape(str(path))}: .*({reason})"):
        decode_file(path)
    with refuses(PictureError, reason):
        decode_file(path, (8, 8))
    with refuses(PictureError, reason):
        picture_digests(ImageFiles((path,), np.zeros(1, np.int64), ("odd",)))


def test_a_folder_of_odd_pictures_is_a_source_like_any_other(tmp_path):
    animals = {}
    for place, animal in enumerate(READ.values()):
        path = tmp_path / ("even" if place % 2 else "odd") / f"{place}{animal.ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(animal.make())
        animals[path] = animal
    splits = load_data(tmp_path)
    found = {}
    for pictures in (splits.train, splits.val, splits.test):
        _, digests = picture_digests(pictures)
        found |= zip(pictures.paths, digests, strict=True)
        assert all(
            far_off(pictures.read(i), animals[path]) <= animals[path].within for i, path in enumerate(pictures.paths)
        )
    assert found.keys() == animals.keys()
    exact = {path: animal for path, animal in animals.items() if animal.within == 0}
    assert len(exact) > 80
    assert all(found[path].tobytes() == pixel_digest(animal.pixels) for path, animal in exact.items())


SILENT = """
import sys
sys.path.insert(0, {here!r})
from strange import REFUSED
from zoo import READ
made = [animal.make() for animal in READ.values()] + [make() for _, make, _ in REFUSED.values()]
from eyebright.data.decode import decode
from eyebright.errors import PictureError
read = 0
for data in made:
    try:
        decode(data, "a picture")
        read += 1
    except PictureError:
        pass
print(read)
"""


@pytest.mark.parametrize("action", ["always", "error"])
def test_no_decoder_speaks_to_the_user(action):
    command = [sys.executable, "-W", action, "-W", "ignore::DeprecationWarning", "-c", SILENT.format(here=str(HERE))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{len(READ)}\n", "")


def one_file(path):
    return ImageFiles((path,), np.zeros(1, np.int64), ("odd",))


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_has_no_end_is_refused_and_not_waited_for(tmp_path, monkeypatch, kind, refuses):
    path = tmp_path / "a.jpg"
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("a.jpg")
    with refuses(PictureError, "a.jpg: it is a pipe, a socket or a device"):
        decode_file(path)
    with refuses(PictureError, "a.jpg: it is a pipe, a socket or a device"):
        picture_digests(one_file(path))


def test_a_file_of_a_terabyte_is_refused_before_it_is_read(tmp_path, refuses):
    with (tmp_path / "a.tif").open("wb") as file:
        file.write(b"II*\0")
        file.truncate(2**40)
    with refuses(PictureError, "its 1,099,511,627,776 bytes are more than 1,073,741,824"):
        decode_file(tmp_path / "a.tif")


@pytest.mark.parametrize("target", ["nowhere.jpg", "a.jpg"], ids=["to nothing", "to itself"])
def test_a_broken_link_is_refused_by_its_name(tmp_path, target, refuses):
    path = tmp_path / "class" / "a.jpg"
    path.parent.mkdir()
    path.symlink_to(target)
    with refuses(PictureError, "a.jpg: (No such file|Too many levels)"):
        decode_file(path)
    with refuses(PictureError, "a.jpg: (No such file|Too many levels)"):
        picture_digests(load_parts(tmp_path)["train"])


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path, refuses):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "a.jpg").chmod(0)
    with refuses(PictureError, "Permission denied"):
        decode_file(tmp_path / "a.jpg")


def test_a_folder_called_jpg_is_no_picture(tmp_path, noise, encode, refuses):
    for name in ("cats/a.jpg/inside.png", "dogs/b.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(noise(4, 5, 3)))
    assert [path.name for path in load_parts(tmp_path)["train"].paths] == ["inside.png", "b.png"]
    with refuses(PictureError, "Is a directory"):
        decode_file(tmp_path / "cats/a.jpg")


def test_a_name_that_no_file_can_have_is_refused(refuses):
    with refuses(PictureError, r"a\\x00.jpg: embedded null"):
        decode_file(Path("a\0.jpg"))


NAMES = {
    "a line break": (b"a\nb.png", r"a\nb.png"),
    "an emoji": ("🐈.png".encode(), "🐈.png"),
    "bytes that are no text": (b"caf\xe9.png", r"caf\udce9.png"),
    "a command to the terminal": (b"\x1b[2Ja.png", r"\x1b[2Ja.png"),
    "spaces": (b" a .png", " a .png"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name_and_an_error_is_one_line(tmp_path, noise, encode, name, refuses):
    given, shown = NAMES[name]
    path = tmp_path / "class" / os.fsdecode(given)
    path.parent.mkdir()
    path.write_bytes(encode(noise(4, 5, 3)))
    (pictures,) = load_parts(tmp_path).values()
    assert picture_digests(pictures)[1].tobytes() == pixel_digest(noise(4, 5, 3))
    path.write_bytes(b"no picture at all")
    with refuses(PictureError, f"class/{re.escape(shown)}: it looks like text") as raised:
        picture_digests(pictures)
    raised.value.problem.encode()  # it can be printed
    assert len(str(raised.value).splitlines()) == 3


def test_scans_are_counted_up_to_the_end_and_without_those_of_small_pictures():
    scans = {"grey": 1, "progressive": None, "garbage after its end": 1, "two glued": 1, "a picture inside its EXIF": 1}
    counts = {name: count_scans(READ[f"JPEG: {name}"].make()) for name in scans}
    assert counts.pop("progressive") > 5
    assert all(count == 1 for count in counts.values()), counts
    assert count_scans(READ["JPEG: restart marks"].make()) == 1


def test_marks_that_look_like_scans_do_not_make_a_picture_too_long(monkeypatch):
    animal = READ["JPEG: garbage after its end"]
    monkeypatch.setattr("eyebright.data.oddities.MAX_SCANNED", 30 * 20)
    assert far_off(decode(animal.make(), "a picture"), animal) <= animal.within


def test_too_little_memory_is_said_to_be_that(monkeypatch, refuses):
    def fail(picture):
        raise MemoryError

    monkeypatch.setattr(decode_module, "to_channels", fail)
    with refuses(PictureError, "it takes more memory than there is"):
        decode(READ["PNG: grey"].make(), "a picture")
