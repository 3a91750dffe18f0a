"""The folder of a transfer."""

from contextlib import contextmanager

from eyebright.device import choose_plan
from eyebright.errors import OutputError, RunError
from eyebright.files import write_text
from eyebright.training.recipe import load_recipe
from eyebright.training.run import Run
from eyebright.transfer.folder import TransferFolder, open_folder, open_run

PLAN = choose_plan("cpu", "float32")
VALUES = {"data": {"source": "photos"}, "folds": 5}


@contextmanager
def begin(path, **asked):
    folder = TransferFolder(path)
    with folder.begun(3, PLAN, {"data": "photos", "minutes": 5} | asked):
        yield folder


def test_it_is_a_transfer_once_it_is_finished(tmp_path, refuses):
    with begin(tmp_path / "out") as folder:
        assert folder.seed == 3
        assert folder.plan == PLAN
        assert folder.kept.is_dir()
        with refuses(RunError, "the transfer in .* is not finished"):
            open_folder(folder.path)
        write_text(folder.figure_path, "a figure")
        folder.finish(VALUES)
    found = open_folder(tmp_path / "out")
    assert isinstance(found, TransferFolder)
    assert found.data.source == "photos"
    assert found.learned_from == ("train", "val")
    assert not found.kept.exists()
    assert {found.check()[name] for name in ("transfer.png", "transfer.json")} == {None}
    with refuses(RunError, "is a transfer, which has no recipe and no history of training"):
        open_run(tmp_path / "out")
    write_text(found.figure_path, "another")
    assert "its checksum is wrong" in found.check()["transfer.png"]
    with refuses(RunError, "there is a finished transfer in"), begin(tmp_path / "out"):
        pass


def test_one_that_was_broken_off_goes_on(tmp_path):
    with begin(tmp_path / "out") as folder:
        write_text(folder.kept / "training", "done")
        assert folder.open_test("transfer") == 1
    with begin(tmp_path / "out") as folder:
        assert (folder.kept / "training").read_text() == "done"
        assert folder.open_test("transfer") == 2


def test_only_the_same_one_goes_on_and_it_may_take_longer(tmp_path, refuses):
    with begin(tmp_path / "out") as folder:
        assert folder.in_use is False  # by this very process
        assert TransferFolder(tmp_path / "out").in_use
    assert not TransferFolder(tmp_path / "out").in_use
    with begin(tmp_path / "out", minutes=60):
        pass
    with (
        refuses(RunError, "another transfer was broken off: with other data, seed"),
        begin(tmp_path / "out", data="plants", seed=1),
    ):
        pass


def test_validation_that_stood_apart_was_not_learned_from(tmp_path):
    with begin(tmp_path / "out") as folder:
        write_text(folder.figure_path, "a figure")
        folder.finish(VALUES | {"folds": 1})
    assert folder.learned_from == ("train",)


def test_neither_a_run_nor_a_file_is_overwritten(tmp_path, refuses):
    Run.create(tmp_path / "run", load_recipe("lenet5-digits"), 0, PLAN)
    with refuses(RunError, "there are other things in .*run: checkpoints"), begin(tmp_path / "run"):
        pass
    assert isinstance(open_folder(tmp_path / "run"), Run)
    (tmp_path / "lab" / "kept").mkdir(parents=True)
    (tmp_path / "lab" / "kept" / "0.json").write_text("a finished training of something else")
    with refuses(RunError, "there are other things in .*lab: kept"), begin(tmp_path / "lab"):
        pass
    (tmp_path / "file").write_text("")
    with refuses(OutputError, "is a file"), begin(tmp_path / "file"):
        pass
