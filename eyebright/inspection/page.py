"""Pages of HTML that are one file and open offline: templates filled, figures within them."""

from __future__ import annotations

import base64
from typing import Any

import jinja2

from eyebright.inspection.style import encode
from eyebright.training.estimate import in_words

OWN = "eyebright.inspection"


def render_template(template: str, package: str = OWN, **values: Any) -> str:
    """A page of a template, which may stand on those of this folder.

    Args:
        template: its file.
        package: in whose folder it is.
        values: what it shows.
    """
    folders = [jinja2.PackageLoader(one, ".") for one in dict.fromkeys((package, OWN))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(folders), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.globals.update(percent=_percent, in_words=in_words, text=_text)
    return environment.get_template(template).render(**values)


def svg(figure: Any) -> str:
    """A figure as an SVG element."""
    text = encode(figure, "svg").decode()
    return text[text.index("<svg") :]


def png(figure: Any) -> str:
    """A figure as a PNG for a data URL."""
    return as_base64(encode(figure, "png", 110))


def as_base64(picture: bytes) -> str:
    """A picture's bytes for a data URL."""
    return base64.b64encode(picture).decode()


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _text(sentences: list[str]) -> str:
    """Sentences, one after the other."""
    return " ".join(f"{line[0].upper()}{line[1:]}." for line in sentences)
