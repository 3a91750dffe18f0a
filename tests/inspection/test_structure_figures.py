"""The tree, the graph, the comparison and the figure of all networks."""

import csv
import functools
import io
import json

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyBboxPatch
from rich.console import Console

from eyebright.data.images import Images
from eyebright.device import choose_plan
from eyebright.errors import ModelError, OutputError
from eyebright.inspection import standing as standings
from eyebright.inspection.compare import compare, comparison_as_dict, render_comparison
from eyebright.inspection.diagram import make_diagram
from eyebright.inspection.graph import draw_graph
from eyebright.inspection.standing import Standing, as_csv, draw_standings, find_standing, measure_speed, pareto_front
from eyebright.inspection.style import encode, save_figure
from eyebright.inspection.summary import summarise
from eyebright.inspection.tree import render_tree
from eyebright.models.catalog import list_models
from eyebright.models.create import create_model
from eyebright.models.published import WEIGHTS

LIKE_ANOTHER = {f"{kind}{depth}_cifar" for kind in ("resnet", "plain") for depth in (32, 44, 56, 110)} | {
    *("vgg13", "vgg16", "vgg11_bn", "vgg13_bn", "vgg16_bn", "resnet101", "resnet152"),
    *("resnet101_2015", "resnet152_2015", "plain34", "resnet34"),
}


def on_meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def drawn(table):
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


# the tree


def test_tree():
    model = on_meta("resnet50")
    lines = drawn(render_tree(make_diagram(model), summarise(model)))
    assert "resnet50 for 3×224×224" in lines
    assert "stem 64×56×56 11 9,536 0.0% 118.0" in lines
    assert "├─ conv 7×7 /2, 3→64 · batch norm · ReLU 64×112×112 7 9,536 0.0% 118.0" in lines
    assert "└─ layer3.1 × 5 1024×14×14 267 5,585,920 21.9% 1,091.8" in lines
    assert "│ conv 1×1, 1024→256 → conv 3×3, 256→256 → conv 1×1, 256→1024" in lines
    assert "└ add its own input · ReLU" in lines
    assert "total 25,557,032 100.0% 4,089.2" in lines
    assert any(line.startswith("layer4.0.conv2 ████████████████████ 2,359,296 9.2%") for line in lines)


def test_every_network_has_a_tree_and_a_graph():
    for name in list_models():
        if name not in LIKE_ANOTHER:
            model = on_meta(name)
            diagram = make_diagram(model)
            lines = drawn(render_tree(diagram, summarise(model)))
            assert all(any(line.startswith(stage.name) for line in lines) for stage in diagram.stages)
            assert draw_graph(diagram).axes


# the graph


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_graph_shows_all_layers_of_alexnet_with_their_shapes():
    shown = texts(draw_graph(make_diagram(on_meta("alexnet_2012"))))
    layers = ("conv 11×11 /4, 3→96", "local response norm", "conv 5×5, 96→256, 2 groups", "conv 3×3, 256→384")
    dense = ("dense 9216→4096", "dropout 0.5", "dense 4096→1000")
    for text in (*layers, *dense, "96×55×55", "96×27×27", "256×13×13", "256×6×6"):
        assert text in shown, text
    assert shown.count("max-pool 3×3 /2") == 3
    titles = ["conv1", "conv2", "conv3", "conv4", "conv5", "pool", "fc6", "fc7", "head"]
    assert [text for text in shown if text[1:4] == " · "] == [f"{i} · {name}" for i, name in enumerate(titles, start=1)]


def test_graph_of_152_layers_is_folded():
    figure = draw_graph(make_diagram(on_meta("resnet152")))
    shown = texts(figure)
    assert [text for text in shown if text.startswith("×")] == ["× 2", "× 7", "× 35", "× 2"]
    assert shown.count("shortcut") == 4
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) < 70
    width, height = figure.get_size_inches()
    assert 1 < width / height < 2.5


def test_no_boxes_of_a_graph_overlap_unless_one_holds_the_other():
    for name in ("inception_v4", "resnet18", "googlenet"):
        figure = draw_graph(make_diagram(on_meta(name)))
        width, height = figure.get_size_inches()
        rectangles = [
            (p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height())
            for p in figure.axes[0].patches
            if isinstance(p, FancyBboxPatch)
        ]
        for left, top, right, bottom in rectangles:
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
        for i, one in enumerate(rectangles):
            for other in rectangles[i + 1 :]:
                apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
                inside = all((one[0] <= other[0], one[1] <= other[1], other[2] <= one[2], other[3] <= one[3]))
                assert apart or inside


def test_a_graph_is_written(eyebright, tmp_path, refuses):
    code, out, _ = eyebright("models", "lenet5", "--graph", tmp_path / "a.svg")
    assert (code, out) == (0, f"drawn: {tmp_path / 'a.svg'}\n")
    assert "conv 5×5, 6→16" in (tmp_path / "a.svg").read_text() or b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert encode(draw_graph(make_diagram(on_meta("lenet5")))) == (tmp_path / "a.svg").read_bytes()
    eyebright("models", "lenet5", "--graph", tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    code, _, err = eyebright("models", "lenet5", "--graph", tmp_path / "a.gif")
    assert code == 1
    assert f"name it {tmp_path / 'a.svg'}" in err
    with refuses(OutputError, "cannot draw into"):
        save_figure(tmp_path / "a", draw_graph(make_diagram(on_meta("lenet5"))))


# the comparison


def test_what_differs_between_the_two_forms_of_resnet50():
    left, right = (summarise(on_meta(name)) for name in ("resnet50", "resnet50_2015"))
    rows = compare(left, right)
    assert [row.left for row in rows if row.left] == list(left.layers)
    assert [row.right for row in rows if row.right] == list(right.layers)
    different = [row for row in rows if not row.alike]
    assert len(different) == 3 * 4
    assert different[0].left.settings == "256→128, 1×1, no bias"
    assert different[0].right.settings == "256→128, 1×1, stride 2, no bias"
    lines = drawn(render_comparison(left, right))
    assert any("… 29 alike" in line for line in lines)
    assert lines[-1] == "159 layers 4,089.2 MMAC 25,557,032 159 layers 3,858.0 MMAC 25,557,032"
    found = json.loads(json.dumps(comparison_as_dict(left, right)))
    assert (found["alike"], len(found["different"])) == (147, 12)
    assert found["resnet50_2015"]["multiply_adds"] == right.multiply_adds


def test_layers_without_a_counterpart():
    rows = compare(summarise(on_meta("vgg13")), summarise(on_meta("vgg16")))
    only_right = [row.right for row in rows if row.left is None]
    assert len(only_right) == 6
    assert {layer.kind for layer in only_right} == {"Conv2d", "ReLU"}
    assert all(row.alike for row in compare(*[summarise(on_meta("alexnet"))] * 2))


def test_the_command_compares(eyebright):
    code, out, _ = eyebright("models", "alexnet", "--compare", "zfnet")
    assert code == 0
    assert "alexnet for 3×224×224" in out and "zfnet for 3×224×224" in out
    code, out, _ = eyebright("models", "alexnet", "--compare", "zfnet", "--json", "--classes", 10)
    assert json.loads(out)["alexnet"]["parameters"] == 57_044_810
    assert eyebright("models", "alexnet", "--compare", "nothing")[0] == 1


# the list and the figure


def test_list(eyebright, monkeypatch):
    monkeypatch.setattr(standings, "find_standing", functools.cache(find_standing))  # seconds for all networks
    code, out, _ = eyebright("models")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert (code, len(rows)) == (0, 1 + len(list_models()))
    assert "resnet18 2015 11,689,512 1,814.1 224 69.76 / 89.08 imagenet BSD-3-Clause He, Zhang, Ren, Sun" in rows
    assert "lenet5_1998 1998 60,000 0.3 32 LeCun, Bottou, Bengio, Haffner" in rows
    code, out, _ = eyebright("models", "--json")
    assert code == 0
    found = {row["name"]: row for row in json.loads(out)}
    assert list(found) == list_models()
    assert found["inception_v4"]["multiply_adds"] == pytest.approx(12254e6, rel=1e-3)


def test_a_network_says_its_paper_and_its_weights(eyebright):
    _, out, _ = eyebright("models", "resnet50", "--input", 160)
    assert "resnet50 for 3×160×160" in out
    assert "paper: He, Zhang, Ren, Sun: Deep Residual Learning" in out
    assert "weights: --weights imagenet: 76.13% / 92.86%, BSD-3-Clause, torchvision" in out
    assert "--weights imagenet-v2" in out
    _, out, _ = eyebright("models", "lenet5", "--layers")
    assert "Conv2d 1→6, 5×5" in out


def make_standing(name, top1, multiply_adds, speed=None, parameters=10_000_000):
    return Standing(name, 2015, "imagenet", 224, parameters, multiply_adds, top1, 0.9, speed, "BSD-3-Clause")


def test_pareto_front():
    points = [(1, 0.5), (2, 0.7), (2, 0.6), (3, 0.6), (4, 0.9)]
    assert pareto_front(points, less_is_better=True) == [(1, 0.5), (2, 0.7), (4, 0.9)]
    assert pareto_front(points, less_is_better=False) == [(4, 0.9)]
    assert pareto_front([(5, 0.1), *points], less_is_better=False) == [(4, 0.9), (5, 0.1)]
    assert pareto_front([], less_is_better=True) == []


def test_figure_of_all_networks(tmp_path):
    rows = [make_standing("resnet18", 0.7, 1.8e9, 70), make_standing("vgg16", 0.72, 15e9, 9, 138e6),
            make_standing("alexnet", 0.56, 0.7e9, 190), make_standing("plain18", None, 1.8e9)]  # fmt: skip
    figure = draw_standings(rows, "imagenet, as published", choose_plan("cpu"))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert sorted(text.get_text() for text in axes.texts) == ["alexnet", "resnet18", "vgg16"]
    (front,) = (line for line in figure.axes[1].lines if len(line.get_xdata()))
    assert list(front.get_xdata()) == [9, 70, 190]
    sizes = [collection.get_sizes()[0] for collection in figure.axes[1].collections]
    assert sizes[1] / sizes[0] == pytest.approx(13.8)
    assert len(draw_standings([make_standing("resnet18", 0.7, 1e9)], "x").axes) == 1
    beside = standings.save_standings(tmp_path / "all.png", figure, rows)
    assert beside.read_text() == as_csv(rows)
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [row["model"] for row in read] == ["resnet18", "vgg16", "alexnet", "plain18"]
    assert (read[1]["pictures_per_second"], read[3]["top1"]) == ("9", "")


def test_speed_is_measured(monkeypatch):
    monkeypatch.setattr(standings, "SECONDS", 0.0)
    found = measure_speed(find_standing("resnet20_cifar"), choose_plan("cpu"))
    assert 1 < found.pictures_per_second < 1e6
    assert (found.weights, found.top1) == ("cifar10", pytest.approx(0.9173))


def test_the_figure_command(eyebright, tmp_path, monkeypatch):
    monkeypatch.setattr(standings, "SECONDS", 0.0)
    code, out, _ = eyebright("models", "--figure", tmp_path / "all.svg", "--weights", "cifar10", "--json")
    assert code == 0
    assert [row["model"] for row in json.loads(out)] == [f"resnet{depth}_cifar" for depth in (20, 32, 44, 56, 110)]
    assert (tmp_path / "all.svg").exists() and (tmp_path / "all.csv").exists()
    code, _, err = eyebright("models", "--figure", tmp_path / "all.svg", "--weights", "nothing")
    assert (code, "no network has published weights called 'nothing'" in err) == (1, True)


@pytest.mark.filterwarnings("ignore:the data has no pictures")
def test_accuracy_is_measured_on_data(eyebright, tmp_path, monkeypatch):
    """With weights that are fresh ones, given out as published."""
    from PIL import Image

    from eyebright.classifier import Classifier

    def published(name, weights, device):
        facts = WEIGHTS[name][weights]
        return Classifier(create_model(name, seed=0), facts.classes, facts.prepare)

    monkeypatch.setattr(standings.Classifier, "published", published)
    for part, count in (("train", 1), ("test", 3)):
        for name in ("cat", "dog"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / f"{index}.png")
    options = ("--weights", "cifar10", "--no-speed", "--data", tmp_path / "set", "--json")
    code, out, _ = eyebright("models", "--figure", tmp_path / "all.png", *options)
    assert code == 0
    assert all(row["top1"] in (0.0, 1 / 6, 1 / 3, 0.5) for row in json.loads(out))
    assert all(row["pictures_per_second"] is None for row in json.loads(out))


def test_images_are_no_source_of_figures_without_classes(refuses):
    with refuses(ModelError, "zfnet has no published weights"):
        standings.measure_accuracy(
            find_standing("zfnet"), Images(np.zeros((1, 8, 8, 3), np.uint8), np.array([0]), ("a",))
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--graph", "x.svg"), ("--compare", "alexnet"), ("--classes", 3), ("resnet18", "--figure", "f.svg"),
        ("--figure", "f.svg", "--classes", 3), ("resnet18", "--weights", "imagenet"), ("--data", "cifar10"),
        ("resnet18", "--input", 10**9), ("resnet18", "--classes", 10**17),
        ("--no-speed",), ("lenet5", "--layers", "--json"), ("lenet5", "--layers", "--graph", "x.svg"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_there_are_refused(eyebright, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert eyebright("models", *arguments)[0] == 2
    assert not list(tmp_path.iterdir())
