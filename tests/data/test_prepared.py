import os
import shutil
import time

import numpy as np
import pytest
import torch

from eyebright.data import prepared as module
from eyebright.data.batches import Loader
from eyebright.data.images import ImageFiles
from eyebright.data.prepare import Prepare
from eyebright.data.prepared import PreparedFiles, prepare_files
from eyebright.device import choose_plan
from eyebright.errors import DataError, DataWarning, OutputError, PictureError

PLAN = choose_plan("cpu", "float32")
CLASSES = ("ant", "bee")
PREPARATIONS = {
    "as they are": Prepare(),
    "cropped": Prepare(crop=8),
    "enlarged": Prepare(resize=70, crop=64),
    "made smaller": Prepare(resize=10),
    "made smaller, bicubic": Prepare(resize=10, interpolation="bicubic"),
    "one size": Prepare(resize=(12, 9)),
    "grey": Prepare(channels=1, resize=16, crop=12),
}


@pytest.fixture
def files(tmp_path, landscape, noise, encode):
    """Eleven pictures of many sizes and kinds, none written just now."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(11):
        picture = (
            landscape(20 + 17 * (i % 4), 64 - 9 * (i % 5), seed=i) if i % 3 else noise(13, 17, 1 + i % 2 * 2, seed=i)
        )
        path = folder / f"{i:02}.jpg"
        path.write_bytes(encode(picture, "JPEG" if i % 4 else "PNG"))
        os.utime(path, (1e9, 1e9))
    paths = tuple(sorted(folder.iterdir()))
    return ImageFiles(paths, np.arange(len(paths), dtype=np.int64) % 2, CLASSES)


@pytest.fixture
def decoded(monkeypatch):
    """The paths that have been decoded to be prepared."""
    seen = []
    read = ImageFiles.read

    def note(self, index, at_least=None):
        seen.append(self.paths[index].name)
        return read(self, index, at_least)

    monkeypatch.setattr(ImageFiles, "read", note)
    return seen


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 3000)


def expected(files, prepare):
    return [prepare.resize_picture(files.read(i, prepare.at_least)) for i in range(len(files))]


def check(prepared, files, prepare):
    """Every picture is what it would be without a cache."""
    assert isinstance(prepared, PreparedFiles) and len(prepared) == len(files)
    for index, pixels in enumerate(expected(files, prepare)):
        assert np.array_equal(prepare.resize_picture(prepared.read(index)), pixels), files.paths[index]


def shards(own_cache):
    return sorted(own_cache.glob("prepared/*/*/*.safetensors"))


@pytest.mark.parametrize("prepare", PREPARATIONS.values(), ids=PREPARATIONS)
@pytest.mark.parametrize("workers", [0, 2])
def test_cached_and_uncached_pixels_are_equal(files, small_shards, prepare, workers):
    for _ in range(2):
        check(prepare_files(files, prepare, workers=workers), files, prepare)


@pytest.mark.parametrize("prepare", [Prepare(resize=12, crop=8), Prepare(resize=(9, 20)), Prepare(crop=30)], ids=str)
def test_batches_from_the_cache_are_those_of_files(files, prepare):
    def batches(pictures):
        return list(Loader(pictures, prepare, PLAN, 4, shuffle=True, seed=1).batches(3))

    for cached, uncached in zip(batches(prepare_files(files, prepare)), batches(files), strict=True):
        assert torch.equal(cached.inputs, uncached.inputs) and torch.equal(cached.labels, uncached.labels)


def test_a_picture_is_decoded_once(files, decoded, small_shards, own_cache):
    prepare_files(files, Prepare(resize=10))
    assert sorted(decoded) == [path.name for path in files.paths]
    assert len(shards(own_cache)) > 1
    decoded.clear()
    prepare_files(files, Prepare(resize=10, crop=8, mean=(0.5,)))  # what comes after resizing is not kept
    assert decoded == []


def test_other_splits_of_the_same_pictures_decode_nothing(files, decoded, small_shards):
    prepare_files(files.select(range(7)), Prepare(resize=10))
    decoded.clear()
    turned = files.select([9, 3, 4, 10, 0])
    prepared = prepare_files(turned, Prepare(resize=10))
    assert sorted(decoded) == ["09.jpg", "10.jpg"]
    check(prepared, turned, Prepare(resize=10))


def test_another_way_of_preparing_is_prepared_anew(files, decoded):
    prepare_files(files, Prepare(resize=10))
    for other in (Prepare(resize=11), Prepare(resize=10, interpolation="bicubic"), Prepare(resize=10, channels=1)):
        decoded.clear()
        check(prepare_files(files, other), files, other)
        assert len(decoded) >= len(files)


@pytest.mark.parametrize("library", ["torch", "PIL", "simplejpeg"])
def test_pixels_of_another_version_are_not_believed(files, decoded, monkeypatch, library):
    prepare_files(files, Prepare(resize=10))
    decoded.clear()
    monkeypatch.setattr(getattr(module, library), "__version__", "0.0.1")
    prepare_files(files, Prepare(resize=10))
    assert len(decoded) == len(files)


def test_a_picture_that_has_changed_is_prepared_anew(files, decoded, encode, noise):
    prepare_files(files, Prepare(resize=10))
    decoded.clear()
    files.paths[4].write_bytes(encode(noise(30, 40, 3), "PNG"))
    check(prepare_files(files, Prepare(resize=10)), files, Prepare(resize=10))
    assert decoded[0] == "04.jpg"


def test_equal_pictures_are_kept_once(files, tmp_path, own_cache):
    shutil.copy(files.paths[1], tmp_path / "copy.jpg")
    twice = ImageFiles((*files.paths[:2], tmp_path / "copy.jpg"), np.zeros(3, np.int64), CLASSES)
    prepared = prepare_files(twice, Prepare(resize=10))
    check(prepared, twice, Prepare(resize=10))
    assert np.array_equal(prepared.places[1], prepared.places[2])


def damage_byte(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit of a pixel": lambda path: damage_byte(path, -40),
    "a flipped bit of the header": lambda path: damage_byte(path, 120),
    "a flipped bit of a digest": lambda path: damage_byte(path, path.read_bytes().index(b"}}") + 60),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
    "another file": lambda path: path.write_text("not this"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_file_is_made_again(files, decoded, small_shards, own_cache, damage, which):
    prepare_files(files, Prepare(resize=10))
    before = [path.read_bytes() for path in shards(own_cache)]
    damage(shards(own_cache)[which])
    decoded.clear()
    prepared = prepare_files(files, Prepare(resize=10))
    assert 0 < len(decoded) < len(files)
    check(prepared, files, Prepare(resize=10))
    assert [path.read_bytes() for path in shards(own_cache)] == before


def test_what_a_killed_process_left_is_removed(files, small_shards, own_cache):
    prepare_files(files, Prepare(resize=10))
    left = shards(own_cache)[0].with_name(".x.safetensors.0a1b2c3d.part")
    left.write_bytes(b"half")
    check(prepare_files(files, Prepare(resize=10)), files, Prepare(resize=10))
    assert not left.exists()


def test_without_leave_to_write_a_warning_says_why(files, own_cache, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setenv("EYEBRIGHT_CACHE", str(tmp_path / "a file"))
    with pytest.warns(DataWarning, match="prepared pictures cannot be kept: .*a file"):
        assert prepare_files(files, Prepare(resize=10)) is None


def test_a_picture_that_cannot_be_decoded_is_named_and_the_others_are_kept(files, decoded, small_shards, refuses):
    files.paths[9].write_bytes(b"no picture")
    with refuses(PictureError, "09.jpg: it looks like text"):
        prepare_files(files, Prepare(resize=10))


def test_sets_that_are_not_used_are_removed(files, own_cache):
    long_ago = time.time() - 31 * 24 * 3600
    for count in (3, 4, 5):
        prepare_files(files.select(range(count)), Prepare(resize=10 + count))
    old, used, new = sorted(own_cache.glob("prepared/*/*"), key=lambda path: path.stat().st_mtime_ns)
    for path in (old, used):
        os.utime(path, (long_ago, long_ago))
    prepare_files(files.select(range(4)), Prepare(resize=14))
    assert [path.exists() for path in (old, used, new)] == [False, True, True]


def test_a_selection_keeps_names_labels_and_pixels(files):
    prepared = prepare_files(files, Prepare(resize=10)).select([5, 2])
    assert [prepared.name(i) for i in range(2)] == [str(files.paths[5]), str(files.paths[2])]
    assert prepared.labels.tolist() == [1, 0] and prepared.classes == CLASSES
    check(prepared, files.select([5, 2]), Prepare(resize=10))


def test_prepared_pixels_cannot_be_written_to(files):
    pixels = prepare_files(files, Prepare(resize=10)).read(0)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 1


def test_each_picture_is_told_once_whether_it_was_there_or_not(files):
    seen = []
    for chosen in (files.select(range(4)), files, files):
        seen.clear()
        prepare_files(chosen, Prepare(resize=10), on_read=lambda: seen.append(1))
        assert len(seen) == len(chosen)


def test_a_picture_that_changes_while_it_is_read_is_never_kept(files, encode, noise, monkeypatch, own_cache, refuses):
    read = ImageFiles.read

    def change_and_read(self, index, at_least=None):
        if self.paths[index] == files.paths[4]:
            files.paths[4].write_bytes(encode(noise(30, 40, 3), "PNG"))
        return read(self, index, at_least)

    monkeypatch.setattr(ImageFiles, "read", change_and_read)
    with refuses(DataError, "04.jpg was changed while it was read"):
        prepare_files(files, Prepare(resize=10))
    assert shards(own_cache) == []


def test_a_full_disk_is_not_left_full(files, small_shards, own_cache, monkeypatch):
    write = module.write_safetensors

    def fail_later(path, *arguments):
        if shards(own_cache):
            raise OutputError("no room", expected="room", remedy="make room")
        write(path, *arguments)

    monkeypatch.setattr(module, "write_safetensors", fail_later)
    with pytest.warns(DataWarning, match="prepared pictures cannot be kept: no room"):
        assert prepare_files(files, Prepare(resize=10)) is None
    assert shards(own_cache) == []
