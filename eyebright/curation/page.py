"""A page of suspects with their pictures, on which a person decides what becomes of each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from eyebright.curation.curate import Curation
from eyebright.curation.suspects import KINDS, Suspect, as_csv
from eyebright.files import make_folder, write_atomically
from eyebright.inspection.page import as_base64, render_template

SHOWN = 60  # suspects of a kind
SIDE = 144  # pixels: longest side of a picture on the page


def render_page(curation: Curation) -> str:
    """The page as HTML: one file that opens offline, with buttons for decisions and a way to save them."""
    sections = [
        {
            "kind": kind,
            "meaning": meaning,
            "count": curation.counts[kind],
            "cards": [_card(curation, one) for one in curation.suspects if one.kind == kind][:SHOWN],
        }
        for kind, meaning in KINDS.items()
        if kind in curation.counts
    ]
    return render_template(
        "suspects.html.jinja",
        "eyebright.curation",
        name=Path(curation.source).name or curation.source,
        count=sum(map(len, curation.parts.values())),
        parts=list(curation.parts),
        classes=curation.classes,
        accuracy=curation.accuracy,
        notes=curation.notes,
        sections=sections,
    )


def write_curation(curation: Curation, folder: Path) -> None:
    """Writes ``suspects.html`` and ``suspects.csv`` into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    listed = as_csv(curation.suspects).encode("utf-8", "surrogateescape")  # not every file's name is text
    write_atomically(folder / "suspects.csv", [listed])
    write_atomically(folder / "suspects.html", [render_page(curation).encode("utf-8", "replace")])


def _card(curation: Curation, suspect: Suspect) -> dict[str, object]:
    places = [(suspect.part, suspect.index), *([suspect.copy] if suspect.copy else [])]
    return suspect.as_dict() | {"pictures": [_thumbnail(curation, part, index) for part, index in places]}


def _thumbnail(curation: Curation, part: str, index: int) -> str:
    pixels = curation.parts[part].read(index, (SIDE, SIDE))
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return as_base64(file.getvalue())
