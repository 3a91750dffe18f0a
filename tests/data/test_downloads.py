import hashlib
import io
import threading

import pytest

from eyebright.data import downloads
from eyebright.data.downloads import data_root, fetch, matches
from eyebright.errors import DownloadError, OutputError
from eyebright.files import as_output_error


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


@pytest.fixture
def cut_off(server, tmp_path, noise, refuses):
    """The address of a file whose download was cut off at half, its content, and what was asked for."""
    url, folder, asked = server
    data = noise(2**17).tobytes()
    (folder / "a.bin").write_bytes(data)
    with refuses(DownloadError, "could not fetch"):
        fetch(url + "half-of/a.bin", md5_of(data), tmp_path / "root")
    assert asked == ["/half-of/a.bin"]
    assert (tmp_path / "root" / "a.bin.part").read_bytes() == data[: 2**16]
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["a.bin.part"]
    asked.clear()
    return url, data, asked


@pytest.mark.parametrize(
    ("way", "questions"),
    [("ranges-of/", ["/ranges-of/a.bin from 65536"]), ("", ["/a.bin from 65536"])],
    ids=["goes on", "begins again"],
)
def test_a_download_that_was_cut_off_goes_on_where_the_server_allows_it(cut_off, tmp_path, way, questions):
    url, data, asked = cut_off
    path = fetch(f"{url}{way}a.bin", md5_of(data), tmp_path / "root")
    assert path.read_bytes() == data and asked == questions
    assert list((tmp_path / "root").iterdir()) == [path]


def test_a_download_may_be_cut_off_several_times(cut_off, tmp_path, refuses):
    url, data, asked = cut_off
    for length in (3 * 2**15, 7 * 2**14):
        with refuses(DownloadError, "could not fetch"):
            fetch(url + "half-of/ranges-of/a.bin", md5_of(data), tmp_path / "root")
        assert (tmp_path / "root" / "a.bin.part").read_bytes() == data[:length]
    assert fetch(url + "ranges-of/a.bin", md5_of(data), tmp_path / "root").read_bytes() == data
    assert [question.rpartition(" ")[2] for question in asked] == ["65536", "98304", "114688"]


@pytest.mark.parametrize("left", ["other bytes", "all of it", "more than all", "nothing"])
def test_what_was_left_may_be_of_another_file(cut_off, tmp_path, left):
    url, data, asked = cut_off
    part = tmp_path / "root" / "a.bin.part"
    part.write_bytes(
        {"other bytes": bytes(30_000), "all of it": data, "more than all": data + b"x", "nothing": b""}[left]
    )
    path = fetch(url + "ranges-of/a.bin", md5_of(data), tmp_path / "root")
    assert path.read_bytes() == data and not part.exists()
    assert len(asked) == {"other bytes": 2, "all of it": 1, "more than all": 2, "nothing": 1}[left]


def test_a_file_that_has_changed_meanwhile_is_refused_after_beginning_again(cut_off, server, tmp_path, noise, refuses):
    url, data, asked = cut_off
    (server[1] / "a.bin").write_bytes(noise(2**17, seed=1).tobytes())
    with refuses(DownloadError, "what came has another checksum"):
        fetch(url + "ranges-of/a.bin", md5_of(data), tmp_path / "root")
    assert asked == ["/ranges-of/a.bin from 65536", "/ranges-of/a.bin"]
    assert not list((tmp_path / "root").iterdir())


def test_without_a_known_checksum_nothing_is_kept_to_go_on_from(cut_off, tmp_path, refuses):
    url, data, asked = cut_off
    with refuses(DownloadError, "could not fetch"):
        fetch(url + "half-of/ranges-of/a.bin", "", tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())
    assert fetch(url + "ranges-of/a.bin", "", tmp_path / "root").read_bytes() == data
    assert asked == ["/half-of/ranges-of/a.bin", "/ranges-of/a.bin"]


def test_a_file_that_is_gone_leaves_what_came_of_it(cut_off, server, tmp_path, refuses):
    url, data, _ = cut_off
    (server[1] / "a.bin").rename(server[1] / "b.bin")
    with refuses(DownloadError, "404"):
        fetch(url + "a.bin", md5_of(data), tmp_path / "root")
    assert (tmp_path / "root" / "a.bin.part").read_bytes() == data[: 2**16]


def test_of_two_at_once_one_fetches_and_the_other_waits(server, tmp_path, noise, monkeypatch):
    url, folder, asked = server
    data = noise(100_000).tobytes()
    (folder / "a.bin").write_bytes(data)
    begun, receive = threading.Event(), downloads._receive
    answers = []

    def run():
        answers.append(fetch(url + "a.bin", md5_of(data), tmp_path / "root"))

    def receive_slowly(*arguments):
        begun.set()
        second.start()
        second.join(0.2)  # waits for the lock
        assert second.is_alive() and not answers
        receive(*arguments)

    monkeypatch.setattr(downloads, "_receive", receive_slowly)
    first, second = threading.Thread(target=run), threading.Thread(target=run)
    first.start()
    first.join()
    second.join()
    assert asked == ["/a.bin"] and begun.is_set()
    assert [path.read_bytes() for path in answers] == [data, data]


def test_a_disk_that_cannot_be_synced_is_an_output_error(server, tmp_path, monkeypatch, refuses):
    url, folder, _ = server
    (folder / "a.bin").write_bytes(b"weights")

    def full(path):
        with as_output_error(path):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(downloads, "sync", full)
    with refuses(OutputError, "a.bin.part: Input/output error"):
        fetch(url + "a.bin", md5_of(b"weights"), tmp_path)


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


def test_no_progress_is_drawn_where_nobody_looks(server, tmp_path, capsys):
    url, folder, _ = server
    (folder / "a.bin").write_bytes(b"weights")
    fetch(url + "a.bin", "", tmp_path)
    assert capsys.readouterr() == ("", "")


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
