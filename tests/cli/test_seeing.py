"""`eyebright doctor` and `eyebright inspect`, as their users call them."""

import base64
import json
import shutil
from html import unescape

import numpy as np
import pytest
from PIL import Image

from eyebright import road
from eyebright.classifier import Classifier
from eyebright.data.sources import load_data
from eyebright.training.fit import Fit
from eyebright.training.recipe import load_recipe
from eyebright.training.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run; its test part has been opened once."""
    path = tmp_path_factory.mktemp("seeing") / "run"
    road.train("lenet5-digits", out=path, seed=3, changes=["training.epochs=2"])
    return path


def test_the_doctor_says_what_is_wrong_and_draws_it(eyebright, run, tmp_path):
    picture = tmp_path / "found.svg"
    done = eyebright("doctor", run, "--figure", picture)
    assert done.returncode == 0
    assert "warning: validation has only 144 pictures [validation_too_small]" in done.stdout
    assert "  to do: data.val_fraction=0.2" in done.stdout
    assert b"validation too small" in picture.read_bytes()
    found = json.loads(eyebright("doctor", run, "--quick", "--json").stdout)
    assert [finding["name"] for finding in found["findings"]] == ["validation_too_small"]
    assert found["rules"] > 20
    done = eyebright("doctor", run, "--figure", tmp_path / "found.txt")
    assert done.returncode == 1
    assert "cannot draw into" in done.stderr


def test_a_run_that_has_not_begun_has_nothing_to_be_examined(eyebright, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "steps.jsonl").unlink()
    (copy / "layers.jsonl").unlink()
    done = eyebright("doctor", copy)
    assert done.returncode == 1
    assert "has not begun to train" in done.stderr
    done = eyebright("inspect", copy, "gradients")
    assert done.returncode == 1
    assert "was not looked into while it trained" in done.stderr


@pytest.mark.parametrize(
    ("what", "figures"),
    [
        ("curves", ("",)), ("filters", ("",)), ("features", ("", "-maps")), ("shift", ("",)), ("gradients", ("",)),
        ("saliency", ("",)), ("mistakes", ("", "-pairs", "-classes")), ("embedding", ("",)), ("robustness", ("",)),
    ],
)  # fmt: skip
def test_inspect_draws_and_says_what_there_is_to_see(what, figures, eyebright, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    done = eyebright("inspect", copy, what)
    assert (done.returncode, done.stderr) == (0, "")
    paths = [copy / "inspection" / f"{what}{ending}.png" for ending in figures]
    assert done.stdout.splitlines()[-len(paths) :] == [f"figure: {path}" for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    values = json.loads(eyebright("inspect", copy, what, "--count", 5, "--json", "--figure", tmp_path / "x.svg").stdout)
    assert values["findings"]
    assert values["figures"] == [str(tmp_path / f"x{ending}.svg") for ending in figures]
    assert len(Run.open(copy).environment["test_openings"]) == 1  # the run's own


def test_inspect_compares_the_runs_pictures_with_those_of_another_source(eyebright, run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")  # of no class
    figure = tmp_path / "x.svg"
    done = eyebright("inspect", run, "shift", "--data", tmp_path, "--count", 60, "--json", "--figure", figure)
    assert (done.returncode, done.stderr) == (0, "")
    values = json.loads(done.stdout)
    assert [layer["layer"] for layer in values["layers"]] == ["c1.0", "c3.0", "c5.0", "f6.0", "output"]
    assert values["layers"][0]["moved"] > 2 * values["layers"][0]["chance"]
    assert values["figures"] == [str(figure)]
    done = eyebright("inspect", run, "shift", "--data", tmp_path / "nothing")
    assert (done.returncode, "nothing" in done.stderr) == (1, True)


def test_the_report_shows_what_was_inspected(eyebright, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    for what in ("embedding", "features"):
        assert eyebright("inspect", copy, what, "--count", 40).returncode == 0
    assert eyebright("report", copy).returncode == 0
    html = unescape((copy / "report.html").read_text())
    kept = json.loads((copy / "inspection" / "embedding.json").read_text())
    assert "What was inspected" in html
    assert kept["findings"][0][1:40] in html
    for name in ("embedding.png", "features.png", "features-maps.png"):
        assert base64.b64encode((copy / "inspection" / name).read_bytes()).decode() in html
    assert "What was inspected" not in (run / "report.html").read_text()


def test_inspecting_test_pictures_is_noted(eyebright, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    assert eyebright("inspect", copy, "mistakes", "--split", "test").returncode == 0
    assert [opened["purpose"] for opened in Run.open(copy).environment["test_openings"]] == ["report", "inspect"]
    findings = json.loads(eyebright("doctor", copy, "--quick", "--json").stdout)["findings"]
    assert "test_opened_often" in [finding["name"] for finding in findings]


def test_runs_that_differ_in_their_seeds_are_one_curve(eyebright, run, tmp_path):
    other, third, picture = tmp_path / "other", tmp_path / "third", tmp_path / "curves.png"
    for path, epochs in ((other, 2), (third, 1)):
        done = eyebright("train", "lenet5-digits", "--out", path, "--set", f"training.epochs={epochs}", "--seed", 4)
        assert done.returncode == 0
    done = eyebright("inspect", run, "curves", "--beside", other, "--beside", third, "--json", "--figure", picture)
    runs = json.loads(done.stdout)["runs"]
    assert {name: len(several) for name, several in runs.items()} == {"run": 2, "third": 1}
    (third / "metrics.jsonl").unlink()
    done = eyebright("inspect", third, "curves", "--figure", picture)
    assert done.returncode == 1
    assert "has no epoch yet" in done.stderr


def test_inspect_shows_the_weights_that_the_run_began_with(eyebright, run, tmp_path):
    values = json.loads(
        eyebright("inspect", run, "filters", "--layer", "c3.0", "--json", "--figure", tmp_path / "x.png").stdout
    )
    assert values["shape"] == [16, 6, 5, 5]
    fit = Fit(load_recipe("lenet5-digits", ["training.epochs=2"]), load_data("digits"), seed=3)
    before = fit.model.get_submodule("c3.0").weight.detach().clone()
    after = Classifier.load(run / "classifier.safetensors").model.get_submodule("c3.0").weight.detach()
    lengths = (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    found = {kernel["kernel"]: kernel["distance"] for kernel in values["kernels"]}
    assert [found[kernel] for kernel in range(16)] == pytest.approx(lengths.tolist(), rel=1e-4)
    done = eyebright("inspect", run, "filters", "--layer", "c3")
    assert done.returncode == 1
    assert "has no convolution 'c3'" in done.stderr


def test_compare_chooses_on_validation_and_opens_test_only_in_the_end(eyebright, run, tmp_path):
    other, picture = tmp_path / "other", tmp_path / "compared.png"
    assert eyebright("train", "lenet5-digits", "--out", other, "--set", "training.epochs=6").returncode == 0
    mine = shutil.copytree(run, tmp_path / "mine")
    done = eyebright("compare", mine, other, "--figure", picture)
    assert done.returncode == 0
    assert "on 144 validation pictures other is best" in done.stdout
    assert "mine, " in done.stdout
    assert "test" not in done.stdout.replace("what test says of it", "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [len(Run.open(path).environment["test_openings"]) for path in (mine, other)] == [1, 1]
    values = json.loads(eyebright("compare", mine, other, "--final", "--json").stdout)
    assert values["val"]["chosen"] == values["test"]["chosen"] == "other"
    assert values["test"]["pictures"] == 360
    accuracy = Run.open(other).evaluation["top1"]
    assert values["test"]["runs"][0]["accuracy"] == pytest.approx(accuracy)
    assert [len(Run.open(path).environment["test_openings"]) for path in (mine, other)] == [2, 2]


def test_what_cannot_be_compared_is_refused(eyebright, run, tmp_path):
    done = eyebright("compare", run)
    assert (done.returncode, "1 run to compare" in done.stderr) == (1, True)
    copy = shutil.copytree(run, tmp_path / "copy")
    done = eyebright("compare", run, copy)
    assert (done.returncode, "have the same recipe and seed 3" in done.stderr) == (1, True)
    changes = ["--set", "training.epochs=1", "--set"]
    assert eyebright("train", "lenet5-digits", "--out", tmp_path / "b", *changes, "data.split_seed=5").returncode == 0
    done = eyebright("compare", run, tmp_path / "b")
    assert (done.returncode, "have different val parts" in done.stderr) == (1, True)
    assert eyebright("train", "lenet5-digits", "--out", tmp_path / "c", *changes, "data.val_fraction=0").returncode == 0
    done = eyebright("compare", run, tmp_path / "c")
    assert (done.returncode, "has no val part" in done.stderr) == (1, True)
