import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eyebright.random import derive, generator, seeded

words = st.one_of(st.text(max_size=4), st.integers())


@given(st.integers(), st.lists(words, max_size=3))
def test_a_number_of_63_bits_comes_from_any_seed_and_purpose(seed, purpose):
    assert 0 <= derive(seed, *purpose) < 2**63


@given(st.integers(), st.lists(words, max_size=3), st.integers(), st.lists(words, max_size=3))
def test_numbers_are_equal_exactly_when_seed_and_purpose_are(seed, purpose, other_seed, other_purpose):
    same = (seed, purpose) == (other_seed, other_purpose)
    assert (derive(seed, *purpose) == derive(other_seed, *other_purpose)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, "a", "b"), (0, "ab")), ((0, 1, 23), (0, 12, 3)), ((0, "1"), (0, 1)), ((0,), (0, "")), ((1, 0), (0, 1))],
)
def test_words_do_not_run_into_each_other(one, other):
    assert derive(*one) != derive(*other)


def test_the_numbers_stay_what_they_are_from_version_to_version():
    assert derive(0, "order", 0) == 4_819_849_257_279_361_181


def test_another_process_derives_the_same_number():
    code = "from eyebright.random import derive; print(derive(7, 'augment', 3, 11))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(answer.stdout) == derive(7, "augment", 3, 11)


def test_all_63_bits_are_used():
    seen = np.array([derive(0, number) for number in range(200)], dtype=np.uint64)
    ones = (seen[:, None] >> np.arange(63, dtype=np.uint64)) & 1
    assert (np.abs(ones.mean(axis=0) - 0.5) < 0.2).all()


def test_a_generator_starts_from_its_purpose_each_time():
    first, second = generator(0, "order", 3), generator(0, "order", 3)
    assert torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))


def test_a_generator_leaves_the_global_one_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    torch.rand(3, generator=generator(0, "order"))
    assert torch.equal(torch.rand(3), expected)


def test_within_the_block_torch_starts_from_the_purpose():
    with seeded(0, "dropout", 1):
        first = torch.rand(4)
    with seeded(0, "dropout", 1):
        again = torch.rand(4)
    with seeded(0, "dropout", 2):
        other = torch.rand(4)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("raises", [False, True], ids=["that ends", "that raises"])
def test_outside_nobody_notices_a_block(raises):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    try:
        with seeded(0, "initialisation"):
            torch.rand(100)
            if raises:
                raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(3), expected)


def test_dropout_follows_the_block():
    def draw():
        with seeded(0, "dropout", 1):
            return torch.nn.functional.dropout(torch.ones(100), 0.5)

    assert torch.equal(draw(), draw())
