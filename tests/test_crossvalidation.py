import shutil
import signal
from math import sqrt

import pytest
import torch
from rich.console import Console

from eyebright import road
from eyebright.crossvalidation import CrossValidation, cross_validate, holds_folds, resume_folds
from eyebright.data.sources import load_data
from eyebright.errors import DeviceError, RecipeError, RunError
from eyebright.training.run import Run

QUICK = ["training.epochs=2"]


@pytest.fixture
def quiet():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("folds") / "all"
    return cross_validate("lenet5-digits", 3, out=path, seed=4, changes=QUICK, console=Console(quiet=True))


def test_each_fold_is_an_ordinary_run_validated_on_another_part(finished):
    assert [run.path.name for run in finished.runs] == ["fold-1", "fold-2", "fold-3"]
    names = []
    for run, accuracy in zip(finished.runs, finished.accuracies, strict=True):
        assert run.concluded and run.seed == 4 and not any(run.check().values())
        evaluation = road.evaluate_source(run.path, part="val")
        assert evaluation.top1 == accuracy == max(line["val_accuracy"] for line in run.metrics())
        names += run.contract.names["val"]
    assert len(names) == len(load_data("digits", val_fraction=0).train) == 1437
    assert len({run.contract.digests["test"].tobytes() for run in finished.runs}) == 1
    digests = {bytes(digest) for run in finished.runs for digest in run.contract.digests["val"]}
    assert digests == {
        bytes(digest) for run in finished.runs[:1] for p in ("train", "val") for digest in run.contract.digests[p]
    }


def test_the_interval_is_students(tmp_path):
    told = CrossValidation(tmp_path, (), (0.90, 0.92, 0.88, 0.94, 0.91))
    assert told.mean == pytest.approx(0.91)
    assert told.std == pytest.approx(sqrt((0.01**2 + 0.01**2 + 0.03**2 + 0.03**2) / 4))
    half = 2.776445 * told.std / sqrt(5)  # the table's value for 4 degrees of freedom
    assert told.interval == pytest.approx((0.91 - half, 0.91 + half), abs=1e-6)
    assert CrossValidation(tmp_path, (), (0.2, 0.8)).interval == (0.0, 1.0)


def test_what_is_finished_is_not_trained_again(finished, quiet):
    before = [(run.path / "metrics.jsonl").read_bytes() for run in finished.runs]
    again = cross_validate("lenet5-digits", 3, out=finished.path, seed=4, changes=QUICK, console=quiet)
    resumed = resume_folds(finished.path, console=quiet)
    assert again.as_dict() == resumed.as_dict() == finished.as_dict()
    assert before == [(run.path / "metrics.jsonl").read_bytes() for run in finished.runs]


def test_folds_go_on_where_the_first_ones_gpu_is_not(finished, tmp_path, monkeypatch, quiet, refuses):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    path = tmp_path / "all"
    shutil.copytree(finished.path, path)
    first = Run.open(path / "fold-1")
    first.write_environment({"plan": {**first.plan.as_dict(), "device": "cuda"}})
    shutil.rmtree(path / "fold-3")
    with refuses(DeviceError, "the device 'cuda' is not on this machine"):
        resume_folds(path, console=quiet)
    assert resume_folds(path, accept_differences=True, console=quiet).accuracies == finished.accuracies
    assert first.plan.device == "cuda" and Run.open(path / "fold-3").plan.device == "cpu"


@pytest.mark.parametrize("how", ["resume", "the same again"])
def test_an_interrupted_one_goes_on_where_it_stopped(tmp_path, quiet, finished, monkeypatch, how):
    record = Run.record

    def record_and_stop(self, report, fit):
        record(self, report, fit)
        if self.path.name == "fold-2" and fit.step == 10:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Run, "record", record_and_stop)
    path = tmp_path / "all"
    with pytest.raises(road.Interrupted, match=f"eyebright train --resume {path}$"):
        cross_validate("lenet5-digits", 3, out=path, seed=4, changes=QUICK, console=quiet)
    monkeypatch.undo()
    assert [(path / f"fold-{fold}").exists() for fold in (1, 2, 3)] == [True, True, False]
    assert holds_folds(path)
    if how == "resume":
        told = resume_folds(path, console=quiet)
    else:
        told = cross_validate("lenet5-digits", 3, out=path, seed=4, changes=QUICK, console=quiet)
    assert told.accuracies == finished.accuracies


def test_an_interruption_before_the_first_run_is_no_cross_validation(tmp_path, quiet, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(road, "train", interrupt)
    with pytest.raises(KeyboardInterrupt) as raised:
        cross_validate("lenet5-digits", 3, out=tmp_path / "all", changes=QUICK, console=quiet)
    assert raised.type is KeyboardInterrupt


@pytest.mark.parametrize(
    ("folds", "seed", "changes"), [(4, 4, QUICK), (3, 5, QUICK), (3, 4, ["training.epochs=3"])], ids=str
)
def test_runs_of_another_recipe_are_not_gone_on_with(finished, quiet, refuses, folds, seed, changes):
    with refuses(RunError, "fold-1 is a run of another recipe, seed or number of folds"):
        cross_validate("lenet5-digits", folds, out=finished.path, seed=seed, changes=changes, console=quiet)


def test_the_recipes_own_fraction_gives_way(tmp_path, quiet):
    changes = [*QUICK, "data.val_fraction=0.3", "training.epochs=1"]
    told = cross_validate("lenet5-digits", 2, out=tmp_path / "all", changes=changes, console=quiet)
    assert [len(run.contract.labels["val"]) for run in told.runs] == [719, 718]


def test_the_last_weights_are_told_where_those_are_kept(finished, tmp_path, quiet):
    changes = [*QUICK, 'training.keep="last"']
    told = cross_validate("lenet5-digits", 2, out=tmp_path / "all", changes=changes, console=quiet)
    assert told.accuracies == tuple(run.metrics()[-1]["val_accuracy"] for run in told.runs)


def test_what_will_not_do_leaves_nothing_behind(tmp_path, quiet):
    with pytest.raises(RecipeError, match="names no data"):
        cross_validate("cnn-binary-224", 3, out=tmp_path / "all", console=quiet)
    with pytest.raises(RecipeError, match=r"data\.folds"):
        cross_validate("lenet5-digits", 1, out=tmp_path / "all", console=quiet)
    with pytest.raises(RecipeError, match="loss"):
        cross_validate(
            "lenet5-digits", 3, out=tmp_path / "all", changes=["training.loss=binary_cross_entropy"], console=quiet
        )
    assert list(tmp_path.iterdir()) == []


def test_a_run_holds_no_folds(finished, tmp_path):
    assert holds_folds(finished.path)
    assert not holds_folds(finished.runs[0].path) and not holds_folds(tmp_path)
