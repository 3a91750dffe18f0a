import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from eyebright.curation import page
from eyebright.curation.curate import Curation
from eyebright.curation.duplicates import Duplicates
from eyebright.curation.page import SIDE, render_page, write_curation
from eyebright.curation.suspects import Suspect, rank
from eyebright.data import decisions
from eyebright.data.decisions import PARTS, Decision
from eyebright.data.images import ImageFiles, Images
from eyebright.errors import OutputError

CLASSES = ("cats & <i>kittens</i>", "dogs")
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are closed in order; gathers cards, pictures, options, text and headings."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cards, self.pictures, self.options, self.text = [], [], [], [], ""
        self.tags = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if given.get("class") == "card":
            self.cards.append((given["data-part"], given["data-path"]))
        if tag == "img":
            self.pictures.append(given["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data
        if self.open and self.open[-1] == "option":
            self.options.append(data)


def suspect(kind="label", index=0, path="picture 0", part="train", **values):
    texts = {"label": CLASSES[0], "suggestion": CLASSES[1], "score": 1.0, "reason": "why"} | values
    return Suspect(kind, part, index, path, **texts)


@pytest.fixture
def make(noise):
    """`make([suspects])`: a curation of two parts."""

    def curation(suspects, channels=3, **values):
        parts = {
            part: Images(noise(4, 20, 12, channels, seed=seed), np.array([0, 1, 0, 1]), CLASSES)
            for seed, part in enumerate(("train", "test"))
        }
        nothing = Duplicates((), {"train": 4, "test": 4}, 0.9)
        return replace(Curation("a/b/<b>pets</b>", parts, tuple(rank(suspects)), nothing, None, None, ()), **values)

    return curation


def decode(source):
    head, _, data = source.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_every_suspect_has_a_card_with_its_pictures(make):
    suspects = [
        suspect(index=1, path="picture 1"),
        suspect("leak", 2, "picture 2", "test", copy=("train", 3)),
        suspect("odd", 0, "picture 0", suggestion=""),
    ]
    curation = make(suspects)
    shown = Page(render_page(curation))
    assert shown.cards == [("test", "picture 2"), ("train", "picture 1"), ("train", "picture 0")]
    pictures = [decode(source) for source in shown.pictures]
    places = [("test", 2), ("train", 3), ("train", 1), ("train", 0)]
    assert len(pictures) == 4
    for picture, (part, index) in zip(pictures, places, strict=True):
        assert (picture.format, picture.size) == ("JPEG", (12, 20))
        seen, true = (np.asarray(one, float).mean((0, 1)) for one in (picture, curation.parts[part].pixels[index]))
        np.testing.assert_allclose(seen, true, atol=4)
    assert shown.options == ["relabel …", *CLASSES] * 3
    assert "→ dogs?" in shown.text and shown.text.count("→") == 1


@pytest.mark.parametrize("count", [1, page.SHOWN, page.SHOWN + 3])
def test_so_many_of_a_kind_are_shown(count, make, monkeypatch):
    monkeypatch.setattr(page, "_thumbnail", lambda *_: "")
    shown = Page(render_page(make([suspect(path=f"{index}.png") for index in range(count)])))
    assert len(shown.cards) == min(count, page.SHOWN)
    assert ("all are in suspects.csv" in shown.text) == (count > page.SHOWN)


def test_names_are_text_and_no_markup(make):
    path = "<b>\"a\" & 'b'</b>.png"
    written = render_page(make([suspect(path=path, reason="<script>no</script>")], notes=("<u>note</u>",)))
    shown = Page(written)
    assert shown.cards == [("train", path)]
    assert {"u", "i"}.isdisjoint(shown.tags) and shown.tags.count("script") == 1
    for text in (path, "<script>no</script>", "<u>note</u>", CLASSES[0]):
        assert text in shown.text


def test_grey_pictures_are_shown_grey(make):
    (source,) = Page(render_page(make([suspect()], channels=1))).pictures
    assert decode(source).mode == "L"


def test_large_pictures_are_shown_small(make, tmp_path, landscape, encode):
    (tmp_path / "0.png").write_bytes(encode(landscape(300, 600)))
    files = ImageFiles((tmp_path / "0.png",), np.array([0]), CLASSES)
    (source,) = Page(render_page(make([suspect()], parts={"train": files}))).pictures
    assert decode(source).size == (SIDE, SIDE // 2)


def test_a_page_without_suspects_says_so(make):
    shown = Page(render_page(make([])))
    assert "Nothing was found." in shown.text and shown.cards == [] and "agree with" not in shown.text
    assert "agree with 93 % of the labels" in Page(render_page(make([], accuracy=0.934))).text
    assert "8 pictures of 2 classes in train, test" in shown.text


def test_the_page_needs_nothing_from_elsewhere(make):
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)|@import|url\(", render_page(make([suspect()])))


def test_the_page_saves_what_decisions_are_read_from(make):
    written = render_page(make([suspect()]))
    (columns,) = re.findall(r'const lines = \["([\w,]+)"\]', written)
    assert tuple(columns.split(",")) == decisions.COLUMNS
    (values,) = re.findall(r"lines\.push\(\[(.*?)\]", written)
    assert [value.strip().removeprefix("one.") for value in values.split(",")] == [*decisions.COLUMNS[:-1], '""']
    made = {*re.findall(r'data-decision="(\w+)"', written), *re.findall(r', "(\w+)", event', written)}
    assert made == {"keep", "drop", "relabel"} < set(decisions.KINDS)
    assert all(Decision("0.png", kind, part=part) for kind in made for part in PARTS)


def test_page_and_list_are_written(make, tmp_path):
    write_curation(make([suspect()]), tmp_path / "new" / "folder")
    assert Page((tmp_path / "new" / "folder" / "suspects.html").read_text("utf-8")).cards
    assert len((tmp_path / "new" / "folder" / "suspects.csv").read_text("utf-8").splitlines()) == 2


def test_a_name_that_is_no_text_is_written_as_it_is(make, tmp_path):
    write_curation(make([suspect(path="caf\udce9.png")]), tmp_path)
    assert b"caf\xe9.png" in (tmp_path / "suspects.csv").read_bytes()
    assert "caf?.png" in (tmp_path / "suspects.html").read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_said(make, tmp_path, refuses):
    (tmp_path / "taken").write_text("")
    with refuses(OutputError, "taken"):
        write_curation(make([]), tmp_path / "taken")
