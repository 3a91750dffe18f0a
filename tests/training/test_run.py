import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from eyebright.data.sources import load_data
from eyebright.data.split import make_contract
from eyebright.device import choose_plan
from eyebright.errors import OutputError, RunError
from eyebright.files import append_line
from eyebright.training.fit import Fit, Report
from eyebright.training.recipe import load_recipe
from eyebright.training.run import METRICS, Run


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


@pytest.fixture
def recipe():
    return load_recipe("lenet5-digits", ["training.epochs=4"])


def trained(run, digits, epochs=None):
    fit = Fit(run.recipe, digits, seed=run.seed)
    for report in fit.steps():
        run.record(report, fit)
        if epochs is not None and report.epoch > epochs:
            break
    return fit


def test_metrics_have_the_promised_columns_and_steps_a_line_each(tmp_path, digits, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    fit = trained(run, digits)
    assert [tuple(line) for line in run.metrics()] == [METRICS] * 4
    assert [line["step"] for line in run.steps()] == list(range(1, fit.step + 1))
    assert run.metrics()[-1]["step"] == fit.step


def test_the_last_two_checkpoints_and_the_best_are_kept(tmp_path, digits, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    fit = trained(run, digits)
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    per_epoch = fit.loader.steps
    expected = {3 * per_epoch, 4 * per_epoch, fit.best.epoch * per_epoch}
    assert kept == [f"step-{step:09d}.safetensors" for step in sorted(expected)]


def test_metrics_go_back_to_the_checkpoint(tmp_path, digits, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    trained(run, digits, epochs=2)  # breaks in epoch 3, after its first step was recorded
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "step"')  # a line that a kill cut off
    assert len(run.steps()) > run.metrics()[-1]["step"]
    fit = Fit(recipe, digits)
    assert run.restore(fit) == []
    assert run.metrics()[-1]["step"] == fit.step > 0
    assert len(run.steps()) == fit.step
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_run_stopped_between_an_epochs_line_and_its_checkpoint_has_the_line_once(tmp_path, digits, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    fit = Fit(recipe, digits)
    for report in fit.steps():
        if isinstance(report, Report):
            append_line(run.path / "metrics.jsonl", json.dumps({"epoch": 1, "step": fit.step}))
            break  # killed before its checkpoint
        run.record(report, fit)
        if report.step_in_epoch == report.steps_per_epoch:
            run.checkpoint(fit)
    again = Fit(recipe, digits)
    assert run.restore(again) == []
    assert (again.step, again.epoch, run.metrics()) == (fit.step, 0, [])


def test_a_run_without_a_checkpoint_starts_from_zero(tmp_path, digits, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    (run.path / "steps.jsonl").write_text('{"step": 1, "epoch": 1, "loss": 2.0, "learning_rate": 0.1}\n')
    fit = Fit(recipe, digits)
    assert (run.restore(fit), fit.step) == ([], 0)
    assert run.steps() == []


def test_a_folder_with_a_run_is_not_used_twice(tmp_path, recipe):
    Run.create(tmp_path / "run", recipe, 0, choose_plan())
    with pytest.raises(RunError, match=r"(?s)there is a run.*--resume"):
        Run.create(tmp_path / "run", recipe, 0, choose_plan())


def test_a_folder_with_other_things_is_not_used(tmp_path, recipe):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"there are other things in .*: letter.txt"):
        Run.create(tmp_path, recipe, 0, choose_plan())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_run_that_was_killed_while_its_folder_was_made_is_begun_again(tmp_path, recipe):
    Run.create(tmp_path / "run", recipe, 0, choose_plan())
    (tmp_path / "run" / "recipe.toml").rename(tmp_path / "run" / ".recipe.toml.0123abcd.part")
    assert Run.create(tmp_path / "run", recipe, 1, choose_plan()).seed == 1


@pytest.mark.parametrize("name", ["recipe.toml", "somewhere"])
def test_what_is_not_a_run_is_not_opened(tmp_path, name):
    (tmp_path / "recipe.toml").mkdir()
    with pytest.raises(RunError, match="is not a run"):
        Run.open(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tmp_path, recipe):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write"):
        Run.create(tmp_path / "run", recipe, 0, choose_plan())


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path, recipe):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        Run.create(tmp_path / "run", recipe, 0, choose_plan())


def hold_lock(path, ready):
    with Run(Path(path)).locked():
        ready.set()
        time.sleep(60)


def test_the_lock_keeps_others_out_and_dies_with_its_process(tmp_path, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold_lock, args=(str(run.path), ready))
    other.start()
    assert ready.wait(60)
    with pytest.raises(RunError, match="another process is at work in"), run.locked():
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with run.locked():
        assert run.recipe == recipe


def test_the_contract_and_the_environment_are_kept(tmp_path, digits, recipe):
    run = Run.create(tmp_path / "run", recipe, 5, choose_plan())
    assert not run.has_contract
    contract = make_contract(digits)
    run.write_contract(contract)
    assert run.contract.root == contract.root
    assert {part: sum(counts) for part, counts in run.contract.counts.items()} == {
        "train": 1293, "val": 144, "test": 360,
    }  # fmt: skip
    assert (run.seed, run.plan) == (5, choose_plan())


def test_every_opening_of_the_test_part_is_counted(tmp_path, recipe):
    run = Run.create(tmp_path / "run", recipe, 0, choose_plan())
    for opened in (1, 2, 3):
        assert run.open_test(f"for the {opened}. time") == opened
        run.write_evaluation({"top1": 0.5})
        assert run.evaluation["test_opened"] == opened
    assert [opening["purpose"][:5] for opening in run.environment["test_openings"]] == ["for t"] * 3
