import sys

import pytest

from eyebright.errors import EyebrightError
from eyebright.training.fit import Report, StepReport
from eyebright.training.tensorboard import TensorBoard


def test_scalars_are_written_and_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    board.take(StepReport(1, 3, 3, 10, 1.25, 0.1, 16, 0.1))
    board.take(Report(1, 10, 1.5, 0.5, None, None, 0.1, 2.0, 80.0, False))
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(3, 1.25)]
    assert events.Scalars("epoch/train_loss")[0].value == 1.5
    assert "epoch/val_loss" not in events.Tags()["scalars"]


def test_a_resumed_run_shows_each_step_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, step in ((1, 0), (3, 2)):
        board = TensorBoard(tmp_path, step)
        for number in range(first, 5):
            board.take(StepReport(1, number, number, 10, first + number / 100, 0.1, 16, 0.1))
        board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("step/loss")] == [1, 2, 3, 4]
    assert [round(event.value) for event in events.Scalars("step/loss")] == [1, 1, 3, 3]


def test_without_the_extra_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(EyebrightError, match="eyebright\\[track\\]"):
        TensorBoard(tmp_path)
