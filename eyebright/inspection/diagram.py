"""The structure of a network as people draw it: stages of units, units of boxes, alike neighbours folded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from eyebright.inspection.describe import headline, kind_of
from eyebright.inspection.trace import Pair, Step, trace, without_weights
from eyebright.layers.fused import in_a_row
from eyebright.layers.network import Network


@dataclass(frozen=True, eq=False)
class Box:
    """A layer with what directly follows it alone (normalisation, nonlinearity, dropout), or a join of branches.

    Attributes:
        number: of its last step.
        lines: what it is; the first line is the layer, the others what follows.
        kind: ``"convolution"``, ``"pool"``, ``"dense"``, ``"join"`` or ``"other"``.
        path: the first layer's state-dict prefix.
        inputs: numbers of the boxes that it takes, in order; −1 is the picture.
        output_shape: without the batch dimension.
        receptive_field: height and width in pixels; None: the whole picture.
        parameters: of all its layers.
        multiply_adds: of one picture.
    """

    number: int
    lines: tuple[str, ...]
    kind: str
    path: str
    inputs: tuple[int, ...]
    output_shape: tuple[int, ...]
    receptive_field: Pair | None
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, eq=False)
class Unit:
    """Boxes that belong together: one layer, or a block, or a module of several branches.

    Attributes:
        path: its state-dict prefix.
        boxes: in the order in which they are computed.
        entry: number of the box that it takes; −1 is the picture.
        receptive_field: after it, or after the last of those that are alike.
        times: how many alike stand one after the other; this is the first.
    """

    path: str
    boxes: tuple[Box, ...]
    entry: int
    receptive_field: Pair | None
    times: int = 1

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of its last box."""
        return self.boxes[-1].output_shape

    @property
    def parameters(self) -> int:
        """Of all `times`."""
        return self.times * sum(box.parameters for box in self.boxes)

    @property
    def multiply_adds(self) -> int:
        """Of all `times`."""
        return self.times * sum(box.multiply_adds for box in self.boxes)

    @property
    def is_single(self) -> bool:
        """Whether it is one box."""
        return len(self.boxes) == 1

    def branches(self) -> list[tuple[Box, ...]]:
        """Its boxes but the joins, as rows of which each box takes the one before it."""
        rows: list[list[Box]] = []
        takers = [source for box in self.boxes if box.kind != "join" for source in box.inputs]
        for box in self.boxes:
            if box.kind == "join":
                continue
            row = next((row for row in rows if box.inputs == (row[-1].number,)), None)
            if row is not None and takers.count(row[-1].number) == 1:
                row.append(box)
            else:
                rows.append([box])
        return [tuple(row) for row in rows]

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """Equal for units that look the same."""
        places = {self.entry: -1} | {box.number: index for index, box in enumerate(self.boxes)}
        return tuple(
            (box.lines, box.output_shape, tuple(places.get(source, -2) for source in box.inputs)) for box in self.boxes
        )


@dataclass(frozen=True, eq=False)
class Stage:
    """A stage of the network.

    Attributes:
        name: of the stage.
        units: in order.
        receptive_field: after the stage; of folded units after the last of them.
    """

    name: str
    units: tuple[Unit, ...]
    receptive_field: Pair | None

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of its last unit."""
        return self.units[-1].output_shape

    @property
    def parameters(self) -> int:
        """Of all its units."""
        return sum(unit.parameters for unit in self.units)

    @property
    def multiply_adds(self) -> int:
        """Of one picture."""
        return sum(unit.multiply_adds for unit in self.units)


@dataclass(frozen=True, eq=False)
class Diagram:
    """A network as stages of units of boxes.

    Attributes:
        model: the network's name.
        input_shape: of one picture, `(C, H, W)`.
        stages: in order.
    """

    model: str
    input_shape: tuple[int, int, int]
    stages: tuple[Stage, ...]


def make_diagram(model: Network, input_size: int | None = None) -> Diagram:
    """The structure of a network for pictures of one size. Nothing is computed; auxiliary heads are not shown.

    Args:
        model: the network.
        input_size: height and width of the picture, in pixels; by default what the network was designed for.

    Raises:
        InputSizeError: the picture is smaller than the network can take.
    """
    size = model.default_input if input_size is None else input_size
    shadow = without_weights(model)
    paths = {module: path for path, module in shadow.named_modules()}
    stage_of = {
        paths[layer]: stage
        for stage, modules in shadow.stages().items()
        for module in modules
        for layer in module.modules()
    }
    boxes = _boxes(trace(shadow, size), stage_of)
    stages = []
    for name, modules in shadow.stages().items():
        members = [paths[module] for module in in_a_row(modules)]
        units = _units(boxes, members)
        if units:
            stages.append(Stage(name, tuple(_folded(units)), units[-1].boxes[-1].receptive_field))
    return Diagram(model.model_name or type(model).__name__, (model.in_channels, size, size), tuple(stages))


def _boxes(steps: list[Step], stage_of: dict[str, str]) -> list[Box]:
    """Steps as boxes: what follows a layer alone, in the same stage and unit, is part of its box."""
    takers = [source for step in steps for source in step.inputs]
    boxes: dict[int, Box] = {}  # number of its last step → box
    for number, step in enumerate(steps):
        parameters = sum(p.numel() for p in step.module.parameters()) if step.module is not None else 0
        before = boxes.get(step.inputs[0]) if len(step.inputs) == 1 else None
        follows = (
            before is not None
            and takers.count(before.number) == 1
            and stage_of[step.path] == stage_of[before.path]
            and _is_small(step, before)
        )
        line = headline(step.operation, step.module)
        if before is not None and follows:
            del boxes[before.number]
            boxes[number] = replace(
                before, number=number, lines=(*before.lines, line), parameters=before.parameters + parameters,
                output_shape=step.output_shape,
            )  # fmt: skip
        else:
            boxes[number] = Box(
                number, (line,), kind_of(step.operation), step.path, step.inputs, step.output_shape,
                step.receptive_field, parameters, step.multiply_adds,
            )  # fmt: skip
    return list(boxes.values())


def _is_small(step: Step, before: Box) -> bool:
    """Whether a step is drawn as a part of the box before it: by its kind, and only within the same unit."""
    beside = (
        step.path.rpartition(".")[0] == before.path.rpartition(".")[0] or before.path in step.path.rpartition(".")[0]
    )
    return kind_of(step.operation) == "other" and beside


def _units(boxes: list[Box], members: list[str]) -> list[Unit]:
    """The boxes of a stage, those of each module together."""
    units: list[Unit] = []
    for path in members:
        own = tuple(box for box in boxes if box.path == path or box.path.startswith(f"{path}."))
        if own:
            numbers = {box.number for box in own}
            entry = next((source for box in own for source in box.inputs if source not in numbers), -1)
            units.append(Unit(path, own, entry, own[-1].receptive_field))
    return units


def _folded(units: list[Unit]) -> Iterator[Unit]:
    """Alike neighbours as one, where they are more than one box; a single layer is always shown."""
    for unit, group in _runs(units):
        if unit.is_single:
            yield from group
        else:
            yield replace(unit, times=len(group), receptive_field=group[-1].receptive_field)


def _runs(units: list[Unit]) -> Iterator[tuple[Unit, list[Unit]]]:
    start = 0
    for stop in range(1, len(units) + 1):
        if stop == len(units) or units[stop].signature != units[start].signature:
            yield units[start], units[start:stop]
            start = stop
