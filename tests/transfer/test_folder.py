"""The folder of a transfer."""

from eyebright.device import choose_plan
from eyebright.errors import OutputError, RunError
from eyebright.files import write_text
from eyebright.training.recipe import load_recipe
from eyebright.training.run import Run
from eyebright.transfer.folder import TransferFolder, open_folder

PLAN = choose_plan("cpu", "float32")
ASKED = {"data": {"source": "photos"}, "folds": 5}


def begin(path):
    return TransferFolder.begin(path, 3, PLAN)


def test_it_is_a_transfer_once_it_is_finished(tmp_path, refuses):
    with begin(tmp_path / "out") as folder:
        assert folder.seed == 3
        assert folder.plan == PLAN
        assert folder.kept.is_dir()
        with refuses(RunError, "is not a run"):
            open_folder(folder.path)
        write_text(folder.figure_path, "a figure")
        folder.finish(ASKED, 12.5)
    found = open_folder(tmp_path / "out")
    assert isinstance(found, TransferFolder)
    assert found.data.source == "photos"
    assert found.environment["seconds"] == 12.5
    assert found.learned_from == ("train", "val")
    assert not found.kept.exists()
    assert found.check()["transfer.png"] is None
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


def test_validation_that_stood_apart_was_not_learned_from(tmp_path):
    with begin(tmp_path / "out") as folder:
        write_text(folder.figure_path, "a figure")
        folder.finish(ASKED | {"folds": 1}, 1.0)
    assert folder.learned_from == ("train",)


def test_neither_a_run_nor_a_file_is_overwritten(tmp_path, refuses):
    Run.create(tmp_path / "run", load_recipe("lenet5-digits"), 0, PLAN)
    with refuses(RunError, "there is a run in"), begin(tmp_path / "run"):
        pass
    assert isinstance(open_folder(tmp_path / "run"), Run)
    (tmp_path / "file").write_text("")
    with refuses(OutputError, "is a file"), begin(tmp_path / "file"):
        pass
