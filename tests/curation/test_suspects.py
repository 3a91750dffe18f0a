import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as some

from eyebright.curation.suspects import COLUMNS, KINDS, Suspect, as_csv, rank


def suspect(kind="label", score=1.0, index=0, part="train", **values):
    texts = {"path": "cats/1.png", "label": "cats", "suggestion": "dogs", "reason": "why"} | values
    return Suspect(kind, part, index, score=score, **texts)


def test_worst_kinds_come_first_and_in_each_the_highest_scores():
    mixed = [suspect(kind, score) for kind in reversed(KINDS) for score in (0.2, 7, 1)]
    ranked = rank(mixed)
    assert [one.kind for one in ranked] == [kind for kind in KINDS for _ in range(3)]
    assert [one.score for one in ranked[:3]] == [7, 1, 0.2]


def test_equal_scores_stand_in_the_order_of_pictures():
    ranked = rank([suspect(index=3), suspect(index=1, part="val"), suspect(index=2)])
    assert [(one.part, one.index) for one in ranked] == [("train", 2), ("train", 3), ("val", 1)]


@given(*[some.text(some.characters(codec="utf-8"))] * 3)
def test_what_is_written_as_csv_can_be_read_back(path, label, reason):
    ones = [suspect(path=path, label=label, reason=reason, score=0.123456), suspect("odd", 12.0, suggestion="")]
    rows = list(csv.reader(io.StringIO(as_csv(ones), newline=""), strict=True))
    assert rows == [
        list(COLUMNS),
        ["1", "label", "train", path, label, "dogs", "0.1235", reason],
        ["2", "odd", "train", "cats/1.png", "cats", "", "12", "why"],
    ]


def test_commas_and_quotes_in_a_name():
    text = as_csv([suspect(path='a "b", c.png')])
    assert '"a ""b"", c.png"' in text
    assert next(csv.DictReader(io.StringIO(text)))["path"] == 'a "b", c.png'


def test_a_suspect_is_json():
    one = suspect("leak", copy=("train", 4))
    assert json.loads(json.dumps(one.as_dict()))["copy"] == ["train", 4]
    assert one.as_dict().keys() >= {"kind", "part", "index", "path", "label", "suggestion", "score", "reason"}
