import hashlib
import http.server
import json
import re
import sys
import threading
from urllib.parse import unquote

import pyarrow
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import close_session
from pyarrow import parquet

from eyebright.data.hub import CONVERTED, is_hub_id
from eyebright.data.sources import load_data, load_parts
from eyebright.errors import DataError, DownloadError

MAIN = "main"


def commit_of(repository, revision):
    return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()


def answer_of(repositories, path):
    """What the Hub answers: JSON about a revision, the list of its files, or the bytes of one; None: not there."""
    by_commit = {commit_of(*place): (place, files) for place, files in repositories.items()}
    if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path):
        name, revision = found[1], found[2] or MAIN
        if (name, revision) in repositories:
            siblings = [{"rfilename": file} for file in repositories[name, revision]]
            return {"id": name, "sha": commit_of(name, revision), "siblings": siblings}
        return "RevisionNotFound" if any(name == own for own, _ in repositories) else "RepoNotFound"
    if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/([^?]+)(\?.*)?", path):
        files = by_commit[found[2]][1] if found[2] in by_commit else repositories.get((found[1], found[2]))
        if files is None:
            return "RevisionNotFound" if any(found[1] == own for own, _ in repositories) else "RepoNotFound"
        return [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in files.items()]
    if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        return by_commit[found[2]][1][found[3]]
    return "RepoNotFound"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine: (id, revision) → name → content, and the paths that were asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    repositories, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            path = unquote(self.path)
            asked.append(path)
            answer = answer_of(repositories, path)
            missing = isinstance(answer, str)
            data = answer if isinstance(answer, bytes) else json.dumps({} if missing else answer).encode()
            self.send_response(404 if missing else 200)
            if missing:
                self.send_header("X-Error-Code", answer)
            self.send_header("Content-Length", str(len(data)))
            if isinstance(answer, bytes):
                self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", path.split("/")[5])
            self.end_headers()
            if body:
                self.wfile.write(data)

        def do_HEAD(self):
            self.do_GET(body=False)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        serve(monkeypatch, f"http://127.0.0.1:{listening.server_port}", tmp_path)
        yield repositories, asked
        close_session()
        listening.shutdown()
        thread.join()


def serve(monkeypatch, address, tmp_path):
    """What the environment variables HF_ENDPOINT and HF_HOME say to a process that begins."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)


@pytest.fixture
def table(noise, encode):
    """`table(first, count)`: a Parquet file of pictures and labels, as bytes."""

    def make(first, count):
        rows = range(first, first + count)
        pictures = [{"bytes": encode(noise(5, 4, 3, seed=i)), "path": None} for i in rows]
        columns = pyarrow.table({"image": pictures, "label": [i % 2 for i in rows]})
        notes = {"info": {"features": {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}}}
        columns = columns.replace_schema_metadata({"huggingface": json.dumps(notes)})
        file = pyarrow.BufferOutputStream()
        parquet.write_table(columns, file)
        return file.getvalue().to_pybytes()

    return make


@pytest.fixture
def pets(table):
    """The files of a data set of 8 + 4 + 2 pictures."""
    return {
        "README.md": b"pets",
        "data/train-00000-of-00002.parquet": table(0, 4),
        "data/train-00001-of-00002.parquet": table(4, 4),
        "data/test-00000-of-00001.parquet": table(8, 4),
        "data/validation-00000-of-00001.parquet": table(12, 2),
    }


def counts(parts):
    return {name: len(part) for name, part in parts.items()}


@pytest.mark.parametrize("source", ["hub:owner/pets.v2", "owner/pets.v2", "hub:owner/pets.v2/data"])
def test_a_data_set_of_the_hub_is_fetched_and_read(hub, pets, noise, source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    repositories, asked = hub
    repositories["owner/pets.v2", MAIN] = pets
    parts = load_parts(source)
    assert counts(parts) == {"train": 8, "val": 2, "test": 4}
    assert parts["test"].classes == ("dog", "cat") and parts["test"].labels.tolist() == [0, 1] * 2
    assert parts["test"].read(1).tolist() == noise(5, 4, 3, seed=9).tolist()
    assert not [path for path in asked if "README" in path]
    assert counts(load_data(source).parts()) == {"train": 8, "val": 2, "test": 4}


def test_a_data_set_is_fetched_once_and_read_without_a_network(hub, pets, monkeypatch, offline, tmp_path):
    repositories, asked = hub
    repositories["owner/pets", MAIN] = pets
    first = load_parts("hub:owner/pets")
    fetched = [path for path in asked if "/resolve/" in path]
    assert len(set(fetched)) == 4
    load_parts("hub:owner/pets")
    assert [path for path in asked if "/resolve/" in path] == fetched
    serve(monkeypatch, offline.rstrip("/"), tmp_path)
    assert load_parts("hub:owner/pets")["test"].paths == first["test"].paths


def test_what_the_hub_made_of_another_form_is_taken_where_there_is_no_parquet(hub, table):
    repositories, _ = hub
    repositories["owner/pets", MAIN] = {"train.zip": b"x"}
    repositories["owner/pets", CONVERTED] = {
        "default/train/0000.parquet": table(0, 4),
        "default/train/0001.parquet": table(4, 4),
        "default/validation/0000.parquet": table(8, 2),
    }
    assert counts(load_parts("hub:owner/pets")) == {"train": 8, "val": 2}


def test_of_several_series_one_has_to_be_chosen(hub, table, refuses):
    repositories, asked = hub
    series = {
        f"{name}/{part}-00000-of-00001.parquet": table(i, 2)
        for i, name in enumerate("ab")
        for part in ("train", "test")
    }
    repositories["owner/pets", MAIN] = series
    with refuses(DataError, "the part train of hub:owner/pets could be a/train or b/train"):
        load_parts("hub:owner/pets")
    assert not [path for path in asked if "/resolve/" in path]
    assert load_parts("hub:owner/pets/b")["train"].labels.tolist() == [1, 0]
    assert not [path for path in asked if "/a/" in path]


def test_half_a_data_set_is_not_taken_for_it(hub, table, refuses):
    repositories, _ = hub
    repositories["owner/pets", MAIN] = {"train.zip": b"x"}
    repositories["owner/pets", CONVERTED] = {"default/partial-train/0000.parquet": table(0, 4)}
    with refuses(DownloadError, "the Hub made Parquet files of its first gigabytes only"):
        load_parts("hub:owner/pets")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("hub:owner/pets", "it has no Parquet files"),
        ("hub:owner/pets/data", "it has no Parquet files in data"),
        ("hub:owner/dogs", "could not fetch the data set owner/dogs from the Hugging Face Hub"),
        ("owner/dogs", "could not fetch the data set owner/dogs from the Hugging Face Hub"),
        ("hub:", "could not fetch the data set  from the Hugging Face Hub"),
        ("hub:../x", r"could not fetch the data set \.\./x"),
    ],
)
def test_what_the_hub_does_not_have_is_refused(hub, refuses, source, reason, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hub[0]["owner/pets", MAIN] = {"README.md": b"pets"}
    with refuses(DownloadError, reason) as raised:
        load_parts(source)
    assert str(tmp_path) in raised.value.remedy


def test_without_a_network_the_id_is_named(offline, monkeypatch, tmp_path, refuses):
    serve(monkeypatch, offline.rstrip("/"), tmp_path)
    with refuses(DownloadError, "could not fetch the data set owner/pets"):
        load_parts("hub:owner/pets")


def test_a_download_that_breaks_off_is_named(hub, pets, refuses, monkeypatch):
    def broken(*_, **__):
        raise ConnectionError("the line is dead")

    hub[0]["owner/pets", MAIN] = pets
    monkeypatch.setattr(HfApi, "snapshot_download", broken)
    with refuses(DownloadError, "owner/pets from the Hugging Face Hub: the line is dead"):
        load_parts("hub:owner/pets")


@pytest.mark.parametrize("source", ["pets/trian", "pets/cats.zip", "gone/cats.zip", "gone/list.csv", "gone/cat.jpg"])
def test_a_slip_in_a_path_is_not_asked_for_at_the_hub(hub, picture_folder, monkeypatch, refuses, source):
    monkeypatch.chdir(picture_folder({"train/cats": 1, "train/dogs": 1}, name="pets").parent)
    with refuses(DataError, f"there is no data at '{source}'"):
        load_parts(source)
    assert not hub[1]


def test_a_folder_goes_before_an_id(hub, picture_folder, monkeypatch):
    monkeypatch.chdir(picture_folder({"pets/cats": 1, "pets/dogs": 1}, name="owner").parent)
    assert load_parts("owner/pets")["train"].classes == ("cats", "dogs")
    assert not hub[1]


def test_without_the_library_the_reader_learns_what_to_install(monkeypatch, refuses, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refuses(DataError, "huggingface_hub is not installed") as raised:
        load_parts("owner/pets")
    assert raised.value.remedy.startswith("pip install 'eyebright[hub]'")


@pytest.mark.parametrize(
    ("source", "answer"),
    [("owner/name", True), ("o-1/n_2.3", True), ("name", False), ("a/b/c", False), ("./a", False), ("../a", False),
     ("/a/b", False), ("a/", False), ("ä/b", False), ("a/b c", False)],
)  # fmt: skip
def test_ids_are_known_by_their_form(source, answer):
    assert is_hub_id(source) == answer
