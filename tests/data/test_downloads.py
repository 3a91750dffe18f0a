import hashlib
import io

import pytest

from eyebright.data import downloads
from eyebright.data.downloads import data_root, fetch, matches
from eyebright.errors import DownloadError, OutputError


def md5_of(data):
    return f"md5:{hashlib.md5(data).hexdigest()}"


def test_the_root_is_the_given_one_else_the_users_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EYEBRIGHT_DATA", str(tmp_path / "users"))
    assert data_root(tmp_path / "given") == tmp_path / "given"
    assert data_root(str(tmp_path / "given")) == tmp_path / "given"
    assert data_root() == tmp_path / "users"
    monkeypatch.delenv("EYEBRIGHT_DATA")
    assert data_root().parts[-2:] == ("eyebright", "data")


def test_a_published_file_is_fetched_and_checked_once(server, tmp_path, noise):
    url, folder, asked = server
    data = noise(100_000).tobytes()
    (folder / "a.bin").write_bytes(data)
    for _ in range(2):
        path = fetch(url + "a.bin", md5_of(data), tmp_path / "root" / "here")
        assert path == tmp_path / "root" / "here" / "a.bin" and path.read_bytes() == data
    assert asked == ["/a.bin"]


def test_another_file_than_the_published_is_refused_and_not_kept(server, tmp_path, refuses):
    url, folder, _ = server
    (folder / "a.bin").write_bytes(b"a page that says: please log in")
    with refuses(DownloadError, "could not fetch") as raised:
        fetch(url + "a.bin", md5_of(b"the published file"), tmp_path / "root")
    assert md5_of(b"the published file").removeprefix("md5:") in raised.value.expected
    assert not list((tmp_path / "root").iterdir())


def test_a_download_that_was_cut_off_is_refused_and_not_kept(server, tmp_path, noise, refuses):
    url, folder, asked = server
    data = noise(100_000).tobytes()
    (folder / "a.bin").write_bytes(data)
    with refuses(DownloadError, "could not fetch"):
        fetch(url + "half-of/a.bin", md5_of(data), tmp_path / "root")
    assert asked == ["/half-of/a.bin"]
    assert not list((tmp_path / "root").iterdir())


def test_a_file_that_is_not_there_is_refused(server, tmp_path, refuses):
    url, _, _ = server
    with refuses(DownloadError, "404"):
        fetch(url + "a.bin", md5_of(b""), tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())


def test_without_a_network_the_reader_learns_where_to_put_the_file(offline, tmp_path, refuses):
    with refuses(DownloadError, f"could not fetch {offline}a.bin") as raised:
        fetch(f"{offline}a.bin", md5_of(b""), tmp_path / "root")
    assert str(tmp_path / "root" / "a.bin") in raised.value.remedy
    assert len(str(raised.value).splitlines()) == 3
    assert not list((tmp_path / "root").iterdir())


def test_a_root_that_cannot_be_made_is_an_output_error(offline, tmp_path, refuses):
    (tmp_path / "root").write_text("")
    with refuses(OutputError, "root"):
        fetch(f"{offline}a.bin", md5_of(b""), tmp_path / "root" / "here")


def test_progress_is_drawn_only_for_people(monkeypatch):
    class Terminal(io.StringIO):
        def __init__(self, person):
            super().__init__()
            self.person = person

        def isatty(self):
            return self.person

    for person in (False, True):
        monkeypatch.setattr("sys.stderr", Terminal(person))
        assert bool(downloads._downloader("a.bin").progressbar) == person


@pytest.mark.filterwarnings("error")
def test_a_download_with_its_progress_drawn_is_the_same_file(server, tmp_path, noise, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    url, folder, _ = server
    data = noise(100_000).tobytes()
    (folder / "a.bin").write_bytes(data)
    drawn = Terminal()
    monkeypatch.setattr("sys.stderr", drawn)
    assert fetch(url + "a.bin", md5_of(data), tmp_path / "root").read_bytes() == data
    assert "a.bin" in drawn.getvalue()


def test_a_checksum_may_be_known_by_its_first_digits(server, tmp_path, refuses):
    url, folder, _ = server
    data = b"weights"
    (folder / "a-b.pth").write_bytes(data)
    digits = hashlib.sha256(data).hexdigest()[:8]
    path = fetch(url + "a-b.pth", f"sha256:{digits}", tmp_path / "root")
    assert matches(path, f"sha256:{digits}") and matches(path, "") and not matches(path, "sha256:00000000")
    path.unlink()
    with refuses(DownloadError, "what came has another checksum") as raised:
        fetch(url + "a-b.pth", "sha256:0123abcd", tmp_path / "root")
    assert raised.value.expected == "the published file, with SHA-256 0123abcd…"
    assert not list((tmp_path / "root").iterdir())


def test_without_a_known_checksum_what_comes_is_taken(server, tmp_path):
    url, folder, _ = server
    (folder / "a.safetensors").write_bytes(b"weights")
    assert fetch(url + "a.safetensors", "", tmp_path).read_bytes() == b"weights"
