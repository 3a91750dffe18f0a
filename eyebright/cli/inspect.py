"""`eyebright inspect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from eyebright.cli.options import Device, Json, Root, count_up, print_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

What = Literal["curves", "filters", "features", "shift", "gradients", "saliency", "mistakes", "embedding", "robustness"]
EXPLAINED, SHOWN, MAPPED, ASKED = 6, 12, 2000, 1000  # pictures: saliency, mistakes, embedding and features, robustness


@dataclass(frozen=True)
class Asked:
    """What the command was given."""

    run: Path
    layer: str | None
    kernel: int | None
    stage: str | None
    count: int | None
    part: str
    beside: tuple[Path, ...]
    data: str | None
    root: Path | None
    device: str


@dataclass(frozen=True)
class Seen:
    """What there is to show: figures by the end of their names, values for JSON, and sentences."""

    figures: dict[str, Figure]
    values: dict[str, Any]
    sentences: list[str]


def command(
    run: Annotated[
        Path,
        typer.Argument(help="A run's folder; or a transfer's, but for curves, filters, gradients, shift of layers."),
    ],
    what: Annotated[
        What,
        typer.Argument(
            help="curves: loss, accuracy and rate. filters: kernels before training, after it, and what changed. "
            "features: what channels answer to. shift: how each layer's inputs moved. gradients: of each layer. "
            "saliency: what answers rest on. mistakes: the surest ones, confused pairs, each class. embedding: a map "
            "of pictures. robustness: answers as pictures change.",
            show_default=False,
        ),
    ],
    layer: Annotated[
        str | None, typer.Option(help="filters: which convolution (default: the first).", show_default=False)
    ] = None,
    kernel: Annotated[
        int | None,
        typer.Option(help="filters: whose slices (default: of the one that moved farthest).", show_default=False),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="features, saliency: which (default: the last with places).", show_default=False)
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Pictures to look at.", show_default=False)] = None,
    split: Annotated[str, typer.Option(help="Whose pictures: train, val or test.")] = "val",
    beside: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="curves, shift: another run.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="shift: from the run's pictures to those of this SOURCE.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to draw: .png, .svg, .pdf (default: in the run).", show_default=False),
    ] = None,
    root: Root = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Look into a run's network: draw what there is to see, and say it."""
    from eyebright.files import make_folder, write_json
    from eyebright.inspection.style import check_form, save_figure

    name = "-".join([what, *(value for value in (layer, stage, data and Path(data).name) if value)])
    path = run / "inspection" / f"{name}.png" if figure is None else figure
    check_form(path)  # before anything slow
    seen = LOOKS[what](Asked(run, layer, kernel, stage, count, split, tuple(beside or ()), data, root, device))
    if figure is None:
        make_folder(path.parent)
    paths = [path.with_stem(path.stem + ending) for ending in seen.figures]
    for place, drawing in zip(paths, seen.figures.values(), strict=True):
        save_figure(place, drawing)
    if figure is None:  # the run's report shows it from now on
        write_json(path.with_suffix(".json"), {"findings": seen.sentences, "figures": [place.name for place in paths]})
    if json:
        print_json(seen.values | {"findings": seen.sentences, "figures": [str(place) for place in paths]})
        return
    for line in (*seen.sentences, *(f"figure: {place}" for place in paths)):
        typer.echo(line)


def _curves(asked: Asked) -> Seen:
    """Runs that differ in their seeds only are drawn as one, with their spread."""
    from eyebright.inspection.curves import draw_runs, say_runs
    from eyebright.transfer.folder import open_run

    together: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {}
    for path in (asked.run, *asked.beside):
        opened = open_run(path)
        opened.require_epochs()
        together.setdefault(opened.recipe.to_toml(), []).append((path.name, opened.metrics()))
    runs = {several[0][0]: [metrics for _, metrics in several] for several in together.values()}
    return Seen({"": draw_runs(runs)}, {"runs": runs}, say_runs(runs))


def _filters(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.inspection.filters import draw_filters

    filters = road.inspect_filters(asked.run, asked.layer, root=asked.root)
    return Seen({"": draw_filters(filters, asked.kernel)}, filters.as_dict(), filters.findings())


def _features(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.inspection import features

    count = asked.count or MAPPED
    classifier, pictures = road.open_pictures(asked.run, asked.part, count, root=asked.root, device=asked.device)
    with count_up("looking at pictures", len(pictures)) as tick:
        channels = features.measure_channels(classifier, pictures, _steps(tick))
    chosen = features.choose_stage(channels, asked.stage)
    unused = features.unused_channels(classifier, pictures)
    figures = {
        "": features.draw_channels(classifier, pictures, chosen),
        "-maps": features.draw_maps(features.map_picture(classifier, pictures, 0)),
    }
    dead = {name: [int(place) for place in one.dead.nonzero()[0]] for name, one in channels.items()}
    return Seen(figures, {"dead": dead, "unused_inputs": unused}, features.say_channels(channels, unused))


def _shift(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.inspection.shift import draw_shift, measure_shift, say_shift

    if asked.data is not None:
        return _source_shift(asked, asked.data)
    runs = {path.name: measure_shift(road.read_observations(path)) for path in (asked.run, *asked.beside)}
    sentences = [f"{name}: {line}" for name, shifts in runs.items() for line in say_shift(shifts)]
    values = {
        name: [{"layer": one.layer, "drift": one.drift, "widening": one.widening} for one in shifts]
        for name, shifts in runs.items()
    }
    return Seen({"": draw_shift(runs)}, {"runs": values}, sentences)


def _source_shift(asked: Asked, source: str) -> Seen:
    from dataclasses import asdict

    from eyebright import road
    from eyebright.inspection.distribution_shift import compare_sources, draw_sources, say_sources
    from eyebright.inspection.pictures import sample

    count = asked.count or MAPPED
    classifier, pictures = road.open_pictures(asked.run, asked.part, count, root=asked.root, device=asked.device)
    others = road.other_pictures(source, root=asked.root)
    others = others.select(sample(min(count, len(others)), len(others), 0))
    with count_up("looking at pictures", len(pictures) + len(others)) as tick:
        shifts = compare_sources(classifier, pictures, others, _steps(tick))
    figure = draw_sources(shifts, asked.run.name, Path(source).name)
    return Seen({"": figure}, {"layers": [asdict(one) for one in shifts]}, say_sources(shifts))


def _gradients(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.inspection.gradients import draw_gradients, say_gradients

    seen = road.read_observations(asked.run)
    values = {"observations": [one.as_dict() for one in seen]}
    return Seen({"": draw_gradients(seen)}, values, say_gradients(seen))


def _saliency(asked: Asked) -> Seen:
    import numpy as np

    from eyebright import road
    from eyebright.inspection.saliency import draw_saliency, explain, say_saliency

    count = asked.count or EXPLAINED
    classifier, pictures = road.open_pictures(asked.run, asked.part, count, root=asked.root, device=asked.device)
    with count_up("explaining answers", len(pictures)) as tick:
        explained = []
        for index in range(len(pictures)):
            explained += explain(classifier, pictures, np.array([index]), stage=asked.stage)
            tick()
    rows = [
        {
            "picture": one.name, "true": one.true, "answer": one.answer, "probability": one.probability,
            "deletion": one.judgement.deletion_score, "insertion": one.judgement.insertion_score,
            "better_than_random": one.judgement.is_better_than_random,
        }
        for one in explained
    ]  # fmt: skip
    return Seen({"": draw_saliency(explained)}, {"pictures": rows}, say_saliency(explained))


def _mistakes(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.evaluation.evaluate import evaluate
    from eyebright.inspection import mistakes

    classifier, pictures = road.open_pictures(asked.run, asked.part, root=asked.root, device=asked.device)
    with count_up("answering pictures", len(pictures)) as tick:
        evaluation = evaluate(classifier, pictures, on_batch=_steps(tick))
    surest = mistakes.surest_mistakes(classifier, pictures, evaluation, asked.count or SHOWN)
    pairs = mistakes.confused_pairs(classifier, pictures, evaluation)
    figures = {"-classes": mistakes.draw_classes(evaluation)}
    if surest:
        figures = {"": mistakes.draw_mistakes(surest), "-pairs": mistakes.draw_pairs(pairs)} | figures
    rows = [{"picture": one.name, "true": one.true, "answers": [list(bar) for bar in one.shares]} for one in surest]
    confused = [{"true": one.true, "answer": one.answer, "count": one.count, "of": one.of} for one in pairs]
    return Seen(figures, {"mistakes": rows, "confused": confused}, mistakes.say_mistakes(evaluation))


def _embedding(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.inspection.embedding import draw_embedding, embed, say_embedding

    count = asked.count or MAPPED
    classifier, pictures = road.open_pictures(asked.run, asked.part, count, root=asked.root, device=asked.device)
    with count_up("looking at pictures", len(pictures)) as tick:
        embedding = embed(classifier, pictures, on_picture=tick)
    values = {
        "pictures": [pictures.name(index) for index in range(len(pictures))],
        "points": embedding.points.tolist(),
        "agreement": embedding.agreement,
    }
    return Seen({"": draw_embedding(embedding, classifier, pictures)}, values, say_embedding(embedding))


def _robustness(asked: Asked) -> Seen:
    from eyebright import road
    from eyebright.inspection.robustness import CHANGES, draw_robustness, measure_robustness, say_robustness

    count = asked.count or ASKED
    classifier, pictures = road.open_pictures(asked.run, asked.part, count, root=asked.root, device=asked.device)
    with count_up("changing pictures", sum(len(change.amounts) for change in CHANGES)) as tick:
        curves = measure_robustness(classifier, pictures, on_step=tick)
    rows = [
        {
            "change": curve.change.name, "unit": curve.change.unit, "amounts": list(curve.change.amounts),
            "accuracy": curve.accuracy.tolist(), "kept": curve.kept.tolist(), "half": curve.half,
        }
        for curve in curves
    ]  # fmt: skip
    return Seen({"": draw_robustness(curves)}, {"pictures": len(pictures), "curves": rows}, say_robustness(curves))


def _steps(tick: Callable[[], object]) -> Callable[[int], None]:
    """Moves a bar, which counts by ones, to where so many are done."""
    done = 0

    def reach(count: int) -> None:
        nonlocal done
        for _ in range(count - done):
            tick()
        done = count

    return reach


LOOKS: dict[What, Callable[[Asked], Seen]] = {
    "curves": _curves, "filters": _filters, "features": _features, "shift": _shift, "gradients": _gradients,
    "saliency": _saliency, "mistakes": _mistakes, "embedding": _embedding, "robustness": _robustness,
}  # fmt: skip
