import csv
import io
import json
import warnings
from functools import partial

import numpy as np
import pytest

from eyebright.curation import curate as module
from eyebright.curation.patches import patch_features


@pytest.fixture(autouse=True)
def fewer_filters(monkeypatch):
    monkeypatch.setattr(module, "patch_features", partial(patch_features, filters=12))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def write_scenes(folder, count, landscape, encode, seed=0, brighter=0):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = landscape(24, 32, seed=seed + number).astype(int) + brighter
        (folder / f"{number}.png").write_bytes(encode(pixels.clip(0, 255).astype(np.uint8)))


@pytest.fixture
def data(tmp_path, landscape, encode):
    """Two classes of twelve; a picture is in both."""
    for place, name in enumerate(("cats", "dogs")):
        write_scenes(tmp_path / "data" / name, 12, landscape, encode, seed=50 * place)
    (tmp_path / "data/dogs/3.png").write_bytes((tmp_path / "data/cats/7.png").read_bytes())
    return tmp_path / "data"


def test_page_and_list_are_written_and_told(eyebright, data, elsewhere):
    done = eyebright("curate", data)
    assert done.returncode == 0, done.stderr
    assert "1 × contradiction: the same picture under two labels" in done.stdout
    assert "train: dogs/3.png" in done.stdout and "the same file as train: cats/7.png (cats)" in done.stdout
    assert "Look at them and decide: curation/data/suspects.html" in done.stdout
    (first, *_) = csv.DictReader((elsewhere / "curation/data/suspects.csv").open(newline=""))
    assert (first["kind"], first["path"], first["label"]) == ("contradiction", "dogs/3.png", "dogs")
    assert 'data-path="dogs/3.png"' in (elsewhere / "curation/data/suspects.html").read_text("utf-8")
    assert not (elsewhere / "curation/data/drift.png").exists()


def test_json_has_what_the_page_shows(eyebright, data, tmp_path):
    done = eyebright("curate", data, "--json", "--out", tmp_path / "out", "--folds", 3)
    told = json.loads(done.stdout)
    assert told["pictures"] == {"train": 24} and told["drift"] is None and 0 <= told["accuracy"] <= 1
    assert told["counts"]["contradiction"] == 1 and told["page"] == str(tmp_path / "out" / "suspects.html")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/suspects.csv").read_text("utf-8"))))
    assert [row["path"] for row in rows] == [one["path"] for one in told["suspects"]]


def test_decisions_to_keep_drop_and_relabel_are_followed(eyebright, data, tmp_path):
    decisions = tmp_path / "decisions.csv"

    def contradictions(line):
        decisions.write_text(f"part,path,decision,label,note\n{line}\n")
        told = json.loads(eyebright("curate", data, "--json", "--curation", decisions).stdout)
        assert any(note.startswith(f"decisions of {decisions}: 1 to ") for note in told["notes"])
        return told["counts"].get("contradiction", 0), told["counts"].get("duplicate", 0), told["pictures"]["train"]

    assert contradictions("train,dogs/3.png,keep,,") == (0, 0, 24)
    assert contradictions("train,dogs/3.png,drop,,") == (0, 0, 23)
    assert contradictions("train,dogs/3.png,relabel,cats,") == (0, 1, 24)


def test_new_pictures_without_labels_are_compared(eyebright, data, tmp_path, landscape, encode):
    write_scenes(tmp_path / "new", 24, landscape, encode, seed=500, brighter=70)
    said = eyebright("curate", data, "--against", tmp_path / "new", "--out", tmp_path / "o").stdout
    assert "The second set looks different" in said and "brighter" in said
    assert (tmp_path / "o/drift.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_printed_as_they_are(eyebright, data):
    (data / "cats/7.png").rename(data / "cats/[bold]7.png")
    (data / "dogs").rename(data / "[dogs]")
    done = eyebright("curate", data)
    assert done.returncode == 0 and "train: cats/[bold]7.png" in done.stdout, done.stderr


def test_more_than_are_listed_are_counted(eyebright, data):
    for number in range(11):
        (data / f"cats/copy {number}.png").write_bytes((data / "cats/0.png").read_bytes())
    done = eyebright("curate", data)
    assert "11 × duplicate" in done.stdout and "… and 1 more" in done.stdout


def test_where_nothing_is_wrong_it_says_so(eyebright, tmp_path, landscape, encode):
    for place, name in enumerate(("cats", "dogs")):
        write_scenes(tmp_path / "few" / name, 1, landscape, encode, seed=90 * place)
    done = eyebright("curate", tmp_path / "few")
    assert "Nothing was found." in done.stdout
    assert "note: Labels were not judged: a class has a single picture." in done.stdout


@pytest.mark.parametrize("source", [".", "../here"])
def test_data_in_the_folder_at_hand_are_called_by_its_name(source, eyebright, data, monkeypatch, elsewhere):
    for name in ("cats", "dogs"):
        (data / name).rename(elsewhere / name)
    assert "decide: curation/here/suspects.html" in eyebright("curate", source).stdout


def test_labels_are_judged_by_the_recipe_of_a_run(eyebright, tmp_path, data):
    made = eyebright("train", "lenet5-digits", "--data", data, "--set", "training.epochs=1", "--out", tmp_path / "run")
    assert made.returncode == 0, made.stderr
    told = json.loads(eyebright("curate", data, "--run", tmp_path / "run", "--folds", 2, "--json").stdout)
    assert told["accuracy"] is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no data at 'nowhere'"),
        (["{data}", "--against", "nowhere"], "there is no data at 'nowhere'"),
        (["{data}", "--run", "nowhere"], "nowhere"),
        (["{data}", "--curation", "nowhere.csv"], "cannot take decisions from nowhere.csv"),
        (["{data}", "--against", "{data}/cats"], "at least 20 in each set"),
    ],
    ids=["source", "against", "run", "decisions", "few"],
)
def test_what_is_wrong_is_said(arguments, says, eyebright, data):
    done = eyebright("curate", *(argument.format(data=data) for argument in arguments))
    assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_that_cannot_be_read_stops_it_or_is_left_out(eyebright, data):
    (data / "cats/0.png").write_bytes(b"no picture")
    done = eyebright("curate", data)
    assert (done.returncode, "0.png" in done.stderr) == (1, True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = eyebright("curate", data, "--skip-unreadable", "--json")
    told = json.loads(done.stdout)
    assert told["pictures"] == {"train": 23} and any("1 of 24 pictures are left out" in note for note in told["notes"])
    assert "warning: 1 of 24 pictures are left out because they cannot be read: cats/0.png (" in done.stderr
