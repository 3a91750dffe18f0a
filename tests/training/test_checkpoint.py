import pytest
import torch

from eyebright.errors import StoredFileError
from eyebright.training.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from eyebright.training.fit import State


def state(step=3):
    tensors = {"model.w": torch.randn(4, 3), "optimizer.0.step": torch.tensor(7.0), "best.n": torch.tensor(5)}
    return State(tensors, {"step": step, "totals": {"loss": 0.1 + 0.2}, "best": None})


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    saved = state()
    save_checkpoint(tmp_path / "step-1.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "step-1.safetensors")
    assert loaded.values == saved.values
    assert loaded.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], saved.tensors[name]) for name in saved.tensors)
    assert all(loaded.tensors[name].dtype == saved.tensors[name].dtype for name in saved.tensors)


def test_the_newest_whole_checkpoint_is_taken(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / f"step-{step:09d}.safetensors", state(step))
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    path, loaded = newest_checkpoint(tmp_path)
    assert (path.name, loaded.values["step"]) == ("step-000000002.safetensors", 2)


def test_none_is_none_and_all_damaged_is_an_error(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / "step-000000001.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoredFileError, match="checkpoint"):
        newest_checkpoint(tmp_path)


def test_another_kind_of_file_is_refused(tmp_path):
    from eyebright.files import write_safetensors

    write_safetensors(tmp_path / "x.safetensors", {"w": torch.ones(1)}, "eyebright.classifier", {"format_version": 1})
    with pytest.raises(StoredFileError, match="not an eyebright header"):
        load_checkpoint(tmp_path / "x.safetensors")
