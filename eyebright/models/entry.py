"""What the catalog says of one network, and how it is built from its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, get_type_hints

from eyebright.layers.blocks import Style
from eyebright.layers.network import Network


@dataclass(frozen=True)
class Entry:
    """One network of the catalog.

    Attributes:
        name: by which it is found.
        build: makes it: a function, or a class with the arguments that tell it from its relatives; its keyword
            arguments are the options, and those of `Style` where it has one.
        summary: what it is, in one sentence.
        year: when it was published; None for a network of our own.
        paper: authors, title, where published; None for a network of our own.
    """

    name: str
    build: Callable[..., Network]
    summary: str
    year: int | None = None
    paper: str | None = None

    @property
    def network(self) -> type[Network]:
        """The class that it builds."""
        made = self._function
        network: type[Network] = made if isinstance(made, type) else get_type_hints(made)["return"]
        return network

    @property
    def options(self) -> dict[str, Any]:
        """Every option with its default."""
        found: dict[str, Any] = {}
        for name, option in inspect.signature(self.build).parameters.items():
            found |= asdict(option.default) if isinstance(option.default, Style) else {name: option.default}
        return found

    @property
    def types(self) -> dict[str, Any]:
        """The type of every option."""
        made = self._function
        signature = getattr(made, "__init__") if isinstance(made, type) else made  # noqa: B009 (mypy)
        types = get_type_hints(signature, include_extras=True)
        return types | (get_type_hints(Style, include_extras=True) if types.get("style") is Style else {})

    def create(self, options: Mapping[str, Any]) -> Network:
        """A network with all these options, which have been checked."""
        style = self.style(options)
        if style is None:
            return self.build(**options)
        others = {name: value for name, value in options.items() if name not in asdict(style)}
        return self.build(**others, style=style)

    def style(self, options: Mapping[str, Any]) -> Style | None:
        """The style that these options ask for; None for a network that has none.

        Raises:
            ModelError: options that mean nothing together.
        """
        if "style" not in self.types:
            return None
        return Style(**{field.name: options[field.name] for field in fields(Style)})

    @property
    def _function(self) -> Any:
        return self.build.func if isinstance(self.build, partial) else self.build

    @property
    def default_input(self) -> int:
        """Height and width, in pixels, of the pictures it was designed for."""
        return self.network.default_input

    @property
    def in_channels(self) -> int:
        """Channels of the pictures it was designed for: 1 grey, 3 colour."""
        channels: int = self.options["in_channels"]
        return channels
