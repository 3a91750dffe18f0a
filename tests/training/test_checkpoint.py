import pytest
import torch

from eyebright.errors import StoredFileError
from eyebright.tensors import write_safetensors
from eyebright.training.checkpoint import (
    KIND,
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from eyebright.training.fit import State

LENGTHS = {"metrics.jsonl": (120, "ab" * 32)}


def checkpoint(step=3):
    tensors = {"model.w": torch.randn(4, 3), "optimizer.0.step": torch.tensor(7.0), "best.n": torch.tensor(5)}
    return Checkpoint(State(tensors, {"step": step, "totals": {"loss": 0.1 + 0.2}, "best": None}), LENGTHS)


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    saved = checkpoint()
    save_checkpoint(tmp_path / "step-1.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "step-1.safetensors")
    assert (loaded.state.values, loaded.lengths) == (saved.state.values, LENGTHS)
    before, after = saved.state.tensors, loaded.state.tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(after[name].dtype == before[name].dtype for name in before)


def test_the_newest_comes_first_and_a_damaged_one_says_so(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / f"step-{step:09d}.safetensors", checkpoint(step))
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    (path, error), (_, second), (_, third) = load_newest(tmp_path)
    assert path == newest
    assert isinstance(error, StoredFileError)
    assert "step-000000003" in error.problem
    assert "its checksum is wrong" in error.problem
    assert [found.state.values["step"] for found in (second, third)] == [2, 1]


def test_where_there_are_none_none_come(tmp_path):
    assert list(load_newest(tmp_path)) == []


@pytest.mark.parametrize(
    "header", [{}, {"state": {}}, {"state": {}, "lengths": [1]}, {"state": {}, "lengths": {"a": [1]}}, {"lengths": {}}]
)
def test_a_header_without_its_parts_is_refused(tmp_path, header):
    write_safetensors(tmp_path / "x.safetensors", {"w": torch.ones(1)}, KIND, {"format_version": 1, **header})
    with pytest.raises(StoredFileError, match="its header lacks a part"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_another_kind_of_file_is_refused(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", {"w": torch.ones(1)}, "eyebright.classifier", {"format_version": 1})
    with pytest.raises(StoredFileError, match="it is a classifier"):
        load_checkpoint(tmp_path / "x.safetensors")
