import numpy as np
import torch

from eyebright.training.selection import Selection


def test_hard_pictures_stay_and_easy_ones_take_turns():
    selection = Selection(100, 0.5, 0.6, seed=0)
    assert selection.per_epoch == 70
    losses = torch.randperm(100, generator=torch.Generator().manual_seed(0)).float()
    selection.take(np.arange(100), losses)
    assert len(set(selection.choose(0).tolist())) == 70  # nothing is known while the first epoch lasts
    selection.end_epoch()
    hard = {index for index in range(100) if losses[index] >= 50}
    epochs = [set(selection.choose(epoch).tolist()) for epoch in range(1, 40)]
    assert all(hard <= shown and len(shown) == 70 for shown in epochs)
    times = np.array([sum(index in shown for shown in epochs) for index in range(100) if index not in hard])
    assert abs(times.mean() - 39 * 0.4) < 1e-9
    assert times.min() > 4
    np.testing.assert_array_equal(selection.choose(3), sorted(epochs[2]))


def test_before_anything_is_known_all_are_alike_and_what_was_never_seen_counts_as_hard():
    selection = Selection(1000, 0.5, 0.5, seed=1)
    first = selection.choose(0)
    assert len(first) == 750
    assert not np.array_equal(first, np.arange(750))
    selection.take(first, torch.zeros(750))
    assert not np.isin(np.setdiff1d(np.arange(1000), first), selection.choose(0)).all()
    selection.end_epoch()
    assert np.isin(np.setdiff1d(np.arange(1000), first), selection.choose(1)).all()


def test_losses_that_come_during_an_epoch_do_not_move_it():
    selection = Selection(20, 0.5, 0.5, seed=2)
    before = selection.choose(4)
    selection.take(np.arange(10), torch.arange(10.0))
    np.testing.assert_array_equal(selection.choose(4), before)
