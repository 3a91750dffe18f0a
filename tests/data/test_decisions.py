import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyebright.data.decisions import COLUMNS, KINDS, Decision, read_decisions, tell_decisions, write_decisions
from eyebright.errors import DataError, OutputError

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
DECISIONS = st.builds(
    Decision,
    path=TEXT.filter(bool),
    decision=st.sampled_from(KINDS),
    label=TEXT,
    part=st.sampled_from(("", "train", "val", "test")),
    note=TEXT,
)


@given(st.lists(DECISIONS, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory, decisions):
    path = tmp_path_factory.getbasetemp() / "decisions.csv"
    write_decisions(path, decisions)
    read = read_decisions(path)
    assert sorted(map(repr, read)) == sorted(map(repr, decisions))
    assert [(one.part, one.path) for one in read] == sorted((one.part, one.path) for one in decisions)
    before = path.read_bytes()
    write_decisions(path, read[::-1])
    assert path.read_bytes() == before


def test_it_is_a_plain_csv(tmp_path):
    path = tmp_path / "decisions.csv"
    write_decisions(path, [Decision("b.png", "drop"), Decision("a, b.png", "relabel", "dogs", "train", 'a "dog"')])
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [list(COLUMNS), ["", "b.png", "drop", "", ""], ["train", "a, b.png", "relabel", "dogs", 'a "dog"']]


def test_names_that_are_no_text_are_kept(tmp_path):
    decisions = [Decision("caf\udce9.png", "drop")]
    write_decisions(tmp_path / "decisions.csv", decisions)
    assert read_decisions(tmp_path / "decisions.csv") == decisions


@pytest.mark.parametrize(
    "text",
    [
        "path,decision,label\r\ncats/ä.png,relabel,dogs\r\n",
        "\ufeffpath;decision;label\r\ncats/ä.png; relabel ;dogs\r\n;;\r\n",
        "label\tdecision\tpath\t\t\ndogs\trelabel\tcats/ä.png\t\t\n",
        "part,path,decision,label,note\n,cats/ä.png,relabel,dogs",
        'decision;path;label\nrelabel;"cats/ä.png";dogs\n',
    ],
)
def test_what_spreadsheets_make_of_it_is_read(tmp_path, text):
    (tmp_path / "decisions.csv").write_text(text, encoding="utf-8", newline="")
    assert read_decisions(tmp_path / "decisions.csv") == [Decision("cats/ä.png", "relabel", "dogs")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,label\na,b\n", "no column decision"),
        ("", "no column path and no decision"),
        ("path,decision,lable\na,relabel,b\n", "has the column lable"),
        ("path,decision\na,keep\nb,remove\n", "line 3: unknown decision 'remove' about b; expected is one of keep"),
        ("path,decision\n,drop\n", "line 2: a decision to drop the picture ''"),
        ("path,decision,part\na,drop,both\n", "line 2: a decision to drop the picture 'a' of the part 'both'"),
        ("path,decision\na,drop,b\n", "line 2 has more values"),
        ('path,decision\n"a,drop\n', "unexpected end of data"),
    ],
)
def test_what_is_no_decision_is_named(tmp_path, refuses, text, problem):
    (tmp_path / "decisions.csv").write_text(text)
    with refuses(DataError, f"cannot take decisions from .*decisions.csv: .*{problem}"):
        read_decisions(tmp_path / "decisions.csv")


def test_a_missing_file_and_folder_are_named(tmp_path, refuses):
    with refuses(DataError, "cannot take decisions from .*nowhere.csv: No such file"):
        read_decisions(tmp_path / "nowhere.csv")
    with refuses(OutputError, "cannot write"):
        write_decisions(tmp_path / "nowhere" / "decisions.csv", [])


def test_a_decision_of_another_kind_is_refused(refuses):
    with refuses(DataError, "unknown decision 'dropp' about a.png") as raised:
        Decision("a.png", "dropp")
    assert raised.value.remedy == "did you mean 'drop'?"
    with refuses(DataError, "a decision to drop the picture 'a.png' of the part 'rest'"):
        Decision("a.png", "drop", part="rest")


def test_they_are_counted_in_words():
    made = [Decision("a", "drop"), Decision("b", "keep"), Decision("c", "drop")]
    assert tell_decisions(made) == "1 to keep, 2 to drop"
    assert tell_decisions([]) == "none"
