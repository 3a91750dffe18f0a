import io
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from eyebright import road
from eyebright.data.decisions import Decision, write_decisions
from eyebright.data.sources import load_data
from eyebright.engines import choose
from eyebright.errors import (
    DataError,
    DataWarning,
    DownloadError,
    OutputError,
    PictureError,
    RecipeError,
    RunError,
    StoredFileError,
)
from eyebright.evaluation.evaluate import evaluate
from eyebright.evaluation.views import VIEWS
from eyebright.files import write_json
from eyebright.training.checkpoint import list_checkpoints
from eyebright.training.fit import Fit
from eyebright.training.recipe import DataSection, load_recipe
from eyebright.training.run import Run

QUICK = ["training.epochs=3"]


@pytest.fixture
def quiet():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("road") / "run"
    return road.train("lenet5-digits", out=path, changes=QUICK, console=Console(quiet=True))


@pytest.fixture
def two_classes(tmp_path):
    """Photographs of two classes, of all sizes: dark and bright ones."""
    random = np.random.default_rng(0)
    for name, level in (("dark", 30), ("bright", 200)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for index in range(30):
            height, width = random.integers(20, 60, 2)
            pixels = random.integers(level, level + 40, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.{'png' if index % 2 else 'jpg'}")
    return tmp_path / "pictures"


def test_a_run_leaves_everything_behind(finished):
    names = {path.name for path in finished.path.iterdir()} - {".lock"}
    assert names == {
        "recipe.toml", "split.json", "split.safetensors", "environment.json", "metrics.jsonl", "steps.jsonl",
        "layers.jsonl", "checkpoints", "classifier.safetensors", "evaluation.json", "report.html",
    }  # fmt: skip
    assert finished.finished
    assert finished.evaluation["count"] == 360
    assert finished.evaluation["test_opened"] == 1
    assert finished.evaluation["top1"] > 0.8
    environment = finished.environment
    assert environment["training_seconds"] > 0
    assert environment["estimated_seconds"] > 0


def test_the_report_shows_what_was_measured_and_needs_nothing_else(finished):
    report = finished.report_path.read_text()
    assert f"{finished.evaluation['top1']:.1%}" in report
    assert finished.contract.root in report
    assert "61,706 parameters" in report
    assert "<svg" in report
    assert "data:image/png;base64," in report
    for outside in ("http-equiv", 'src="http', 'href="http', "<script", "@import"):
        assert outside not in report.replace('xlink:href="#', "")


def test_the_report_shows_what_is_inside_the_network_and_what_the_doctor_says(tmp_path, finished, quiet):
    report = finished.report_path.read_text()
    titles = ("What answers rest on", "Filters of c1.0", "Gradients and steps", "How the inputs of the layers moved")
    assert all(title in report for title in titles)
    assert "error:" not in report  # it is healthy, but for a small validation part
    assert len(report) < 2e6
    run = road.train(
        "lenet5-digits", out=tmp_path / "run", console=quiet,
        changes=["training.epochs=3", "training.learning_rate=3", "training.observe_steps=0"],
    )  # fmt: skip
    ill = run.report_path.read_text()
    assert "error: the learning rate is too high" in ill
    assert "To do:" in ill
    assert "Filters of c1.0" in ill
    assert "Gradients and steps" not in ill
    assert "The last weights are kept, as the recipe says." in ill
    assert "-0.0000" not in ill


def test_a_report_is_written_although_the_first_weights_are_gone(tmp_path, finished, monkeypatch):
    def gone(run, pictures):
        raise DownloadError("no connection", expected="published weights", remedy="connect")

    copy = shutil.copytree(finished.path, tmp_path / "copy")
    monkeypatch.setattr(Run, "first_model", gone)
    report = road.report(copy).report_path.read_text()
    assert "Filters of c1.0" not in report
    assert "Gradients and steps" in report


def test_names_from_the_data_are_text_in_the_report(tmp_path, two_classes, quiet):
    (two_classes / "dark").rename(two_classes / "<b>dark&")
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=SMALL, console=quiet)
    assert "<b>dark&" not in run.report_path.read_text()
    assert "&lt;b&gt;dark&amp;" in run.report_path.read_text()


SMALL = ["prepare.resize=[32,32]", "training.epochs=8", "training.batch_size=8", "training.learning_rate=0.003"]


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "cross_entropy"])
def test_a_folder_of_photographs_becomes_a_classifier(tmp_path, two_classes, quiet, loss):
    changes = [*SMALL, f"training.loss={loss}"]
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=changes, console=quiet)
    assert run.evaluation["classes"] == ["bright", "dark"]
    assert run.evaluation["top1"] == 1.0
    assert run.classifier()(two_classes / "dark" / "3.png").best == "dark"


def test_evaluating_a_run_gives_its_figures_again_and_counts_the_opening(finished):
    before = finished.evaluation
    evaluation = road.evaluate_source(finished.path)
    assert evaluation.as_dict()["confusion"] == before["confusion"]
    assert evaluation.top1 == before["top1"]
    assert Run.open(finished.path).evaluation["test_opened"] == before["test_opened"] + 1


def test_validation_and_train_are_there_too_and_open_nothing(finished):
    before = finished.evaluation["test_opened"]
    assert road.evaluate_source(finished.path, part="val").count == 144
    assert road.evaluate_source(finished.path, part="train").count == 1293
    assert Run.open(finished.path).evaluation["test_opened"] == before


def test_a_classifier_file_is_evaluated_on_named_data_only(finished):
    assert road.evaluate_source(finished.classifier_path, data="digits").count == 360
    with pytest.raises(DataError, match="no data were named"):
        road.evaluate_source(finished.classifier_path)
    with pytest.raises(DataError, match="no part 'val'"):
        road.evaluate_source(finished.classifier_path, data="digits", part="val")


def test_a_source_of_one_part_is_evaluated_whole(finished, tmp_path):
    for name in "01":
        (tmp_path / "more" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 100).save(tmp_path / "more" / name / "x.png")
    with pytest.warns(UserWarning, match="no pictures of 2"):
        assert road.evaluate_source(finished.classifier_path, data=tmp_path / "more").count == 2


def test_the_test_part_chooses_nothing(tmp_path, quiet, monkeypatch):
    """Shuffling the test labels changes no weight: training never looks at them."""
    straight = road.train("lenet5-digits", out=tmp_path / "a", changes=QUICK, console=quiet)
    load = DataSection.load

    def shuffled(*args, **options):
        splits = load(*args, **options)
        splits.test.labels[:] = np.random.default_rng(0).permutation(splits.test.labels)
        return splits

    monkeypatch.setattr(DataSection, "load", shuffled)
    other = road.train("lenet5-digits", out=tmp_path / "b", changes=QUICK, console=quiet)
    one, two = (run.classifier().model.state_dict() for run in (straight, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert other.evaluation["top1"] < 0.3 < straight.evaluation["top1"]


class Sealed:
    """A test part that tells how large it is and what classes it has, and breaks when anything else is asked."""

    def __init__(self, pictures):
        self.classes, self._count = pictures.classes, len(pictures)

    def __len__(self):
        return self._count

    def __getattr__(self, name):
        raise AssertionError(f"the test part was asked for {name}")


@pytest.mark.parametrize("recipe", ["lenet5-digits", "resnet20-cifar10"])
def test_a_fit_never_looks_at_the_test_part(recipe):
    splits = load_data("digits")
    changes = ["training.epochs=2", 'training.keep="best"', "prepare.channels=1", "prepare.resize=[32,32]"]
    changes += ['prepare.statistics="train"', "prepare.mean=[0.0]", "prepare.std=[1.0]", "training.warmup_epochs=0"]
    fit = Fit(load_recipe(recipe, changes), replace(splits, test=Sealed(splits.test)))
    if recipe == "lenet5-digits":
        assert [report.epoch for report in fit] == [1, 2]
    else:
        next(fit.steps())
    fit.load_state(fit.state())
    assert fit.classifier().classes == splits.classes
    with pytest.raises(AssertionError, match="was asked for"):
        evaluate(fit.classifier(), Sealed(splits.test))


def test_every_opening_of_the_test_part_is_noted_before_it_is_looked_at(tmp_path, quiet, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(road, "evaluate_any", interrupt)
    with pytest.raises(road.Interrupted):
        road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1"], console=quiet)
    monkeypatch.undo()
    run = Run.open(tmp_path / "run")
    assert run.finished and not run.concluded
    assert [opening["purpose"] for opening in run.environment["test_openings"]] == ["report"]
    road.resume(run.path, console=quiet)
    road.evaluate_source(run.path)
    assert [opening["purpose"] for opening in run.environment["test_openings"]] == ["report", "report", "evaluate"]
    assert run.evaluation["test_opened"] == 3
    assert "opened 3 times" in road.report(run.path).report_path.read_text().replace("opened 4", "opened 3")


def test_a_finished_run_is_not_trained_again(finished, quiet):
    before = (finished.path / "metrics.jsonl").read_bytes()
    assert road.resume(finished.path, console=quiet).finished
    assert (finished.path / "metrics.jsonl").read_bytes() == before


LONGER = ["training.epochs=8", 'training.keep="best"', "training.weight_decay=0.001"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run that nobody stops, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("straight") / "run"
    yield road.train("lenet5-digits", out=path, changes=LONGER, console=Console(quiet=True))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_is_resumed_bit_for_bit(tmp_path, quiet, straight, how):
    options = [option for change in LONGER for option in ("--set", change)]
    out = tmp_path / "stopped"
    command = [sys.executable, "-m", "eyebright.cli.main", "train", "lenet5-digits", "--out", str(out), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while len(Run(out).metrics()) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    if how is not signal.SIGKILL:
        assert process.returncode == 130
        assert f"eyebright train --resume {out}" in said
    assert not Run(out).finished

    resumed = road.resume(out, console=quiet)
    one, two = (run.classifier().model.state_dict() for run in (resumed, straight))
    assert all(torch.equal(one[name], two[name]) for name in one)

    def timeless(run):
        return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in run.metrics()]

    assert timeless(resumed) == timeless(straight)
    assert resumed.steps() == straight.steps()
    assert {**resumed.evaluation, "test_opened": 0} == {**straight.evaluation, "test_opened": 0}


SLOW_READING = """
import os, pathlib, sys, time
from eyebright import road
from eyebright.cli import main
from eyebright.training.recipe import DataSection
def wait(*_, **__):
    pathlib.Path({path!r}).touch()
    time.sleep(60)
{where} = wait
sys.argv = ["eyebright", "train", "lenet5-digits", "--out", {out!r}, "--set", "training.epochs=1"]
main.main()
"""


@pytest.mark.parametrize(
    ("where", "how"),
    [
        ("DataSection.load", signal.SIGINT), ("road.make_contract", signal.SIGTERM), ("road.Fit", signal.SIGHUP),
        ("road.evaluate_any", signal.SIGTERM), ("road.write_report", signal.SIGINT),
    ],
)  # fmt: skip
def test_a_run_is_stopped_in_order_whatever_it_does(tmp_path, quiet, where, how):
    out, there = tmp_path / "run", tmp_path / "there"
    program = SLOW_READING.format(path=str(there), where=where, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    try:
        while not there.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"interrupted; go on with: eyebright train --resume {out}" in said
    assert "Traceback" not in said
    if where == "road.Fit":
        assert road.resume(out, accept_differences=True, console=quiet).concluded


def test_the_same_run_is_not_begun_twice_at_once(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "eyebright.cli.main", "train", "lenet5-digits", "--out", str(out)]
    options = ["--set", "training.epochs=3"]
    both = [
        subprocess.Popen([*command, *options, "--seed", str(seed)], stderr=subprocess.PIPE, text=True)
        for seed in (1, 2)
    ]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 1]
    loser = codes.index(1)
    assert "another process is at work in" in said[loser] or "there is a run in" in said[loser]
    run = Run.open(out)
    assert run.concluded
    assert run.seed == 2 - loser  # the folder is the winner's, untouched
    assert not any(run.check().values())


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(tmp_path, straight):
    with pytest.raises(road.Interrupted):
        stop_after_steps(tmp_path / "run", 100)
    run = Run.open(tmp_path / "run")
    newest = list_checkpoints(run.path / "checkpoints")[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    screen = Console(file=io.StringIO(), width=300)
    road.resume(run.path, console=screen)
    said = screen.file.getvalue()
    assert f"note: cannot read {newest} as a checkpoint: it is damaged: its checksum is wrong" in said
    assert "an earlier checkpoint is used" in said
    assert newest.with_suffix(".damaged").read_bytes() == data
    one, two = (run.classifier().model.state_dict() for run in (run, straight))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert run.steps() == straight.steps()


def stop_after_steps(path, steps):
    """Trains the run that nobody stops, and stops it."""
    torch.set_num_threads(1)
    record = Run.record

    def record_and_stop(self, report, fit):
        record(self, report, fit)
        if fit.step == steps:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "record", record_and_stop)
        road.train("lenet5-digits", out=path, changes=LONGER, console=Console(quiet=True))


@pytest.mark.parametrize("spoil", ["every checkpoint", "metrics.jsonl"])
def test_a_run_of_which_no_checkpoint_can_be_used_says_so(tmp_path, quiet, refuses, spoil):
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=QUICK, console=quiet)
    unfinish(run)
    with refuses(RunError, "is not finished"):
        road.report(run.path)
    checkpoints = list_checkpoints(run.path / "checkpoints")
    for path in checkpoints if spoil == "every checkpoint" else [run.path / spoil]:
        path.write_bytes(path.read_bytes()[9:])
    with refuses(StoredFileError, r"none of the checkpoints in .* can be used") as raised:
        road.resume(run.path, console=quiet)
    assert raised.value.problem.count("cannot read") == len(checkpoints)
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "checkpoints").mkdir()
    assert road.resume(run.path, console=quiet).concluded  # as the error says


@pytest.mark.parametrize("what", ["the run", "its checkpoints"])
def test_a_folder_that_vanishes_is_said(tmp_path, quiet, monkeypatch, what, refuses):
    record = Run.record

    def record_and_vanish(self, report, fit):
        record(self, report, fit)
        if fit.step == 5:
            shutil.rmtree(self.path if what == "the run" else self.path / "checkpoints")

    monkeypatch.setattr(Run, "record", record_and_vanish)
    with refuses(OutputError, "cannot write .*No such file or directory"):
        road.train("lenet5-digits", out=tmp_path / "run", changes=QUICK, console=quiet)


def unfinish(run, **changes):
    environment = {name: value for name, value in run.environment.items() if name != "finished"}
    environment["checksums"] = {"recipe.toml": environment["checksums"]["recipe.toml"]}
    write_json(run.path / "environment.json", environment | changes)


def test_a_run_that_was_killed_before_its_report_gets_one(tmp_path, quiet):
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=2"], console=quiet)
    before = run.environment["training_seconds"]
    run.report_path.unlink()
    resumed = road.resume(run.path, console=quiet)
    assert resumed.report_path.exists()
    assert resumed.environment["training_seconds"] == before > 0


def test_resuming_on_another_machine_asks_first(tmp_path, quiet):
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1"], console=quiet)
    unfinish(run, plan=run.environment["plan"] | {"threads": 96})
    with pytest.raises(RunError, match=r"(?s)threads \d+ \(was 96\).*--accept-differences"):
        road.resume(run.path, console=quiet)
    assert road.resume(run.path, accept_differences=True, console=quiet).finished


def test_a_run_goes_on_where_its_gpu_is_not_and_says_so(tmp_path, monkeypatch, quiet, refuses):
    record = Run.record

    def record_and_break(self, report, fit):
        record(self, report, fit)
        if fit.epoch == 1:
            raise RuntimeError("power cut")

    monkeypatch.setattr(Run, "record", record_and_break)
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="power cut"):
        road.train("lenet5-digits", out=out, changes=["training.epochs=2"], console=quiet)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run, here = Run.open(out), Run.open(out).plan
    there = {"processor": "another"}
    run.write_environment({"plan": {**here.as_dict(), "device": "cuda", "graphs": True}, "machine": there})
    with refuses(RunError, r"go on with .*/run differently: device cpu \(was cuda\), graphs False \(was True\)"):
        road.resume(out, console=quiet)
    assert run.plan.device == "cuda" and "changes_of_plan" not in run.environment

    said = Console(file=io.StringIO(), width=200)
    assert road.resume(out, accept_differences=True, console=said).concluded
    assert "going on differently: device cpu (was cuda)" in said.file.getvalue()
    assert "going on after step" in said.file.getvalue()
    assert len(run.metrics()) == 2 and run.plan.device == "cpu"
    (change,) = run.environment["changes_of_plan"]
    assert change["machine_before"] == there and run.environment["machine"] != there
    assert "device cpu (was cuda)" in change["differences"] and change["step"] == len(run.steps()) // 2
    assert f"After step {change['step']:,} training went on by another plan: {change['differences']}." in (
        run.report_path.read_text()
    )

    unfinish(run)  # this machine's plan is now the run's own
    assert road.resume(out, console=quiet).concluded
    assert len(run.environment["changes_of_plan"]) == 1
    assert run.first_plan.device == "cuda" and road.resume(out, accept_differences=True, console=quiet).concluded


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_is_not_said_to_have_changed_where_nothing_was_trained_differently(
    tmp_path, monkeypatch, quiet, finished
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1"], console=quiet)
    unfinish(run, plan={**run.environment["plan"], "device": "cuda"})
    if finished:  # and killed before its report
        run.write_environment({"finished": "then"})
    else:  # and killed before its first checkpoint
        shutil.rmtree(run.path / "checkpoints")
        (run.path / "checkpoints").mkdir()
    assert road.resume(run.path, accept_differences=True, console=quiet).concluded
    assert run.plan.device == ("cuda" if finished else "cpu")
    assert "by another plan" not in run.report_path.read_text()
    assert road.report(run.path).report_path.exists()


def test_data_that_are_not_there_change_no_plan(tmp_path, monkeypatch, two_classes, quiet):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=SMALL, console=quiet)
    unfinish(run, plan={**run.environment["plan"], "device": "cuda"})
    two_classes.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError):
        road.resume(run.path, accept_differences=True, console=quiet)
    assert run.plan.device == "cuda" and "changes_of_plan" not in run.environment


def test_a_run_that_began_with_torch_s_kernels_goes_on_with_them(tmp_path, quiet):
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1"], console=quiet)
    unfinish(run, plan={name: value for name, value in run.environment["plan"].items() if name != "kernels"})
    assert road.resume(run.path, console=quiet).plan.kernels == "torch"


def test_changed_data_are_noticed_at_resume(tmp_path, two_classes, quiet):
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=SMALL, console=quiet)
    unfinish(run)
    Image.new("RGB", (30, 30), "red").save(two_classes / "dark" / "0.jpg")
    with pytest.raises(DataError, match=r"not those that .* 1 pictures of the \w+ part have changed .*dark/0.jpg"):
        road.resume(run.path, console=quiet)


def test_changed_data_are_said_when_evaluating_and_change_nothing_in_the_run(tmp_path, two_classes, quiet):
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=SMALL, console=quiet)
    before = (run.path / "evaluation.json").read_bytes()
    (two_classes / "dark" / "0.jpg").write_bytes((two_classes / "dark" / "2.jpg").read_bytes())
    with pytest.warns(DataWarning, match=r"not those that .* 1 pictures of the \w+ part have changed .*dark/0.jpg"):
        evaluation = road.evaluate_source(run.path)
    assert evaluation.count == run.evaluation["count"]
    assert (run.path / "evaluation.json").read_bytes() == before
    assert len(run.environment["test_openings"]) == 2
    with pytest.raises(DataError, match="not those that"):
        road.report(run.path)


@pytest.fixture
def spoilt(two_classes):
    """The same photographs, of which two cannot be read."""
    for name in ("dark/4.jpg", "bright/7.png"):
        (two_classes / name).write_bytes(b"")
    return two_classes


def stop_early(monkeypatch, path, **options):
    """Begins a run, and stops it after its first epoch."""
    record = Run.record

    def record_and_stop(self, report, fit):
        record(self, report, fit)
        if fit.epoch == 1:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "record", record_and_stop)
        with pytest.raises(road.Interrupted):
            road.train("cnn-binary-224", out=path, changes=SMALL, console=Console(quiet=True), **options)


def test_unreadable_pictures_and_decisions_stay_with_a_run(tmp_path, spoilt, quiet, monkeypatch):
    with pytest.raises(PictureError, match="the file is empty"):
        road.train("cnn-binary-224", data=spoilt, out=tmp_path / "run", changes=SMALL, console=quiet)
    decisions = [Decision("dark/4.jpg", "drop"), Decision("dark/0.jpg", "relabel", "bright")]
    write_decisions(tmp_path / "decisions.csv", decisions)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(DataWarning, match="1 of 59 pictures are left out .* bright/7.png"):
        stop_early(monkeypatch, tmp_path / "run", data=spoilt, skip_unreadable=True, curation="decisions.csv")
    run = Run.open(tmp_path / "run")
    assert run.recipe.data.skip_unreadable and run.recipe.data.curation == str(tmp_path / "decisions.csv")
    assert sum(map(sum, run.contract.counts.values())) == 58
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    write_decisions(tmp_path / "decisions.csv", [*decisions, Decision("dark/2.jpg", "relabel", "bright")])
    with (
        pytest.warns(DataWarning, match="left out"),
        pytest.raises(DataError, match=r"not those that .* began with: (?s:.*) and the decisions of .*decisions.csv"),
    ):
        road.resume(run.path, console=quiet)
    write_decisions(tmp_path / "decisions.csv", [*decisions, Decision("dark/6.jpg", "keep")])
    with pytest.warns(DataWarning, match="left out"):
        road.resume(run.path, console=quiet)
    with pytest.warns(DataWarning, match="left out"):
        assert road.evaluate_source(run.path).count == run.evaluation["count"]
    notes = run.environment["notes"]
    assert notes[0] == f"decisions of {tmp_path / 'decisions.csv'}: 1 to relabel, 1 to drop."
    assert notes[1].startswith("1 of 59 pictures are left out because they cannot be read: bright/7.png (the file is")
    assert "1 of 59 pictures are left out" in run.report_path.read_text()


def test_without_its_decisions_a_run_is_not_resumed(tmp_path, two_classes, quiet, monkeypatch):
    write_decisions(tmp_path / "decisions.csv", [Decision("dark/0.jpg", "drop")])
    stop_early(monkeypatch, tmp_path / "run", data=two_classes, curation=tmp_path / "decisions.csv")
    (tmp_path / "decisions.csv").unlink()
    with pytest.raises(DataError, match=r"cannot take decisions from .*decisions.csv: No such file"):
        road.resume(tmp_path / "run", console=quiet)


def test_a_run_is_evaluated_on_curated_labels_of_its_own_test_pictures(tmp_path, two_classes, quiet):
    first = Decision("dark/0.jpg", "relabel", "bright")
    write_decisions(tmp_path / "first.csv", [first])
    out = tmp_path / "run"
    run = road.train(
        "cnn-binary-224", data=two_classes, out=out, changes=SMALL, console=quiet, curation=tmp_path / "first.csv"
    )
    before, figures = road.evaluate_source(run.path), (run.path / "evaluation.json").read_bytes()
    right = [name for name in run.contract.names["test"] if name.startswith("dark")]
    trained = run.contract.names["train"][0]
    second = [first, Decision(right[0], "relabel", "bright"), Decision(right[1], "drop"), Decision(trained, "drop")]
    write_decisions(tmp_path / "second.csv", second)
    after = road.evaluate_source(run.path, curation=tmp_path / "second.csv")
    assert after.count == before.count - 1
    answers = np.array(before.confusion)
    answers[1, 1] -= 2  # both were answered rightly
    answers[0, 1] += 1
    assert np.array(after.confusion).tolist() == answers.tolist()
    assert (run.path / "evaluation.json").read_bytes() == figures
    assert road.evaluate_source(run.path, curation=tmp_path / "first.csv").as_dict() == before.as_dict()


def test_decisions_and_skipping_apply_to_other_data_too(tmp_path, spoilt, finished):
    more = tmp_path / "more"
    for name in "01":
        (more / name).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8), 50 + index).save(more / name / f"{index}.png")
    (more / "1" / "2.png").write_bytes(b"")
    write_decisions(tmp_path / "decisions.csv", [Decision("0/1.png", "drop"), Decision("0/2.png", "relabel", "1")])
    options = {"data": more, "skip_unreadable": True, "curation": tmp_path / "decisions.csv"}
    for given in (finished.path, finished.classifier_path):
        with pytest.warns(DataWarning):
            evaluation = road.evaluate_source(given, **options)
        assert np.array(evaluation.confusion).sum(axis=1).tolist()[:2] == [1, 3]


def test_decisions_about_pictures_in_memory_stay_with_a_run(tmp_path, quiet):
    names = [load_data("digits").test.name(index) for index in range(3)]
    write_decisions(tmp_path / "decisions.csv", [Decision(name, "drop") for name in names])
    run = road.train(
        "lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1"], console=quiet,
        curation=tmp_path / "decisions.csv",
    )  # fmt: skip
    unfinish(run)
    assert road.resume(run.path, console=quiet).concluded
    assert not set(names) & {name for part in run.contract.names.values() for name in part}


def test_pictures_that_were_trained_with_are_named_when_evaluating(tmp_path, two_classes, quiet):
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=SMALL, console=quiet)
    trained = len(run.contract.names["train"])
    copy = shutil.copytree(two_classes, tmp_path / "copy")
    with pytest.warns(DataWarning, match=rf"{trained} of the 60 pictures of .*copy are among those that"):
        assert road.evaluate_source(run.path, data=copy).count == 60


def test_files_of_a_run_that_were_changed_are_named(tmp_path, quiet):
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=2"], console=quiet)
    whole = road.verify(run.path)
    assert set(whole) == {
        "environment.json", "recipe.toml", "metrics.jsonl", "steps.jsonl", "layers.jsonl", "report.html",
        "classifier.safetensors",
                "split.json, split.safetensors", "evaluation.json",
        *(f"checkpoints/{path.name}" for path in list_checkpoints(run.path / "checkpoints")),
    }  # fmt: skip
    assert not any(whole.values())
    for name in whole:
        path = run.path / name.split(", ")[0]
        before = path.read_bytes()
        middle = len(before) // 2
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        assert road.verify(run.path)[name] is not None, name
        if name not in ("environment.json", "report.html"):
            with pytest.raises(StoredFileError, match=r"a report of .* would not be true"):
                road.report(run.path)
        path.write_bytes(before)
    assert not any(road.verify(run.path).values())
    assert road.verify(run.classifier_path) == {str(run.classifier_path): None}
    run.classifier_path.write_bytes(b"nothing")
    assert "it is cut off" in road.verify(run.classifier_path)[str(run.classifier_path)]


def test_a_recipe_that_was_changed_is_not_gone_on_with(tmp_path, quiet, refuses):
    run = road.train("lenet5-digits", out=tmp_path / "run", changes=["training.epochs=1"], console=quiet)
    unfinish(run)
    path = run.path / "recipe.toml"
    path.write_text(path.read_text().replace("epochs = 1", "epochs = 2"))
    with refuses(RunError, "has been changed since the run began"):
        road.resume(run.path, console=quiet)


def test_the_same_picture_in_two_parts_is_said_in_the_report(tmp_path, two_classes, quiet):
    first = (two_classes / "dark" / "1.png").read_bytes()
    for index in range(3, 30, 2):
        (two_classes / "dark" / f"{index}.png").write_bytes(first)
    run = road.train("cnn-binary-224", data=two_classes, out=tmp_path / "run", changes=SMALL, console=quiet)
    assert "pictures of the test part stand in the train part too, pixel for pixel" in run.report_path.read_text()


def test_a_group_in_two_given_parts_is_said_in_the_report(tmp_path, two_classes, quiet):
    for part, indices in (("train", range(20)), ("test", range(20, 30))):
        for name in ("dark", "bright"):
            (tmp_path / "parted" / part / name).mkdir(parents=True)
            for index in indices:
                kind = "png" if index % 2 else "jpg"
                place = tmp_path / "parted" / part / name / f"of{index % 15}-{index}.{kind}"
                place.write_bytes((two_classes / name / f"{index}.{kind}").read_bytes())
    changes = [*SMALL, "training.epochs=1", "data.group_by='of(\\d+)'"]
    run = road.train("cnn-binary-224", data=tmp_path / "parted", out=tmp_path / "run", changes=changes, console=quiet)
    assert any(
        "groups of the test part stand in the train part too (for example 1" in note
        for note in run.environment["notes"]
    )
    assert "groups of the test part stand in the train part too" in run.report_path.read_text()


@pytest.fixture
def several_labels(tmp_path):
    """A CSV of 60 pictures whose left and right halves are bright or not, each by itself."""
    random = np.random.default_rng(0)
    lines = ["path,labels"]
    for index in range(60):
        pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        halves = [name for name, there in (("left", index % 2), ("right", index % 3)) if there]
        for name in halves:
            pixels[:, slice(0, 16) if name == "left" else slice(16, 32)] += 150
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{';'.join(halves)}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return tmp_path / "list.csv"


def test_pictures_with_several_labels_travel_the_whole_road(tmp_path, quiet, several_labels):
    run = road.train("cnn-binary-224", data=several_labels, out=tmp_path / "run", changes=SMALL, console=quiet)
    assert run.classifier().multi_label
    assert run.evaluation["classes"] == ["left", "right"] and run.evaluation["exact_match"] > 0.9
    assert road.evaluate_source(run.path).as_dict() == {k: v for k, v in run.evaluation.items() if k != "test_opened"}
    assert road.evaluate_source(run.classifier_path, data=several_labels).count == 60
    page = run.report_path.read_text()
    assert "exact match" in page and "Each label" in page and "top-1" not in page and "taken for" not in page
    assert f"{run.evaluation['mean_average_precision']:.1%}" in page
    assert "Inside the network" in page and "What answers rest on" not in page
    history, findings = road.diagnose(run.path)
    assert history.multi_label and history.answers.train_accuracy is None
    assert not [finding for finding in findings if finding.severity == "error"]
    with pytest.raises(DataError, match="answers with several labels for a picture"):
        road.open_pictures(run.path)
    other = road.train("cnn-binary-224", data=several_labels, out=tmp_path / "o", changes=SMALL, seed=1, console=quiet)
    with pytest.raises(DataError, match="has several labels"):
        road.compare([run.path, other.path])


def test_runs_without_a_name_get_free_folders(tmp_path, quiet, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [road.train("lenet5-digits", changes=["training.epochs=1"], console=quiet).path for _ in range(2)]
    assert [str(path) for path in paths] == ["runs/lenet5-digits", "runs/lenet5-digits-2"]


def test_a_recipe_without_data_asks_for_them(tmp_path, quiet):
    with pytest.raises(RecipeError, match="names no data"):
        road.train("cnn-binary-224", out=tmp_path / "run", console=quiet)
    assert not (tmp_path / "run").exists()


def test_a_report_can_be_written_anew(finished):
    text = finished.report_path.read_text()
    finished.report_path.unlink()
    assert road.report(finished.path).report_path.exists()
    assert len(finished.report_path.read_text()) == pytest.approx(len(text), rel=0.05)


def test_many_pictures_are_evaluated_by_the_fastest_engine_and_the_run_keeps_its_figures(finished, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    monkeypatch.setattr(choose, "LEAST_PICTURES", 300)
    monkeypatch.setattr(choose, "WORTH_SECONDS", 0.0)
    usual = Run.open(finished.path).classifier().plan.number_format
    monkeypatch.setattr(choose, "measure", lambda *_: {usual: choose.Speed(0, 1), "compiled": choose.Speed(0, 0.5)})
    kept = {name: value for name, value in finished.evaluation.items() if name != "test_opened"}
    fast = road.evaluate_source(finished.path)
    assert fast.engine == f"compiled {usual}"
    now = Run.open(finished.path).evaluation
    assert {name: value for name, value in now.items() if name != "test_opened"} == kept
    assert now["engine"] == usual
    assert road.evaluate_source(finished.path, part="val").engine == usual  # 144 pictures
    dense = replace(VIEWS["dense"], scales=(36,))
    assert road.evaluate_source(finished.path, views=dense).engine == usual


def test_calibration_pictures_are_those_named_or_a_runs_training_part(finished, two_classes):
    assert len(road.calibration_pictures(finished.path)) == len(finished.contract.pixels["train"])
    assert len(road.calibration_pictures(finished.path, two_classes / "dark")) == 30
    assert road.calibration_pictures(finished.classifier_path) is None


def test_chance_on_test_is_said_once(tmp_path, quiet):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (120, 8, 8), dtype=np.uint8)
    labels = random.permutation(np.arange(120) % 10)
    np.savez(tmp_path / "noise.npz", x_train=pixels[:60], y_train=labels[:60], x_test=pixels[60:], y_test=labels[60:])
    changes = ["data.val_fraction=0", "training.batch_size=16"]
    pages = {}
    for name, epochs, rate in (("by heart", 60, 3e-3), ("not begun", 1, 1e-9)):
        more = [*changes, f"training.epochs={epochs}", f"training.learning_rate={rate}"]
        run = road.train("lenet5-digits", data=tmp_path / "noise.npz", out=tmp_path / name, changes=more, console=quiet)
        pages[name] = run.report_path.read_text()
    assert (
        "nothing that holds for others" in pages["by heart"]
    )  # of which the doctor, without validation, knows nothing
    assert "The network is at chance level" not in pages["not begun"]
    assert "no better than guessing" in pages["not begun"]
